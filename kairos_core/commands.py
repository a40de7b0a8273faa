"""Each operation as a value: what to send and how to read the reply. No I/O.

The managers send these values and nothing else, so the logic of an operation is written once for sync and async.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache, partial
from importlib import resources
from time import time_ns
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import hiredis
import msgspec

from kairos_core import session
from kairos_core.durability import Durability
from kairos_core.errors import (
    AuditBacklogFull,
    CorruptState,
    InvalidState,
    KairosError,
    SessionExists,
    SessionNotFound,
    Stamp,
    StoreUnavailable,
    VersionConflict,
)
from kairos_core.layout import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.layout import Keys, Layout
    from kairos_core.session import SyncState
    from kairos_core.settings import Settings

T = TypeVar("T")
# No integers: packing one can be interrupted by a signal, which crashes hiredis 3.5.
Words = tuple[str | bytes, ...]
pack: Callable[[Words], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub wants exactly one word

# What a script answers first; the scripts' headers say what follows.
_APPLIED, _MISMATCH, _ABSENT, _FULL, _CORRUPT, _GIVEN_UP, _TOO_OLD = range(7)
# A session's key outlives the session by this, so that the sweep that ends it finds the state to record.
GRACE_MS = 3_600_000
_match_operation_id = re.compile(r"\A[0-9a-f]{12}7[0-9a-f]{3}8[0-9a-f]{15}\Z").match
# The event type of a session that was restored.
RECOVERED = "recovered"
_FIELDS = ("n", "v", "c", "u", "s")
# A word as it is sent, and the two that an update's expected stamp takes.
_WORD = b"$%d\r\n%b\r\n"
_STAMP = _WORD * 2
# The word that asks an update for what is stored, where another writer was first.
_TELL_STORED = _WORD % (1, b"s")
# Where an operation's id, and where the event's type and the body, come in; no name holds such characters.
_ID_PLACE, _WORDS_PLACE = "?" * 32, "?"
_PACKED_PLACE = _WORD % (1, b"?")
_DRAWN = 64
# How long a write that was given up is waited for. No network keeps one so long: TCP sends again for half an hour.
_GIVEN_UP_FOR_MS = str(24 * 3_600_000)


class Script(NamedTuple):
    """A Lua script and the SHA-1 under which the server keeps it."""

    name: str
    text: str
    sha: str


def load_script(name: str) -> Script:
    """Read a script of this package."""
    text = resources.files("kairos_core").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - the server's own choice


CREATE, UPDATE, DELETE, EXPIRE, RESOLVE, RESTORE = (
    load_script(name) for name in ("create", "update", "delete", "expire", "resolve", "restore")
)


class _Frame(NamedTuple):
    """What each write of a kind to a session has in common: most of its words as they are sent, and what goes along."""

    script: Script
    keys: Keys
    slot: int
    # How many words are always there.
    length: int
    # For the count of all words, the operation's id in the receipt's key and by itself, the event's type and the body,
    # each with its length, and the words that only this kind of write has.
    form: bytes


class Traffic(NamedTuple):
    """The entries of an outbox: those in it, and all that ever were."""

    length: int
    added: int


class Command(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One operation: the words of one Redis command and the reading of its reply.

    Attributes:
        packed: the words of the command, as they are sent; for a script EVALSHA.
        read: turns the reply into the operation's result, or raises its typed error.
        key: what it is about, for messages.
        session_id: the session; empty where it is about no single one.
        slot: the slot of its keys, which says which server of a cluster has them.
        operation_id: the id of a write; empty for one of which no receipt is kept; None for a read.
        script: what to send in full where the server does not know the SHA.
        durability: how safe a write is to be before it is acknowledged; None: as safe as the reply makes it.
    """

    packed: bytes
    read: Callable[[Any], T]
    key: str
    session_id: str
    slot: int
    operation_id: str | None = None
    script: Script | None = None
    durability: Durability | None = None

    @property
    def words(self) -> tuple[bytes, ...]:
        """The words of the command."""
        reader = hiredis.Reader()
        reader.feed(self.packed)
        words: list[bytes] = reader.gets()
        return tuple(words)

    def with_script_text(self) -> bytes:
        """The same command with the script itself (EVAL), as it is sent, which also teaches it to the server."""
        if self.script is None:
            raise TypeError("a command without a script was asked for one")
        return pack(("EVAL", self.script.text, *self.words[2:]))


