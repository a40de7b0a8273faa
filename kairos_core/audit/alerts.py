"""Alerts: whom a worker calls where records are not getting through, besides the log.

`Settings.alert` names the hook:

    package.module:function             called with an `Alert`
    sentry                              a message to Sentry, where sentry-sdk is installed (it reads SENTRY_DSN itself)
    https://host/path, http://…         a webhook: POST of the `Alert` as JSON

A hook that fails is one line of the log. It stops nothing: the records are in the outbox, and the next attempt comes.
"""

from __future__ import annotations

import base64
import http.client
import importlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from kairos_core.errors import ConfigurationError, one_line
from kairos_core.settings import SENTRY, is_webhook

if TYPE_CHECKING:
    from collections.abc import Callable

WEBHOOK_TIMEOUT_S = 5.0
_SETTING = "KAIROS_ALERT"
_OK = range(200, 300)

_log = logging.getLogger("kairos.audit")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What is told.

    Attributes:
        namespace: whose records they are.
        lanes: the lanes that they are in.
        entries: how many wait there; of an alert on dead letters, how many were buried.
        oldest_s: age of the oldest in seconds; None where the store could not be asked.
        cause: what went wrong, in one line and without any content of a state.
        attempts: how often it was tried.
    """

    namespace: str
    lanes: tuple[int, ...]
    entries: int | None
    oldest_s: float | None
    cause: str
    attempts: int

    def __str__(self) -> str:
        lanes = ", ".join(map(str, self.lanes))
        entries = "unknown" if self.entries is None else f"{self.entries:,}"
        oldest = "unknown" if self.oldest_s is None else f"{self.oldest_s:.1f} s"
        return (
            f"{self.namespace}: lanes {lanes}; entries waiting {entries}; age of the oldest {oldest};"
            f" attempts {self.attempts}; {self.cause}"
        )


Hook: TypeAlias = "Callable[[Alert], object]"


def prepare(setting: str | None) -> Hook | None:
    """The hook that a value of `Settings.alert` names; None: there is none.

    Raises:
        ConfigurationError: it cannot be called: names the setting and the cause, and quotes no address.
    """
    if setting is None:
        return None
    if setting == SENTRY:
        return _sentry()
    return _Webhook(setting) if is_webhook(setting) else _function(setting)


def send(setting: str | None, alert: Alert) -> None:
    """Call the hook that a value of `Settings.alert` names; where that fails, say so in the log, and no more."""
    try:
        hook = prepare(setting)
        if hook is not None:
            hook(alert)
    except Exception as error:  # noqa: BLE001 - it is somebody else's code
        kind, cause = type(error).__name__, one_line(error)
        extra = {"event": "alert_not_delivered", "error": kind, "cause": cause}
        _log.warning("the alert was not delivered: %s: %s", kind, cause, extra=extra)


def _function(name: str) -> Hook:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise ConfigurationError(_SETTING, f"{name}: {type(error).__name__}: {one_line(error)}") from error
    if not callable(found):
        raise ConfigurationError(_SETTING, f"{name} cannot be called")
    hook: Hook = found
    return hook


def _sentry() -> Hook:
    try:
        sdk: Any = importlib.import_module("sentry_sdk")
    except ImportError as error:
        raise ConfigurationError(_SETTING, f"{SENTRY} needs the package sentry-sdk: pip install sentry-sdk") from error
    if not sdk.is_initialized():
        sdk.init()

    def tell(alert: Alert) -> None:
        facts = msgspec.to_builtins(alert)
        # One issue for a namespace: what varies from alert to alert is in the context.
        fingerprint = ["kairos", alert.namespace]
        sdk.capture_message(str(alert), level="error", contexts={"kairos": facts}, fingerprint=fingerprint)
        # The process may be a job's own, which ends at once.
        sdk.flush(timeout=WEBHOOK_TIMEOUT_S)

    return tell


class _Webhook:
    """Posts alerts as JSON. Its address may be a secret, and is in no error: these name causes only."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __repr__(self) -> str:
        return "<webhook>"

    def __call__(self, alert: Alert) -> None:
        status = 0
        cause = ""
        # Raised after the error was handled, not while: its context could quote the address.
        try:
            status = self._post(msgspec.json.encode(alert))
        except (OSError, http.client.HTTPException) as error:
            # Of TLS, only what is wrong: the words quote the host.
            words = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", "")
            cause = words or type(error).__name__
        if status not in _OK:
            raise WebhookError(cause or f"the webhook answered {status}")

    def _post(self, body: bytes) -> int:
        parts = urlsplit(self._address)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, parts.port, timeout=WEBHOOK_TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=WEBHOOK_TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json"}
            if parts.username is not None:
                login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
            # A redirect is not followed: it would take the alert to whoever is named.
            connection.request("POST", urlunsplit(("", "", parts.path or "/", parts.query, "")), body, headers)
            return connection.getresponse().status
        finally:
            connection.close()


class WebhookError(Exception):
    """A webhook did not take an alert."""
