"""The operations of Kairos, as a service calls them.

Each takes the manager that prepares what is not timed and, where that is another, the one whose calls are timed: those
of an AsyncRedisStateManager are to be awaited (see `loadtests.inside`), and are prepared by a blocking one.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kairos_core import AsyncRedisStateManager, RedisStateManager, SyncState
    from kairos_core.health import Health
    from loadtests.interleave import Operation

# What `broadcast_to_session` sends.
MESSAGE = {"type": "tick", "number": 1, "text": "the clock of one player stops, and that of the next begins to run"}


class Get:
    """`get_session`, decoding included."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: Any = None) -> None:
        self._get = partial((timed or manager).get_session, session_id)
        manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._get

    def finish(self, result: SyncState | None) -> None:
        """Check what it returned."""
        if result is None:
            raise AssertionError("get_session: the session is gone")


class GetMany:
    """`get_sessions`, decoding included."""

    def __init__(self, manager: RedisStateManager, session_ids: Sequence[str], timed: Any = None) -> None:
        self._get = partial((timed or manager).get_sessions, session_ids)
        self._count = len(session_ids)
        for session_id in session_ids:
            manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._get

    def finish(self, result: dict[str, SyncState | None]) -> None:
        """Check that all are there."""
        if len(result) != self._count or None in result.values():
            raise AssertionError("get_sessions: a session is gone")


class Update:
    """`update_session`, encoding, publishing and outbox included."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: Any = None) -> None:
        self._update = (timed or manager).update_session
        self._state = manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return partial(self._update, self._state)

    def finish(self, result: SyncState) -> None:
        """Check that it is one version on, and go on from there."""
        if result.version != self._state.version + 1:
            raise AssertionError(f"update_session: version {result.version} after {self._state.version}")
        self._state = result


class Mutate:
    """`mutate_session` of a session that nobody else writes: one read and one update."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: Any = None) -> None:
        self._mutate = partial((timed or manager).mutate_session, session_id, one_turn_on)
        self._version = manager.create_session(sample_state(session_id)).version

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._mutate

    def finish(self, result: SyncState) -> None:
        """Check that it is one version on."""
        if result.version != self._version + 1:
            raise AssertionError(f"mutate_session: version {result.version} after {self._version}")
        self._version = result.version


def one_turn_on(state: SyncState) -> SyncState:
    """The state after one more turn."""
    return state.replace(time_per_cycle_ms=(state.time_per_cycle_ms or 0) % 60_000 + 1)


class Create:
    """`create_session`, each time another session."""

    def __init__(self, manager: RedisStateManager, prefix: str, timed: Any = None) -> None:
        self._create, self._prefix, self._count = (timed or manager).create_session, prefix, 0

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._count += 1
        return partial(self._create, sample_state(f"{self._prefix}-{self._count}"))

    def finish(self, result: SyncState) -> None:
        """Check that it is the first version."""
        if result.version != 1:
            raise AssertionError(f"create_session: version {result.version}")


class Delete:
    """`delete_session`, each time of a session made for it.

    Args:
        manager: what makes the sessions.
        prefix: of their ids.
        timed: the manager that is timed, where it is another.
        if_unchanged: whether only the version that was made may be deleted.
    """

    def __init__(
        self, manager: RedisStateManager, prefix: str, timed: Any = None, *, if_unchanged: bool = False
    ) -> None:
        self._create = Create(manager, prefix)
        self._delete = (timed or manager).delete_session
        self._if_unchanged = if_unchanged

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        state: SyncState = self._create.prepare()()
        return partial(self._delete, state.session_id, if_unchanged=state if self._if_unchanged else None)

    def finish(self, result: object) -> None:
        """Check that there was one."""
        if result is not True:
            raise AssertionError("delete_session: there was nothing to delete")


class Touch:
    """`touch_session`."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: Any = None) -> None:
        self._touch = partial((timed or manager).touch_session, session_id)
        manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._touch

    def finish(self, result: object) -> None:
        """Check that there was one."""
        if result is not True:
            raise AssertionError("touch_session: the session is gone")


class Resolve:
    """`resolve` of a write that was applied, each time of the same one."""

    def __init__(self, manager: RedisStateManager | AsyncRedisStateManager, operation_id: str) -> None:
        self._resolve = partial(manager.resolve, operation_id)

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._resolve

    def finish(self, result: object) -> None:
        """Check that it was applied."""
        if result is not True:
            raise AssertionError("resolve: the write was applied, and that is not what it says")


class Broadcast:
    """`broadcast_to_session`, encoding included; nobody listens."""

    def __init__(self, manager: RedisStateManager | AsyncRedisStateManager, session_id: str) -> None:
        self._broadcast = partial(manager.broadcast_to_session, session_id, MESSAGE)

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._broadcast

    def finish(self, result: object) -> None:
        """Check that nobody listened."""
        if result != 0:
            raise AssertionError(f"broadcast_to_session: {result} listened")


class Numbered:
    """`broadcast_to_session` of a message that has a number, one more each time."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: Any = None) -> None:
        self._broadcast = partial((timed or manager).broadcast_to_session, session_id)
        self._number = 1
        manager.broadcast_to_session(session_id, {**MESSAGE, "number": 1})

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._number += 1
        return partial(self._broadcast, {**MESSAGE, "number": self._number})

    def finish(self, result: object) -> None:
        """Check that there is one who hears it."""
        if result != 1:
            raise AssertionError(f"broadcast_to_session: {result} listened")


class WatchSetUp:
    """Entering `watch_session` until it hears: connection, subscription, and the look at what there is."""

    def __init__(self, manager: RedisStateManager, session_id: str) -> None:
        self._watch = partial(manager.watch_session, session_id)
        manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._watch().__enter__

    def finish(self, result: Any) -> None:
        """End the watch."""
        result.close()


class AwaitedWatchSetUp:
    """The same of an AsyncRedisStateManager, to be awaited."""

    def __init__(self, manager: RedisStateManager, session_id: str, timed: AsyncRedisStateManager) -> None:
        self._watch = partial(timed.watch_session, session_id)
        manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], Awaitable[Any]]:
        """The call to time."""
        return self._watch().__aenter__

    def finish(self, result: Any) -> None:
        """End the watch."""
        result.close()


class HealthAsked:
    """`health`."""

    def __init__(self, manager: RedisStateManager | AsyncRedisStateManager) -> None:
        self._health = manager.health

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._health

    def finish(self, result: Health) -> None:
        """Check that the store could be asked; its backlog is nobody's concern here."""
        if not result.is_reachable:
            raise AssertionError(f"health: {result.problems}")


class OnSessions:
    """The same operation on several sessions in turn."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._waiting = cycle(operations)
        self._now = operations[0]

    def prepare(self) -> Callable[[], Any]:
        """The next one's call to time."""
        self._now = next(self._waiting)
        return self._now.prepare()

    def finish(self, result: Any) -> None:
        """Let it check what it returned."""
        self._now.finish(result)
