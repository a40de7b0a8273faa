"""Kairos as a subject: either manager behind the interface of all subjects."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kairos_core import (
    AsyncRedisStateManager,
    AuditBacklogFull,
    CorruptState,
    DurabilityNotReached,
    KairosError,
    OutcomeUnknown,
    RedisStateManager,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    VersionConflict,
)
from kairos_core.session import SyncState, SyncStatus
from kairos_core.updates import RESYNCHRONISED
from loadtests.history import Error, Kind, Seen
from loadtests.subjects.register import (
    NOBODY,
    DurabilityMissed,
    Held,
    Notice,
    Refused,
    Shown,
    Unknown,
    event_type,
    payload,
    seen_of,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings, StateUpdate

T = TypeVar("T")

_ERRORS: dict[type[KairosError], Error] = {
    VersionConflict: Error.CONFLICT,
    SessionNotFound: Error.NOT_FOUND,
    SessionExists: Error.EXISTS,
    StoreUnavailable: Error.UNAVAILABLE,
    OutcomeUnknown: Error.OUTCOME_UNKNOWN,
    AuditBacklogFull: Error.BACKLOG_FULL,
    DurabilityNotReached: Error.DURABILITY,
    CorruptState: Error.CORRUPT,
}


def translated(error: KairosError) -> Refused | Unknown | DurabilityMissed:
    """What an error says of its operation: `definite` decides, and nothing else."""
    if isinstance(error, DurabilityNotReached):
        result = error.result
        return DurabilityMissed(held(result) if isinstance(result, SyncState) else result)
    code = _ERRORS.get(type(error), Error.OTHER)
    if not error.definite:
        return Unknown(code)
    stamp = error.current if isinstance(error, VersionConflict | SessionExists) else (0, 0)
    return Refused(code, stamp, absent=isinstance(error, SessionNotFound))


def held(state: SyncState) -> Held:
    """A state with what it says of itself."""
    return Held(seen_of(state), state)


class Managed:
    """A manager; where its methods are coroutine functions, `complete` runs what they return."""

    def __init__(self, manager: Any, complete: Callable[[Any], Any], close: Callable[[], None]) -> None:
        self._manager = manager
        self._complete = complete
        self._close = close

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """RedisStateManager."""
        manager = RedisStateManager.connect(settings)
        return cls(manager, lambda result: result, manager.close)

    @classmethod
    def connect_awaiting(cls, settings: Settings) -> Self:
        """AsyncRedisStateManager, on a loop that runs while it is called."""
        loop = asyncio.new_event_loop()

        async def connected() -> AsyncRedisStateManager:
            return await AsyncRedisStateManager.connect(settings)

        async def closed(manager: AsyncRedisStateManager) -> None:
            manager.close()

        try:
            manager = loop.run_until_complete(connected())
        except BaseException:
            loop.close()
            raise

        def close() -> None:
            loop.run_until_complete(closed(manager))
            loop.close()

        return cls(manager, loop.run_until_complete, close)

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return self._complete(method(*arguments, **options))
        except KairosError as error:
            raise translated(error) from error

    def create(self, session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        state = payload(session_id, token, status)
        return held(self._call(self._manager.create_session, state, event_type=event_type(token)))

    def get(self, session_id: str) -> Held | None:
        """See `Register`."""
        state = self._call(self._manager.get_session, session_id)
        return None if state is None else held(state)

    def update(self, held_: Held, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        state = _derived(payload(held_.state.session_id, token, status), held_.state)
        return held(self._call(self._manager.update_session, state, event_type=event_type(token)))

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`."""

        def change(state: SyncState) -> SyncState:
            shown(seen_of(state))
            return _derived(payload(session_id, token), state)

        first = None if known is None else known.state
        return held(
            self._call(self._manager.mutate_session, session_id, change, event_type=event_type(token), known=first)
        )

    def delete(self, session_id: str, token: int, held_: Held | None) -> bool:
        """See `Register`."""
        unchanged = None if held_ is None else held_.state
        found: bool = self._call(
            self._manager.delete_session, session_id, if_unchanged=unchanged, event_type=event_type(token)
        )
        return found

    def touch(self, session_id: str) -> bool:
        """See `Register`."""
        found: bool = self._call(self._manager.touch_session, session_id)
        return found

    def watch(self) -> Watch:
        """See `Register`."""
        return Watch(self._manager.watch_sessions(), self._complete)

    def watch_one(self, session_id: str) -> Watch:
        """A watcher of one session."""
        return Watch(self._manager.watch_session(session_id), self._complete)

    def receiver(self, session_id: str) -> Any:
        """A context that receives a session's messages, of the manager's own colour."""
        return self._manager.receive_messages(session_id)

    def broadcast(self, session_id: str, message: object) -> int:
        """Send a message to a session's receivers; to how many it was handed.

        Raises:
            KairosError: as the manager's.
        """
        count: int = self._complete(self._manager.broadcast_to_session(session_id, message))
        return count

    def close(self) -> None:
        """Close the connections."""
        self._close()


class ReadFirst(Managed):
    """A manager whose mutations always read first, whatever is known."""

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`."""
        del known
        return super().mutate(session_id, token, shown)


def _derived(content: SyncState, state: SyncState) -> SyncState:
    return content.replace(incarnation=state.incarnation, version=state.version)


class Watch:
    """A manager's watch of one session or of all; see `Managed` for `complete`."""

    def __init__(self, watch: Any, complete: Callable[[Any], Any]) -> None:
        self._watch = watch
        self._complete = complete
        # A resynchronisation gives many states, one by one, that it read when the first of them was asked for.
        self._since_ns = time.monotonic_ns()

    def __enter__(self) -> Self:
        enter = getattr(self._watch, "__aenter__", None) or self._watch.__enter__
        self._complete(enter())
        self._since_ns = time.monotonic_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.close()

    def receive(self, timeout_s: float) -> Notice | None:
        """See `Watcher`."""
        update: StateUpdate | None = self._complete(self._watch.receive(timeout_s))
        received_ns = time.monotonic_ns()
        if update is None:
            # Nothing is left of what was read.
            self._since_ns = received_ns
            return None
        kind, seen = _told(update)
        is_read = kind in (Kind.RESYNCHRONISED, Kind.RESYNCHRONISED_ABSENT)
        return Notice(update.session_id, kind, seen, self._since_ns if is_read else received_ns, received_ns)


def _told(update: StateUpdate) -> tuple[Kind, Seen]:
    """What an update is; its state and its event type must name the same writer."""
    stamp = (update.incarnation, update.version)
    if update.event_type == RESYNCHRONISED:
        if update.state is None:
            return Kind.RESYNCHRONISED_ABSENT, Seen(stamp)
        return Kind.RESYNCHRONISED, seen_of(update.state)
    named = token_of(update.event_type)
    if update.state is None:
        return Kind.TOLD_REMOVED, Seen(stamp, 0 if update.event_type == "expired" else named)
    seen = seen_of(update.state)
    return Kind.TOLD, seen._replace(stamp=stamp, writer=seen.writer if seen.writer == named else NOBODY)
