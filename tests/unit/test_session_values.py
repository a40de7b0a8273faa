from __future__ import annotations

import math
import uuid
import zoneinfo
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from kairos_core import InvalidState, SyncMode, SyncParticipant, SyncState, SyncStatus, session
from kairos_core.errors import Stamp
from tests.made_state import participant, state


def test_duplicate_participants() -> None:
    """Neither an id nor an index may occur twice."""
    with pytest.raises(InvalidState, match="same participant_id"):
        session.encode(state(participants=[participant("p", 0), participant("p", 1)]))
    with pytest.raises(InvalidState, match="same participant_index"):
        session.encode(state(participants=[participant("p", 0), participant("q", 0)]))
    with pytest.raises(InvalidState, match="same participant_id"):
        session.encode(state(participants=[participant("p", 0), participant("p", 0)]))
    assert 2 == len(session.encode(state(participants=[participant("p", 0), participant("P", 1)]))[1].participants)


def test_active_participant() -> None:
    """Whose turn it is must be one of the participants."""
    good = state(participants=[participant("p", 0), participant("q", 1)], active_participant_id="q")
    assert "q" == session.encode(good)[1].active_participant_id
    for bad in (good.replace(active_participant_id="r"), state(active_participant_id="p")):
        with pytest.raises(InvalidState, match="active_participant_id"):
            session.encode(bad)


@pytest.mark.parametrize(
    "fields",
    [{"sync_mode": "sundial"}, {"status": "asleep"}, {"status": None}, {"participants": None}, {"version": -1}],
)
def test_fields_of_another_kind(fields: dict[str, Any]) -> None:
    """Enums, participants and versions are checked, though Structs check nothing when they are built."""
    with pytest.raises(InvalidState):
        session.encode(state().replace(**fields))


@pytest.mark.parametrize(
    "other",
    [
        None,
        "s",
        pytest.param({"session_id": "s", "sync_mode": "global"}),
    ],
)
def test_what_is_no_state(other: Any) -> None:
    """What is no state is refused like a state that does not validate."""
    with pytest.raises(InvalidState):
        session.encode(other)


def test_too_many_participants() -> None:
    """Ten thousand participants are allowed and one more is not; beyond that the size counts."""
    many = [participant(str(number), number) for number in range(session.MAX_PARTICIPANTS + 1)]
    with pytest.raises(InvalidState, match="length <= 10000"):
        session.encode(state(participants=many))
    with pytest.raises(InvalidState, match="bytes of JSON"):
        session.encode(state(participants=many[:-1]))


def filled(size: int, **fields: Any) -> SyncState:
    """A state whose body has `size` bytes."""
    empty = state(metadata={"a": ""}, **fields)
    return empty.replace(metadata={"a": "x" * (size - len(session.encode(empty)[0]))})


def test_size() -> None:
    """A state of 1 MiB is taken and a byte more is refused, with both numbers and without the state."""
    assert session.encode(filled(session.MAX_STATE_BYTES))
    with pytest.raises(InvalidState, match="1048577 bytes of JSON; 1048576 are allowed") as caught:
        session.encode(filled(session.MAX_STATE_BYTES + 1))
    assert len(str(caught.value)) < 100


