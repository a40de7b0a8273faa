from __future__ import annotations

import io
import json
import logging
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import psycopg
import pytest

from kairos_core import Settings, StoreUnavailable, logs
from kairos_core.audit import alerts, work
from kairos_core.audit.outage import Outage
from kairos_core.audit.writer import AuditWriter
from kairos_core.logs import JsonFormatter, TextFormatter, redacted
from kairos_core.observing import Call, Observers, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRETS = ("s3cret", "p@ss", "w/rd")
ADDRESSES = (
    "redis://me:s3cret@host:6379/0",
    "rediss://:s3cret@host",
    "redis+sentinel://me:p@ss:w/rd@host:26379,other:26379/service?sentinel_password=s3cret&db=1",
    "postgresql://me:p@ss:w/rd@host/db?sslmode=verify-full&password=s3cret",
    "host=here user=me password=s3cret dbname=db",
    "host=here password='s3cret with spaces' dbname=db",
)
ALERT = alerts.Alert(namespace="n", lanes=(1,), entries=3, oldest_s=4.0, cause="?", attempts=6)


@pytest.fixture(params=[TextFormatter, JsonFormatter])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the log of Kairos, and of anybody, comes to, in each style."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


class _Broken(Silent):
    """An observer whose error quotes an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def called(self, _: Call) -> None:
        raise OSError(f"cannot reach {self._address}")


def _hook_that_raises(address: str) -> None:
    module = types.ModuleType("a_hook_of_ours")

    def tell(_: object) -> None:
        raise OSError(f"cannot reach {address}")

    module.tell = tell  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        alerts.send("a_hook_of_ours:tell", ALERT)
    finally:
        del sys.modules[module.__name__]


def _fail(text: str) -> NoReturn:
    raise OSError(text)


def _others(address: str) -> None:
    try:
        _fail(f"cannot reach {address}")
    except OSError:
        logging.getLogger("somebody.else").exception(
            "cannot reach %s", address, extra={"where": [address], "url": address}
        )


class _NoConnection:
    """Stands where nothing is executed."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: types.SimpleNamespace(__enter__=None)


def _bury(address: str) -> None:
    writer = AuditWriter.__new__(AuditWriter)
    writer._connection = _NoConnection()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        # The log comes first; there is no connection to bury anything over.
        writer._bury(1, types.SimpleNamespace(entry_id=b"1-0", payload=b""), "22P02", f"refused: {address}")  # type: ignore[arg-type]


def _give_up(address: str) -> None:
    process = work.Process(Settings(timeout_s=0.01, redis_url="redis://127.0.0.1:1/0"))
    work._give_up(process, (1,), f"cannot reach {address}", 6)


FOREIGN: dict[str, Callable[[str], object]] = {
    "outage": lambda address: Outage("sweep").begin(StoreUnavailable("x", f"cannot reach {address}")),
    "alert": _hook_that_raises,
    "drain failed": lambda address: work._tell(
        psycopg.OperationalError(address), f"cannot reach {address}", {"cause": address}
    ),
    "drain broken": lambda address: work._tell(ValueError(address), f"cannot reach {address}", {"cause": address}),
    "given up": _give_up,
    "dead letter": _bury,
    "observer": lambda address: Observers(_Broken(address)).called(Call("update_session", "ok", 0.1, "a", None)),
    "others": _others,
}


@pytest.mark.parametrize("place", FOREIGN)
def test_no_password_is_logged(place: str, written: io.StringIO) -> None:
    """Wherever somebody else's text gets into the log, an address in it loses its password, in text and in JSON."""
    for address in ADDRESSES:
        FOREIGN[place](address)
    text = written.getvalue()
    assert text.count("…") >= len(ADDRESSES)
    assert [] == [secret for secret in SECRETS if secret in text]
    assert "host" in text


