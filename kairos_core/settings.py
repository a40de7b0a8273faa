"""Settings, and the only reader of the environment."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from difflib import get_close_matches
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from kairos_core import addresses
from kairos_core.addresses import CLUSTER, HIGHEST_PORT, ONE_SERVER, SCHEMES, SENTINEL
from kairos_core.durability import Durability
from kairos_core.errors import ConfigurationError, InvalidState
from kairos_core.session import LARGEST_STATE_LIMIT_BYTES, MAX_STATE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")
_NAMESPACE = re.compile(r"\A[a-z][a-z0-9_]{0,47}\Z")
_LOCAL = ("KAIROS_LOCAL_FOLDER", "KAIROS_LOCAL_REDIS_PORT")
_POSTGRES_SCHEMES = ("postgresql", "postgres")
# What ends the part of an address that has user, password and hosts.
_PLACE = re.compile("[/?#]")
# A function to be called: `package.module:function`.
CALLABLE = re.compile(r"\A[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")
SENTRY = "sentry"
_WEBHOOK_SCHEMES = ("https://", "http://")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to know to take part.

    Attributes:
        redis_url: address of the primary store, as described in `kairos_core.addresses`.
        postgres_url: `postgresql://` address of the audit trail. By itself, libpq takes TLS where it is offered, and
            verifies nothing: `?sslmode=verify-full&sslrootcert=/path/to/ca.pem` verifies certificate and name (or
            `sslrootcert=system`, for the authorities that the system trusts).
        queue_url: Redis of the job queue; None: the primary store.
        namespace: prefix of every key and channel, and name of the PostgreSQL schema.
        lanes: number of lanes that sessions are spread over; the same in all processes.
        session_ttl_s: seconds that a session lives after its last write.
        timeout_s: seconds after which a call ends in a result or an error, retries included.
        receipt_ttl_s: seconds for which a write that is sent again answers as it did the first time.
        outbox_limit: entries per lane at which writes are refused (`AuditBacklogFull`).
        state_limit_bytes: bytes that a state may take as JSON.
        durability: how safe a write is to be before it is acknowledged, where a call does not say: `memory`, `fsync`,
            `replicated` or `replicated:N`.
        alert: whom `kairos worker` tells where records are not getting through, besides the log:
            `package.module:function`, `sentry`, or a webhook's address (see `kairos_core.audit.alerts`); None: nobody.
    """

    redis_url: str = addresses.DEFAULT_STORE
    postgres_url: str = addresses.DEFAULT_TRAIL
    queue_url: str | None = None
    namespace: str = "kairos"
    lanes: int = 16
    session_ttl_s: float = 3600.0
    timeout_s: float = 5.0
    receipt_ttl_s: float = 60.0
    outbox_limit: int = 100_000
    state_limit_bytes: int = MAX_STATE_BYTES
    durability: str = "memory"
    alert: str | None = None

    def __post_init__(self) -> None:
        for name in ("redis_url", "postgres_url", "namespace", "durability"):
            _check_text(f"KAIROS_{name.upper()}", getattr(self, name))
        _check_url("KAIROS_REDIS_URL", self.redis_url, SCHEMES)
        _check_url("KAIROS_POSTGRES_URL", self.postgres_url, _POSTGRES_SCHEMES)
        if self.queue_url is not None:
            _check_text("KAIROS_QUEUE_URL", self.queue_url)
            _check_url("KAIROS_QUEUE_URL", self.queue_url, (*ONE_SERVER, *SENTINEL))
        if _NAMESPACE.match(self.namespace) is None:
            raise ConfigurationError("KAIROS_NAMESPACE", "a lower-case letter, then at most 47 of a-z 0-9 _ are needed")
        _check_whole("KAIROS_LANES", self.lanes)
        _check_range("KAIROS_LANES", self.lanes, 1, 1024)
        _check_range("KAIROS_SESSION_TTL_S", self.session_ttl_s, 0.001, 10 * 365 * 86400)
        _check_range("KAIROS_TIMEOUT_S", self.timeout_s, 0.001, 30)
        # A call may send its write again until its deadline, so the receipt must outlive the call.
        _check_range("KAIROS_RECEIPT_TTL_S", self.receipt_ttl_s, 2 * self.timeout_s, 86400)
        _check_whole("KAIROS_OUTBOX_LIMIT", self.outbox_limit)
        _check_range("KAIROS_OUTBOX_LIMIT", self.outbox_limit, 1, 2**53 - 1)
        _check_whole("KAIROS_STATE_LIMIT_BYTES", self.state_limit_bytes)
        _check_range("KAIROS_STATE_LIMIT_BYTES", self.state_limit_bytes, 1_000, LARGEST_STATE_LIMIT_BYTES)
        try:
            Durability.parse(self.durability)
        except InvalidState as error:
            raise ConfigurationError("KAIROS_DURABILITY", str(error).removeprefix("durability: ")) from None
        if self.alert is not None:
            _check_alert(self.alert)

    @property
    def is_cluster(self) -> bool:
        """Whether the store is a cluster."""
        return self.redis_url.startswith(tuple(f"{scheme}://" for scheme in CLUSTER))

    def __repr__(self) -> str:
        # a repr ends up in logs; an address may hold a password
        redis, postgres = without_password(self.redis_url), without_password(self.postgres_url)
        return f"Settings(namespace={self.namespace!r}, redis={redis!r}, postgres={postgres!r}, lanes={self.lanes})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        redis, postgres = without_password(self.redis_url), without_password(self.postgres_url)
        return [("namespace", self.namespace), ("redis", redis), ("postgres", postgres), ("lanes", self.lanes)]

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the settings from environment variables; what is not set keeps its default.

        Raises:
            ConfigurationError: names the variable and what is wrong with it.
        """
        return _Reader(os.environ if environment is None else environment).into(
            cls,
            redis_url=("KAIROS_REDIS_URL", str),
            postgres_url=("KAIROS_POSTGRES_URL", str),
            queue_url=("KAIROS_QUEUE_URL", str),
            namespace=("KAIROS_NAMESPACE", str),
            lanes=("KAIROS_LANES", int),
            session_ttl_s=("KAIROS_SESSION_TTL_S", float),
            timeout_s=("KAIROS_TIMEOUT_S", float),
            receipt_ttl_s=("KAIROS_RECEIPT_TTL_S", float),
            outbox_limit=("KAIROS_OUTBOX_LIMIT", int),
            state_limit_bytes=("KAIROS_STATE_LIMIT_BYTES", int),
            durability=("KAIROS_DURABILITY", str),
            alert=("KAIROS_ALERT", str),
        )

    def to_env(self) -> dict[str, str]:
        """The variables from which another process builds the same settings."""
        return {
            "KAIROS_REDIS_URL": self.redis_url,
            "KAIROS_POSTGRES_URL": self.postgres_url,
            "KAIROS_QUEUE_URL": self.queue_url or "",
            "KAIROS_NAMESPACE": self.namespace,
            "KAIROS_LANES": str(self.lanes),
            "KAIROS_SESSION_TTL_S": str(self.session_ttl_s),
            "KAIROS_TIMEOUT_S": str(self.timeout_s),
            "KAIROS_RECEIPT_TTL_S": str(self.receipt_ttl_s),
            "KAIROS_OUTBOX_LIMIT": str(self.outbox_limit),
            "KAIROS_STATE_LIMIT_BYTES": str(self.state_limit_bytes),
            "KAIROS_DURABILITY": self.durability,
            "KAIROS_ALERT": self.alert or "",
        }


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the embedded servers run; read by the harness, never by a service.

    Attributes:
        folder: the folder in which the servers' temporary folder is made.
        redis_port: TCP port of the embedded Valkey on 127.0.0.1; 0: a free one.
    """

    folder: str = msgspec.field(default_factory=tempfile.gettempdir)
    redis_port: int = 0

    def __post_init__(self) -> None:
        _check_range("KAIROS_LOCAL_REDIS_PORT", self.redis_port, 0, 65535)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read `KAIROS_LOCAL_FOLDER` and `KAIROS_LOCAL_REDIS_PORT`."""
        return _Reader(os.environ if environment is None else environment).into(
            cls,
            folder=("KAIROS_LOCAL_FOLDER", str),
            redis_port=("KAIROS_LOCAL_REDIS_PORT", int),
        )


def servers_given(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment names the servers to use.

    Raises:
        ConfigurationError: where it names one of the two and not the other: half a set of servers is a mistake.
    """
    environment = os.environ if environment is None else environment
    missing = [name for name in ("KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL") if not environment.get(name, "").strip()]
    if len(missing) == 1:
        raise ConfigurationError(missing[0], "is not set, but the other server's address is: set both or none")
    return not missing


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """The variables that begin like ours and that nobody reads: each with the name that is nearest, or ''."""
    environment = os.environ if environment is None else environment
    known = [*Settings().to_env(), *_LOCAL]
    found = []
    for name in sorted(name for name in environment if name.startswith("KAIROS_") and name not in known):
        # Without what all have in common, which would make any two names alike.
        nearest = get_close_matches(name[7:], [one[7:] for one in known], n=1)
        found.append((name, f"KAIROS_{nearest[0]}" if nearest else ""))
    return found


