"""AuditReader: the history of a session, for whoever wants to know."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest

from kairos_core import AuditEvent, AuditReader, AuditWriter, RedisStateManager, Settings
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.reading import connect_to_read
from kairos_core.errors import ConfigurationError, CorruptState, InvalidState, Stamp, StoreUnavailable
from loadtests.states import sample_state
from tests.in_schema import change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import SyncState


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane."""
    return msgspec.structs.replace(settings, lanes=1)


def replaced(state: SyncState, **changes: Any) -> SyncState:
    """The state with changes."""
    return state.replace(**changes)


@pytest.fixture
def states(settings: Settings, worker_settings: Settings, manager: RedisStateManager, writer: AuditWriter) -> list[Any]:
    """A session's states as they were acknowledged, in two lives, the first of which was ended; and another session."""
    manager.create_session(sample_state("other"))
    found: list[SyncState | None] = [manager.create_session(sample_state("a"))]
    for number in range(4):
        metadata = {"n": number, "x": 1.5}
        found.append(manager.mutate_session("a", partial(replaced, metadata=metadata)))
    manager.delete_session("a")
    found.extend([None, manager.create_session(sample_state("a"))])
    found.append(manager.mutate_session("a", lambda state: state.replace(metadata={}), event_type="cleared"))
    outbox = Outbox.connect(worker_settings)
    drain_lane(outbox, writer, 0)
    outbox.close()
    assert settings.lanes == 1
    return found


@pytest.fixture
def reader(settings: Settings, states: list[Any]) -> Iterator[AuditReader]:
    """A connected reader, of these states."""
    assert states
    with AuditReader.connect(settings) as connected:
        yield connected


def test_events_are_what_was_acknowledged(reader: AuditReader, states: list[Any]) -> None:
    """G7: a session's events come in order, each with the state that its writer was answered with."""
    events = reader.events("a")
    assert [1, 2, 3, 4, 5, 6, 1, 2] == [event.version for event in events]
    assert states == [None if event.ends else event.state for event in events]
    assert ["create", *["update"] * 4, "delete", "create", "update"] == [event.kind for event in events]
    assert "cleared" == events[-1].event_type
    assert list(range(1, 9)) == [event.position for event in events]
    assert [event.state.updated_at for event in events if not event.ends] == [
        event.occurred_at for event in events if not event.ends
    ]
    assert events[5].state.metadata == states[4].metadata  # of a delete, the state that ended
    with pytest.raises(AttributeError):
        events[0].version = 7  # type: ignore[misc]


def test_events_come_in_pages(reader: AuditReader) -> None:
    """Pages of any length, each behind the last event of the one before, hold every event once and in order."""
    whole = reader.events("a")
    for limit in (1, 3, 8):
        found: list[AuditEvent] = []
        after: Stamp | None = None
        while page := reader.events("a", after=after, limit=limit):
            assert len(page) <= limit
            found += page
            after = page[-1].stamp
        assert whole == found


def test_events_can_be_restricted(reader: AuditReader) -> None:
    """Events of one life only, or of a time: from its beginning on, and before its end."""
    whole = reader.events("a")
    first, second = whole[0].incarnation, whole[-1].incarnation
    assert whole[:6] == reader.events("a", incarnation=first)
    assert whole[6:] == reader.events("a", incarnation=second)
    assert [] == reader.events("a", incarnation=second + 1)
    assert whole[2:5] == reader.events("a", since=whole[2].occurred_at, until=whole[5].occurred_at)
    assert whole[3:6] == reader.events("a", since=whole[2].occurred_at, incarnation=first, after=whole[2].stamp)
    assert [] == reader.events("nobody")


def test_the_state_at_a_version_or_a_time(reader: AuditReader, states: list[Any]) -> None:
    """A session's state is known for each version and each moment; there is none before it and behind its end."""
    events = reader.events("a")
    for event, state in zip(events, states, strict=True):
        assert state == reader.state_at("a", event.stamp)
        assert state == reader.state_at("a", event.occurred_at)
    assert reader.state_at("a", events[0].occurred_at - timedelta(microseconds=1)) is None
    assert states[-1] == reader.state_at("a", datetime.now(UTC) + timedelta(days=1))
    assert reader.state_at("a", Stamp(events[0].incarnation, 99)) is None
    assert reader.state_at("nobody", datetime.now(UTC)) is None


