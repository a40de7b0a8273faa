"""The asyncio transport: streams, for callers on an event loop.

As in `blocking.py`, redis-py makes the connections, and hiredis packs and parses. A call that is cancelled closes the
connection that it used: the reply that is still under way can never be read as the answer to another command.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry

from kairos_core.transport import CHUNK, SHORTEST_WAIT_S, UNREADABLE, BrokenChannel, Connector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.addresses import Address, Endpoint


# What a forked child must keep, to leave it alone.
_PARENTS: list[AwaitingChannel] = []


def _until(deadline: float) -> asyncio.Timeout:
    """A context that ends in TimeoutError at the deadline (of `time.monotonic`)."""
    return asyncio.timeout(max(SHORTEST_WAIT_S, deadline - time.monotonic()))


class AwaitingChannel:
    """A stream and what has come on it; see `transport.Channel`."""

    __slots__ = ("_connection", "_input", "_loop", "_output", "_pid", "_poll", "_reader", "node")

    def __init__(self, node: Endpoint, connection: Any) -> None:
        self.node = node
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._input: asyncio.StreamReader = connection._reader  # noqa: SLF001 - this file exists to use them
        self._output: asyncio.StreamWriter = connection._writer  # noqa: SLF001
        self._reader = hiredis.Reader()
        poller = select.poll()
        poller.register(self._output.get_extra_info("socket").fileno(), select.POLLIN)
        self._poll = poller.poll

    def is_quiet(self) -> bool:
        """Whether nothing came while nothing was asked: neither into the stream nor, so far unseen, to the socket."""
        unread = self._reader.has_data() or self._input._buffer or self._input.at_eof()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to ask
        return not (unread or self._output.is_closing() or self._poll(0))

    async def send(self, data: bytes, deadline: float) -> None:
        """Send bytes."""
        async with _until(deadline):
            self._output.write(data)
            await self._output.drain()

    async def exchange(self, data: bytes, deadline: float) -> Any:
        """Send bytes and wait for one reply."""
        async with _until(deadline):
            self._output.write(data)
            await self._output.drain()
            return await self._receive()

    # A call of it is an awaitable, which is what is asked for.
    ask = exchange

    async def receive(self, deadline: float) -> Any:
        """Wait for the next reply."""
        async with _until(deadline):
            return await self._receive()

    async def _receive(self) -> Any:
        while (reply := self._reader.gets()) is False:
            await self.fill()
        return reply

    def take(self) -> Any:
        """The next reply if all of it has come, else False."""
        return self._reader.gets()

    async def fill(self) -> None:
        """Wait for bytes; nothing is lost where this is cancelled."""
        data = await self._input.read(CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(data)

    def wake(self) -> None:
        """Let a task that waits for something to come find the connection ended."""
        self.close()

    def abandon(self) -> None:
        """Let go of a connection of another process or event loop."""
        if self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        if self._pid != os.getpid():
            # A forked child shares its parent's selector: closing, or the end of the object, would take the parent's
            # connection out of it.
            _PARENTS.append(self)
            return
        if self._loop.is_closed():
            self._close_without_loop()
        # On a loop that was closed there is nothing left to close.
        with contextlib.suppress(RuntimeError):
            self._output.transport.abort()
        self._connection._reader = self._connection._writer = None  # noqa: SLF001 - redis-py would close it again

    def _close_without_loop(self) -> None:
        """Close the socket where nobody is left to do it in order."""
        transport: Any = self._output.transport
        with contextlib.suppress(AttributeError):
            self._output.get_extra_info("socket")._sock.close()  # noqa: SLF001 - the socket behind the view of it
        # It is closed, and need not complain.
        for name, value in (("_sock", None), ("_closing", True)):
            if hasattr(transport, name):
                setattr(transport, name, value)


class _Lock:
    """A task's lock."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def locked(self) -> bool:
        return self._lock.locked()

    async def enter(self, deadline: float) -> bool:
        try:
            async with _until(deadline):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    def leave(self) -> None:
        self._lock.release()


class AwaitingTransport:
    """Makes connections on the running event loop; see `transport.Transport`."""

    blocks = False

    def __init__(self, address: Address, timeout_s: float, **options: Any) -> None:
        self._connector = Connector(Redis, Retry, address, timeout_s, options)
        self.one_server = self._connector.one_server

    def home(self) -> object:
        """The event loop: a stream is of use on its own only."""
        return asyncio.get_running_loop()

    async def open(self, node: Endpoint, time_left_s: float, *, to_sentinel: bool = False) -> AwaitingChannel:
        """Make a connection, in no more than the time that is left."""
        connection = self._connector.make(node, to_sentinel=to_sentinel)
        try:
            async with asyncio.timeout(max(SHORTEST_WAIT_S, time_left_s)):
                await connection.connect()
            return AwaitingChannel(node, connection)
        except BaseException:
            if connection.is_connected:
                AwaitingChannel(node, connection).close()
            raise

    async def sleep(self, pause_s: float) -> None:
        """Wait, unless the pause is 0."""
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    def lock(self) -> _Lock:
        """A new lock."""
        return _Lock()

    async def receive_any(
        self, channels: Sequence[AwaitingChannel], deadline: float
    ) -> tuple[AwaitingChannel, Any] | None:
        """Wait for the next reply on any of these; None where none came by the deadline."""
        while True:
            for channel in channels:
                try:
                    reply = channel.take()
                except UNREADABLE as error:
                    raise BrokenChannel(channel, error) from error
                if reply is not False:
                    return channel, reply
            if time.monotonic() >= deadline:
                return None
            await _fill_one(channels, deadline)


async def _fill_one(channels: Sequence[AwaitingChannel], deadline: float) -> None:
    """Wait until one of the channels has something, or until the deadline."""
    if len(channels) == 1:
        # No task of its own, which would cost more than all the rest.
        try:
            async with _until(deadline):
                await channels[0].fill()
        except TimeoutError:
            return
        except OSError as error:
            raise BrokenChannel(channels[0], error) from error
        return
    tasks = {asyncio.ensure_future(channel.fill()): channel for channel in channels}
    try:
        await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task, channel in tasks.items():
        cause = None if task.cancelled() else task.exception()
        if cause is not None:
            raise BrokenChannel(channel, cause) from cause
