"""AsyncRedisStateManager: the asyncio shell over the operations.

The names, arguments, results and errors are `RedisStateManager`'s, which documents them in full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kairos_core.awaiting import AwaitingTransport
from kairos_core.observed import observed
from kairos_core.operations import Operations
from kairos_core.watches import AsyncMessageWatch, AsyncSessionWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from kairos_core.durability import Durability
    from kairos_core.health import Health
    from kairos_core.observing import Observer
    from kairos_core.session import SyncState
    from kairos_core.settings import Settings


class AsyncRedisStateManager:
    """Creates, reads, updates and deletes sessions; one round trip each, and no state of its own.

    Any number of tasks of one event loop may share one manager. A call that is cancelled may have been applied, like
    one that ends in OutcomeUnknown; it leaves nothing behind on a connection.

        async with AsyncRedisStateManager.connect(settings) as manager:
            ...
        manager = await AsyncRedisStateManager.connect(settings)  # and later: manager.close()
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._commands = operations.commands
        self._call = operations.link.call

    @classmethod
    def connect(cls, settings: Settings, *, observer: Observer | None = None) -> Self:
        """Prepare a manager, which connects and checks the ground when it is awaited or entered.

        Args:
            settings: where the store is, and what a call may take.
            observer: who is told of each call: see `RedisStateManager.connect`.

        Raises:
            ConfigurationError: the address cannot be used; awaited or entered, as of `RedisStateManager.connect`.
        """
        kind = cls if observer is None else observed(cls)
        return kind(Operations(settings, AwaitingTransport, observer))

    def __await__(self) -> Generator[Any, None, Self]:
        """Connect and check the ground."""
        return self._checked().__await__()

    async def _checked(self) -> Self:
        try:
            await self._operations.check()
        except BaseException:
            self.close()
            raise
        return self

    async def __aenter__(self) -> Self:
        return await self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the sessions stay. A later call makes new ones. Not to be awaited."""
        self._operations.link.close()

    async def create_session(
        self, state: SyncState, *, event_type: str = "created", durability: Durability | str | None = None
    ) -> SyncState:
        """Create a session; see `RedisStateManager.create_session`."""
        return await self._call(self._commands.create(state, event_type, durability))

    async def get_session(self, session_id: str) -> SyncState | None:
        """Read a session from the primary; None where there is none; see `RedisStateManager.get_session`."""
        return await self._call(self._commands.get(session_id))

    async def update_session(
        self, state: SyncState, *, event_type: str = "updated", durability: Durability | str | None = None
    ) -> SyncState:
        """Write a state back, if it is still the stored version; see `RedisStateManager.update_session`."""
        return await self._call(self._commands.update(state, event_type, durability))

    async def mutate_session(  # noqa: PLR0913 - by name, but for the first two
        self,
        session_id: str,
        change: Callable[[SyncState], SyncState | Awaitable[SyncState]],
        *,
        event_type: str = "updated",
        attempts: int = 1_000,
        durability: Durability | str | None = None,
        known: SyncState | None = None,
    ) -> SyncState:
        """Read a session, change it, write it back; `change` may be a coroutine function.

        With `known`, a state that was read or written before, it is not read first: see
        `RedisStateManager.mutate_session`.
        """
        return await self._operations.mutate(session_id, change, event_type, attempts, durability, known=known)

    async def get_sessions(self, session_ids: Iterable[str]) -> dict[str, SyncState | None]:
        """Read many sessions; see `RedisStateManager.get_sessions`."""
        return await self._operations.get_many(session_ids)

    async def delete_session(
        self,
        session_id: str,
        *,
        if_unchanged: SyncState | None = None,
        event_type: str = "deleted",
        durability: Durability | str | None = None,
    ) -> bool:
        """Delete a session; False where there is none; see `RedisStateManager.delete_session`."""
        return await self._call(self._operations.delete(session_id, if_unchanged, event_type, durability))

    async def touch_session(self, session_id: str) -> bool:
        """Let a session live for its full time from now on; see `RedisStateManager.touch_session`."""
        return await self._call(self._commands.touch(session_id))

    async def resolve(self, operation_id: str) -> bool | None:
        """Settle a write that ended in OutcomeUnknown; see `RedisStateManager.resolve`."""
        return await self._call(self._commands.resolve(operation_id))

    async def broadcast_to_session(self, session_id: str, message: Any) -> int:
        """Send any JSON to those who receive this session's messages; see `RedisStateManager.broadcast_to_session`."""
        return await self._call(self._commands.broadcast(session_id, message))

    def watch_session(self, session_id: str, *, since: SyncState | None = None) -> AsyncSessionWatch:
        """Receive the updates of one session; see `RedisStateManager.watch_session`."""
        return AsyncSessionWatch(self._operations.session_feed(session_id, since))

    def watch_sessions(self) -> AsyncSessionWatch:
        """Receive the updates of all sessions; see `RedisStateManager.watch_sessions`."""
        return AsyncSessionWatch(self._operations.sessions_feed())

    def receive_messages(self, session_id: str) -> AsyncMessageWatch:
        """Receive what `broadcast_to_session` sends; see `RedisStateManager.receive_messages`."""
        return AsyncMessageWatch(self._operations.message_feed(session_id))

    async def health(self) -> Health:
        """How the store is; see `RedisStateManager.health`."""
        return await self._operations.health()
