from __future__ import annotations

import logging
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import Settings
from kairos_core.audit import alerts
from kairos_core.audit.alerts import Alert
from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERT = Alert(namespace="n", lanes=(1, 2), entries=3, oldest_s=4.25, cause="DiskFull (53100): no room", attempts=6)


class Receiver(HTTPServer):
    """A webhook: what it is sent, and what it answers."""

    status = 204

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, body, self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook's server."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_webhook_gets_json(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook is sent the alert as JSON, at its path and query, with its login."""
    alerts.send(f"http://u:p%20w@127.0.0.1:{receiver.server_port}/hook?key=secret", ALERT)
    ((path, body, login),) = receiver.received
    assert ("/hook?key=secret", "Basic dTpwIHc=") == (path, login)
    assert ALERT == msgspec.json.decode(body, type=Alert)
    assert [] == caplog.records


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses(status: int, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook that does not take the alert, or sends it elsewhere, is one line of the log, without the address."""
    receiver.status = status
    alerts.send(f"http://127.0.0.1:{receiver.server_port}/secret", ALERT)
    assert [f"the alert was not delivered: WebhookError: the webhook answered {status}"] == caplog.messages
    assert 1 == len(receiver.received)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/secret", "https://secret.invalid/secret?secret"])
def test_a_webhook_that_is_not_there(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook that cannot be reached is one line of the log, without the address, and stops nothing."""
    alerts.send(address, ALERT)
    (record,) = caplog.records
    assert (logging.WARNING, None) == (record.levelno, record.exc_info)
    assert "secret" not in record.getMessage()


def test_a_webhooks_address_is_in_no_repr() -> None:
    """A webhook's address, which may be its own password, shows in no repr."""
    settings = Settings(alert="https://h/secret")
    assert "secret" not in f"{settings!r} {settings.__rich_repr__()} {alerts.prepare(settings.alert)!r}"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that can be imported as `its_alerts`."""
    made = types.ModuleType("its_alerts")
    monkeypatch.setitem(sys.modules, "its_alerts", made)
    return made


def test_a_function_is_called(module: types.ModuleType) -> None:
    """A function of somebody's own is called with the alert."""
    told: list[Alert] = []
    module.tell = told.append  # type: ignore[attr-defined]
    alerts.send("its_alerts:tell", ALERT)
    assert [ALERT] == told


def test_a_function_that_fails(module: types.ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises is one line of the log, and stops nothing."""
    module.tell = {}.__getitem__  # type: ignore[attr-defined]
    alerts.send("its_alerts:tell", ALERT)
    (message,) = caplog.messages
    assert message.startswith("the alert was not delivered: TypeError: ") or "KeyError" in message


@pytest.mark.parametrize("setting", ["no_such_module:tell", "its_alerts:no_such_function", "its_alerts:__name__"])
@pytest.mark.usefixtures("module")
def test_a_function_that_cannot_be_called(setting: str) -> None:
    """G14: what cannot be imported or called is refused, by the setting's name."""
    with pytest.raises(ConfigurationError, match=setting) as caught:
        alerts.prepare(setting)
    assert "KAIROS_ALERT" == caught.value.setting


def test_sentry_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """G14: Sentry is refused, by the setting's name, where its package is not installed."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigurationError, match="KAIROS_ALERT: sentry needs the package sentry-sdk"):
        alerts.prepare("sentry")


def test_sentry_gets_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentry gets a message with the facts beside it, of one issue for each namespace, before the process may end."""
    calls: list[tuple[Any, ...]] = []
    sdk: Any = types.ModuleType("sentry_sdk")
    sdk.is_initialized = lambda: False
    sdk.init = lambda: calls.append(("init",))
    sdk.capture_message = lambda *arguments, **options: calls.append((*arguments, options))
    sdk.flush = lambda timeout: calls.append(("flush", timeout))
    monkeypatch.setitem(sys.modules, "sentry_sdk", sdk)
    alerts.send("sentry", ALERT)
    facts = {**msgspec.to_builtins(ALERT)}
    options = {"level": "error", "contexts": {"kairos": facts}, "fingerprint": ["kairos", "n"]}
    assert [("init",), (str(ALERT), options), ("flush", 5.0)] == calls


def test_an_alert_in_one_line() -> None:
    """An alert's text says how many lanes, entries and seconds, and why."""
    assert ("n: lanes 1, 2; entries waiting 3; age of the oldest 4.2 s; attempts 6; DiskFull (53100): no room") == str(
        ALERT
    )
    unknown = msgspec.structs.replace(ALERT, entries=None, oldest_s=None)
    assert "entries waiting unknown; age of the oldest unknown" in str(unknown)
