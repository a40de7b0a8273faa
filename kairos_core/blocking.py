"""The blocking transport: sockets, for callers that wait.

redis-py makes the connections: it resolves addresses, speaks TLS, authenticates and selects. Its command methods, its
pool's bookkeeping and its reading of replies cost more than all the rest of a call, so a command goes past them: packed
by hiredis, sent over the connection's socket, parsed by hiredis.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import hiredis
from redis import Redis
from redis.retry import Retry

from kairos_core.transport import CHUNK, SHORTEST_WAIT_S, UNREADABLE, BrokenChannel, Connector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kairos_core.addresses import Address, Endpoint

# Setting a timeout costs as much as a tenth of a short call, so it is not done for a difference of less than this.
_NEARLY = 0.9
# The forks that led to this process. Looking at it is not a system call, as asking for the process's number is.
_FORKS: list[None] = []
os.register_at_fork(after_in_child=lambda: _FORKS.append(None))


class BlockingChannel:
    """A socket and what has come on it; see `transport.Channel`."""

    __slots__ = ("_connection", "_is_plain", "_poll", "_reader", "_socket", "_timeout_s", "node")

    def __init__(self, node: Endpoint, connection: Any) -> None:
        self.node = node
        self._connection = connection
        self._socket: socket.socket = connection._sock  # noqa: SLF001 - this file exists to use it
        # TLS is the socket's own.
        self._is_plain = type(self._socket) is socket.socket
        self._reader = hiredis.Reader()
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        self._poll = poller.poll
        self._timeout_s = -1.0

    def is_quiet(self) -> bool:
        """Whether nothing came while nothing was asked."""
        return not (self._reader.has_data() or self._poll(0))

    def _wait_until(self, deadline: float) -> None:
        """Let the next wait end by the deadline, or very nearly."""
        left_s = deadline - time.monotonic()
        if not left_s * _NEARLY <= self._timeout_s <= left_s / _NEARLY:
            self._timeout_s = max(SHORTEST_WAIT_S, left_s)
            self._socket.settimeout(self._timeout_s)

    async def send(self, data: bytes, deadline: float) -> None:
        """Send bytes."""
        self._wait_until(deadline)
        self._send(data)

    def _send(self, data: bytes) -> None:
        # A socket with a timeout first asks if there is room, which is a system call more, and there nearly always is.
        # Its number is asked for each time: one that was closed has none, and another file may have it by then.
        if self._is_plain:
            try:
                sent = os.write(self._socket.fileno(), data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        self._socket.sendall(data)

    def ask(self, data: bytes, deadline: float) -> Any:
        """Send bytes and wait for one reply."""
        self._wait_until(deadline)
        self._send(data)
        if deadline - time.monotonic() < self._timeout_s * _NEARLY:
            # Sending took its time, too.
            self._wait_until(deadline)
        # Mostly it comes all at once. Where the connection ended, nothing comes, now and again below.
        self._reader.feed(self._socket.recv(CHUNK))
        reply = self._reader.gets()
        return self._receive(deadline) if reply is False else reply

    async def exchange(self, data: bytes, deadline: float) -> Any:
        """Send bytes and wait for one reply."""
        return self.ask(data, deadline)

    async def receive(self, deadline: float) -> Any:
        """Wait for the next reply."""
        return self._receive(deadline)

    def _receive(self, deadline: float) -> Any:
        reader = self._reader
        reply = reader.gets()
        while reply is False:
            # Each time anew: a reply in many pieces has one deadline, not one for each.
            self._wait_until(deadline)
            self._fill()
            reply = reader.gets()
        return reply

    def take(self) -> Any:
        """The next reply if all of it has come, else False."""
        reply = self._reader.gets()
        pending = getattr(self._socket, "pending", None)
        # TLS may have taken more off the socket than was asked for, and no poll tells of that.
        while reply is False and pending is not None and pending() > 0:
            self._fill()
            reply = self._reader.gets()
        return reply

    def fill(self, deadline: float) -> None:
        """Take what has come off the socket, which has something."""
        self._wait_until(deadline)
        # Where it was only the beginning of a TLS record, the rest is waited for next time.
        with contextlib.suppress(TimeoutError):
            self._fill()

    def _fill(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(data)

    def fileno(self) -> int:
        """The socket's number; -1 where it is closed."""
        return self._socket.fileno()

    def wake(self) -> None:
        """Let a thread that waits for something to come find the connection ended; it closes it, then."""
        with contextlib.suppress(OSError):
            # Not by way of TLS, which would take itself from under that thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Let go of a connection of the parent's: its number is closed here, the connection is not."""
        self._connection.disconnect()

    def close(self) -> None:
        """Close the connection at once."""
        self._connection.disconnect()


class _Lock:
    """A thread's lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def locked(self) -> bool:
        return self._lock.locked()

    async def enter(self, deadline: float) -> bool:
        return self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))

    def leave(self) -> None:
        self._lock.release()


class BlockingTransport:
    """Makes connections with sockets; see `transport.Transport`."""

    blocks = True

    def __init__(self, address: Address, timeout_s: float, **options: Any) -> None:
        self._connector = Connector(Redis, Retry, address, timeout_s, options)
        self.one_server = self._connector.one_server

    def home(self) -> object:
        """The process: a forked child must not write into its parent's connections."""
        return len(_FORKS)

    async def open(self, node: Endpoint, time_left_s: float, *, to_sentinel: bool = False) -> BlockingChannel:
        """Make a connection, in no more than the time that is left."""
        # Not from a pool's own stock: that takes back a connection whose handshake was interrupted, and hands it out
        # again as if it were logged in and in the right database.
        connection = self._connector.make(node, to_sentinel=to_sentinel)
        # Three waits at the most: connect, AUTH, SELECT.
        connection.socket_connect_timeout = connection.socket_timeout = max(SHORTEST_WAIT_S, time_left_s / 3)
        try:
            connection.connect()
            return BlockingChannel(node, connection)
        except BaseException:
            connection.disconnect()
            raise

    async def sleep(self, pause_s: float) -> None:
        """Wait, unless the pause is 0."""
        if pause_s > 0:
            time.sleep(pause_s)  # noqa: ASYNC251 - blocking is what this transport is for

    def lock(self) -> _Lock:
        """A new lock."""
        return _Lock()

    async def receive_any(
        self, channels: Sequence[BlockingChannel], deadline: float
    ) -> tuple[BlockingChannel, Any] | None:
        """Wait for the next reply on any of these; None where none came by the deadline."""
        while True:
            for channel in channels:
                with _naming(channel):
                    if (reply := channel.take()) is not False:
                        return channel, reply
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            poller = select.poll()
            for channel in channels:
                with _naming(channel):
                    poller.register(channel.fileno(), select.POLLIN)
            # Rounded up: a wait of 0 ms would spin.
            ready = {number for number, _ in poller.poll(left_s * 1000 + 1)}
            for channel in channels:
                with _naming(channel):
                    if channel.fileno() in ready:
                        channel.fill(deadline)


@contextlib.contextmanager
def _naming(channel: BlockingChannel) -> Iterator[None]:
    """Say of a failure which channel it is of."""
    try:
        yield
    except (OSError, ValueError, *UNREADABLE) as error:
        raise BrokenChannel(channel, error) from error
