"""Delivery: from before the update call to the callback in another process.

The other process notes the time at which its callback is called, and sends it back over a pipe; both read the same
system-wide monotonic clock. So what is timed ends in the other process, and the way back is not in it.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from kairos_core.settings import child_environment
from loadtests.inside import Inside, NotedClock
from loadtests.orders import Helper

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

    from kairos_core import Settings
    from loadtests.interleave import Operation


class Subscriber:
    """Another process that watches all sessions of a namespace, or receives the messages of one.

    Args:
        settings: of the namespace.
        how: `kairos`, `kairos_async`, `bare` (redis-py), `bare_async` or `wire` (a raw socket).
        session_id: whose messages; None: the updates of all.
    """

    def __init__(self, settings: Settings, how: str, session_id: str | None = None) -> None:
        whose = () if session_id is None else (session_id,)
        self._helper = Helper("loadtests.subscriber", how, *whose, environment=child_environment(settings))
        try:
            # That it is ready.
            self._helper.line()
        except BaseException:
            self._helper.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.close()

    def arrival(self) -> tuple[int, float]:
        """The next update's version and the time at which the callback was called (`time.monotonic`).

        Raises:
            OrderError: the process has ended.
        """
        version, arrival_s = self._helper.line().split()
        return int(version), float(arrival_s)


@contextmanager
def subscribers(*wanted: tuple[Settings, str, str | None]) -> Iterator[list[Subscriber]]:
    """Several at once, since each takes its time to start: of each the arguments."""
    with ExitStack() as stack:
        with ThreadPoolExecutor(len(wanted)) as pool:
            starting = [pool.submit(Subscriber, *one) for one in wanted]
        # Where one did not start, the others end all the same.
        started = [one.result() for one in starting if one.exception() is None]
        for subscriber in started:
            stack.enter_context(subscriber)
        yield [one.result() for one in starting]


class Delivered:
    """An update operation that is over when another process has it."""

    def __init__(self, update: Operation, subscriber: Subscriber, clock: NotedClock) -> None:
        self._update, self._subscriber, self._clock = update, subscriber, clock
        # Draining the updates from the session's creation: the next arrival is the next update's.
        self._version, _ = subscriber.arrival()

    def prepare(self) -> Callable[[], object]:
        """The update to time, with the wait for its arrival."""
        call = self._update.prepare()

        def update_and_wait() -> object:
            result = call()
            self._clock.note(self.arrival())
            return result

        return update_and_wait

    def arrival(self) -> float:
        """When the other process had the next one (`time.monotonic`)."""
        version, arrival_s = self._subscriber.arrival()
        if version != self._version + 1:
            raise AssertionError(f"version {version} arrived after {self._version}")
        self._version = version
        return arrival_s

    def finish(self, result: object) -> None:
        """Check the update's result."""
        self._update.finish(result)


class DeliveredInside(Inside):
    """The same of an update that is awaited; timed from inside the loop on which it is to the other process."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: NotedClock, update: Operation, subscriber: Subscriber
    ) -> None:
        super().__init__(loop, clock, update)
        self._delivery = Delivered(update, subscriber, clock)

    async def _timed(self, call: Callable[[], Awaitable[Any]]) -> Any:
        start_s = time.monotonic()
        result = await call()
        # Nothing else is on this loop that would mind.
        self._clock.note(self._delivery.arrival(), start_s)
        return result