def test_an_address_keeps_what_is_no_secret() -> None:
    """Who could not go where stays to be read; what holds no password stays as it is."""
    assert "to redis://me:…@host:6379/0, twice" == redacted("to redis://me:s3cret@host:6379/0, twice")
    assert "postgresql://me:…@host/db?password=…&sslmode=x" == redacted(
        "postgresql://me:a@host/db?password=b&sslmode=x"
    )
    for plain in ("redis://host:6379/0", "postgresql://me@host/db", "me@host: 1:2@3", "lane 7: entry 1-0", ""):
        assert plain == redacted(plain)
    # A state of a megabyte is no reason to stop for a minute.
    assert "a" * 1_000_000 == redacted("a" * 1_000_000)


def record(**extra: object) -> logging.LogRecord:
    """A record, as a logger makes it."""
    return logging.getLogger("kairos.x").makeRecord(
        "kairos.x", logging.WARNING, __file__, 1, "%d of %s", (2, "three"), None, extra=extra
    )


def test_a_line_of_json_has_the_fact_and_its_fields() -> None:
    """One object a line: the time in UTC, level, logger, event, message, and the fields with their types."""
    found = json.loads(
        JsonFormatter().format(
            record(event="fact", lane=7, session_id="a", lanes=(1, 2), none=None, when=datetime(2026, 1, 1, tzinfo=UTC))
        )
    )
    moment = datetime.fromisoformat(found.pop("time"))
    assert moment.tzinfo == UTC
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert ["level", "logger", "event", "message", "lane", "session_id", "lanes", "none", "when"] == list(found)
    assert {
        "level": "WARNING",
        "logger": "kairos.x",
        "event": "fact",
        "message": "2 of three",
        "lane": 7,
        "session_id": "a",
        "lanes": [1, 2],
        "none": None,
        "when": "2026-01-01 00:00:00+00:00",
    } == found
    assert "log" == json.loads(JsonFormatter().format(record()))["event"]
    # `json.loads` alone would take NaN, which is no JSON.
    assert {"age": "nan"} == {"age": msgspec.json.decode(JsonFormatter().format(record(age=float("nan"))))["age"]}


def test_an_exception_is_one_field() -> None:
    """Where something was raised, its lines are one field, and the object stays on one line."""
    try:
        _fail("a\nb")
    except OSError:
        made = record(event="fact", level="a field that is called like a first one")
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert "WARNING" == json.loads(line)["level"]
    assert json.loads(line)["exception"].splitlines()[0].startswith("Traceback")
    assert json.loads(line)["exception"].endswith("OSError: a\nb")


def test_the_style_can_be_chosen_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The last style that was chosen is the log's, once; what else the process has set up stands."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    for style in logs.STYLES:
        logs.configure(style)
    logging.getLogger("kairos.x").warning("told", extra={"event": "fact"})
    logging.getLogger("kairos.x").info("not told")
    (line,) = capsys.readouterr().err.splitlines()
    assert "fact" == json.loads(line)["event"]
    logs.configure("text")
    logging.getLogger("kairos.x").warning("told", extra={"event": "fact"})
    assert capsys.readouterr().err.endswith(" kairos.x WARNING told\n")
    theirs = logging.NullHandler()
    monkeypatch.setattr(root, "handlers", [theirs])
    logs.configure("json")
    assert [theirs] == root.handlers
    with pytest.raises(ValueError, match="text, json"):
        logs.configure("xml")


def test_the_line_in_the_documents_is_one() -> None:
    """The line that docs/metrics.md shows has what such a line has."""
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    shown = json.loads(text.partition("```json\n")[2].partition("\n```")[0])
    fields = {"lane": 7, "entry_id": "1-0", "sqlstate": None, "cause": "x"}
    made = json.loads(JsonFormatter().format(record(event="dead_letter", **fields)))
    assert list(made) == list(shown)
    assert {name: type(value) for name, value in made.items()} == {name: type(value) for name, value in shown.items()}
