from __future__ import annotations

import math
import uuid
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairos_core import InvalidState, SyncMode, SyncParticipant, SyncState, SyncStatus, session
from kairos_core.errors import Stamp
from tests.strategies import MILLISECONDS, MOMENTS, counts, valid_states

# A slow machine is no failure, and a test leaves nothing behind.
relaxed = settings(deadline=None, database=None)

BAD_IDS = [
    pytest.param("", id="empty"),
    pytest.param("a" * 129, id="129 characters"),
    pytest.param("a\n", id="trailing newline"),
    pytest.param("\na", id="leading newline"),
    pytest.param("a b", id="space"),
    pytest.param("a/b", id="slash"),
    pytest.param("{a}", id="hash tag"),
    pytest.param('a"', id="quote"),
    pytest.param("a\0", id="U+0000"),
    pytest.param("é", id="not ASCII"),
    pytest.param("\u0661", id="a digit, but not an ASCII one"),
    pytest.param("\ud800", id="lone surrogate"),
]
NOT_TEXT = [
    pytest.param(7, id="int"),
    pytest.param(1.5, id="float"),
    pytest.param(True, id="bool"),
    pytest.param(["a"], id="list"),
]
GOOD_IDS = ["a", "-", ":", ".", "_", "a" * 128, "3f2b8c1e-9d4a-4c6f-8a7b-000000000000", "Room:7.b_c"]


def state(session_id: Any = "s", **fields: Any) -> SyncState:
    """A state that has not been created, with some fields set."""
    return SyncState.new(session_id, SyncMode.GLOBAL, **fields)


def participant(participant_id: Any = "p", participant_index: Any = 0, **fields: Any) -> SyncParticipant:
    """A participant with some fields set."""
    return SyncParticipant(
        **{"participant_id": participant_id, "participant_index": participant_index, "total_time_ms": 1, **fields}
    )


def nested(depth: int) -> dict[str, Any]:
    """A dict in a dict, `depth` times."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@relaxed
@given(
    written=valid_states(),
    stamp=st.builds(Stamp, counts, counts),
    created_us=st.integers(0, 2**52),
    updated_us=st.integers(0, 2**52),
)
def test_round_trip(written: SyncState, stamp: Stamp, created_us: int, updated_us: int) -> None:
    """What is written is read again: the caller's part as it was, the rest as the server assigned it."""
    body, copy = session.encode(written)
    expected = written.replace(
        incarnation=stamp.incarnation,
        version=stamp.version,
        created_at=session.moment(created_us),
        updated_at=session.moment(updated_us),
    )
    assert written == copy
    assert expected == session.decode(body, stamp, created_us, updated_us)
    assert expected == session.assign(copy, stamp, created_us, updated_us)


@relaxed
@given(written=valid_states())
def test_body_lacks_what_the_server_assigns(written: SyncState) -> None:
    """The body is the JSON of the state without the four fields, whatever else the state holds."""
    body, copy = session.encode(written)
    expected = msgspec.json.decode(session.to_json(copy))
    for name in ("incarnation", "version", "created_at", "updated_at"):
        del expected[name]
    assert expected == msgspec.json.decode(body)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": 1, "incarnation": 5, "version": 6},
        {"a": ',"incarnation":'},
        {',"incarnation":': 1},
        {"a": {"incarnation": {}}},
    ],
)
def test_metadata_may_look_like_what_the_server_assigns(metadata: dict[str, Any]) -> None:
    """The body is cut at the server's fields and not at a caller's of the same name."""
    body, _ = session.encode(state(metadata=metadata))
    assert metadata == session.decode(body, Stamp(1, 1), 0, 0).metadata


@relaxed
@given(text=st.text("\\u0\0a\"'", max_size=12), as_key=st.booleans())
def test_nul_is_refused_and_what_looks_like_it_is_not(text: str, *, as_key: bool) -> None:
    """U+0000 is refused wherever it stands; a backslash followed by u0000 is text like any other."""
    written = state(metadata={text: 1} if as_key else {"a": [text]})
    if "\0" in text:
        with pytest.raises(InvalidState, match=r"U\+0000"):
            session.encode(written)
    else:
        assert written == session.encode(written)[1]


