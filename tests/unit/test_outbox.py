from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from typing import Any

import msgspec
import pytest

from kairos_core import InvalidState, SyncMode, SyncParticipant, SyncState, SyncStatus, session
from kairos_core.audit.outbox import Entry, _entry
from kairos_core.commands import CREATE, DELETE, UPDATE
from kairos_core.errors import Stamp
from kairos_core.messages import Message

STATES = [
    pytest.param(SyncState.new("s", SyncMode.GLOBAL), id="least"),
    pytest.param(
        SyncState.new(
            "room:1.a_B-c",
            SyncMode.PER_GROUP,
            [
                SyncParticipant(
                    participant_id=f"p{index}",
                    participant_index=index,
                    total_time_ms=session.MAX_INTEGER,
                    time_used_ms=-session.MAX_INTEGER,
                    time_remaining_ms=0,
                    cycle_count=3,
                    is_active=index == 0,
                    has_expired=index == 1,
                    group_id="g",
                )
                for index in range(2)
            ],
            status=SyncStatus.EXPIRED,
            active_participant_id="p1",
            total_time_ms=1,
            time_per_cycle_ms=2,
            cycle_started_at=datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-5))),
            session_started_at=datetime(2026, 3, 29, tzinfo=UTC),
            session_completed_at=datetime(1970, 1, 1, tzinfo=UTC),
            increment_ms=3,
            max_time_ms=4,
            metadata={"title": "Größe 😀 \\u0000 }", "n": 2**64, "x": 1e-7, "a": [None, True, {}], "version": 9},
            # From an earlier version; what the server assigned to this one takes their place.
            incarnation=7,
            version=8,
        ),
        id="full",
    ),
]
# On the second, a microsecond before one, at the epoch, and the last that Lua holds exactly.
TIMES = [
    (1_700_000_000_000_000, 1_700_000_000_000_001),
    (1_699_999_999_999_999, 1_700_000_000_100_000),
    (0, 1),
    (0, 2**53 - 1),
]


def message(body: bytes = b'{"a":"\xc3\xa9"}', /, **changes: Any) -> bytes:
    """What a script appends, with some fields changed; None leaves one out."""
    fields = {
        "i": "room:1",
        "k": "create",
        "e": "table.opened",
        "o": "0190a5d0f3a07b1c8d2e3f4a5b6c7d8e",
        "n": 1_700_000_000_000_001,
        "v": 12,
        "c": 1_700_000_000_000_002,
        "u": 1_700_000_000_000_003,
        "s": msgspec.Raw(body),
    } | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def entry_of(state: SyncState, stamp: Stamp, created_us: int, updated_us: int) -> Entry:
    """The entry of a write of this state."""
    body, _ = session.encode(state)
    text = message(body, i=state.session_id, n=stamp.incarnation, v=stamp.version, c=created_us, u=updated_us)
    return _entry(b"1-0", {b"m": text})


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("created_us", "updated_us"), TIMES)
@pytest.mark.parametrize("stamp", [Stamp(1, 1), Stamp(2**53 - 1, 2**53 - 1)])
def test_the_snapshot_is_the_state(state: SyncState, stamp: Stamp, created_us: int, updated_us: int) -> None:
    """G7: what is audited is the full state, field by field what a reader of the store gets."""
    body, copy = session.encode(state)
    expected = session.assign(copy, stamp, created_us, updated_us)
    snapshot = entry_of(state, stamp, created_us, updated_us).row()[-1]
    assert expected == msgspec.json.decode(snapshot, type=SyncState)
    assert expected == session.decode(body, stamp, created_us, updated_us)
    assert plain(session.to_json(expected)) == plain(snapshot)


def plain(text: bytes) -> list[tuple[str, Any]]:
    """The fields of a state's JSON in their order, with the server's times read, since they may be written two ways."""
    fields = msgspec.json.decode(text)
    for name in ("created_at", "updated_at"):
        fields[name] = datetime.fromisoformat(fields[name])
    return list(fields.items())


