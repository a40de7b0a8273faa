"""What a state manager of your own offers to be attacked and loaded: `--subject package.module:Class`.

The class is called with `kairos_core.Settings` (`redis_url`, `postgres_url`, `timeout_s`, `session_ttl_s`, and
`namespace`, with which all its keys are to begin), once in each process, and has the methods of `StateManager`. It
knows nothing of the harness: it stores texts, and says under which version it stored them.
`docs/your_own_state_manager.md` leads through it.

What a method cannot do it says with one of the errors here. Any other error says nothing of whether the write was
applied, so that the run cannot be called valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from loadtests.history import Error
from loadtests.subjects.register import Refused, Unknown

if TYPE_CHECKING:
    from kairos_core import Settings

__all__ = [
    "AlreadyExists",
    "Conflict",
    "NotFound",
    "OutcomeUnknown",
    "StateManager",
    "Stored",
    "Told",
    "Unavailable",
    "Watch",
]


class Stored(NamedTuple):
    """A session as it is stored.

    Attributes:
        life: a number that is higher each time the same id is created anew; 1 will do where nothing is ever deleted.
        version: 1 at the creation, one more with each write of this life.
        text: as it was given, at most a few hundred characters.
    """

    life: int
    version: int
    text: str


class Conflict(Refused):
    """Not applied: what is stored is not what the write was derived from. `current`: what is, if that is known."""

    def __init__(self, current: Stored | None = None) -> None:
        super().__init__(Error.CONFLICT, _stamp(current))


class AlreadyExists(Refused):
    """Not applied: there is a session of this id. `current`: which, if that is known."""

    def __init__(self, current: Stored | None = None) -> None:
        super().__init__(Error.EXISTS, _stamp(current))


class NotFound(Refused):
    """Not applied: there is no session of this id."""

    def __init__(self) -> None:
        super().__init__(Error.NOT_FOUND, absent=True)


class Unavailable(Refused):
    """Not applied, for sure: nothing was sent, or it was only a read, or the store said no."""

    def __init__(self) -> None:
        super().__init__(Error.UNAVAILABLE)


class OutcomeUnknown(Unknown):
    """Applied or not: it was sent, and no answer came."""

    def __init__(self) -> None:
        super().__init__(Error.OUTCOME_UNKNOWN)


class StateManager(Protocol):
    """What every subject has. Each method blocks until it is answered, or `timeout_s` of the settings is over.

    Two more are used where they are there. Without them, what they are for is not judged:

    - `touch(session_id: str) -> bool`: let it live for its full time from now on; False where there is none.
    - `watch() -> Watch`: a watch of all sessions, with a connection of its own.
    """

    def __init__(self, settings: Settings) -> None: ...

    def create(self, session_id: str, text: str) -> Stored:
        """Create a session, with version 1. Raises AlreadyExists, Unavailable or OutcomeUnknown."""
        ...

    def get(self, session_id: str) -> Stored | None:
        """Read a session; None where there is none. Raises Unavailable."""
        ...

    def update(self, session_id: str, held: Stored, text: str) -> Stored:
        """Write, if what is stored is what is held. Raises Conflict, NotFound, Unavailable or OutcomeUnknown."""
        ...

    def delete(self, session_id: str, held: Stored | None) -> bool:
        """Delete a session; with `held`, only if that is what is stored.

        Returns False where there is none. Raises Conflict, Unavailable or OutcomeUnknown.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Told(NamedTuple):
    """What a watch is told, once for each write.

    Attributes:
        session_id: of which session.
        stored: what was written; of a deletion, the version behind the last, with any text.
        is_removed: whether it was a deletion.
    """

    session_id: str
    stored: Stored
    is_removed: bool = False


class Watch(Protocol):
    """Is told of the writes to all sessions, from when its context is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def receive(self, timeout_s: float) -> Told | None:
        """What it is told next; None where that is nothing for so long."""
        ...


def _stamp(stored: Stored | None) -> tuple[int, int]:
    return (0, 0) if stored is None else (stored.life, stored.version)