@pytest.mark.parametrize(
    "text", ["\0", "\\\0", "\\\\\0", "\\u0000\0", "\0\\u0000"], ids=["bare", "after 1", "after 2", "last", "first"]
)
def test_nul_after_backslashes(text: str) -> None:
    """U+0000 is found behind any number of backslashes."""
    with pytest.raises(InvalidState, match=r"U\+0000"):
        session.encode(state(metadata={"a": text}))


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "\\\\\\u0000", "u0000", "\\u00000"])
def test_a_backslash_and_u0000_is_text(text: str) -> None:
    """A literal backslash followed by u0000 comes back as it was."""
    assert {text: text} == session.encode(state(metadata={text: text}))[1].metadata


@pytest.mark.parametrize("session_id", GOOD_IDS)
def test_good_session_ids(session_id: str) -> None:
    """Ids of 1 to 128 of the allowed characters are taken as they are."""
    assert session_id == session.check_session_id(session_id)
    assert session_id == session.encode(state(session_id))[1].session_id


@pytest.mark.parametrize("session_id", [*BAD_IDS, *NOT_TEXT, None, b"a"])
def test_bad_session_ids(session_id: Any) -> None:
    """Any other id, and what is no text at all, is refused by name."""
    with pytest.raises(InvalidState, match="session_id"):
        session.check_session_id(session_id)


@pytest.mark.parametrize("bad_id", [*BAD_IDS, *NOT_TEXT])
def test_bad_ids_in_a_state(bad_id: Any) -> None:
    """Every id in a state is held to the same rule."""
    for written in (
        state(bad_id),
        state(participants=[participant(bad_id)]),
        state(participants=[participant(group_id=bad_id)]),
        state(participants=[participant()], active_participant_id=bad_id),
    ):
        with pytest.raises(InvalidState):
            session.encode(written)


@pytest.mark.parametrize("other", [b"abc", uuid.UUID(int=7)], ids=["bytes", "UUID"])
def test_ids_of_another_type_are_refused(other: Any) -> None:
    """An id that is no str is refused, not stored as something else."""
    for written in (
        state(other),
        state(participants=[participant(other)]),
        state(participants=[participant(group_id=other)]),
    ):
        with pytest.raises(InvalidState):
            session.encode(written)


@pytest.mark.parametrize("event_type", ["a", "a" * 50, "turn.taken", "A:b_c-9"])
def test_good_event_types(event_type: str) -> None:
    """Event types of 1 to 50 of the allowed characters are taken as they are."""
    assert event_type == session.check_event_type(event_type)


@pytest.mark.parametrize("event_type", ["", "a" * 51, "a\n", "a b", "é", None, 7, b"a"])
def test_bad_event_types(event_type: Any) -> None:
    """Any other event type is refused by name."""
    with pytest.raises(InvalidState, match="event_type"):
        session.check_event_type(event_type)


@pytest.mark.parametrize("name", MILLISECONDS)
@pytest.mark.parametrize("value", [session.MAX_INTEGER, -session.MAX_INTEGER, 0, None])
def test_milliseconds_within_bounds(name: str, value: int | None) -> None:
    """Times of a session are integers that a double holds exactly, or None."""
    assert value == getattr(session.encode(state(**{name: value}))[1], name)