def child_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with the variables of these settings in it, for a process it starts."""
    return {**os.environ, **settings.to_env()}


def without_password(url: str) -> str:
    """The address as it may be printed, whatever its scheme and however many servers it names: without password, query.

    Of one that cannot be an address, so that anything may be the password, only the scheme.
    """
    scheme, separator, rest = url.partition("://")
    place = _PLACE.split(rest, maxsplit=1)[0]
    login, _, hosts = place.rpartition("@")
    user = login.partition(":")[0]
    if not separator or "@" in rest[len(place) :]:
        return f"{scheme if separator else ''}://…"
    return f"{scheme}://{user}{'@' if user else ''}{hosts}{rest[len(place) :].partition('?')[0].partition('#')[0]}"


class _Reader:
    """Reads variables; an empty one counts as not set."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def text(self, name: str, default: str) -> str:
        return self._environment.get(name, "").strip() or default

    def into(self, cls: type[_T], **variables: tuple[str, Callable[[str], object]]) -> _T:
        """Build `cls` from the variables that are set; its own defaults stand for the others."""
        found: dict[str, object] = {}
        for field, (name, convert) in variables.items():
            text = self.text(name, "")
            if not text:
                continue
            try:
                found[field] = convert(text)
            except ValueError:
                # Not quoted, nor what quotes it: where variables were mixed up it may be an address with its password.
                needed = "a whole number, of digits only, is needed" if convert is int else "a number is needed"
                raise ConfigurationError(name, needed) from None
        return cls(**found)


