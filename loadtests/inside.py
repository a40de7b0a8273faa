"""Timing what does not begin or end where a call does: what is awaited, and what ends in another process.

pytest-benchmark calls functions, so to call what is awaited it has to start the event loop and to stop it. That takes
as long as half of a read, and a service does not do it. So such a call is timed in the task that awaits it: from before
the method is called to when its result is there, with every turn of the loop between the two (the wait for the socket,
the wake-up of the task), and without the loop's own start and end. redis.asyncio is timed in the same way, on the same
loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from loadtests.interleave import Settling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from loadtests.interleave import Operation


class NotedClock:
    """A clock that is read before and after a call, and then shows what was noted meanwhile; else the time."""

    def __init__(self) -> None:
        self._read_s = 0.0
        self._noted: tuple[float, float | None] | None = None

    def note(self, end_s: float, start_s: float | None = None) -> None:
        """Note when the call ended and, where that was not when the clock was read, when it began.

        Both are times of `time.monotonic`, which is the same in all processes.
        """
        self._noted = (end_s, start_s)

    def __call__(self) -> float:
        """The time now, in seconds; once after a note, the end, or what lies as far after the reading before it."""
        noted, self._noted = self._noted, None
        if noted is None:
            self._read_s = time.monotonic()
        else:
            end_s, start_s = noted
            self._read_s = end_s if start_s is None else self._read_s + (end_s - start_s)
        return self._read_s


class Inside:
    """An operation whose call is to be awaited, timed inside of the loop on which it is.

    Args:
        loop: which does not run between calls.
        clock: which is read before and after each.
        operation: whose prepared call returns an awaitable.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: NotedClock, operation: Operation) -> None:
        self._loop, self._clock, self._operation = loop, clock, operation

    @property
    def delay_ns(self) -> int:
        """What is added to each call, where the operation is `Slowed`."""
        delay_ns: int = getattr(self._operation, "delay_ns", 0)
        return delay_ns

    def settle(self) -> None:
        """The warm-up is over."""
        if isinstance(self._operation, Settling):
            self._operation.settle()

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        call = self._operation.prepare()
        return lambda: self._loop.run_until_complete(self._timed(call))

    async def _timed(self, call: Callable[[], Awaitable[Any]]) -> Any:
        # What the loop had left to do from the last call is done first.
        await asyncio.sleep(0)
        start_s = time.monotonic()
        result = await call()
        self._clock.note(time.monotonic(), start_s)
        return result

    def finish(self, result: Any) -> None:
        """Check the result."""
        self._operation.finish(result)
