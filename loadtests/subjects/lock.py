"""redis-py's Lock around reading, comparing and writing.

The lock is a lease: whoever stands still for longer than that goes on writing beside the next holder, since the server
does not ask who holds it. So this is right only as long as nobody stands still for that long.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import redis

from loadtests.history import Error
from loadtests.subjects.check_then_set import CheckThenSet
from loadtests.subjects.register import Refused
from loadtests.subjects.stored import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.subjects.stored import Stored

LEASE_S = 10.0
_POLL_S = 0.002


class Locked(CheckThenSet):
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
            return super().exchange(session_id, decide)
        finally:
            # The write stands, whoever has the lock by now; nobody is the wiser for an error here.
            with contextlib.suppress(redis.RedisError, OSError):
                lock.release()
