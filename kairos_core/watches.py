"""What callers hold while they watch, in two colours: a context, an iterator, a callback loop."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from kairos_core.transport import run
from kairos_core.updates import LONGEST_WAIT_S, Feed, MessageFeed, SessionFeed, facts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from kairos_core.updates import StateUpdate

F = TypeVar("F", bound=Feed)
_log = logging.getLogger("kairos.watch")


class _Watch(Generic[F]):
    """What all watches share."""

    def __init__(self, feed: F) -> None:
        self._feed = feed

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self._feed.subscription.reconnects

    @property
    def silence_s(self) -> float:
        """Seconds since the server last gave a sign of life; on a cluster, the most silent of its servers.

        An idle server gives one every `Settings.timeout_s`, so beyond twice that the watch is deaf, not the server
        silent; it is trying to connect again then.
        """
        return self._feed.subscription.silence_s

    def close(self) -> None:
        """End the watch, from any thread (or, under asyncio, task); a loop over it ends."""
        self._feed.close()


class _BlockingWatch(_Watch[F]):
    def __enter__(self) -> Self:
        """Subscribe; every write that begins after this is seen."""
        run(self._feed.open())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AwaitingWatch(_Watch[F]):
    async def __aenter__(self) -> Self:
        """Subscribe; every write that begins after this is seen."""
        await self._feed.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class SessionWatch(_BlockingWatch[SessionFeed]):
    """Updates of one session or of all, in the order in which each session's were written.

    Use it as a context manager; then iterate over it, or call `receive` or `run`.
    """

    def __iter__(self) -> Iterator[StateUpdate]:
        while not self._feed.is_closed:
            update = self.receive(LONGEST_WAIT_S)
            if update is not None:
                yield update

    def run(self, callback: Callable[[StateUpdate], object]) -> None:
        """Call back with each update until the watch is closed; what the callback raises is logged and ends nothing."""
        for update in self:
            try:
                callback(update)
            except Exception:  # noqa: BLE001 - whatever a service's callback does, the next update is delivered
                _log.exception(
                    "watch: the callback failed on version %d of %s",
                    update.version,
                    update.session_id,
                    extra={"event": "watch_callback_failed", **facts(update)},
                )

    def receive(self, timeout_s: float) -> StateUpdate | None:
        """Wait for the next update; None where none came in time.

        While a lost connection is being made again, that may be up to `Settings.timeout_s` late.

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        return run(self._feed.receive(timeout_s))


class AsyncSessionWatch(_AwaitingWatch[SessionFeed]):
    """Updates of one session or of all, in the order in which each session's were written.

    Use it as an asynchronous context manager; then iterate over it, or await `receive` or `run`.
    """

    async def __aiter__(self) -> AsyncIterator[StateUpdate]:
        while not self._feed.is_closed:
            update = await self.receive(LONGEST_WAIT_S)
            if update is not None:
                yield update

    async def run(self, callback: Callable[[StateUpdate], object]) -> None:
        """Call back with each update until the watch is closed, and await what the callback returns, if it can be.

        What the callback raises is logged and ends nothing.
        """
        async for update in self:
            try:
                returned = callback(update)
                if inspect.isawaitable(returned):
                    await returned
            except Exception:  # noqa: BLE001 - whatever a service's callback does, the next update is delivered
                _log.exception(
                    "watch: the callback failed on version %d of %s",
                    update.version,
                    update.session_id,
                    extra={"event": "watch_callback_failed", **facts(update)},
                )

    async def receive(self, timeout_s: float) -> StateUpdate | None:
        """Wait for the next update; None where none came in time.

        While a lost connection is being made again, that may be up to `Settings.timeout_s` late. What is cancelled in
        the middle of that begins anew the next time: rather give a `timeout_s` than cancel.

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        return await self._feed.receive(timeout_s)


class MessageWatch(_BlockingWatch[MessageFeed]):
    """The application messages of one session; what was sent while the connection was lost is lost."""

    def __iter__(self) -> Iterator[Any]:
        while not self._feed.is_closed:
            received = self.receive(LONGEST_WAIT_S)
            if received:
                yield received[0]

    def receive(self, timeout_s: float) -> tuple[Any] | tuple[()]:
        """Wait for the next message: a tuple of it; an empty one where none came in time (a message may be null).

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        return run(self._feed.receive(timeout_s))


class AsyncMessageWatch(_AwaitingWatch[MessageFeed]):
    """The application messages of one session; what was sent while the connection was lost is lost."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        while not self._feed.is_closed:
            received = await self.receive(LONGEST_WAIT_S)
            if received:
                yield received[0]

    async def receive(self, timeout_s: float) -> tuple[Any] | tuple[()]:
        """Wait for the next message: a tuple of it; an empty one where none came in time (a message may be null).

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        return await self._feed.receive(timeout_s)