def _check_url(setting: str, url: str, schemes: tuple[str, ...]) -> None:
    # Nothing of the address is quoted, and no error that quotes it becomes the context of one of ours: an unescaped
    # password may stand anywhere in it.
    is_postgres = schemes == _POSTGRES_SCHEMES
    # PostgreSQL's addresses may name several hosts and ports, which is for libpq to read; a cluster's is read below.
    if (is_postgres or url.partition("://")[0] in ONE_SERVER) and (
        fault := _split_fault(url, has_port=not is_postgres)
    ):
        raise ConfigurationError(setting, fault)
    if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ConfigurationError(setting, f"must begin with {' or '.join(s + '://' for s in schemes)}")
    place, *rest = _PLACE.split(url.partition("://")[2], maxsplit=1)
    if place.count("@") > 1 or "@" in "".join(rest):
        raise ConfigurationError(setting, "has an @ too many (in a password, @ / ? # must be percent-encoded)")
    fault = "" if is_postgres else _fault(url)
    if fault:
        raise ConfigurationError(setting, fault)


def _split_fault(url: str, *, has_port: bool) -> str:
    """What keeps an address from being taken apart; empty where nothing does."""
    is_split, cause = False, ""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        # A number that is none raises, and one beyond all ports would, too.
        number = parts.netloc.rpartition("@")[2].rpartition("]")[2].rpartition(":")[2]
        is_beyond = number.isascii() and number.isdecimal() and not 0 <= int(number[:6]) <= HIGHEST_PORT
        if has_port and is_beyond and "@" not in parts.path + parts.query + parts.fragment:
            cause = f"has a port beyond {HIGHEST_PORT}"
        is_split = not has_port or parts.port is None or parts.port >= 0
    if is_split:
        return ""
    return cause or "is not an address (in a password, characters such as / : @ must be percent-encoded)"


def _fault(url: str) -> str:
    """What is wrong with an address; empty where nothing is."""
    try:
        addresses.parse(url)
    except ValueError as error:
        return str(error)
    return ""


def _check_text(setting: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigurationError(setting, f"a text is needed, not {type(value).__name__}")


def is_webhook(alert: str) -> bool:
    """Whether this value of `Settings.alert` is a webhook's address."""
    return alert.startswith(_WEBHOOK_SCHEMES)


def _check_alert(alert: object) -> None:
    # Not quoted: a webhook's address is often its own password, also one that was mistyped.
    is_host = False
    if isinstance(alert, str) and is_webhook(alert):
        with contextlib.suppress(ValueError):
            parts = urlsplit(alert)
            is_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        if not is_host or not (alert.isascii() and alert.isprintable()) or " " in alert:
            raise ConfigurationError("KAIROS_ALERT", "is not an address")
    elif not (isinstance(alert, str) and (alert == SENTRY or CALLABLE.match(alert))):
        raise ConfigurationError(
            "KAIROS_ALERT", f"must be package.module:function, {SENTRY}, or begin with https:// or http://"
        )


def _check_whole(setting: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(setting, f"a whole number is needed, not {type(value).__name__}")


def _check_range(setting: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(setting, f"a number is needed, not {type(value).__name__}")
    if not low <= value <= high:
        raise ConfigurationError(setting, f"{value} is not between {low} and {high}")
