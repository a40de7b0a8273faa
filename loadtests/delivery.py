"""Delivery: from before the update call to the callback in another process.

The other process notes the time at which its callback is called, and sends it back over a pipe; both read the same
system-wide monotonic clock. So what is timed ends in the other process, and the way back is not in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from kairos_core.settings import child_environment
from loadtests.orders import Helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings
    from loadtests.interleave import Operation


class ArrivalClock:
    """A clock that pytest-benchmark reads before and after each round.

    The second reading gives the time of arrival, once one was noted.
    """

    def __init__(self) -> None:
        self._arrival_s: float | None = None

    def note(self, arrival_s: float) -> None:
        """Note when the callback was called, in seconds of `time.monotonic`."""
        self._arrival_s = arrival_s

    def __call__(self) -> float:
        """The noted arrival, once; else the time now."""
        if self._arrival_s is None:
            return time.monotonic()
        arrival_s, self._arrival_s = self._arrival_s, None
        return arrival_s


class Subscriber:
    """Another process that watches all sessions of a namespace, through Kairos or on a raw socket."""

    def __init__(self, settings: Settings, how: str) -> None:
        self._helper = Helper("loadtests.subscriber", how, environment=child_environment(settings))
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


class Delivered:
    """An update operation that is over when another process has it."""

    def __init__(self, update: Operation, subscriber: Subscriber, clock: ArrivalClock) -> None:
        self._update, self._subscriber, self._clock = update, subscriber, clock
        # Draining the updates from the session's creation: the next arrival is the next update's.
        self._version, _ = subscriber.arrival()

    def prepare(self) -> Callable[[], object]:
        """The update to time, with the wait for its arrival."""
        call = self._update.prepare()

        def update_and_wait() -> object:
            result = call()
            version, arrival_s = self._subscriber.arrival()
            if version != self._version + 1:
                raise AssertionError(f"version {version} arrived after {self._version}")
            self._version = version
            self._clock.note(arrival_s)
            return result

        return update_and_wait

    def finish(self, result: object) -> None:
        """Check the update's result."""
        self._update.finish(result)
