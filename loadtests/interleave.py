"""Timing operations against each other: one call of each per round, so that all see the same machine.

The machine's speed drifts by more than the differences of interest, and within seconds. So pytest-benchmark times one
call of the operation per round, and in the same round, in its set-up, one call of each companion is timed with the same
clock. One companion is the operation itself once more: if it and the operation differ, the run is not to be trusted.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WARMUP_ROUNDS = 50


class Operation(Protocol):
    """Something that can be timed, call by call."""

    def prepare(self) -> Callable[[], Any]:
        """Do what is not to be timed, and return what is."""

    def finish(self, result: Any) -> None:
        """Check the result and do what else is not to be timed."""


class Fixture(Protocol):
    """What is used of pytest-benchmark's `benchmark`."""

    extra_info: dict[str, Any]
    enabled: bool
    stats: Any

    def pedantic(self, target: Callable[..., Any], **options: Any) -> Any:
        """Time one call per round."""


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
    operation under `kairos`, those of the companions under their names. Statistics are derived from them later.
    """
    order = deque(companions.items())
    samples: dict[str, list[int]] = {name: [] for name in companions}

    def companions_then_arguments() -> tuple[tuple[Callable[[], Any]], dict[str, Any]]:
        # Each stands in each place equally often.
        order.rotate(1)
        for name, companion in order:
            call = companion.prepare()
            start = clock()
            result = call()
            samples[name].append(round((clock() - start) * 1e9))
            companion.finish(result)
        return (operation.prepare(),), {}

    results: deque[Any] = deque(maxlen=1)

    def keep(call: Callable[[], Any]) -> None:
        results.append(call())

    def finish(_: Callable[[], Any]) -> None:
        operation.finish(results.pop())

    benchmark.pedantic(
        keep,
        setup=companions_then_arguments,
        teardown=finish,
        rounds=rounds,
        warmup_rounds=warmup_rounds if benchmark.enabled else 0,
        iterations=1,
    )
    if not benchmark.enabled:
        # Then pytest-benchmark calls once and leaves out the teardown.
        operation.finish(results.pop())
        return
    if benchmark.stats.iterations != 1:
        raise AssertionError("more than one call a round: percentiles would be those of averages")
    own = [round(seconds * 1e9) for seconds in benchmark.stats.stats.data]
    benchmark.extra_info["samples_ns"] = {
        "kairos": own,
        **{name: values[warmup_rounds : warmup_rounds + rounds] for name, values in samples.items()},
    }