@pytest.mark.parametrize("name", MILLISECONDS)
@pytest.mark.parametrize("value", [2**53, -(2**53), 2**64, 1.0, 1.5, True, "1", Decimal(1)])
def test_milliseconds_out_of_bounds(name: str, value: Any) -> None:
    """Integers beyond that, and what is no integer, are refused."""
    with pytest.raises(InvalidState):
        session.encode(state(**{name: value}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    """NaN and infinity are refused wherever they are given, not stored as None."""
    for name in (*MILLISECONDS, *MOMENTS, "active_participant_id"):
        with pytest.raises(InvalidState):
            session.encode(state(**{name: value}))
    for name in ("time_remaining_ms", "group_id"):
        with pytest.raises(InvalidState):
            session.encode(state(participants=[participant(**{name: value})]))


@pytest.mark.parametrize("name", ["participant_index", "cycle_count"])
@pytest.mark.parametrize(("value", "good"), [(0, True), (2**53 - 1, True), (-1, False), (2**53, False), (None, False)])
def test_counts_of_a_participant(name: str, value: Any, *, good: bool) -> None:
    """Counts are integers from 0 to the largest that a double holds exactly."""
    written = state(participants=[participant(**{name: value})])
    if good:
        assert value == getattr(session.encode(written)[1].participants[0], name)
    else:
        with pytest.raises(InvalidState, match=name):
            session.encode(written)


@pytest.mark.parametrize("name", ["total_time_ms", "time_used_ms", "time_remaining_ms"])
@pytest.mark.parametrize(("value", "good"), [(2**53 - 1, True), (1 - 2**53, True), (2**53, False), (-(2**53), False)])
def test_milliseconds_of_a_participant(name: str, value: int, *, good: bool) -> None:
    """A participant's times have the same bounds as a session's."""
    written = state(participants=[participant(**{name: value})])
    if good:
        assert value == getattr(session.encode(written)[1].participants[0], name)
    else:
        with pytest.raises(InvalidState, match=name):
            session.encode(written)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"a": math.nan}, id="NaN"),
        pytest.param({"a": math.inf}, id="infinity"),
        pytest.param({"a": [-math.inf]}, id="minus infinity"),
        pytest.param({"a": (1, 2)}, id="tuple"),
        pytest.param({"a": {"b": [()]}}, id="empty tuple, deep"),
        pytest.param({1: 2}, id="integer key"),
        pytest.param({"a": {1: 2}}, id="integer key, deep"),
        pytest.param({"a": {1}}, id="set"),
        pytest.param({"a": b"a"}, id="bytes"),
        pytest.param({"a": datetime(2026, 1, 1, tzinfo=UTC)}, id="datetime"),
        pytest.param({"a": date(2026, 1, 1)}, id="date"),
        pytest.param({"a": Decimal(1)}, id="Decimal"),
        pytest.param({"a": uuid.UUID(int=7)}, id="UUID"),
        pytest.param({"a": participant()}, id="Struct"),
        pytest.param({"a": msgspec.Raw(b"1")}, id="raw JSON"),
        pytest.param({"a": object()}, id="object"),
        pytest.param({"a": "\ud800"}, id="lone surrogate"),
        pytest.param({"\udfff": 1}, id="lone surrogate as a key"),
        pytest.param({"a": 10**5000}, id="more digits than Python reads"),
        pytest.param(None, id="None"),
        pytest.param([], id="list"),
        pytest.param("a", id="str"),
    ],
)
def test_metadata_that_does_not_survive(metadata: Any) -> None:
    """Metadata that would not come back from JSON as it went in is refused."""
    with pytest.raises(InvalidState):
        session.encode(state(metadata=metadata))


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        2**53 + 1,
        2**64,
        -(2**64) - 1,
        10**400,
        1.5e308,
        5e-324,
        -0.0,
        1e22,
        "\U0001f600",
        "\u2028\u007f\u0001",
        "",
        [[]],
        {"": {}},
        None,
        False,
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_metadata_that_survives(value: Any) -> None:
    """Metadata comes back with value and type, integers beyond what a double holds included."""
    body, _ = session.encode(state(metadata={"a": value}))
    found = session.decode(body, Stamp(1, 1), 0, 0).metadata["a"]
    assert (type(value), value) == (type(found), found)


