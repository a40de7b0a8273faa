"""redis-py's Lock around reading, comparing and writing.

The lock is a lease: whoever stands still for longer than that goes on writing beside the next holder, since the server
does not ask who holds it. So this is right only as long as nobody stands still for that long.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import redis

from loadtests.history import Error
from loadtests.subjects.register import Refused, Unknown
from loadtests.subjects.stored import Rival, Stored, reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_S = 10.0
_POLL_S = 0.002


class Locked(Rival):
    """Compares in the client, alone."""

    def exchange(self, session_id: str, decide: Callable[[Stored | None, int], Stored]) -> Stored:
        """See `Rival`."""
        lock = self.client.lock(
            f"{self.key(session_id)}:lock", timeout=LEASE_S, blocking_timeout=self.timeout_s, sleep=_POLL_S
        )
        with reading():
            if not lock.acquire():
                raise Refused(Error.UNAVAILABLE)
        try:
            with reading():
                current = self.decode(self.client.get(self.key(session_id)))
                latest = 0 if current else int(self.client.get(self.lives_key(session_id)) or 0)
            stored = decide(current, latest)
            with writing():
                self.write(self.client, session_id, stored)
            try:
                self.client.publish(self.channel, self.message(session_id, stored))
            except (redis.RedisError, OSError) as error:
                raise Unknown from error
            return stored
        finally:
            # The write stands, whoever has the lock by now; nobody is the wiser for an error here.
            with contextlib.suppress(redis.RedisError, OSError):
                lock.release()
