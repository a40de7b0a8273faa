"""From any input comes a typed error or a correct result, never another exception, never a hang."""

from __future__ import annotations

import enum
import itertools
import math
import uuid
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st

from kairos_core import (
    InvalidState,
    SyncMode,
    SyncParticipant,
    SyncState,
    SyncStatus,
    session,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# A slow machine is no failure, and a test leaves nothing behind.
relaxed = settings(deadline=None, database=None)


SECRET = "hunter2-Zq9"  # noqa: S105 - it stands for one
STATE_FIELDS = SyncState.__struct_fields__


PARTICIPANT = SyncParticipant(participant_id="p", participant_index=0, total_time_ms=1)
STATE = SyncState.new(
    "123456789",
    SyncMode.PER_GROUP,
    [PARTICIPANT],
    active_participant_id="p",
    cycle_started_at=datetime(2026, 3, 29, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    metadata={"title": "é", "a": [1, {"b": None}]},
    incarnation=5,
    version=7,
)
BODY, _ = session.encode(STATE)


class Text(str):
    """A str and more."""

    __slots__ = ()


class Whole(int):
    """An int and more."""


class Mapping(dict[Any, Any]):
    """A dict and more."""


class Sequence(list[Any]):
    """A list and more."""


class Moment(datetime):
    """A datetime and more."""


class Room(str, enum.Enum):  # noqa: UP042 - it is this kind that formats as its name
    """Texts as an enumeration."""

    LOBBY = "lobby"


class Level(enum.IntEnum):
    """Numbers as an enumeration."""

    LOW = 1


class State(SyncState, frozen=True, kw_only=True):
    """A state and more."""


class Participant(SyncParticipant, frozen=True, kw_only=True, gc=False):
    """A participant and more."""


class Nowhere(tzinfo):
    """A time zone that cannot tell its offset."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """As one without this method does."""
        raise NotImplementedError

    tzname = dst = utcoffset  # type: ignore[assignment]


@dataclass
class Pair:
    """What msgspec can encode, but no JSON."""

    a: int = 1


class Untrue:
    """An object that may not be looked at outside of its context, like a proxy."""

    def __bool__(self) -> bool:
        raise RuntimeError("working outside of a context")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("working outside of a context")

    __hash__ = object.__hash__


class Unequal(dict[Any, Any]):
    """A dict that cannot be compared."""

    def __eq__(self, _: object) -> bool:
        raise KeyError(0)

    __hash__ = None


class Endless(list[Any]):
    """A list that cannot be iterated over."""

    def __iter__(self) -> Iterator[Any]:
        raise LookupError


def nested(wrap: Callable[[Any], Any], depth: int) -> Any:
    """A value in a value, `depth` times."""
    value = wrap(0)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


def tree() -> Any:
    """A list of a few kilobytes that would be an exabyte as JSON."""
    return nested(lambda inner: [inner, inner], 60)


def ring(kind: type[Any]) -> Any:
    """A list or dict that contains itself."""
    value = kind()
    if kind is list:
        value.append(value)
    else:
        value["a"] = value
    return value


# Each is made anew in the test: no example sees what another did, and Hypothesis prints none that has no end.
OUTSIDERS: list[Callable[[], Any]] = [
    lambda: b"a",
    lambda: bytearray(b"a"),
    lambda: memoryview(b"a"),
    lambda: {1, 2},
    lambda: frozenset("a"),
    lambda: (1, [2]),
    lambda: (),
    lambda: deque([1]),
    lambda: (one for one in "ab"),
    itertools.count,
    object,
    lambda: object,
    lambda: len,
    lambda: NotImplemented,
    lambda: ...,
    lambda: ValueError(SECRET),
    lambda: SimpleNamespace(a=1),
    Untrue,
    lambda: [Untrue()],
    lambda: Unequal(a=1),
    lambda: Endless([1]),
    Pair,
    lambda: uuid.UUID(int=7),
    lambda: Decimal(1),
    lambda: Decimal("NaN"),
    lambda: 1j,
    lambda: math.nan,
    lambda: -math.inf,
    lambda: 10**400,
    lambda: -(10**5000),
    lambda: 2**64,
    lambda: True,
    lambda: None,
    lambda: "",
    lambda: "\0",
    lambda: "\\\0",
    lambda: "\ud800",
    lambda: "a" * 200,
    lambda: "a" * (session.MAX_STATE_BYTES + 1),
    lambda: "\U0001f600" * (session.MAX_STATE_BYTES // 4),
    lambda: Text("a"),
    lambda: Text("\0"),
    lambda: Whole(7),
    lambda: Mapping(a=1),
    lambda: Mapping({1: 2}),
    lambda: Sequence([1]),
    lambda: Sequence([b"a"]),
    lambda: OrderedDict(b=1, a=2),
    lambda: Counter("aab"),
    lambda: Room.LOBBY,
    lambda: Room,
    lambda: Level.LOW,
    lambda: SyncMode.GLOBAL,
    lambda: SyncStatus.PAUSED,
    lambda: "global",
    lambda: "sundial",
    lambda: datetime(2026, 1, 1),  # noqa: DTZ001 - on purpose
    lambda: datetime(2026, 1, 1, tzinfo=Nowhere()),
    lambda: datetime(1930, 1, 1, tzinfo=timezone(timedelta(seconds=7, microseconds=1))),
    lambda: datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    lambda: datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    lambda: Moment(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    lambda: date(2026, 1, 1),
    lambda: timedelta(1),
    lambda: {1: 2},
    lambda: {None: 1},
    lambda: {b"a": 1},
    lambda: {1.5: 1},
    lambda: {("a",): 1},
    lambda: {"\ud800": 1},
    lambda: {"\0": 1},
    lambda: {"": {"": {}}},
    lambda: {"a": PARTICIPANT},
    lambda: ring(list),
    lambda: ring(dict),
    lambda: PARTICIPANT,
    lambda: [PARTICIPANT],
    lambda: [PARTICIPANT, PARTICIPANT],
    lambda: [PARTICIPANT, None],
    lambda: [msgspec.structs.asdict(PARTICIPANT)],
    lambda: {"p": PARTICIPANT},
    lambda: iter([PARTICIPANT]),
    lambda: (Participant(participant_id="p", participant_index=0, total_time_ms=1),),
    lambda: STATE,
    lambda: (STATE,),
    lambda: State(session_id="s", sync_mode=SyncMode.GLOBAL),
    lambda: SyncState,
    lambda: msgspec.Raw(b"1"),
    lambda: msgspec.Raw(b'0,"incarnation":1'),
    lambda: msgspec.Raw(b"\xff"),
    lambda: msgspec.UNSET,
    lambda: msgspec.msgpack.Ext(1, b"a"),
    *(
        partial(nested, wrap, depth)
        for wrap in (lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner,))
        for depth in (10, session.MAX_DEPTH - 1, session.MAX_DEPTH, session.MAX_DEPTH + 1, 1_000, 100_000)
    ),
    # Small in memory, and without end as JSON.
    tree,
    lambda: nested(lambda inner: {"a": inner, "b": inner}, 60),
    lambda: nested(lambda inner: (inner, inner), 60),
    lambda: [["a" * 100_000] * 1_000] * 1_000,
    lambda: [{"a" * 100_000: 1}] * 100_000,
    lambda: [PARTICIPANT] * (session.MAX_PARTICIPANTS + 1),
]
makers = st.sampled_from(OUTSIDERS)


def attempt(call: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What a call returns, or the error where it is one of these."""
    try:
        return call()
    except errors as error:
        return error


def strings(value: Any) -> Iterator[str]:
    """All texts of a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


def check_encoded(state: Any) -> None:
    """Refused with a typed error that says something, or written so that it is read as it was."""
    before = [getattr(state, name, None) for name in STATE_FIELDS]
    found = attempt(lambda: session.encode(state), InvalidState)
    assert all(getattr(state, name, None) is value for name, value in zip(STATE_FIELDS, before, strict=True))
    if isinstance(found, InvalidState):
        assert 0 < len(str(found)) < 300
        return
    body, copied = found
    assert state.replace(participants=tuple(state.participants)) == copied
    read = session.decode(body, copied.stamp, 0, 0)
    assert copied.replace(created_at=read.created_at, updated_at=read.updated_at) == read
    assert len(body) <= session.MAX_STATE_BYTES
    assert not any("\0" in text for text in strings(msgspec.json.decode(body)))
    # What was taken is taken again, and gives the same.
    assert body == session.encode(copied)[0]
