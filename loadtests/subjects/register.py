"""The one interface of all subjects that are attacked, and what is written into them.

A write's content follows from its token alone, so that its digest is known before it is sent, and a state that is read
names the attempt that wrote it.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias

import msgspec

from kairos_core.session import SyncMode, SyncParticipant, SyncState, SyncStatus
from loadtests.history import Error, Kind, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

# The writer of a state that names none, or none that can be read: a real token is never this.
NOBODY = 2**64 - 1
_TOKEN_DIGITS = 16
_PREFIX = "w."
# Of the digits of a token, what makes the rest of the content differ between any two writes.
_MASK = 2**31 - 1
_WORDS = "the clock of one player stops and that of the next begins to run, in all instances at once"
_encode = msgspec.json.Encoder(order="deterministic").encode
_replace = msgspec.structs.replace


class Held(NamedTuple):
    """What was read or written: what an update is derived from.

    Attributes:
        seen: its stamp, writer and digest.
        state: the subject's own object.
    """

    seen: Seen
    state: Any


class Notice(NamedTuple):
    """What a watcher was told.

    Attributes:
        session_id: the session.
        kind: TOLD, TOLD_REMOVED, RESYNCHRONISED or RESYNCHRONISED_ABSENT.
        seen: which state it is.
        start_ns: when it was received; of what was read instead, the earliest time at which it can have been.
        received_ns: when it was received.
    """

    session_id: str
    kind: Kind
    seen: Seen
    start_ns: int
    received_ns: int


class Refused(Exception):  # noqa: N818 - an answer, as the core's
    """It was definitely not applied.

    Attributes:
        error: what was answered.
        stamp: what is stored instead; (0, 0): there is nothing, or that was not said.
        absent: whether there is nothing.
    """

    def __init__(self, error: Error, stamp: tuple[int, int] = (0, 0), *, absent: bool = False) -> None:
        self.error = error
        self.stamp = stamp
        self.absent = absent
        super().__init__(error.name)


class Unknown(Exception):  # noqa: N818
    """It may have been applied.

    Attributes:
        error: what was answered.
    """

    def __init__(self, error: Error = Error.OUTCOME_UNKNOWN) -> None:
        self.error = error
        super().__init__(error.name)


class DurabilityMissed(Exception):  # noqa: N818
    """It was applied, and is less safe than was asked for.

    Attributes:
        result: what the call would have returned.
    """

    def __init__(self, result: Held | bool) -> None:
        self.result = result
        super().__init__("applied, but less safe than was asked for")


class Watcher(Protocol):
    """Is told of the writes to all sessions, from when the context is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def receive(self, timeout_s: float) -> Notice | None:
        """What it is told next; None where that is nothing for so long."""
        ...


Shown: TypeAlias = "Callable[[Seen], None]"


class Register(Protocol):
    """A subject: sessions that are compared and set. All but `close` raise Refused, Unknown or DurabilityMissed."""

    def create(self, session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """Create a session that must not exist."""
        ...

    def get(self, session_id: str) -> Held | None:
        """Read a session."""
        ...

    def update(self, held: Held, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """Write, if what is stored is what is held."""
        ...

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """Read and write, again where another was first; `shown` is called with each state that this was tried on.

        Args:
            session_id: the session.
            token: names the write.
            shown: told of each state.
            known: what was read or written before. A subject that can may try it on that first, unread.
        """
        ...

    def delete(self, session_id: str, token: int, held: Held | None) -> bool:
        """Delete; with `held`, only that. False where there is none."""
        ...

    def touch(self, session_id: str) -> bool:
        """Let it live for its full time from now on. False where there is none."""
        ...

    def watch(self) -> Watcher:
        """A watcher of all sessions, with connections of its own."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def session_name(prefix: str, number: int) -> str:
    """The id of a round's session; the prefix is the round's."""
    return f"{prefix}-{number}"


def session_number(prefix: str, session_id: str) -> int | None:
    """The number of a round's session; None where it is another round's."""
    head, _, number = session_id.rpartition("-")
    return int(number) if head == prefix and number.isdigit() else None


def written_by(token: int) -> str:
    """The token as text, as a state's metadata name it."""
    return f"{token:016x}"


def event_type(token: int) -> str:
    """The event type of a write, which names it where no state does."""
    return f"{_PREFIX}{token:016x}"


def token_of(text: object) -> int:
    """The token that such a text names; `NOBODY` where it is none."""
    if not isinstance(text, str):
        return NOBODY
    digits = text.removeprefix(_PREFIX)
    try:
        return int(digits, 16) if len(digits) == _TOKEN_DIGITS else NOBODY
    except ValueError:
        return NOBODY


# An attempt asks for its content twice: for its digest, and to write it.
@lru_cache(maxsize=8)
def payload(session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> SyncState:
    """What an attempt writes: a few hundred bytes."""
    number = token * 2_654_435_761 & _MASK
    player = SyncParticipant(
        participant_id=f"player-{number % 2}",
        participant_index=0,
        total_time_ms=600_000,
        time_used_ms=number,
        is_active=bool(number & 1),
    )
    return SyncState.new(
        session_id,
        SyncMode.PER_PARTICIPANT,
        (player,),
        status=status,
        increment_ms=number % 60_000,
        metadata={"writer": written_by(token), "turns": number, "note": _WORDS[number % 40 :]},
    )


def digest_of(state: SyncState) -> int:
    """CRC-32 of what the caller gave of a state, whatever the order of its metadata; never 0."""
    given = _replace(state, incarnation=0, version=0, created_at=None, updated_at=None)
    return zlib.crc32(_encode(given)) or 1


def seen_of(state: SyncState) -> Seen:
    """What a state says of itself."""
    return Seen((state.incarnation, state.version), token_of(state.metadata.get("writer")), digest_of(state))
