"""Operations that take turns in a fresh process: `python -m loadtests.turns GROUP ...` takes orders (see `orders.py`).

In each round one call of each is timed, in an order that is drawn anew, so that all see the same machine; a process is
one repetition.
"""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from kairos_core import Settings
from kairos_core.settings import child_environment
from loadtests.inside import NotedClock
from loadtests.orders import Helper, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from loadtests.interleave import Operation

WARMUP_ROUNDS = 20
# Of each: what makes the operations, given the settings, a clock that may be told of an arrival, what to close, and
# what else the command line says.
# By name, so that a process imports only what it times.
GROUPS = {
    "floor": "loadtests.subjects.floor:operations",
    "states": "loadtests.subjects.alternatives:states",
    "audited": "loadtests.subjects.alternatives:audited",
    "deliveries": "loadtests.subjects.broadcasts:operations",
    "drains": "loadtests.subjects.lanes:drains",
    "lanes": "loadtests.subjects.lanes:operations",
    "sizes": "loadtests.subjects.sizes:operations",
}
_END_TIMEOUT_S = 10.0


class Turns:
    """A handle to a process in which the operations of a group take turns.

    Args:
        settings: of the process.
        group: which of `GROUPS`.
        arguments: what the group asks for besides.
    """

    def __init__(self, settings: Settings, group: str, *arguments: str) -> None:
        self._helper = Helper("loadtests.turns", group, *arguments, environment=child_environment(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.close(_END_TIMEOUT_S)

    def samples_ns(self, rounds: int, seed: int, warmup_rounds: int = WARMUP_ROUNDS) -> dict[str, list[int]]:
        """How long each call of each operation took.

        Raises:
            OrderError: the process has ended, because an operation did not do what it is to do.
        """
        found: dict[str, list[int]] = self._helper.ask("take", rounds=rounds, seed=seed, warmup_rounds=warmup_rounds)
        return found


def take_turns(
    operations: Mapping[str, Operation],
    rounds: int,
    generator: random.Random,
    clock: Callable[[], float],
    warmup_rounds: int = WARMUP_ROUNDS,
) -> dict[str, list[int]]:
    """Time one call of each in each round.

    Args:
        operations: by name.
        rounds: how many, besides some to warm up.
        generator: draws the order.
        clock: seconds; after a call, the time at which it was over.
        warmup_rounds: of which nothing is kept.
    """
    samples: dict[str, list[int]] = {name: [] for name in operations}
    order = list(operations)
    for number in range(-warmup_rounds, rounds):
        generator.shuffle(order)
        for name in order:
            call = operations[name].prepare()
            start = clock()
            result = call()
            took = clock() - start
            operations[name].finish(result)
            if number >= 0:
                samples[name].append(round(took * 1e9))
    return samples


class _Actor:
    def __init__(self, operations: Mapping[str, Operation], clock: NotedClock) -> None:
        self._operations, self._clock = operations, clock

    def take(self, rounds: int, seed: int, warmup_rounds: int) -> dict[str, Any]:
        """See `Turns`."""
        # Which of the orders is drawn is nobody's secret.
        generator = random.Random(seed)  # noqa: S311
        return take_turns(self._operations, rounds, generator, self._clock, warmup_rounds)


def main() -> None:
    """Serve orders until standard input closes."""
    module, _, name = GROUPS[sys.argv[1]].partition(":")
    clock = NotedClock()
    with ExitStack() as stack:
        operations = getattr(import_module(module), name)(Settings.from_env(), clock, stack, *sys.argv[2:])
        serve(_Actor(operations, clock))


if __name__ == "__main__":
    main()
