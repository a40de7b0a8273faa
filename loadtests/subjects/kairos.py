"""The operations of Kairos, as a service calls them."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kairos_core import RedisStateManager, SyncState
    from loadtests.interleave import Operation


class Get:
    """`get_session`, decoding included."""

    def __init__(self, manager: RedisStateManager, session_id: str) -> None:
        self._get = partial(manager.get_session, session_id)
        manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], SyncState | None]:
        """The call to time."""
        return self._get

    def finish(self, result: SyncState | None) -> None:
        """Check what it returned."""
        if result is None:
            raise AssertionError("get_session: the session is gone")


class Update:
    """`update_session`, encoding, publishing and outbox included."""

    def __init__(self, manager: RedisStateManager, session_id: str) -> None:
        self._manager = manager
        self._state = manager.create_session(sample_state(session_id))

    def prepare(self) -> Callable[[], SyncState]:
        """The call to time."""
        return partial(self._manager.update_session, self._state)

    def finish(self, result: SyncState) -> None:
        """Check that it is one version on, and go on from there."""
        if result.version != self._state.version + 1:
            raise AssertionError(f"update_session: version {result.version} after {self._state.version}")
        self._state = result


class Create:
    """`create_session`, each time another session."""

    def __init__(self, manager: RedisStateManager, prefix: str) -> None:
        self._manager, self._prefix, self._count = manager, prefix, 0

    def prepare(self) -> Callable[[], SyncState]:
        """The call to time."""
        self._count += 1
        return partial(self._manager.create_session, sample_state(f"{self._prefix}-{self._count}"))

    def finish(self, result: SyncState) -> None:
        """Check that it is the first version."""
        if result.version != 1:
            raise AssertionError(f"create_session: version {result.version}")


class Delete:
    """`delete_session`, each time of a session made for it."""

    def __init__(self, manager: RedisStateManager, prefix: str) -> None:
        self._create = Create(manager, prefix)
        self._manager = manager

    def prepare(self) -> Callable[[], bool]:
        """The call to time."""
        return partial(self._manager.delete_session, self._create.prepare()().session_id)

    def finish(self, result: object) -> None:
        """Check that there was one."""
        if result is not True:
            raise AssertionError("delete_session: there was nothing to delete")


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