def test_entry() -> None:
    """An entry of the stream is read field by field; ids and kinds as text, numbers as integers, the body as it is."""
    found = _entry(b"1700000000000-3", {b"m": message()})
    assert b"1700000000000-3" == found.entry_id
    assert found.message == Message(
        session_id="room:1",
        kind="create",
        event_type="table.opened",
        operation_id="0190a5d0f3a07b1c8d2e3f4a5b6c7d8e",
        incarnation=1_700_000_000_000_001,
        version=12,
        created_us=1_700_000_000_000_002,
        updated_us=1_700_000_000_000_003,
        body=msgspec.Raw('{"a":"é"}'.encode()),
    )


def test_a_row_has_the_columns_of_the_copy() -> None:
    """The values of a row stand in the order of the columns that are copied."""
    statement = resources.files("kairos_core").joinpath("audit", "sql", "copy_events.sql").read_text(encoding="utf-8")
    columns = statement[statement.index("(") + 1 : statement.index(")")].replace("\n", "").split(",")
    found = dict(zip([column.strip() for column in columns[:8]], _entry(b"1-0", {b"m": message()}).row(), strict=True))
    snapshot = found.pop("state_snapshot")
    assert found == {
        "operation_id": "0190a5d0f3a07b1c8d2e3f4a5b6c7d8e",
        "session_id": "room:1",
        "incarnation": 1_700_000_000_000_001,
        "version": 12,
        "kind": "create",
        "event_type": "table.opened",
        "occurred_at": "2023-11-14T22:13:20.000003+00:00",
    }
    assert isinstance(snapshot, bytes)
    assert msgspec.json.decode(snapshot) == {
        "a": "é",
        "incarnation": 1_700_000_000_000_001,
        "version": 12,
        "created_at": "2023-11-14T22:13:20.000002+00:00",
        "updated_at": "2023-11-14T22:13:20.000003+00:00",
    }


@pytest.mark.parametrize("script", [CREATE, UPDATE, DELETE], ids=lambda script: str(script.name))
def test_scripts_write_what_an_entry_reads(script: Any) -> None:
    """Each script writes the nine fields of a message once, under its own kind, and appends it as the entry's field."""
    code = "\n".join(line for line in script.text.splitlines() if not line.startswith("--"))
    assert sorted("ikeonvcus") == sorted(re.findall(r'"([a-z])":', code))
    assert f'"k":"{script.name}"' in code
    assert re.search(r"call\('XADD', KEYS\[3\], '\*', 'm', message", code)


@pytest.mark.parametrize("fields", [{}, {b"s": message()}])
def test_an_entry_without_a_message(fields: dict[bytes, bytes]) -> None:
    """An entry that is not ours is an error, never a row with a hole."""
    with pytest.raises(KeyError):
        _entry(b"1-0", fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"\xff",
        message()[:-1],
        message() + b"x",
        message(v="12"),
        message(n=1.5),
        *(message(**{name: None}) for name in "ikeonvcu"),
        message().replace(b'"s"', b'"z"'),
    ],
    ids=lambda data: f"{data!r:.20}...{data[-20:]!r}",
)
def test_a_message_that_is_none(data: bytes) -> None:
    """A message that is not ours raises ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"\S"):
        _entry(b"1-0", {b"m": data})


def test_a_state_that_was_accepted_can_be_recorded() -> None:
    """G7: whatever was accepted can be read by a drain, wherever its job is on the stack."""
    metadata: dict[str, Any] = {}
    for _ in range(2_000):
        deeper = {"a": metadata}
        try:
            session.encode(SyncState.new("s", SyncMode.GLOBAL, metadata=deeper))
        except InvalidState:
            break
        metadata = deeper
    text = message(session.encode(SyncState.new("s", SyncMode.GLOBAL, metadata=metadata))[0])

    def read(depth: int) -> Entry:
        return read(depth - 1) if depth else _entry(b"1-0", {b"m": text})

    assert 12 == read(50).message.version