def test_a_reader_writes_nothing(reader: AuditReader) -> None:
    """A reader's connection cannot write, whatever its account may."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        reader._connection.execute("DELETE FROM sync_sessions")


def test_what_cannot_be_read_is_a_typed_error(settings: Settings, reader: AuditReader, states: list[Any]) -> None:
    """An audit trail that cannot be asked is a KairosError like any other, not one of the driver's."""
    del states
    change(settings, "ALTER TABLE sync_events RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable, match="the audit trail"):
        reader.events("a")


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": 10_001}, {"since": datetime(2026, 1, 1)}, {"until": datetime(2026, 1, 1)}],  # noqa: DTZ001
)
def test_arguments_are_checked(reader: AuditReader, wrong: dict[str, Any]) -> None:
    """What is out of bounds, or a time without a zone, is refused by name."""
    with pytest.raises(InvalidState, match=next(iter(wrong))):
        reader.events("a", **wrong)
    with pytest.raises(InvalidState, match="session_id"):
        reader.events("no id")


def test_a_state_that_does_not_decode(settings: Settings, reader: AuditReader) -> None:
    """A recorded state that is none is a typed error which names it, and not its content."""
    change(settings, "UPDATE sync_events SET state_snapshot = '{\"secret\": 1}' WHERE session_id = 'a' AND version = 3")
    with pytest.raises(CorruptState, match="session a, version 3 of incarnation") as caught:
        reader.events("a")
    assert "secret" not in str(caught.value)


def test_a_schema_that_is_not_there(settings: Settings) -> None:
    """Without a schema, or with one of another version, the error says what to do."""
    with pytest.raises(ConfigurationError, match=r"is not there: `kairos migrate`"):
        AuditReader.connect(settings)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "DELETE FROM schema_migrations WHERE number = (SELECT max(number) FROM schema_migrations)",
            "an older version",
        ),
        ("UPDATE schema_migrations SET checksum = 'x' WHERE number = 1", "another version"),
        ("INSERT INTO schema_migrations (number, name, checksum) VALUES (999, 'x', 'x')", "another version"),
    ],
)
def test_a_schema_of_another_version(settings: Settings, writer: AuditWriter, statement: str, words: str) -> None:
    """A schema that another version made is not read as if it were ours."""
    assert [] == writer.migrate()
    change(settings, statement)
    with pytest.raises(ConfigurationError, match=words):
        connect_to_read(settings)


class Frame(SimpleNamespace):
    """What stands for pandas' DataFrame where pandas is not."""

    def __init__(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        super().__init__(rows=rows, columns=columns)


def test_a_frame_has_a_row_for_each_event(
    reader: AuditReader, states: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame has each event with the fields of its state, in order, whatever the length of a page."""
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    monkeypatch.setattr("kairos_core.audit.reader._MOST", 3)
    found = reader.frame("a")
    assert [event.stamp for event in reader.events("a", limit=3)] == [
        (row["incarnation"], row["version"]) for row in found.rows[:3]
    ]
    assert len(states) == len(found.rows)
    assert {"position", "chain_hash", "status", "metadata", "participants"} < set(found.columns)
    assert all(set(found.columns) == set(row) for row in found.rows)
    assert "running" == found.rows[0]["status"]
    assert [2] == [row["version"] for row in reader.frame("a", after=reader.events("a", limit=1)[0].stamp).rows[:1]]


def test_a_frame_of_pandas(reader: AuditReader, states: list[Any]) -> None:
    """Where pandas is installed, a frame is one of its own."""
    pytest.importorskip("pandas")
    found = reader.frame("a")
    assert (len(states), "cleared") == (len(found), found.iloc[-1]["event_type"])
    assert 0 == len(reader.frame("nobody"))


def test_a_frame_needs_pandas(reader: AuditReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas, a frame is a typed error that says so."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match="pandas: is not installed"):
        reader.frame("a")
