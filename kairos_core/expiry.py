"""The sweep that ends sessions whose time has come, each as an event like any other.

Redis' own expiry tells nobody: its notifications are sent at most once, and late. So each lane keeps an index of when
its sessions can expire at the earliest, and one script per session ends those that are due: state, audit record and
notification in one step. Any number of sweeps may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kairos_core.commands import Commands
from kairos_core.connection import Link, make_pool
from kairos_core.ground import store_client
from kairos_core.layout import Layout

if TYPE_CHECKING:
    import redis

    from kairos_core.settings import Settings

# Sessions of a lane that one sweep looks at; the rest is due at the next one.
_AT_ONCE = 200


class Expiry:
    """Ends what is due, over connections of its own."""

    def __init__(self, settings: Settings, client: redis.Redis, link: Link) -> None:
        self._layout = Layout(settings.namespace, settings.lanes)
        self._commands = Commands(settings, self._layout)
        self._client = client
        self._link = link

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Prepare the connections; nothing is sent yet."""
        client = store_client(
            settings.redis_url, protocol=2, client_name="kairos-expiry", socket_timeout=settings.timeout_s
        )
        return cls(settings, client, Link(make_pool(settings), settings.timeout_s))

    def close(self) -> None:
        """Close the connections."""
        self._link.close()
        self._client.close()

    def sweep(self) -> int:
        """End the sessions that are due; return how many were.

        Raises:
            redis.RedisError, StoreUnavailable: the store could not be asked; what is due stays due.
        """
        seconds, microseconds = self._client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        pipeline = self._client.pipeline(transaction=False)
        for key in self._layout.deadlines:
            pipeline.zrange(key, 0, now_ms, byscore=True, offset=0, num=_AT_ONCE)
        due: list[list[bytes]] = pipeline.execute()
        commands: list[Any] = [self._commands.expire(found.decode()) for lane in due for found in lane]
        return sum(self._link.call(command) for command in commands)
