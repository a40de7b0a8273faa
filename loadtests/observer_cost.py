"""What does an observer take of a call? Run `python -m loadtests.observer_cost`.

The same update is timed with a manager that has no observer, with another one that has none (what differs between
these two is chance), with a `PrometheusObserver`, and with that and a `SpanObserver` whose spans go nowhere. Each round
has one call of each, in orders in which each follows each equally often, since the machine's speed drifts. Ends with 0
if two managers without an observer are within 2 % of each other; else with 2, since nothing can be told then.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from kairos_core import RedisStateManager
from kairos_core.metrics import Observers, PrometheusObserver, SpanObserver
from loadtests.ending import unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.interleave import orders
from loadtests.states import sample_state
from loadtests.worker_cost import median_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kairos_core import Settings, SyncState
    from kairos_core.metrics import Observer

WITHOUT = "without"
AGAIN = "without, again"
BLOCKS = 12
ROUNDS = 2_000
WARMUP_ROUNDS = 200
LIMIT = 1.02


def observers() -> dict[str, Observer | None]:
    """Whom each manager has for an observer."""
    return {
        WITHOUT: None,
        AGAIN: None,
        "PrometheusObserver": PrometheusObserver(CollectorRegistry()),
        "PrometheusObserver and SpanObserver": Observers(PrometheusObserver(CollectorRegistry()), SpanObserver()),
    }


def block(settings: Settings, number: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Time updates with each manager, over connections of this block's own.

    Returns:
        The median of each, in nanoseconds.
    """
    with contextlib.ExitStack() as stack:
        names, managers = [], []
        states: list[SyncState] = []
        for name, observer in observers().items():
            manager = stack.enter_context(RedisStateManager.connect(settings, observer=observer))
            names.append(name)
            managers.append(manager)
            states.append(manager.create_session(sample_state(f"{number}-{len(states)}")))
        times = _rounds(managers, states, rounds)
        for manager, state in zip(managers, states, strict=True):
            manager.delete_session(state.session_id)
    return {name: median(taken[WARMUP_ROUNDS:]) for name, taken in zip(names, times, strict=True)}


def _rounds(managers: Sequence[RedisStateManager], states: list[SyncState], rounds: int) -> list[list[int]]:
    times: list[list[int]] = [[] for _ in managers]
    in_turn = itertools.chain.from_iterable(orders(len(managers)) for _ in itertools.count())
    gc.disable()
    try:
        for order in itertools.islice(in_turn, WARMUP_ROUNDS + rounds):
            for place in order:
                update = managers[place].update_session
                begun = time.perf_counter_ns()
                states[place] = update(states[place])
                times[place].append(time.perf_counter_ns() - begun)
    finally:
        gc.enable()
    return times


def ratios(blocks: Sequence[dict[str, float]]) -> Iterator[tuple[str, float, float, float]]:
    """Of each manager but the first: its name, how much an update's median is of that without, and the bounds of that.

    The median over the blocks, and the interval that has the true one with 95 %.
    """
    for name in blocks[0]:
        if name != WITHOUT:
            found = sorted(one[name] / one[WITHOUT] for one in blocks)
            yield name, median(found), *median_bounds(found)


def main() -> int:
    """Run, and say what it shows."""
    with harness(new_namespace("observer")) as settings:
        blocks = []
        for number in range(BLOCKS):
            blocks.append(block(settings, number))
            print("  ".join(f"{name} {taken / 1000:.1f} us" for name, taken in blocks[-1].items()), flush=True)
    is_told = True
    for name, ratio, low, high in ratios(blocks):
        more_us = median(one[name] - one[WITHOUT] for one in blocks) / 1000
        print(f"{name}: {ratio:.3f} of an update without ({low:.3f} to {high:.3f}), {more_us:+.1f} us")
        if name == AGAIN:
            is_told = 1 / LIMIT < ratio < LIMIT
    return 0 if is_told else 2


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
