"""Timing operations against each other: one call of each per round, so that all see the same machine.

The machine's speed drifts by more than the differences of interest, and within seconds. So pytest-benchmark times one
call of the operation per round, and in the same round one call of each companion is timed with the same clock: those
that come before it in the round's order in the set-up, those after it in the teardown. One companion is the operation
itself once more: if it and the operation differ, the run is not to be trusted.

What a call costs depends on what was called before it, too: on what is still in the caches, and on how deeply the
machine slept meanwhile. So no subject has a fixed place, and none has fixed neighbours; see `orders`.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

WARMUP_ROUNDS = 50
# The subject that pytest-benchmark itself times.
OWN = "kairos"
# What `Slowed` adds to a call: the share of its median.
SLOWED_BY = 0.05
# Each with the fewest samples that can tell it.
PERCENTILES = (("p50", 0.5, 1), ("p95", 0.95, 20), ("p99", 0.99, 100), ("p99.9", 0.999, 1_000))


class Operation(Protocol):
    """Something that can be timed, call by call."""

    def prepare(self) -> Callable[[], Any]:
        """Do what is not to be timed, and return what is."""

    def finish(self, result: Any) -> None:
        """Check the result and do what else is not to be timed."""


@runtime_checkable
class Settling(Protocol):
    """An operation that learns something in the warm-up."""

    def settle(self) -> None:
        """The warm-up is over."""


class Fixture(Protocol):
    """What is used of pytest-benchmark's `benchmark`."""

    extra_info: dict[str, Any]
    enabled: bool
    stats: Any

    def pedantic(self, target: Callable[..., Any], **options: Any) -> Any:
        """Time one call per round."""


