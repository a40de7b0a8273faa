"""Connections, each time anew: a manager's, with all that it looks at first, and one of redis-py alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from kairos_core import RedisStateManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings
    from loadtests.interleave import Operation


class Connect:
    """`RedisStateManager.connect`: a connection, and what is asked of the server before it is trusted."""

    def __init__(self, settings: Settings) -> None:
        self._connect = partial(RedisStateManager.connect, settings)

    def prepare(self) -> Callable[[], RedisStateManager]:
        """The call to time."""
        return self._connect

    def finish(self, result: RedisStateManager) -> None:
        """Check that it is connected, and close it."""
        with result:
            if not result.health().is_healthy:
                raise AssertionError("connect: not healthy")


class BareConnection:
    """A connection of redis-py: the handshakes of TCP and, where the address says so, of TLS, and the login."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._pool: Any = None

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._pool = redis.ConnectionPool.from_url(self._url)
        return partial(self._pool.get_connection)

    def finish(self, result: Any) -> None:
        """Check that it is connected, and close it."""
        result.send_command("PING")
        if result.read_response() != b"PONG":
            raise AssertionError("a connection of redis-py: no PONG")
        self._pool.release(result)
        self._pool.disconnect()


CONNECTIONS: dict[str, Callable[[Settings], Operation]] = {"connect": Connect, "connection": BareConnection}
