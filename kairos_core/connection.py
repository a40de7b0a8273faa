"""The one place where a command meets a connection.

redis-py makes the connections: it resolves addresses, speaks TLS, authenticates and selects. Its command methods, its
pool's bookkeeping and its reading of replies cost more than all the rest of a call, so a command goes past them: packed
by hiredis, sent over the connection's socket, parsed by hiredis. What redis-py would do there is done here for what
Kairos needs: bounded retries under one deadline, with the same operation id, so that a write takes effect once.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import hiredis
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.attempts import Attempts, Refused
from kairos_core.errors import KairosError
from kairos_core.ground import store_client

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from redis.connection import Connection, ConnectionPool

    from kairos_core.commands import Command, Words
    from kairos_core.settings import Settings

T = TypeVar("T")
_CHUNK = 65_536
# Commands that are sent before their replies are read; what the server holds back meanwhile stays small.
_AT_ONCE = 500
# A timeout of 0 would mean not to wait at all, and a negative one is an error.
_SHORTEST_WAIT_S = 0.001
# Setting a timeout costs as much as a tenth of a short call, so it is not done for less than this.
_MOST = 0.9


def make_pool(settings: Settings) -> ConnectionPool:
    """A pool that makes connections: no retries of redis-py's own, replies as bytes, RESP2 (no pushes among them)."""
    client = store_client(
        settings.redis_url,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )
    pool = client.connection_pool
    if pool.connection_kwargs.get("db"):
        # Text like all words that are packed (see `Words`): this one is packed by redis-py.
        pool.connection_kwargs["db"] = str(pool.connection_kwargs["db"])
    return pool


class _Channel(NamedTuple):
    """A connection that is ready for a command: nothing is under way on it."""

    connection: Connection
    socket: socket.socket
    reader: hiredis.Reader
    poll: Callable[[int], list[tuple[int, int]]]

    @classmethod
    def open(cls, pool: ConnectionPool, time_left_s: float) -> Self:
        """Make a connection, in no more than the time that is left.

        Raises:
            foreign.RedisError: it could not be made.
        """
        # Not from the pool's own stock: that takes back a connection whose handshake was interrupted, and hands it out
        # again as if it were logged in and in the right database.
        connection: Connection = pool.connection_class(**pool.connection_kwargs)
        # Three waits at the most: connect, AUTH, SELECT.
        connection.socket_connect_timeout = connection.socket_timeout = max(_SHORTEST_WAIT_S, time_left_s / 3)
        try:
            connection.connect()
            connected: Any = connection._sock  # noqa: SLF001 - this file exists to use it
            poller = select.poll()
            poller.register(connected, select.POLLIN)
            return cls(connection, connected, hiredis.Reader(), poller.poll)
        except BaseException:
            connection.disconnect()
            raise

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()

    def is_quiet(self) -> bool:
        """Whether nothing came while nothing was asked.

        What comes unasked is the end of the connection, or bytes that would pass for the next reply. Looking first
        costs a microsecond, and keeps a write that could not be sent from ending as one that may have been applied.
        """
        return not self.poll(0)

    def exchange(self, words: Words, deadline: float) -> Any:
        """Send a command and receive its reply, which may be an error (`hiredis.ReplyError`)."""
        self.socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub wants exactly one word
        self._hurry(deadline)
        return self.receive(deadline)

    def exchange_many(self, commands: Sequence[Words], deadline: float) -> list[Any]:
        """Send commands at once and receive their replies in order; the first error stands for all."""
        self.socket.sendall(b"".join(hiredis.pack_command(words) for words in commands))  # type: ignore[arg-type]
        self._hurry(deadline)
        replies = [self.receive(deadline) for _ in commands]
        return next(([reply] for reply in replies if isinstance(reply, hiredis.ReplyError)), replies)

    def _hurry(self, deadline: float) -> None:
        """Where sending took a good part of the time, wait no longer than what is left of it."""
        left_s = deadline - time.monotonic()
        if left_s < _MOST * (self.socket.gettimeout() or 0.0):
            self.socket.settimeout(max(_SHORTEST_WAIT_S, left_s))

    def receive(self, deadline: float) -> Any:
        """Wait for the next reply."""
        reader = self.reader
        reply = reader.gets()
        while reply is False:
            data = self.socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(data)
            reply = reader.gets()
            if reply is False:
                # A reply in many pieces has one deadline, not one for each.
                self.socket.settimeout(max(_SHORTEST_WAIT_S, deadline - time.monotonic()))
        return reply


