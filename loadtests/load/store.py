"""How the servers are while a load test runs: what waits for the audit, and how many keys there are."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import redis

from kairos_core.audit.outbox import Outbox
from kairos_core.errors import KairosError
from kairos_core.ground import store_client
from loadtests.load.facts import Moment

if TYPE_CHECKING:
    from kairos_core import Settings

_TIMEOUT_S = 2.0


class Store:
    """Looks at the store, over connections of its own.

    Args:
        settings: of an account that may read the outboxes.
    """

    def __init__(self, settings: Settings) -> None:
        self._lanes = range(settings.lanes)
        self._outbox = Outbox.connect(settings)
        self._client = store_client(
            settings.redis_url,
            setting="KAIROS_REDIS_URL",
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
        )

    def look(self, at_s: float) -> Moment | None:
        """How it is now; None where it does not say."""
        keys = -1
        # An account may not be allowed to count keys.
        with contextlib.suppress(redis.RedisError, OSError):
            keys = int(self._client.dbsize())
        try:
            waiting, oldest_s = self._outbox.waiting(self._lanes)
        except KairosError:
            return None
        return Moment(at_s=round(at_s, 3), waiting=waiting, lag_s=round(oldest_s or 0.0, 3), keys=keys)

    def close(self) -> None:
        """Close the connections."""
        self._outbox.close()
        self._client.close()
