"""The state of a session: its types, its bounds, its JSON.

A state is a value. The server assigns incarnation, version, created_at and updated_at; everything else is the
caller's. In Redis the caller's part is stored as JSON (the body) beside the four that the server assigned, so that
one script can set those without parsing JSON.
"""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import msgspec
from msgspec import Meta

from kairos_core.durability import Durability
from kairos_core.errors import InvalidState, Stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

# Exact in JSON readers that keep numbers as doubles, Lua among them.
MAX_INTEGER = 2**53 - 1
MAX_PARTICIPANTS = 10_000
# The default; `Settings.state_limit_bytes` moves it.
MAX_STATE_BYTES = 1024 * 1024
# A message on its way to a slow watcher, and a batch of the audit, hold many states at once.
LARGEST_STATE_LIMIT_BYTES = 64 * 1024 * 1024
# A reader needs as much stack as there is depth, and nobody knows how much a reader has left.
MAX_DEPTH = 64

ID_PATTERN = r"\A[A-Za-z0-9._:-]{1,128}\Z"
EVENT_TYPE_PATTERN = r"\A[A-Za-z0-9._:-]{1,50}\Z"

# From the first quotation mark to the last: what is quoted may hold quotation marks, too.
_QUOTED = re.compile(r"""b?(['"]).*\1""", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
match_id = re.compile(ID_PATTERN).match
_ID_CHARACTERS = (string.ascii_letters + string.digits + "._:-").encode()
_match_event_type = re.compile(EVENT_TYPE_PATTERN).match
# An odd number of backslashes before u0000 is the escape; an even one is text that only looks like it.
_find_nul = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search
_NO_JSON = "a value does not survive JSON: only finite numbers, str keys, lists and dicts do"
ID_NEEDS = "1 to 128 characters from A-Z a-z 0-9 . _ : - are needed"

# Of what ids are made is checked by `_check_ids`, all at once: a pattern here would be matched for each of them.
Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Milliseconds = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Moment = Annotated[datetime, Meta(tz=True)]


class SyncMode(Enum):
    """What a session's clock belongs to."""

    PER_PARTICIPANT = "per_participant"
    PER_CYCLE = "per_cycle"
    PER_GROUP = "per_group"
    GLOBAL = "global"
    COUNT_UP = "count_up"


class SyncStatus(Enum):
    """Where a session is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    EXPIRED = "expired"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class SyncParticipant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One participant of a session and its clock.

    Attributes:
        participant_id: 1 to 128 characters from `[A-Za-z0-9._:-]`, unique in the session.
        participant_index: position in the order of turns, from 0, unique in the session.
        total_time_ms: the time granted, in milliseconds.
        time_used_ms: the time used so far, in milliseconds.
        time_remaining_ms: what is left, in milliseconds; None where the service does not keep it.
        cycle_count: turns taken.
        is_active: whether this participant's clock runs.
        has_expired: whether its time ran out.
        group_id: the group it belongs to (`SyncMode.PER_GROUP`), or None.
    """

    participant_id: Identifier
    participant_index: Count
    total_time_ms: Milliseconds
    time_used_ms: Milliseconds = 0
    time_remaining_ms: Milliseconds | None = None
    cycle_count: Count = 0
    is_active: bool = False
    has_expired: bool = False
    group_id: Identifier | None = None


class SyncState(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The state of one session; a value that is never changed in place.

    Attributes:
        session_id: 1 to 128 characters from `[A-Za-z0-9._:-]`.
        sync_mode: what the clock belongs to.
        status: where the session is in its life.
        participants: at most 10,000, with unique ids and indices.
        active_participant_id: whose turn it is; one of the participants, or None.
        total_time_ms: the session's own time, in milliseconds, or None.
        time_per_cycle_ms: time per turn, in milliseconds, or None.
        cycle_started_at: when the turn began (aware), or None.
        session_started_at: when the session began (aware), or None.
        session_completed_at: when it ended (aware), or None.
        increment_ms: time added per turn, in milliseconds, or None.
        max_time_ms: upper limit of a clock, in milliseconds, or None.
        metadata: any JSON object; must come back from JSON as it went in (no tuples, NaN or integer keys).
        incarnation: assigned by the server: which life of this session id; 0 before it is created.
        version: assigned by the server: 1 at creation, one more with each write; 0 before it is created.
        created_at: assigned by the server, aware, UTC, to the microsecond; None before it is created.
        updated_at: likewise, of the last write.
    """

    session_id: Identifier
    sync_mode: SyncMode
    status: SyncStatus = SyncStatus.PENDING
    participants: Annotated[tuple[SyncParticipant, ...], Meta(max_length=MAX_PARTICIPANTS)] = ()
    active_participant_id: Identifier | None = None
    total_time_ms: Milliseconds | None = None
    time_per_cycle_ms: Milliseconds | None = None
    cycle_started_at: Moment | None = None
    session_started_at: Moment | None = None
    session_completed_at: Moment | None = None
    increment_ms: Milliseconds | None = None
    max_time_ms: Milliseconds | None = None
    metadata: dict[str, Any] = {}
    # These four stay last: `encode` cuts the JSON before them.
    incarnation: Count = 0
    version: Count = 0
    created_at: Moment | None = None
    updated_at: Moment | None = None

    @classmethod
    def new(
        cls,
        session_id: str,
        sync_mode: SyncMode,
        participants: tuple[SyncParticipant, ...] | list[SyncParticipant] = (),
        **fields: Any,
    ) -> Self:
        """A state that has not been created yet, and is not checked yet: that is done when it is written.

        Args:
            session_id: the session's id.
            sync_mode: what the clock belongs to.
            participants: in any order.
            fields: any other field by name.
        """
        return cls(session_id=session_id, sync_mode=sync_mode, participants=tuple(participants), **fields)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; incarnation and version stay, so it can be written back."""
        changed = msgspec.structs.replace(self, **changes)
        if passed := self.__dict__.get(_PASSED, 0):
            changed.__dict__[_PASSED] = _still_passed(passed, changes)
        return changed

    @property
    def stamp(self) -> Stamp:
        """The (incarnation, version) that a write derived from this state is compared with."""
        return Stamp(self.incarnation, self.version)

    @property
    def durability(self) -> Durability:
        """How safe the write is that was answered with this state; `memory` for one that was read or derived."""
        # Not a field: it is no part of the state, and takes no part in comparisons.
        found: Durability = self.__dict__.get(_DURABILITY, Durability.MEMORY)
        return found


# The types of a value that takes one place: all but participants and metadata, and what these are made of.
_NUMBERS = frozenset([int, float, bool, NoneType])
_PARTS = _NUMBERS | {str}
_SCALARS = _PARTS | {datetime, SyncMode, SyncStatus}
_ANY_SCALAR = (str, int, float, NoneType, datetime, SyncMode, SyncStatus)
_SCALAR_FIELDS = tuple(name for name in SyncState.__struct_fields__ if name not in {"participants", "metadata"})
_scalars_of = attrgetter(*_SCALAR_FIELDS)
_astuple = msgspec.structs.astuple
_id_of, _index_of = map(attrgetter, ("participant_id", "participant_index"))
_FEW = 64
_DURABILITY = "_durability"
# Beside a state's fields: which checks it has passed, so that they need not be made again. It is frozen, and so are its
# participants; only metadata can change in place, and they are always checked. _READ: all else came out of JSON, or is
# of such a kind and in such bounds that it would come out as it is.
_PASSED = "_passed"
_TYPES, _IDS, _READ, _ALL = 1, 2, 4, 7
# Of which kind each field is that can be told to be so by itself; and the kinds in place of which there may be None.
_KINDS: dict[str, type] = {
    "sync_mode": SyncMode,
    "status": SyncStatus,
    "active_participant_id": str,
    **dict.fromkeys(("total_time_ms", "time_per_cycle_ms", "increment_ms", "max_time_ms"), int),
    **dict.fromkeys(("cycle_started_at", "session_started_at", "session_completed_at"), datetime),
}
_OPTIONAL = (str, int, datetime)
# Of these kinds, and with texts for keys, metadata come out of JSON as they are, or cannot be put into it.
_PLAIN, _TEXT = frozenset([int, bool, str, NoneType]), frozenset([str])
_ID_FIELDS = frozenset(["session_id", "active_participant_id", "participants"])
_USUAL = frozenset(["created", "updated", "deleted"])
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SyncState)
_set = msgspec.structs.force_setattr
# All that msgspec raises for JSON it cannot decode.
MALFORMED = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
# And what a class of the caller's raises when it is looked at. Not Exception: a timeout that a signal raises is none.
REFUSED = (*MALFORMED, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError)


def check_session_id(session_id: str) -> str:
    """Return the id as plain text, or raise InvalidState."""
    return _matched(match_id, session_id, "session_id", ID_NEEDS)


def check_event_type(event_type: str) -> str:
    """Return the event type as plain text, or raise InvalidState."""
    if event_type.__class__ is str and event_type in _USUAL:
        return event_type
    return _matched(_match_event_type, event_type, "event_type", ID_NEEDS.replace("128", "50"))


def _matched(match: Callable[[str], re.Match[str] | None], value: object, name: str, needs: str) -> str:
    # Callers need not be type-checked. And a member of a str Enum is a str, but formats as something else.
    found = match(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidState(f"{name}: {needs}")
    return found.group()


def encode(state: SyncState, limit_bytes: int = MAX_STATE_BYTES) -> tuple[bytes, SyncState]:
    """Validate a state and return its body with a copy that shares nothing with the caller's.

    msgspec checks types and bounds when it decodes, not when a Struct is built, so the JSON is decoded once here: what
    comes out is what any reader will see, and what it does not equal was no JSON (bytes, NaN, a tuple in metadata).
    What could take more room as JSON than it takes in memory is refused before. Where all of a state came out of JSON
    before, but for values that are as well checked by themselves, it is not decoded once more.

    Returns:
        The JSON of all but the four server-assigned fields, and the state as it will be read.

    Raises:
        InvalidState: where a field is out of bounds, or does not survive JSON.
    """
    try:
        passed = state.__dict__.get(_PASSED, 0) if type(state) is SyncState else 0
        copy = _known_copy(state) if passed & _READ else None
        if copy is not None:
            text, survives = _encoder.encode(copy), True
        else:
            state = _normalised(state, limit_bytes)
            text = _encoder.encode(state)
            copy = _decoder.decode(text)
            survives = copy == state
        if not passed & _IDS:
            _check_ids(copy)
    except InvalidState:
        raise
    except REFUSED as error:
        raise InvalidState(_diagnosis().of_state(state) or explain(error)) from error
    if not survives:
        raise InvalidState(_diagnosis().of_state(state) or _NO_JSON)
    # Nothing that a caller can choose stands after this key, so the last one is ours.
    body = text[: text.rindex(b',"incarnation":')] + b"}"
    if len(body) > limit_bytes:
        raise InvalidState(f"the state takes {len(body)} bytes of JSON; {limit_bytes} are allowed")
    # The search for one byte is by far the fastest, and mostly enough.
    if b"\\" in body and b"\\u0000" in body and _find_nul(body):
        # PostgreSQL's jsonb cannot hold it, so the audit could not either.
        raise InvalidState(_diagnosis().of_nul("metadata", state.metadata) or "a text contains the character U+0000")
    if not passed & _IDS:
        _check_participants(copy)
    copy.__dict__[_PASSED] = _ALL
    return body, copy


def _normalised(state: SyncState, limit_bytes: int) -> SyncState:
    """The state with its participants in a tuple and its times in UTC.

    Raises:
        TypeError: lists, or anything else of many parts, where one value belongs.
        InvalidState: too many participants, or metadata that are nested too deeply or too large.
    """
    if type(state) is not SyncState:
        raise InvalidState("a SyncState is needed")
    participants: object = state.participants
    if isinstance(participants, list):
        state = state.replace(participants=tuple(participants))
    elif not isinstance(participants, tuple):
        raise InvalidState("participants: a tuple or a list is needed")
    if not state.__dict__.get(_PASSED, 0) & _TYPES:
        _check_types(state)
    metadata = state.metadata
    # A few strings and numbers are about as large in JSON as they are in memory, and need not be counted first.
    if type(metadata) is not dict or len(metadata) > _FEW or not _PARTS.issuperset(map(type, metadata.values())):
        _check_extent("metadata", metadata, limit_bytes)
    if state.cycle_started_at or state.session_started_at or state.session_completed_at:
        state = _in_utc(state)
    return state


def _known_copy(state: SyncState) -> SyncState | None:
    """A copy that shares nothing that can change, of a state whose metadata alone may not come out of JSON as is.

    None where they do not, or only decoding can tell. It is the copy that is looked at, which nobody else can change.
    """
    metadata: object = state.metadata
    # As many strings and numbers are about as large in JSON as they are in memory.
    if type(metadata) is not dict or len(metadata) > _FEW:
        return None
    metadata = metadata.copy()
    if not (_PLAIN.issuperset(map(type, metadata.values())) and _TEXT.issuperset(map(type, metadata))):
        return None
    return msgspec.structs.replace(state, metadata=metadata)


def _still_passed(passed: int, changes: dict[str, Any]) -> int:
    """Which checks a state has passed once some of its fields were changed."""
    if not _ID_FIELDS.isdisjoint(changes):
        passed &= ~_IDS
    for name, value in changes.items():
        if name == "metadata":
            continue
        if type(value) not in _SCALARS:
            return 0
        if not _comes_back(name, value):
            passed &= ~_READ
    return passed


def _comes_back(name: str, value: object) -> bool:
    """Whether a field of this value comes out of JSON as it is; False also where only decoding can tell."""
    kind = _KINDS.get(name)
    if value is None:
        return kind in _OPTIONAL
    if type(value) is not kind:
        return False
    if isinstance(value, datetime):
        return value.tzinfo is UTC
    # Whose turn it is must be one of the participants, which is checked apart.
    return not isinstance(value, int) or -MAX_INTEGER <= value <= MAX_INTEGER


def _check_types(state: SyncState) -> None:
    """Raise TypeError where a field holds anything of many parts, InvalidState for too many participants."""
    if len(state.participants) > MAX_PARTICIPANTS:
        raise InvalidState(f"participants: length <= {MAX_PARTICIPANTS} is needed")
    if not _SCALARS.issuperset(map(type, chain(_scalars_of(state), *map(_astuple, state.participants)))):
        _check_scalars("", _SCALAR_FIELDS, _scalars_of(state))
        for participant in state.participants:
            _check_scalars("participants: ", participant.__struct_fields__, _astuple(participant))


def _check_scalars(where: str, names: tuple[str, ...], values: tuple[object, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, _ANY_SCALAR):
            raise TypeError(f"{where}{name}: a value of the type {type(value).__name__} does not belong there")


def _check_extent(name: str, value: object, limit_bytes: int) -> None:
    """Refuse a value that is nested too deeply, or whose JSON would be too large, before it is made.

    A list that stands in many places is one, but is written in each: of 40 lists, each twice in the next, comes a
    terabyte. Counted level by level, so that depth costs no stack; and too low, since the JSON's length is the measure.

    Raises:
        TypeError: no JSON.
        InvalidState: too deep or too large.
    """
    size, level = 0, iter((value,))
    for _ in range(MAX_DEPTH + 1):
        inner: list[Iterable[object]] = []
        for item in level:
            kind = item.__class__
            if kind in _NUMBERS:
                continue
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                size += 2 * len(item) + sum(map(len, item))
                inner.append(item.values())
            elif isinstance(item, list):
                size += 2 * len(item)
                inner.append(item)
            elif not isinstance(item, int | float):
                raise TypeError(_NO_JSON)
            if size > limit_bytes:
                raise InvalidState(f"{name}: more than the {limit_bytes} bytes of JSON that are allowed")
        if not inner:
            return
        level = chain.from_iterable(inner)
    raise InvalidState(f"{name}: nested deeper than {MAX_DEPTH}")


def _in_utc(state: SyncState) -> SyncState:
    for name in ("cycle_started_at", "session_started_at", "session_completed_at"):
        found: object = getattr(state, name)
        if isinstance(found, datetime) and found.utcoffset():
            state = state.replace(**{name: found.astimezone(UTC)})
    return state


def _is_in_utc(state: SyncState) -> bool:
    """Whether none of the times that `_in_utc` looks at is in another zone, as those that others wrote may be."""
    if not (state.cycle_started_at or state.session_started_at or state.session_completed_at):
        return True
    moments = (state.cycle_started_at, state.session_started_at, state.session_completed_at)
    return all(found is None or found.tzinfo is UTC for found in moments)


def _diagnosis() -> Any:
    """What says why a value was refused; loaded where one is, since it takes its time, and knows the types here."""
    from kairos_core import diagnosis  # noqa: PLC0415

    return diagnosis


def explain(error: BaseException) -> str:
    """An error's text without the values that it quotes: a message must not carry a state's content."""
    return _QUOTED.sub("'…'", str(error)) or type(error).__name__


def _check_ids(state: SyncState) -> None:
    """Raise ValueError where an id is made of other characters than it may be."""
    ids = state.session_id + (state.active_participant_id or "")
    # For the usual few participants, a loop takes half as long as mapping and joining do.
    for participant in state.participants:
        ids += participant.participant_id
        if participant.group_id:
            ids += participant.group_id
    if ids.encode().translate(None, _ID_CHARACTERS):
        raise ValueError(_diagnosis().of_state(state) or f"an id: {ID_NEEDS}")


def _check_participants(state: SyncState) -> None:
    participants = state.participants
    ids = set(map(_id_of, participants))
    if len(ids) < len(participants):
        raise InvalidState("participants: two have the same participant_id")
    if len(set(map(_index_of, participants))) < len(ids):
        raise InvalidState("participants: two have the same participant_index")
    if state.active_participant_id is not None and state.active_participant_id not in ids:
        raise InvalidState("active_participant_id: no participant has this id")


def decode(body: bytes, stamp: tuple[int, int], created_us: int, updated_us: int) -> SyncState:
    """Build a state from a stored body and what the server assigned.

    Raises:
        ValueError: where the body is not the JSON of a state, or the stamp out of bounds.
        OverflowError: where a time is outside of the calendar.
    """
    try:
        state = _decoder.decode(body)
        _check_ids(state)
    except MALFORMED as error:
        raise ValueError(explain(error)) from error
    if not (0 <= stamp[0] <= MAX_INTEGER and 0 <= stamp[1] <= MAX_INTEGER):
        raise ValueError("incarnation or version: out of bounds")
    state.__dict__[_PASSED] = _TYPES | _READ if _is_in_utc(state) else _TYPES
    return assign(state, stamp, created_us, updated_us)


def assign(state: SyncState, stamp: tuple[int, int], created_us: int, updated_us: int) -> SyncState:
    """Set the four server-assigned fields of a state that nobody else has seen yet, and return it."""
    # `moment` without a call: this is on the path of every one.
    created_at, updated_at = _creation(created_us), _EPOCH + updated_us * _MICROSECOND
    _set(state, "incarnation", stamp[0])
    _set(state, "version", stamp[1])
    _set(state, "created_at", created_at)
    _set(state, "updated_at", updated_at)
    return state


def with_durability(result: T, reached: Durability) -> T:
    """What a write returns, with how safe it is where it is a state that nobody else has seen yet."""
    if isinstance(result, SyncState):
        result.__dict__[_DURABILITY] = reached
    return result


def encode_json(value: Any) -> bytes:
    """Any value as JSON.

    Raises:
        InvalidState: it does not survive JSON, is nested deeper than 64, or takes more than 1 MiB.
    """
    try:
        _check_extent("message", value, MAX_STATE_BYTES)
        text = _encoder.encode(value)
        survives = msgspec.json.decode(text) == value
    except InvalidState:
        raise
    except REFUSED as error:
        raise InvalidState(_diagnosis().of_json("message", value) or explain(error)) from error
    if not survives:
        raise InvalidState(_diagnosis().of_json("message", value) or _NO_JSON)
    if len(text) > MAX_STATE_BYTES:
        raise InvalidState(f"the message takes {len(text)} bytes of JSON; {MAX_STATE_BYTES} are allowed")
    return text


def moment(microseconds: int) -> datetime:
    """The aware UTC time of a server time in microseconds since 1970."""
    return _EPOCH + microseconds * _MICROSECOND


# A session's creation is the same in each of its versions.
_creation = lru_cache(maxsize=1_024)(moment)


def to_json(state: SyncState) -> bytes:
    """The whole state as JSON, with the server-assigned fields."""
    return _encoder.encode(state)
