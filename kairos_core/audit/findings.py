"""What a verification can find, as values. No I/O."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kairos_core.errors import Stamp


class Kind(Enum):
    """A kind of finding, in the words in which many are counted."""

    MISSING = "versions that are missing"
    BURIED = "versions that are not recorded: they are dead letters"
    FORKED = "rows that claim a place which another row has"
    UNCHAINED = "rows that were taken out of a chain"
    ALTERED = "rows that were altered: the hash is not theirs"
    UNLIKE = "sessions whose latest row is not what their events lead to"
    UNRECORDED = "versions in the store that are neither recorded nor waiting"
    BEHIND = "sessions of which the store has lost writes that are recorded"
    LOST = "live sessions that the store has lost; `kairos recover` restores them"
    UNREADABLE = "keys in the store that hold no session"
    # What is told, and breaks nothing.
    UNENDED = "lives of a session without an end, behind which another began"
    EXPIRED = "sessions whose time passed in the store before anybody recorded their end"

    @property
    def is_violation(self) -> bool:
        """Whether a guarantee is broken."""
        return self not in (Kind.UNENDED, Kind.EXPIRED)


class Finding(NamedTuple):
    """What is wrong with a session.

    Attributes:
        kind: which kind of wrong.
        session_id: the session.
        text: the first of this kind, in words.
        number: how many of this kind the session has.
    """

    kind: Kind
    session_id: str
    text: str
    number: int = 1

    def __str__(self) -> str:
        return f"session {self.session_id}: {self.text}"


class Letter(NamedTuple):
    """A dead letter: a write that is not recorded as an event.

    Attributes:
        stamp: the version that the write made.
        lane: the lane of its outbox.
        entry_id: the id that it had there.
        settlement: `discarded`, or None while it waits.
        reason: why it could not be recorded.
    """

    stamp: Stamp
    lane: int
    entry_id: str
    settlement: str | None
    reason: str

    def __str__(self) -> str:
        where = f"dead letter {self.entry_id} of lane {self.lane}"
        if self.settlement:
            return f"{self.stamp} was {self.settlement}: {where}"
        return f"{self.stamp} is not recorded, it waits as {where}: {self.reason[:200]}"
