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

from kairos_core import InvalidState, SyncParticipant, SyncState, session
from kairos_core.errors import Stamp
from tests.made_state import participant, state
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