class Link:
    """Sends commands and reads their replies; safe to share between threads, and usable after a fork."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        # Last in, first out. A list's append and pop are atomic, so no lock is needed.
        self._idle: list[_Channel] = []
        self._pid = os.getpid()

    def close(self) -> None:
        """Close all connections that are not in use; a later call makes new ones."""
        idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()

    def call(self, command: Command[T]) -> T:
        """Send a command, again if need be and within `timeout_s`, and return what it reads from the reply.

        Raises:
            StoreUnavailable: it was definitely not applied.
            OutcomeUnknown: a write was sent and no answer came, or none that makes sense.
            KairosError: what the command reads from a refusal.
        """
        deadline = self._deadline()
        return _read(command, self._attempt(command, _Channel.exchange, None, deadline), deadline)

    def call_many(self, commands: Sequence[Command[T]]) -> list[T]:
        """Send reads, many at once, and return what each reads from its reply; all within `timeout_s`.

        Raises:
            StoreUnavailable: they were not all answered.
            KairosError: what a command reads from its reply.
        """
        deadline, results = self._deadline(), []
        for start in range(0, len(commands), _AT_ONCE):
            part = commands[start : start + _AT_ONCE]
            words = [command.words for command in part]
            replies = self._attempt(part[0], _Channel.exchange_many, words, deadline)
            results += [_read(command, reply, deadline) for command, reply in zip(part, replies, strict=True)]
        return results

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s

    def _attempt(
        self,
        command: Command[Any],
        exchange: Callable[[_Channel, Any, float], Any],
        many: list[Words] | None,
        deadline: float,
    ) -> Any:
        """The reply to a command, or to many of which it is the first, sent again as often as its time allows."""
        attempts: Attempts | None = None
        while True:
            channel: _Channel | None = None
            try:
                channel = self._acquire(deadline, again=attempts is not None)
                words = many or (attempts.words if attempts else command.words)
                reply = exchange(channel, words, deadline)
                self._give_back(channel)
            except BaseException as error:  # noqa: BLE001 - raised again where it is no failure of the attempt
                # A reply may still be under way: nobody may read it as the answer to another command.
                if channel is not None:
                    channel.close()
                attempts = attempts or Attempts(command, deadline)
                time.sleep(attempts.after(_translated(error), sent=channel is not None))
                continue
            first = reply[0] if many else reply
            if not isinstance(first, hiredis.ReplyError):
                return reply
            attempts = attempts or Attempts(command, deadline)
            time.sleep(attempts.after(Refused(str(first)), sent=True))

    def _acquire(self, deadline: float, *, again: bool) -> _Channel:
        """A channel whose waits end by the deadline; `again` where part of the time has been used."""
        if self._pid != os.getpid():
            # A forked child must not write into its parent's connections.
            self._idle = []
            self._pid = os.getpid()
        while True:
            try:
                channel = self._idle.pop()
            except IndexError:
                channel = _Channel.open(self._pool, deadline - time.monotonic())
                break
            if channel.is_quiet():
                if again:
                    break
                return channel
            channel.close()
        channel.socket.settimeout(max(_SHORTEST_WAIT_S, deadline - time.monotonic()))
        return channel

    def _give_back(self, channel: _Channel) -> None:
        if channel.reader.has_data():
            # More than one reply to one command: whatever it is, nobody may read it as the answer to another.
            channel.close()
            return
        if channel.socket.gettimeout() != self._timeout_s:
            channel.socket.settimeout(self._timeout_s)
        self._idle.append(channel)


def _translated(error: BaseException) -> foreign.RedisError:
    """How the attempt failed; what is no failure of the attempt (an interruption, a mistake) is raised as it is."""
    if isinstance(error, foreign.RedisError):
        return error
    if isinstance(error, TimeoutError):
        return foreign.TimeoutError("no answer in time")
    if isinstance(error, OSError | hiredis.ProtocolError):
        return foreign.ConnectionError(f"the connection was lost: {error}")
    raise error


def _read(command: Command[T], reply: Any, deadline: float) -> T:
    try:
        return command.read(reply)
    except KairosError:
        raise
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise Attempts(command, deadline).unreadable(error) from error
