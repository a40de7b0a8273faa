"""What a watcher knows of each session, and what follows from a message. No I/O."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kairos_core.errors import Stamp

# Sessions that a watcher remembers, about 250 bytes each; those of which it heard longest ago are forgotten first.
REMEMBERED = 1_000_000


class News(Enum):
    """What a message is, given what was known."""

    NEXT = "next"  # the version after the known one, or the first that is heard of a session
    OLD = "old"  # known already, or older
    GAP = "gap"  # newer, but something between was missed


class Known(NamedTuple):
    """The latest that is known of a session.

    Attributes:
        stamp: its incarnation and version.
        alive: whether it existed then.
    """

    stamp: Stamp
    alive: bool


class Tracker:
    """The latest known version of each session: it only ever rises, unless the store itself goes back."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def alive(self) -> list[str]:
        """The sessions that existed when they were last heard of."""
        return [session_id for session_id, known in self._known.items() if known.alive]

    def known(self, session_id: str) -> Known | None:
        """The latest that is known of a session."""
        return self._known.get(session_id)

    def weigh(self, session_id: str, stamp: Stamp) -> News:
        """What a message with this stamp is."""
        known = self._known.get(session_id)
        if known is None:
            return News.NEXT
        if stamp <= known.stamp:
            return News.OLD
        same_life = stamp.incarnation == known.stamp.incarnation
        expected = known.stamp.version + 1 if same_life else 1
        return News.NEXT if stamp.version == expected and (same_life or not known.alive) else News.GAP

    def note(self, session_id: str, stamp: Stamp, *, alive: bool) -> bool:
        """Note what was heard; False where it is not newer than what is known."""
        known = self._known.get(session_id)
        if known is not None and (stamp < known.stamp or (stamp == known.stamp and alive == known.alive)):
            return False
        self._remember(session_id, stamp, alive=alive)
        return True

    def go_back(self, session_id: str, stamp: Stamp) -> None:
        """Take an older state for the latest: the store itself has lost what was newer."""
        self._remember(session_id, stamp, alive=True)

    def _remember(self, session_id: str, stamp: Stamp, *, alive: bool) -> None:
        # Moved to the end: the order of the dict is the order of the last news.
        self._known.pop(session_id, None)
        self._known[session_id] = Known(stamp, alive)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