def test_nesting() -> None:
    """64 levels are taken; more, or a value in itself, are refused, and a hundred thousand do not kill the process."""
    deepest = nested(session.MAX_DEPTH - 1)
    assert deepest == session.encode(state(metadata=deepest))[1].metadata
    ring: dict[str, Any] = {}
    ring["a"] = ring
    for metadata in (nested(session.MAX_DEPTH), nested(100_000), ring):
        with pytest.raises(InvalidState):
            session.encode(state(metadata=metadata))


@pytest.mark.parametrize("name", [*MOMENTS, "created_at", "updated_at"])
@pytest.mark.parametrize("value", [datetime(2026, 1, 1), date(2026, 1, 1), 1, "2026-01-01", "soon"])  # noqa: DTZ001 - on purpose
def test_naive_moments(name: str, value: Any) -> None:
    """A time without an offset, and what is no time, is refused."""
    with pytest.raises(InvalidState, match=name):
        session.encode(state(**{name: value}))


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))])
def test_aware_moments(name: str, zone: timezone) -> None:
    """A time with an offset comes back as the same moment, to the microsecond."""
    value = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=zone)
    assert value == getattr(session.encode(state(**{name: value}))[1], name)


@pytest.mark.parametrize(
    "zone", [timezone(timedelta(hours=2, seconds=13)), zoneinfo.ZoneInfo("Africa/Monrovia")], ids=["made", "real"]
)
def test_an_offset_with_seconds(zone: Any) -> None:
    """A time is never stored as another moment: it is kept or refused."""
    written = state(session_started_at=datetime(1930, 1, 1, tzinfo=zone))
    try:
        copy = session.encode(written)[1]
    except InvalidState:
        return
    assert written.session_started_at == copy.session_started_at


class Nowhere(tzinfo):
    """A time zone that cannot tell its offset."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """As one without this method does."""
        raise NotImplementedError

    tzname = dst = utcoffset  # type: ignore[assignment]


@pytest.mark.parametrize("name", [*MOMENTS, "created_at", "updated_at"])
def test_a_time_zone_without_an_offset(name: str) -> None:
    """A time whose zone cannot tell its offset is refused, and nothing else is raised."""
    with pytest.raises(InvalidState):
        session.encode(state(**{name: datetime(2026, 1, 1, tzinfo=Nowhere())}))


class Proxy:
    """An object that may not be looked at outside of its context."""

    def __bool__(self) -> bool:
        raise RuntimeError("working outside of a context")


class Unequal(dict[str, int]):
    """A dict that cannot be compared."""

    def __eq__(self, _: object) -> bool:
        raise KeyError(0)

    __hash__ = None


class Endless(list[SyncParticipant]):
    """A list that cannot be iterated over."""

    def __iter__(self) -> Any:
        raise LookupError


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"cycle_started_at": Proxy()}, id="bool"),
        pytest.param({"metadata": {"a": Proxy()}}, id="bool in metadata"),
        pytest.param({"metadata": {"a": Unequal(b=1)}}, id="eq"),
        pytest.param({"participants": Endless([participant()])}, id="iter"),
    ],
)
def test_objects_that_raise(fields: dict[str, Any]) -> None:
    """Whatever a caller's own class raises when it is looked at, the state is refused with a typed error."""
    with pytest.raises(InvalidState):
        session.encode(state().replace(**fields))


def test_an_interruption_is_no_refusal() -> None:
    """What a signal raises while a state is looked at is no fault of the state, and is not hidden."""

    class Timeout(Exception):  # noqa: N818 - as rq and others name theirs
        """A job's time is over."""

    class Interrupted(dict[str, int]):
        def __eq__(self, _: object) -> bool:
            raise Timeout

        __hash__ = None

    with pytest.raises(Timeout):
        session.encode(state(metadata={"a": Interrupted(b=1)}))


