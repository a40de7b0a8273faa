"""The parts of a manager that has an observer: each stands in the place of one that has none.

A manager without an observer is made of none of this, so that it takes no longer for it, not by a single test.
"""

from __future__ import annotations

import functools
import inspect
import time
from typing import TYPE_CHECKING, Any, TypeVar

from kairos_core.attempts import Attempts, Refused
from kairos_core.errors import VersionConflict
from kairos_core.link import Link
from kairos_core.observing import NOT_FOUND, OK, Call, outcome_of
from kairos_core.updates import SessionFeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import exceptions as foreign

    from kairos_core.commands import Command
    from kairos_core.observing import Observer
    from kairos_core.updates import StateUpdate

T = TypeVar("T")
M = TypeVar("M")

# Those that return None or False where there is no such session.
_LOOKING = ("get_session", "delete_session", "touch_session")
OPERATIONS = (
    *("create_session", "update_session", "mutate_session", "get_sessions", "resolve", "broadcast_to_session"),
    *_LOOKING,
)
_REASONS = {"MOVED": "moved", "ASK": "moved", "NOSCRIPT": "script"}


class ObservedLink(Link):
    """A link that tells of conflicts and of what is sent again."""

    def observed_by(self, observer: Observer) -> ObservedLink:
        """This link, with whom it tells."""
        self.observer = observer
        return self

    async def call(self, command: Command[T], *, patient: bool = True) -> T:
        """As `Link.call`."""
        if self._blocks and patient:
            return self.call_blocking(command)
        try:
            return await super().call(command, patient=patient)
        except VersionConflict:
            self.observer.conflicted()
            raise

    def call_blocking(self, command: Command[T]) -> T:
        """As `Link.call_blocking`."""
        try:
            return super().call_blocking(command)
        except VersionConflict:
            self.observer.conflicted()
            raise

    def attempts(self, command: Command[Any], deadline: float, *, patient: bool) -> Attempts:
        """The attempts of a call whose first one failed."""
        return _ObservedAttempts(command, deadline, patient=patient).observed_by(self.observer)


class _ObservedAttempts(Attempts):
    def observed_by(self, observer: Observer) -> Attempts:
        self._observer = observer
        return self

    def after(self, error: Refused | foreign.RedisError, *, sent: bool) -> float:
        pause_s = super().after(error, sent=sent)
        self._observer.retried(_REASONS.get(error.code, "refused") if isinstance(error, Refused) else "lost")
        return pause_s


class ObservedSessionFeed(SessionFeed):
    """A feed that tells of what it hands out."""

    async def receive(self, timeout_s: float) -> StateUpdate | None:
        """As `SessionFeed.receive`."""
        update = await super().receive(timeout_s)
        if update is not None:
            self.observer.watch_delivered()
        return update


def observed(kind: type[M]) -> type[M]:
    """A manager's class whose operations tell the observer of its `Operations` how they ended."""
    make: Any = _made
    found: type[M] = make(kind)
    return found


@functools.cache
def _made(kind: Any) -> Any:
    methods = {name: _observed(name, getattr(kind, name)) for name in OPERATIONS}
    return type(
        f"Observed{kind.__name__}", (kind,), {"__doc__": kind.__doc__, "__module__": kind.__module__, **methods}
    )


class _Begun:
    """A call that is under way."""

    __slots__ = ("_at", "_name", "_observer", "_subject")

    def __init__(self, manager: Any, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._observer: Observer = manager._operations.observer  # noqa: SLF001 - a part of the manager
        self._name = name
        self._subject = given[0] if given else named.get("session_id", named.get("state"))
        self._at = time.perf_counter()

    def ended(self, outcome: str, error: BaseException | None = None) -> None:
        duration_s = time.perf_counter() - self._at
        self._observer.called(Call(self._name, outcome, duration_s, self._subject, error))


def _observed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    looks = name in _LOOKING

    @functools.wraps(method)
    def blocking(manager: Any, *given: Any, **named: Any) -> Any:
        call = _Begun(manager, name, given, named)
        try:
            result = method(manager, *given, **named)
        except BaseException as error:
            call.ended(outcome_of(error), error)
            raise
        call.ended(NOT_FOUND if looks and not result else OK)
        return result

    @functools.wraps(method)
    async def awaiting(manager: Any, *given: Any, **named: Any) -> Any:
        call = _Begun(manager, name, given, named)
        try:
            result = await method(manager, *given, **named)
        except BaseException as error:
            call.ended(outcome_of(error), error)
            raise
        call.ended(NOT_FOUND if looks and not result else OK)
        return result

    return awaiting if inspect.iscoroutinefunction(method) else blocking