def recovery_limit(settings: Settings) -> int:
    """The entries in a lane's outbox at which a recovery waits: the other half is for those who write now."""
    return (settings.outbox_limit + 1) // 2


def new_operation_id(lane: int) -> str:
    """A UUID of version 7 as 32 hexadecimal digits (RFC 9562, section 5.7), with the lane in its last three.

    Ids that begin with the time go to one end of the audit's index instead of everywhere; the lane says where the
    receipt is.
    """
    while True:
        try:
            return f"{time_ns() // 1_000_000:012x}{_random_parts.pop()}{lane:03x}"
        except IndexError:
            _draw()


# Drawn from the system many at a time: it takes as long for one. A forked child must not use up its parent's.
_random_parts: list[str] = []
os.register_at_fork(after_in_child=_random_parts.clear)


def _draw() -> None:
    """Draw the version (7), 12 random bits, the variant (binary 10, in the digit 8) and 48 random bits, many times."""
    digits = os.urandom(_DRAWN * 8).hex()
    parts = [digits[start : start + 15] for start in range(0, len(digits), 16)]
    _random_parts.extend(f"7{part[:3]}8{part[3:]}" for part in parts)


def check_operation_id(operation_id: str) -> str:
    """Return the id, or raise InvalidState."""
    value: object = operation_id
    found = _match_operation_id(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidState("operation_id: 32 hexadecimal digits, as an error or an update gives them, are needed")
    return found.group()


class Commands:
    """Builds commands for one namespace."""

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._layout = layout
        ttl_ms = max(1, round(settings.session_ttl_s * 1000))
        # The sweep looks at each session once in a grace: another process's shorter TTL may end it before this one's.
        self._first_look_ms = str(min(ttl_ms, GRACE_MS))
        self._packed_first_look = _packed(self._first_look_ms)
        self._key_ttl_ms = str(ttl_ms + GRACE_MS)
        self._receipt_ttl_ms = str(max(1, round(settings.receipt_ttl_s * 1000)))
        self._outbox_limit = str(settings.outbox_limit)
        self._recovery_limit = str(recovery_limit(settings))
        self._state_limit_bytes = settings.state_limit_bytes
        self._publish = "SPUBLISH" if settings.is_cluster else "PUBLISH"
        self._durability = _asked(settings.durability)
        # The same few sessions are read again and again, and a read says each time the same.
        self._get_again: Callable[[str], Command[SyncState | None]] = lru_cache(maxsize=REMEMBERED)(self._get)
        self._update_frame: Callable[[str], _Frame] = lru_cache(maxsize=REMEMBERED)(
            lambda session_id: self._frame(UPDATE, session_id)
        )

    def get(self, session_id: str) -> Command[SyncState | None]:
        """Read a session."""
        # Only plain text is looked up: what is more than that may hash and compare as it likes.
        return self._get_again(session_id) if session_id.__class__ is str else self._get(session_id)

    def _get(self, session_id: str) -> Command[SyncState | None]:
        session_id = session.check_session_id(session_id)
        keys = self._layout.keys_of(session_id)
        words = ("HMGET", keys.session, *_FIELDS)
        read = partial(_read_state, keys.session, session_id)
        slot = self._layout.slots[keys.lane]
        return Command(pack(words), read, keys.session, session_id, slot)

    def create(
        self, state: SyncState, event_type: str, durability: Durability | str | None = None
    ) -> Command[SyncState]:
        """Create a session that must not exist."""
        body, copy = session.encode(state, self._state_limit_bytes)
        keys = self._layout.keys_of(copy.session_id)
        more_keys = self._layout.deadlines[keys.lane], self._layout.lives[keys.lane]
        frame = self._frame(CREATE, copy.session_id, *more_keys)

        def read(reply: list[int]) -> SyncState:
            if reply[0] == _APPLIED:
                return session.assign(copy, (reply[1], reply[2]), reply[3], reply[4])
            if reply[0] == _MISMATCH:
                raise SessionExists(copy.session_id, Stamp(reply[1], reply[2]))
            raise _refusal(keys, copy.session_id, reply)

        return self._write(frame, copy.session_id, event_type, body, read, durability, 1, self._packed_first_look)

    def update(
        self,
        state: SyncState,
        event_type: str,
        durability: Durability | str | None = None,
        *,
        tell_stored: bool = False,
    ) -> Command[SyncState]:
        """Replace a session if it is still the version that `state` was derived from.

        Args:
            state: what to write.
            event_type: what watchers and the audit read.
            durability: how safe it is to be before it is acknowledged.
            tell_stored: whether a conflict brings the stored state with it, read in the same step as it was compared.
        """
        body, copy = session.encode(state, self._state_limit_bytes)
        incarnation, version = copy.incarnation, copy.version
        frame = self._update_frame(copy.session_id)
        read = partial(_read_update, frame, copy, (incarnation, version), tell_stored)
        expected = b"%d" % incarnation, b"%d" % version
        more = _STAMP % (len(expected[0]), expected[0], len(expected[1]), expected[1])
        if tell_stored:
            return self._write(frame, copy.session_id, event_type, body, read, durability, 3, more + _TELL_STORED)
        return self._write(frame, copy.session_id, event_type, body, read, durability, 2, more)

    def delete(
        self,
        session_id: str,
        expected: Stamp | None,
        event_type: str,
        durability: Durability | str | None = None,
    ) -> Command[bool]:
        """Delete a session: whatever its version, or only that one."""
        session_id = session.check_session_id(session_id)
        keys = self._layout.keys_of(session_id)

        def read(reply: list[int]) -> bool:
            if reply[0] in (_APPLIED, _ABSENT):
                return reply[0] == _APPLIED
            if reply[0] == _MISMATCH and expected is not None:
                raise VersionConflict(session_id, expected, Stamp(reply[1], reply[2]))
            raise _refusal(keys, session_id, reply)

        frame = self._frame(DELETE, session_id, self._layout.deadlines[keys.lane])
        more = _packed(*map(str, expected or ("", "")))
        return self._write(frame, session_id, event_type, b"", read, durability, 2, more)

    def touch(self, session_id: str) -> Command[bool]:
        """Let a session live for its full time from now on."""
        session_id = session.check_session_id(session_id)
        keys = self._layout.keys_of(session_id)
        words = ("PEXPIRE", keys.session, self._key_ttl_ms)
        return Command(pack(words), _read_flag, keys.session, session_id, self._layout.slots[keys.lane], "")

    def resolve(self, operation_id: str) -> Command[bool | None]:
        """Settle whether a write was applied; None where that can no longer be told."""
        operation_id = check_operation_id(operation_id)
        lane = int(operation_id[-3:], 16)
        if lane >= self._layout.lanes:
            raise InvalidState("operation_id: not from a store of this layout")
        key = self._layout.receipt(lane, operation_id)
        time_ms = str(int(operation_id[:12], 16))
        words = ("EVALSHA", RESOLVE.sha, "1", key, time_ms, self._receipt_ttl_ms, _GIVEN_UP_FOR_MS)

        def read(reply: list[int]) -> bool | None:
            return None if reply[0] == _TOO_OLD else reply[0] == _APPLIED

        return Command(pack(words), read, key, "", self._layout.slots[lane], None, RESOLVE)

    def expire(self, session_id: str) -> Command[bool]:
        """End a session if its time has come; False where it has not, or the session is gone."""
        keys = self._layout.keys_of(session_id)
        words = (
            "EVALSHA",
            EXPIRE.sha,
            "3",
            keys.session,
            keys.outbox,
            self._layout.deadlines[keys.lane],
            new_operation_id(keys.lane),
            session_id,
            "expired",
            str(GRACE_MS),
            self._outbox_limit,
            self._publish,
            keys.session_channel,
            keys.lane_channel,
        )

        def read(reply: list[int]) -> bool:
            return reply[0] == _APPLIED

        return Command(pack(words), read, keys.session, session_id, self._layout.slots[keys.lane], None, EXPIRE)

    def restore(
        self, session_id: str, body: bytes, incarnation: int, expected_life: int | None, operation_id: str
    ) -> Command[tuple[int, ...]]:
        """Restore a lost session as version 1 of an incarnation, if its lane's latest one is as expected.

        It may be sent any number of times. What it reads is the script's reply, as it is: see restore.lua.
        """
        keys = self._layout.keys_of(session_id)
        words: Words = (
            "EVALSHA",
            RESTORE.sha,
            "4",
            keys.session,
            keys.outbox,
            self._layout.deadlines[keys.lane],
            self._layout.lives[keys.lane],
            operation_id,
            session_id,
            RECOVERED,
            body,
            self._key_ttl_ms,
            self._recovery_limit,
            self._publish,
            keys.session_channel,
            keys.lane_channel,
            self._first_look_ms,
            str(incarnation),
            "" if expected_life is None else str(expected_life),
        )
        return Command(
            pack(words), _read_numbers, keys.session, session_id, self._layout.slots[keys.lane], None, RESTORE
        )

    def life(self, lane: int) -> Command[int | None]:
        """Read a lane's latest incarnation; None where none was made, or what was is lost."""
        key = self._layout.lives[lane]

        def read(reply: bytes | None) -> int | None:
            return None if reply is None else int(reply)

        return Command(pack(("GET", key)), read, key, "", self._layout.slots[lane])

    def due(self, lane: int, now_ms: int, count: int) -> Command[list[str]]:
        """The ids of a lane's sessions whose time may have come by then."""
        key = self._layout.deadlines[lane]
        words = ("ZRANGE", key, "0", str(now_ms), "BYSCORE", "LIMIT", "0", str(count))
        return Command(pack(words), _read_ids, key, "", self._layout.slots[lane])

    def clock(self, lane: int) -> Command[int]:
        """The time by the clock of the server that has a lane, in milliseconds since 1970."""

        def read(reply: list[bytes]) -> int:
            return int(reply[0]) * 1000 + int(reply[1]) // 1000

        return Command(pack(("TIME",)), read, self._layout.deadlines[lane], "", self._layout.slots[lane])

    def depth(self, lane: int) -> Command[int]:
        """The number of entries in a lane's outbox."""
        key = self._layout.outboxes[lane]
        return Command(pack(("XLEN", key)), int, key, "", self._layout.slots[lane])

    def oldest(self, lane: int) -> Command[int | None]:
        """When a lane's oldest entry was made, in milliseconds since 1970; None where it has none."""
        key = self._layout.outboxes[lane]

        def read(reply: list[tuple[bytes, object]]) -> int | None:
            return int(reply[0][0].partition(b"-")[0]) if reply else None

        return Command(pack(("XRANGE", key, "-", "+", "COUNT", "1")), read, key, "", self._layout.slots[lane])

    def living(self, lane: int) -> Command[list[str]]:
        """The ids of a lane's sessions."""
        key = self._layout.deadlines[lane]
        return Command(pack(("ZRANGE", key, "0", "-1")), _read_ids, key, "", self._layout.slots[lane])

    def stamp(self, session_id: str) -> Command[Stamp | None]:
        """The version of a session alone, whatever else is stored; also of an id that cannot be one."""
        keys = self._layout.keys_of(session_id)

        def read(reply: list[bytes | None]) -> Stamp | None:
            if reply == [None, None]:
                return None
            incarnation, version = reply
            if incarnation is None or version is None or not (incarnation.isdigit() and version.isdigit()):
                raise CorruptState(keys.session, "the stored hash is not a session")
            return Stamp(int(incarnation), int(version))

        words = ("HMGET", keys.session, "n", "v")
        return Command(pack(words), read, keys.session, session_id, self._layout.slots[keys.lane])

    def traffic(self, lane: int) -> Command[Traffic]:
        """How many entries a lane's outbox has, and has had; an error where it never had one."""
        key = self._layout.outboxes[lane]

        def read(reply: list[Any]) -> Traffic:
            found = dict(zip(reply[::2], reply[1::2], strict=True))
            return Traffic(found[b"length"], found[b"entries-added"])

        return Command(pack(("XINFO", "STREAM", key)), read, key, "", self._layout.slots[lane])

    def layout(self) -> Command[str | None]:
        """What the store was laid out with; None where it was not yet."""
        key = self._layout.layout_key

        def read(reply: bytes | None) -> str | None:
            return None if reply is None else reply.decode(errors="replace")

        return Command(pack(("GET", key)), read, key, "", self._layout.layout_slot)

    def broadcast(self, session_id: str, message: Any) -> Command[int]:
        """Send any JSON to those who receive a session's messages."""
        session_id = session.check_session_id(session_id)
        channel, lane = self._layout.message_channel(session_id), self._layout.lane_of(session_id)
        words = (self._publish, channel, session.encode_json(message))
        return Command(pack(words), int, channel, session_id, self._layout.slots[lane], "")

    def _frame(self, script: Script, session_id: str, *more_keys: str) -> _Frame:
        """What is the same in each write of a kind to a session; `more_keys` follow the three of every write."""
        keys = self._layout.keys_of(session_id)
        names = (keys.session, self._layout.receipt(keys.lane, _ID_PLACE), keys.outbox, *more_keys)
        words = (
            "EVALSHA",
            script.sha,
            str(len(names)),
            *names,
            _ID_PLACE,
            session_id,
            _WORDS_PLACE,
            self._key_ttl_ms,
            self._receipt_ttl_ms,
            self._outbox_limit,
            self._publish,
            keys.session_channel,
            keys.lane_channel,
        )
        packed = _packed(*words).replace(_ID_PLACE.encode(), b"%b").replace(_PACKED_PLACE, _WORD * 2)
        return _Frame(script, keys, self._layout.slots[keys.lane], len(words) + 1, b"*%d\r\n" + packed + b"%b")

    def _write(  # noqa: PLR0913, PLR0917 - the parts of one command
        self,
        frame: _Frame,
        session_id: str,
        event_type: str,
        body: bytes,
        read: Callable[[list[Any]], T],
        durability: Durability | str | None,
        more_count: int,
        more: bytes,
    ) -> Command[T]:
        script, keys, slot, length, form = frame
        operation_id = new_operation_id(keys.lane)
        event = session.check_event_type(event_type).encode()
        name = operation_id.encode()
        packed = form % (length + more_count, name, name, len(event), event, len(body), body, more)
        wanted = self._durability if durability is None else _asked(durability)
        return Command(packed, read, keys.session, session_id, slot, operation_id, script, wanted)


def _packed(*words: str) -> bytes:
    """Words as they are sent, without their count before them."""
    return pack(words).partition(b"\r\n")[2]


def _asked(durability: Durability | str) -> Durability | None:
    """What has to be asked for beyond the reply: nothing for `memory`."""
    wanted = Durability.parse(durability)
    return None if wanted.level == "memory" else wanted


def _read_flag(reply: int) -> bool:
    if reply not in (0, 1):
        raise ValueError("the reply is neither 0 nor 1")
    return bool(reply)


def _read_numbers(reply: list[int]) -> tuple[int, ...]:
    return tuple(map(int, reply))


def _read_ids(reply: list[bytes]) -> list[str]:
    return [found.decode() for found in reply]


def _refusal(keys: Keys, session_id: str, reply: list[int]) -> KairosError:
    if reply[0] == _ABSENT:
        return SessionNotFound(session_id)
    if reply[0] == _FULL:
        return AuditBacklogFull(keys.lane, reply[1])
    if reply[0] == _GIVEN_UP:
        return StoreUnavailable(f"session {session_id}", "the write was given up with resolve before it arrived")
    if reply[0] == _CORRUPT:
        return CorruptState(keys.session, "the stored hash is not a session")
    raise ValueError("the reply is none of this script's")


def _read_update(
    frame: _Frame,
    copy: SyncState,
    expected: tuple[int, int],
    told: bool,
    reply: list[Any],
) -> SyncState:
    if reply[0] == _APPLIED:
        return session.assign(copy, (reply[1], reply[2]), reply[3], reply[4])
    if reply[0] == _MISMATCH:
        raise _conflict(frame.keys.session, copy.session_id, Stamp(*expected), reply, told=told)
    raise _refusal(frame.keys, copy.session_id, reply)


def _conflict(key: str, session_id: str, expected: Stamp, reply: list[Any], *, told: bool) -> VersionConflict:
    """The conflict that a reply tells of, with the stored state where that was asked for.

    Raises:
        CorruptState: what is stored is no state.
    """
    if not told:
        return VersionConflict(session_id, expected, Stamp(reply[1], reply[2]))
    stored = _read_state(key, session_id, reply[1:])
    if stored is None:
        raise ValueError("the reply tells of a conflict with nothing")
    return VersionConflict(session_id, expected, stored.stamp, stored)


def _read_state(key: str, session_id: str, reply: list[bytes | None]) -> SyncState | None:
    incarnation, version, created, updated, body = reply
    if incarnation is None or version is None or created is None or updated is None or body is None:
        if any(field is not None for field in reply):
            raise CorruptState(key, "the stored hash lacks fields")
        return None
    try:
        state = session.decode(body, (int(incarnation), int(version)), int(created), int(updated))
    except (ValueError, OverflowError) as error:
        raise CorruptState(key, session.explain(error)) from error
    if state.session_id != session_id:
        raise CorruptState(key, "the stored state is another session's")
    return state
