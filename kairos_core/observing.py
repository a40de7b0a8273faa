"""Who is told what a manager does: what metrics and spans are made of. No I/O, and nothing imported beyond the core.

    RedisStateManager.connect(settings, observer=PrometheusObserver())

An observer is told in the thread or the task of the call, so it should be quick. What it raises is logged once, and
breaks no call.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kairos_core.errors import (
    AuditBacklogFull,
    CorruptState,
    DurabilityNotReached,
    InvalidState,
    OutcomeUnknown,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What may become of a call that ended in an error.
_OUTCOMES: dict[type[BaseException], str] = {
    VersionConflict: "conflict",
    SessionExists: "exists",
    SessionNotFound: "not_found",
    InvalidState: "invalid",
    StoreUnavailable: "unavailable",
    OutcomeUnknown: "unknown",
    AuditBacklogFull: "backlog_full",
    DurabilityNotReached: "durability_not_reached",
    CorruptState: "corrupt",
}
OK, NOT_FOUND, FAILED, INTERRUPTED = "ok", "not_found", "failed", "interrupted"
OUTCOMES = (OK, *_OUTCOMES.values(), FAILED, INTERRUPTED)
# Why something was sent again.
RETRY_REASONS = ("lost", "refused", "moved", "script")

_log = logging.getLogger("kairos.observer")


def outcome_of(error: BaseException) -> str:
    """The outcome of a call that ended in an error; `failed` for what is none of Kairos' own.

    `interrupted`: the call was cancelled, or the process told to end.
    """
    for kind, outcome in _OUTCOMES.items():
        if isinstance(error, kind):
            return outcome
    return FAILED if isinstance(error, Exception) else INTERRUPTED


class Call(NamedTuple):
    """One call of a manager, when it is over.

    Attributes:
        operation: the method's name, such as `update_session`.
        outcome: one of OUTCOMES.
        duration_s: how long it took, in seconds: retries, and all that `mutate_session` does, included.
        subject: the state, the session's id, the ids or the operation's id that it was given; for no label: there are
            as many as there are sessions.
        error: what it raised; None where it returned.
    """

    operation: str
    outcome: str
    duration_s: float
    subject: Any
    error: BaseException | None

    @property
    def session_id(self) -> str | None:
        """The session that the call was about; None where it was about none, or about many."""
        found = getattr(self.subject, "session_id", self.subject)
        return found if isinstance(found, str) and self.operation != "resolve" else None


class Observer(Protocol):
    """What is told; `Silent` is one with nothing in it, to build others from."""

    def called(self, call: Call) -> None:
        """A call is over."""

    def conflicted(self) -> None:
        """A write was refused, since another was first; those that `mutate_session` tries again are told, too."""

    def retried(self, reason: str) -> None:
        """A command is sent again within its call; why is one of RETRY_REASONS.

        `lost`: the connection was; `refused`: by a server that starts, or that a failover is under way at; `moved`:
        another server has the slot; `script`: the server did not know it yet.
        """

    def watch_delivered(self) -> None:
        """A watch has handed out an update."""

    def watch_gap(self) -> None:
        """A watch has noticed that it missed updates, or could not read one."""

    def watch_resynchronised(self) -> None:
        """A watch has compared what it knows with the primary, after a gap or a lost connection."""

    def watch_reconnected(self) -> None:
        """A watch has made its lost connection again."""

    def watch_deaf(self, silence_s: float) -> None:
        """A watch has heard nothing for longer than twice the timeout; told once, until it hears again."""


class Silent:
    """An observer that does nothing with what it is told."""

    def called(self, call: Call) -> None:
        """A call is over."""

    def conflicted(self) -> None:
        """A write was refused."""

    def retried(self, reason: str) -> None:
        """A command is sent again."""

    def watch_delivered(self) -> None:
        """An update was handed out."""

    def watch_gap(self) -> None:
        """Updates were missed."""

    def watch_resynchronised(self) -> None:
        """The primary was asked."""

    def watch_reconnected(self) -> None:
        """A connection was made again."""

    def watch_deaf(self, silence_s: float) -> None:
        """Nothing is heard."""


NOBODY: Observer = Silent()


class Observers:
    """Tells several observers, one after the other; what one raises keeps nothing from the others or the caller."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._called = [observer.called for observer in observers]
        self._failed: set[tuple[int, str]] = set()

    def called(self, call: Call) -> None:
        """A call is over."""
        for number, tell in enumerate(self._called):
            try:
                tell(call)
            except Exception as error:  # noqa: BLE001 - it is somebody else's code
                self._note(number, "called", error)

    def conflicted(self) -> None:
        """A write was refused."""
        self._each("conflicted")

    def retried(self, reason: str) -> None:
        """A command is sent again."""
        self._each("retried", reason)

    def watch_delivered(self) -> None:
        """An update was handed out."""
        self._each("watch_delivered")

    def watch_gap(self) -> None:
        """Updates were missed."""
        self._each("watch_gap")

    def watch_resynchronised(self) -> None:
        """The primary was asked."""
        self._each("watch_resynchronised")

    def watch_reconnected(self) -> None:
        """A connection was made again."""
        self._each("watch_reconnected")

    def watch_deaf(self, silence_s: float) -> None:
        """Nothing is heard."""
        self._each("watch_deaf", silence_s)

    def _each(self, name: str, *facts: Any) -> None:
        for number, tell in self._named(name):
            try:
                tell(*facts)
            except Exception as error:  # noqa: BLE001 - likewise
                self._note(number, name, error)

    def _named(self, name: str) -> Iterator[tuple[int, Callable[..., None]]]:
        return ((number, getattr(observer, name)) for number, observer in enumerate(self._observers))

    def _note(self, number: int, name: str, error: Exception) -> None:
        """Say once of each observer and what it was told: that may be a thousand times a second."""
        if (number, name) in self._failed:
            return
        self._failed.add((number, name))
        who, what = type(self._observers[number]).__qualname__, type(error).__name__
        _log.error(
            "the observer %s failed in %s: %s; it is told on, and this is said once",
            who,
            name,
            what,
            exc_info=error,
            extra={"event": "observer_failed", "observer": who, "told": name, "error": what},
        )