def test_size_is_counted_in_bytes() -> None:
    """It is bytes that are counted and not characters."""
    with pytest.raises(InvalidState, match="bytes of JSON"):
        session.encode(state(metadata={"a": "\U0001f600" * (session.MAX_STATE_BYTES // 4)}))


def test_a_state_that_was_taken_is_taken_again() -> None:
    """A state that could be created can be updated with the same content."""
    _, copy = session.encode(filled(session.MAX_STATE_BYTES))
    written = session.assign(copy, Stamp(1_700_000_000_000_000, 1), 1_700_000_000_000_000, 1_700_000_000_000_001)
    assert session.encode(written)


def test_the_copy_shares_nothing() -> None:
    """What the caller changes afterwards in its own metadata does not reach the copy."""
    metadata: dict[str, Any] = {"a": [1]}
    _, copy = session.encode(state(metadata=metadata))
    metadata["a"].append(2)
    assert {"a": [1]} == copy.metadata


def test_states_share_no_metadata() -> None:
    """The default metadata is each state's own."""
    one, other = state(), state()
    one.metadata["a"] = 1
    assert {} == other.metadata


def test_participants_in_any_iterable() -> None:
    """Participants given as a list are a tuple in the state and in what is read."""
    written = state(participants=[participant()])
    assert (participant(),) == written.participants == session.encode(written)[1].participants
    assert (participant(),) == session.encode(state().replace(participants=[participant()]))[1].participants


def test_a_state_is_a_value() -> None:
    """A state is never changed in place; a copy keeps incarnation and version."""
    old = state(incarnation=5, version=7)
    new = old.replace(status=SyncStatus.RUNNING)
    with pytest.raises(AttributeError):
        old.status = SyncStatus.RUNNING  # type: ignore[misc]
    assert (SyncStatus.PENDING, SyncStatus.RUNNING) == (old.status, new.status)
    assert Stamp(5, 7) == old.stamp == new.stamp
    with pytest.raises(TypeError):
        old.replace(colour="red")


def test_a_new_state() -> None:
    """A state that was not created has no incarnation, no version and no times."""
    new = state()
    assert (0, 0, None, None, SyncStatus.PENDING) == (*new.stamp, new.created_at, new.updated_at, new.status)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"session_id":"s"}',
        b'{"session_id":"s","sync_mode":"sundial"}',
        b'{"session_id":"s\\n","sync_mode":"global"}',
        b'{"session_id":7,"sync_mode":"global"}',
        b'{"session_id":"s","sync_mode":"global"} x',
        b'{"session_id":"s","sync_mode":"global"',
        b'{"session_id":"s","sync_mode":"global","metadata":{"a":"\xff"}}',
        b'{"session_id":"s","sync_mode":"global","metadata":{"a":"\\ud800"}}',
        b'{"session_id":"s","sync_mode":"global","metadata":{"a":NaN}}',
        b'{"session_id":"s","sync_mode":"global","total_time_ms":9007199254740992}',
        b'{"session_id":"s","sync_mode":"global","cycle_started_at":"2026-01-01T00:00:00"}',
        b'{"session_id":"s","sync_mode":"global","metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
    ids=lambda body: f"{body!r:.70}",
)
def test_bodies_that_are_no_state(body: bytes) -> None:
    """Bytes that are not the JSON of a state raise ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"\S"):
        session.decode(body, Stamp(1, 1), 0, 0)


def test_a_later_field_is_passed_over() -> None:
    """A field that this version does not know does not keep it from reading the rest."""
    found = session.decode(b'{"session_id":"s","sync_mode":"global","later":[1]}', Stamp(1, 2), 0, 0)
    assert ("s", Stamp(1, 2)) == (found.session_id, found.stamp)


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (1_699_999_999_999_999, datetime(2023, 11, 14, 22, 13, 19, 999_999, tzinfo=UTC)),
        (2**53 - 1, datetime(2255, 6, 5, 23, 47, 34, 740_991, tzinfo=UTC)),
    ],
)
def test_moment(microseconds: int, expected: datetime) -> None:
    """A server time becomes an aware UTC time, exact to the microsecond."""
    found = session.moment(microseconds)
    assert expected == found
    assert UTC is found.tzinfo


def test_names_on_the_wire() -> None:
    """The values of the enums are what is stored, and do not change."""
    assert ["per_participant", "per_cycle", "per_group", "global", "count_up"] == [mode.value for mode in SyncMode]
    assert ["pending", "running", "paused", "expired", "completed", "cancelled"] == [one.value for one in SyncStatus]


ENDLESS: list[Any] = []
for _ in range(60):
    ENDLESS = [ENDLESS, ENDLESS]


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": "with space"},
        {"session_id": [ENDLESS]},
        {"active_participant_id": "nobody"},
        {"participants": (SyncParticipant(participant_id="p", participant_index=0, total_time_ms=1),) * 2},
        {"participants": (SyncParticipant(participant_id="p q", participant_index=0, total_time_ms=1),)},
        {"participants": (SyncParticipant(participant_id="p", participant_index=0, total_time_ms=ENDLESS),)},  # type: ignore[arg-type]
        {"status": "no status"},
        {"total_time_ms": ENDLESS},
        {"max_time_ms": 2**60},
        {"metadata": {"x": ENDLESS}},
        {"metadata": {"x": "\0"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_has_passed_is_checked_where_it_was_changed(changes: dict[str, Any]) -> None:
    """A state that has passed all checks before is checked again in what was changed since, also in two steps."""
    _, passed = session.encode(SyncState.new("s", SyncMode.GLOBAL, metadata={"a": 1}))
    for changed in (passed.replace(**changes), passed.replace(status=SyncStatus.PAUSED).replace(**changes)):
        for derived in (changed, changed.replace(status=changed.status, increment_ms=5)):
            with pytest.raises(InvalidState):
                session.encode(derived)


def test_metadata_that_were_changed_in_place() -> None:
    """What can change within a state that has passed is checked each time."""
    _, passed = session.encode(SyncState.new("s", SyncMode.GLOBAL, metadata={"a": 1}))
    passed.metadata["a"] = ENDLESS
    for changed in (passed, passed.replace(increment_ms=5)):
        with pytest.raises(InvalidState):
            session.encode(changed)


def _outcome(found: SyncState) -> object:
    """What encoding a state leads to, down to the types and the zones of what it is read as."""
    try:
        body, copy = session.encode(found)
    except InvalidState:
        return InvalidState
    return body, copy, repr(copy), {name: type(value) for name, value in copy.metadata.items()}


class _Number(int):
    """An int that is more than that."""


_LONDON = datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/London"))
_ANY_VALUES: dict[str, list[Any]] = {
    "session_id": ["other", "a b", None],
    "sync_mode": [SyncMode.COUNT_UP, "global", None],
    "status": [SyncStatus.PAUSED, SyncMode.GLOBAL, "paused", None],
    "active_participant_id": [None, "p", "q", "a b", "a" * 129, "\ud800", 7],
    "total_time_ms": [None, 0, -5, 2**53 - 1, 2**53, -(2**53), 2**70, True, 1.0, "1", _Number(3)],
    "max_time_ms": [None, 1, 2**53],
    "cycle_started_at": [None, datetime(2026, 1, 1, tzinfo=UTC), _LONDON, datetime(2026, 1, 1), "2026-01-01T00:00:00Z"],  # noqa: DTZ001
    "session_started_at": [datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/London"))],
    "incarnation": [1, -1, 2**53, "1", None],
    "created_at": [None, _LONDON],
    "participants": [(), [], (participant(),), (participant(), participant())],
    "metadata": [
        *({"a": value} for value in (0, True, None, "x", "\0", "\ud800", 1.5, math.nan, 2**64, 2**70, [1], (1,), b"x")),
        *({key: 1} for key in ("", 1, None, "\ud800", SyncStatus.PAUSED)),
        None,
        [],
    ],
}


@pytest.mark.parametrize("name", _ANY_VALUES)
@pytest.mark.parametrize("written", [False, True], ids=["read", "written"])
def test_what_was_read_is_written_as_if_it_was_new(name: str, written: bool) -> None:
    """A state that was read or written before is checked for no less, and becomes the same, as one that was not."""
    body, passed = session.encode(state(participants=(participant(),), metadata={"a": 1}))
    known = passed if written else session.decode(body, (1, 2), 3, 4)
    for value in _ANY_VALUES[name]:
        derived = known.replace(**{name: value})
        new = msgspec.structs.replace(derived)
        assert {} == new.__dict__
        assert _outcome(new) == _outcome(derived), value


def test_times_in_another_zone_that_were_read() -> None:
    """A body that another program wrote is written again with its times in UTC."""
    body, _ = session.encode(state(cycle_started_at=datetime(2026, 1, 1, tzinfo=UTC)))
    elsewhere = session.decode(body.replace(b"2026-01-01T00:00:00Z", b"2026-01-01T02:00:00+02:00"), (1, 2), 3, 4)
    assert body == session.encode(elsewhere)[0]


def test_a_known_state_shares_nothing_that_can_change() -> None:
    """What is returned of a state that was read before has metadata of its own, and what was read keeps its own."""
    body, _ = session.encode(state(metadata={"a": 1}))
    read = session.decode(body, (1, 2), 3, 4)
    _, copy = session.encode(read)
    assert read == copy
    copy.metadata["a"] = 2
    assert {"a": 1} == read.metadata


def test_a_text_in_many_places_of_a_known_state() -> None:
    """What would take far more room as JSON than in memory is refused before it is made, however known the rest is."""
    _, passed = session.encode(state())
    long = "x" * 2**20
    with pytest.raises(InvalidState, match="metadata: more than the"):
        session.encode(passed.replace(metadata=dict.fromkeys(map(str, range(65)), long)))


NEEDS_ID = "1 to 128 characters from A-Z a-z 0-9 . _ : - are needed"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sync_mode": "global"}, "sync_mode: a SyncMode is needed, not a str"),
        ({"status": "running"}, "status: a SyncStatus is needed, not a str"),
        ({"status": None}, "status: a SyncStatus is needed, not None"),
        ({"total_time_ms": 1.0}, "total_time_ms: an int or None is needed, not a float"),
        ({"total_time_ms": True}, "total_time_ms: an int or None is needed, not a bool"),
        ({"cycle_started_at": "2026-01-01T00:00:00Z"}, "cycle_started_at: a datetime or None is needed, not a str"),
        ({"session_id": 7}, "session_id: a str is needed, not an int"),
        ({"session_id": "a b"}, f"session_id: {NEEDS_ID}"),
        ({"session_id": "\ud800"}, f"session_id: {NEEDS_ID}"),
        ({"active_participant_id": "a b"}, f"active_participant_id: {NEEDS_ID}"),
        ({"participants": [{"participant_id": "p"}]}, "participants[0]: a SyncParticipant is needed, not a dict"),
        (
            {"participants": [participant(), participant("a b", 1)]},
            f"participants[1].participant_id: {NEEDS_ID}",
        ),
        ({"participants": [participant(group_id="")]}, f"participants[0].group_id: {NEEDS_ID}"),
        ({"participants": [participant(is_active=1)]}, "participants[0].is_active: a bool is needed, not an int"),
        ({"metadata": []}, "metadata: a dict is needed, not a list"),
        ({"metadata": {"a": 1, 2: 3}}, "metadata, key no. 2: a key must be a str, and is an int"),
        (
            {"metadata": {"a": [0, {1: 2}]}},
            "metadata, value no. 1, item no. 2, key no. 1: a key must be a str, and is an int",
        ),
        (
            {"metadata": {"a": "\ud800"}},
            "metadata, value no. 1: a text with half of a surrogate pair is no Unicode, and does not survive JSON",
        ),
        ({"metadata": {"a": ["x\0"]}}, "metadata, value no. 1, item no. 1: a text contains the character U+0000"),
        ({"metadata": {"a": 10**5000}}, "metadata, value no. 1: an int of so many digits does not survive JSON"),
    ],
)
def test_a_refusal_names_the_field_and_what_is_wanted(fields: dict[str, Any], said: str) -> None:
    """A state that is refused says which field it is, or which place in metadata, and what belongs there."""
    with pytest.raises(InvalidState) as caught:
        session.encode(state().replace(**fields))
    assert said == str(caught.value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([(1, 2)], "item no. 1: a tuple does not survive JSON: "),
        ({"a": {"b": {1}}}, "value no. 1, value no. 1: a set does not survive JSON: "),
        ({"a": uuid.UUID(int=7)}, "value no. 1: a UUID does not survive JSON: "),
        ([[math.nan]], "item no. 1, item no. 1: a number that is not finite does not survive JSON: "),
    ],
)
def test_what_does_not_survive_json_is_told_with_its_place(value: Any, place: str) -> None:
    """Of metadata and of a message, the place and the type of what is no JSON are told, and no key or value."""
    for call, name in (
        (lambda: session.encode(state(metadata={"kept": value})), "metadata, value no. 1, "),
        (lambda: session.encode_json(value), "message, "),
    ):
        with pytest.raises(InvalidState) as caught:
            call()
        assert str(caught.value).startswith(f"{name}{place}only finite numbers")
        assert "kept" not in str(caught.value)


def test_a_place_that_is_deep_is_told_in_part() -> None:
    """However deep it is, a message stays short."""
    deep: list[Any] = [object()]
    for _ in range(50):
        deep = [deep]
    with pytest.raises(InvalidState) as caught:
        session.encode_json(deep)
    place = ", ".join(["item no. 1"] * 5)
    assert str(caught.value).startswith(f"message, {place}, …, item no. 1: an object does not survive JSON: ")