def orders(subjects: int) -> list[tuple[int, ...]]:
    """A block of orders of so many subjects, to be taken in turn: ABBA for any number of them.

    Within it each subject stands in each place equally often, and right behind each other one equally often (E. J.
    Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949). Each order
    is followed by its mirror image, so that a drift within two rounds meets all alike. Of two: AB, BA, BA, AB.

    Who is who is drawn anew for each block: what was called before the call before matters, too. With the same block
    over and over an update came out at 1.02 to 1.04 times itself, and with other companions at 0.96 times.
    """
    who = random.sample(range(subjects), subjects)
    # 0, last, 1, last but one, ...: each step has another width, so that turning it round meets each pair once.
    zigzag = [place // 2 if place % 2 == 0 else subjects - 1 - place // 2 for place in range(subjects)]
    found = []
    for turn in random.sample(range(subjects), subjects):
        order = tuple(who[(place + turn) % subjects] for place in zigzag)
        found += [order, order[::-1]]
    return found


class Much(NamedTuple):
    """How much is timed.

    Attributes:
        rounds: timed calls of each subject.
        warmup_rounds: calls of each before them.
    """

    rounds: int
    warmup_rounds: int = WARMUP_ROUNDS


def interleave(  # noqa: PLR0913 - the last three are only for the unusual
    benchmark: Fixture,
    operation: Operation,
    companions: Mapping[str, Operation],
    *,
    rounds: int,
    warmup_rounds: int = WARMUP_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time an operation with pytest-benchmark and its companions beside it.

    Stores every sample, in nanoseconds and in the order of the rounds, in `extra_info["samples_ns"]`: those of the
    operation under `kairos`, those of the companions under their names. Beside them `percentiles_ms` of each subject,
    `p50_ratios` of the operation to each companion, and `slowed_ns`, what was added where one was slowed.

    Raises:
        AssertionError: pytest-benchmark called more than once a round.
    """
    warmup_rounds = warmup_rounds if benchmark.enabled else 0
    round_ = _Round(operation, companions, clock, warmup_rounds)
    benchmark.pedantic(
        round_.call,
        setup=round_.begin,
        teardown=round_.end,
        rounds=rounds,
        warmup_rounds=warmup_rounds,
        iterations=1,
    )
    if not benchmark.enabled:
        # Then pytest-benchmark calls once and leaves out the teardown.
        round_.end(None)
        return
    if benchmark.stats.iterations != 1:
        raise AssertionError("more than one call a round: percentiles would be those of averages")
    counted = slice(warmup_rounds, warmup_rounds + rounds)
    samples = {
        OWN: [round(seconds * 1e9) for seconds in benchmark.stats.stats.data],
        **{name: values[counted] for name, values in round_.samples.items()},
    }
    benchmark.extra_info["samples_ns"] = samples
    benchmark.extra_info["percentiles_ms"] = {name: percentiles_ms(values) for name, values in samples.items()}
    benchmark.extra_info["p50_ratios"] = {
        name: statistics.median(samples[OWN]) / statistics.median(values)
        for name, values in samples.items()
        if name != OWN
    }
    delays_ns = [getattr(companion, "delay_ns", 0) for companion in companions.values()]
    if any(delays_ns):
        benchmark.extra_info["slowed_ns"] = max(delays_ns)


def percentiles_ms(samples_ns: Sequence[int]) -> dict[str, float]:
    """p50 to p99.9 in milliseconds, each a value that was measured; only those that so many samples can tell."""
    return {
        name: float(np.quantile(samples_ns, share, method="inverted_cdf")) / 1e6
        for name, share, fewest in PERCENTILES
        if len(samples_ns) >= fewest
    }


class _Round:
    """One call of each subject, round after round; pytest-benchmark times the operation's in the middle of it."""

    def __init__(
        self,
        operation: Operation,
        companions: Mapping[str, Operation],
        clock: Callable[[], float],
        warmup_rounds: int,
    ) -> None:
        self.samples: dict[str, list[int]] = {name: [] for name in companions}
        self._operation = operation
        self._companions = list(companions.items())
        self._clock = clock
        self._warmup_rounds = warmup_rounds
        # The operation has the number after the last companion's.
        self._own = len(companions)
        self._orders: list[tuple[int, ...]] = []
        self._number = 0
        self._after: tuple[int, ...] = ()
        self._result: Any = None

    def begin(self) -> tuple[tuple[Callable[[], Any]], dict[str, Any]]:
        """Time what comes before the operation; return pytest-benchmark's arguments."""
        if self._number == self._warmup_rounds:
            for _, companion in self._companions:
                if isinstance(companion, Settling):
                    companion.settle()
        # The warm-up has blocks of its own.
        if not self._orders or self._number == self._warmup_rounds:
            self._orders = orders(self._own + 1)[::-1]
        order = self._orders.pop()
        self._number += 1
        place = order.index(self._own)
        self._after = order[place + 1 :]
        for number in order[:place]:
            self._time(number)
        return (self._operation.prepare(),), {}

    def call(self, call: Callable[[], Any]) -> None:
        """Keep what a call returns: so much is timed besides it, of all subjects."""
        self._result = call()

    def end(self, _: object) -> None:
        """Finish the operation, and time what comes after it."""
        self._finish(self._operation)
        for number in self._after:
            self._time(number)

    def _time(self, number: int) -> None:
        name, companion = self._companions[number]
        duration = _runner(self.call, (companion.prepare(),), {}, self._clock)()
        self.samples[name].append(round(duration * 1e9))
        self._finish(companion)

    def _finish(self, operation: Operation) -> None:
        result, self._result = self._result, None
        operation.finish(result)


def _runner(
    target: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], clock: Callable[[], float]
) -> Callable[[], float]:
    """Times a call in the way in which pytest-benchmark does, which is half a microsecond longer than it need be."""

    def runner(timer: Callable[[], float] = clock) -> float:
        gc.isenabled()
        try:
            start = timer()
            target(*args, **kwargs)
            end = timer()
            return end - start
        finally:
            gc.isenabled()

    return runner


class Slowed:
    """An operation that takes longer by a known part: what a regression of that size looks like in this run.

    The calls of the warm-up are timed and go on at once; from their median follows the delay.

    Attributes:
        delay_ns: what is added to each call; 0 while that is not known yet.
    """

    def __init__(self, operation: Operation, share: float = SLOWED_BY) -> None:
        self.delay_ns = 0
        self._operation = operation
        self._share = share
        self._took_ns: list[int] = []

    def prepare(self) -> Callable[[], Any]:
        """The call to time, with the delay."""
        call = self._operation.prepare()
        return lambda: self._slow(call)

    def _slow(self, call: Callable[[], Any]) -> Any:
        start_ns = time.perf_counter_ns()
        result = call()
        self._linger(start_ns)
        return result

    def _linger(self, start_ns: int) -> None:
        """Busy, as code that has more to do is: whoever sleeps wakes up late."""
        now_ns = time.perf_counter_ns()
        if self.delay_ns:
            until_ns = now_ns + self.delay_ns
            while time.perf_counter_ns() < until_ns:
                pass
            return
        self._took_ns.append(now_ns - start_ns)

    def settle(self) -> None:
        """The warm-up is over: from now on each call is slowed."""
        if self._took_ns:
            self.delay_ns = round(statistics.median(self._took_ns) * self._share)

    def finish(self, result: Any) -> None:
        """Check the result."""
        self._operation.finish(result)


class SlowedAwaited(Slowed):
    """The same of an operation whose call is to be awaited."""

    async def _slow(self, call: Callable[[], Awaitable[Any]]) -> Any:
        start_ns = time.perf_counter_ns()
        result = await call()
        self._linger(start_ns)
        return result
