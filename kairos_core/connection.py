"""The one place where a command meets a connection.

Commands go through redis-py's own connections and pool (so TLS, ACLs and reconnection are redis-py's), but past its
command methods, whose dispatch costs more than the rest of the call. What those methods would do is done here, for
what Kairos needs: bounded retries under one deadline, with the same operation id, so that a write takes effect once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.attempts import Attempts

if TYPE_CHECKING:
    from redis.connection import Connection, ConnectionPool

    from kairos_core.commands import Command
    from kairos_core.settings import Settings

T = TypeVar("T")

# Connections are made on demand, one per thread that is in a call; this only bounds a runaway.
_MAX_CONNECTIONS = 4096


def make_pool(settings: Settings) -> ConnectionPool:
    """A pool for commands: no retries of redis-py's own, replies as bytes, RESP2 (no pushes to look for)."""
    return redis.ConnectionPool.from_url(
        settings.redis_url,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=_MAX_CONNECTIONS,
        protocol=2,
        client_name="kairos",
    )


class Link:
    """Sends commands and reads their replies; safe to share between threads."""

    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()

    def call(self, command: Command[T]) -> T:
        """Send a command, again if need be and within `timeout_s`, and return what it reads from the reply.

        Raises:
            StoreUnavailable: it was definitely not applied.
            OutcomeUnknown: a write was sent and no answer came.
            KairosError: what the command reads from a refusal.
        """
        deadline = time.monotonic() + self._timeout_s
        attempts: Attempts | None = None
        while True:
            sent = False
            try:
                connection = self._pool.get_connection()
                sent = True
                reply = self._exchange(connection, attempts.words if attempts else command.words)
            except foreign.RedisError as error:
                attempts = attempts or Attempts(command, deadline)
                time.sleep(attempts.after(error, sent=sent))
            else:
                return command.read(reply)

    def _exchange(self, connection: Connection, words: tuple[str | bytes | int, ...]) -> Any:
        """Send a command over a connection of the pool, receive its reply, and give the connection back."""
        try:
            connection.send_packed_command(connection.pack_command(*words), check_health=False)
            return connection.read_response()
        except foreign.ResponseError:
            raise
        except BaseException:
            # A reply may still be under way: nobody may read it as the answer to another command.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)