def doubled(depth: int) -> Any:
    """A list of a few kilobytes, each of its lists twice in the next: as JSON it has 2 to the power of `depth` ends."""
    value: Any = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: state(metadata={"a": doubled(60)}), id="lists in metadata"),
        pytest.param(lambda: state(metadata={"a": [["a" * 100_000] * 1_000] * 1_000}), id="texts in metadata"),
        pytest.param(lambda: state(metadata={"a": [{"a" * 100_000: 1}] * 100_000}), id="keys in metadata"),
        pytest.param(lambda: state(metadata={str(n): "a" * 100_000 for n in range(100)}), id="texts beside each other"),
        pytest.param(lambda: state(doubled(60)), id="session_id"),
        pytest.param(lambda: state(total_time_ms=doubled(60)), id="total_time_ms"),
        pytest.param(lambda: state(participants=[participant(group_id=doubled(60))]), id="group_id"),
        pytest.param(lambda: state(participants=[participant()] * 10_000_000), id="participants"),
        pytest.param(lambda: state(participants=doubled(60)), id="lists for participants"),
    ],
)
def test_what_is_small_in_memory_and_endless_as_json(make: Any) -> None:
    """A value that stands in many places is refused before it is written in each, which would take all memory."""
    with pytest.raises(InvalidState):
        session.encode(make())


def test_a_value_may_stand_in_many_places() -> None:
    """A value in many places is taken as long as its JSON is not too large."""
    metadata = {"a": doubled(10)}
    assert metadata == session.encode(state(metadata=metadata))[1].metadata


def test_the_limit_holds_for_metadata_in_parts() -> None:
    """What is counted before it is written is held to the limit that was given, not to the default."""
    written = state(metadata={"a": ["x" * 1_000] * 2_000})
    assert written == session.encode(written, 4 * session.MAX_STATE_BYTES)[1]
    with pytest.raises(InvalidState, match="metadata: more than the 1000000 bytes"):
        session.encode(written, 1_000_000)


@pytest.mark.parametrize(
    ("message", "good"),
    [(nested(session.MAX_DEPTH - 1), True), (nested(session.MAX_DEPTH), False), ({"a": doubled(60)}, False)],
    ids=["64 levels", "65 levels", "endless as JSON"],
)
def test_an_application_message_has_bounds(message: Any, *, good: bool) -> None:
    """An application message is bounded in depth and size like a state, so that every watcher can read it."""
    if good:
        assert message == msgspec.json.decode(session.encode_json(message))
    else:
        with pytest.raises(InvalidState, match="message"):
            session.encode_json(message)


@pytest.mark.parametrize("value", ["x\"'hidden'y", "'hidden'", "a'hidden", 'b"hidden', "'\nhidden\n'"])
def test_no_quoted_value_in_a_message(value: str) -> None:
    """A refused value is not in the message, whatever quotation marks it holds."""
    with pytest.raises(InvalidState) as caught:
        session.encode(state().replace(sync_mode=value))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("stamp", [Stamp(2**53, 1), Stamp(1, 2**53), Stamp(-1, 1), Stamp(1, -1), Stamp(10**400, 1)])
def test_a_stamp_out_of_bounds(stamp: Stamp) -> None:
    """A stored incarnation or version that could not be written again is an error where it is read."""
    body, _ = session.encode(state())
    with pytest.raises(ValueError, match="out of bounds"):
        session.decode(body, stamp, 0, 0)


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
    for state in (passed.replace(**changes), passed.replace(status=SyncStatus.PAUSED).replace(**changes)):
        for derived in (state, state.replace(status=state.status, increment_ms=5)):
            with pytest.raises(InvalidState):
                session.encode(derived)


def test_metadata_that_were_changed_in_place() -> None:
    """What can change within a state that has passed is checked each time."""
    _, passed = session.encode(SyncState.new("s", SyncMode.GLOBAL, metadata={"a": 1}))
    passed.metadata["a"] = ENDLESS
    for state in (passed, passed.replace(increment_ms=5)):
        with pytest.raises(InvalidState):
            session.encode(state)


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
