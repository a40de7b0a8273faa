"""AsyncRedisStateManager behind RedisStateManager's names, on an event loop in a thread of its own.

So that whatever is shown of one manager is shown of the other by the very same code.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from kairos_core import AsyncRedisStateManager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from kairos_core import Settings, SyncState
    from kairos_core.observing import Observer
    from kairos_core.operations import Operations

_JOIN_TIMEOUT_S = 10.0


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(steps, self.loop).result()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_JOIN_TIMEOUT_S)
        # What connections have left to say when they close.
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class ManagerOnALoop:
    """Each call is run on the loop, and waited for."""

    def __init__(self, manager: AsyncRedisStateManager, loop: _Loop) -> None:
        self._manager = manager
        self._loop = loop

    @classmethod
    def connect(cls, settings: Settings, *, observer: Observer | None = None) -> Self:
        """As `RedisStateManager.connect`."""
        loop = _Loop()

        async def connected() -> AsyncRedisStateManager:
            return await AsyncRedisStateManager.connect(settings, observer=observer)

        try:
            return cls(loop.run(connected()), loop)
        except BaseException:
            loop.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _operations(self) -> Operations:
        return self._manager._operations  # noqa: SLF001 - it stands for the manager

    def close(self) -> None:
        """Close the connections, and end the loop."""
        if not self._loop.loop.is_closed():
            self._loop.run(self._closed())
            self._loop.stop()

    async def _closed(self) -> None:
        self._manager.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._manager, name)

        def call(*arguments: Any, **options: Any) -> Any:
            return self._loop.run(method(*arguments, **options))

        return call

    def mutate_session(self, session_id: str, change: Callable[[SyncState], SyncState], **options: Any) -> Any:
        """As `RedisStateManager.mutate_session`; `change` runs in a thread, since it may call this manager."""

        async def changed(state: SyncState) -> SyncState:
            return await asyncio.to_thread(change, state)

        function: object = change
        given = changed if callable(function) else change
        return self._loop.run(self._manager.mutate_session(session_id, given, **options))

    def watch_session(self, session_id: str, *, since: SyncState | None = None) -> WatchOnALoop:
        """As `RedisStateManager.watch_session`."""
        return WatchOnALoop(self._manager.watch_session(session_id, since=since), self._loop)

    def watch_sessions(self) -> WatchOnALoop:
        """As `RedisStateManager.watch_sessions`."""
        return WatchOnALoop(self._manager.watch_sessions(), self._loop)

    def receive_messages(self, session_id: str) -> WatchOnALoop:
        """As `RedisStateManager.receive_messages`."""
        return WatchOnALoop(self._manager.receive_messages(session_id), self._loop)


class WatchOnALoop:
    """A watch whose calls are run on the loop, and waited for."""

    def __init__(self, watch: Any, loop: _Loop) -> None:
        self._watch = watch
        self._loop = loop

    def __enter__(self) -> Self:
        self._loop.run(self._watch.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        updates = aiter(self._watch)
        while True:
            try:
                yield self._loop.run(anext(updates))
            except StopAsyncIteration:
                return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watch, name)

    def receive(self, timeout_s: float) -> Any:
        """As the watch's."""
        return self._loop.run(self._watch.receive(timeout_s))

    def run(self, callback: Callable[[Any], object]) -> None:
        """As the watch's."""
        self._loop.run(self._watch.run(callback))

    def close(self) -> None:
        """As the watch's."""
        if not self._loop.loop.is_closed():
            self._loop.run(self._closed())

    async def _closed(self) -> None:
        self._watch.close()
