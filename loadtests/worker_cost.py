"""Does a write cost the same whatever the audit's workers do? Run `python -m loadtests.worker_cost`.

A write has no part in waking a worker, so it should: the same updates are timed with the pool running, stopped with
SIGSTOP, and killed, in blocks that take turns, since the machine's speed drifts. Ends with 0 if the medians are within
10 %, 1 if they are not, 2 if it could not be told.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from math import comb, inf
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import AuditWriter, RedisStateManager
from loadtests.ending import unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.servers.worker import members, worker_pool
from loadtests.states import sample_state
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kairos_core import Settings

STATES = ("running", "stopped", "killed")
LIMIT = 1.10
ROUNDS = 20
WRITES = 600
CONFIDENCE = 0.95


class Verdict(NamedTuple):
    """What a run shows of one state.

    Attributes:
        state: of the pool.
        ratio: how much a write's median is of that with the pool killed: the median over the rounds.
        low: bound of the interval that has the true one with 95 %.
        high: the other.
        word: PASS, FAIL or INCONCLUSIVE.
    """

    state: str
    ratio: float
    low: float
    high: float
    word: str


def judge(rounds: Sequence[Mapping[str, Sequence[int]]]) -> list[Verdict]:
    """Compare each state's medians, round by round, to those with the pool killed.

    Args:
        rounds: of each round and state, how long each write took.
    """
    found = []
    for state in STATES[:-1]:
        ratios = sorted(median(times[state]) / median(times["killed"]) for times in rounds)
        low, high = median_bounds(ratios)
        word = "INCONCLUSIVE"
        if low > 1 / LIMIT and high < LIMIT:
            word = "PASS"
        elif low > LIMIT or high < 1 / LIMIT:
            word = "FAIL"
        found.append(Verdict(state, median(ratios), low, high, word))
    return found


def median_bounds(ordered: Sequence[float]) -> tuple[float, float]:
    """Between which of these numbers, in ascending order, the true median is with 95 %, whatever they are spread like.

    Of n, fewer than k are below the median as often as n coins show fewer than k heads.
    """
    count = len(ordered)
    outside, rank = 0.0, -1
    for place in range(count // 2):
        outside += 2 * comb(count, place) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank = place
    return (0.0, inf) if rank < 0 else (ordered[rank], ordered[-1 - rank])


def exit_status(verdicts: Sequence[Verdict]) -> int:
    """0: all passed; 1: one failed; 2: neither."""
    words = {verdict.word for verdict in verdicts}
    return 0 if words == {"PASS"} else 1 if "FAIL" in words else 2


@contextmanager
def _pool_in(state: str, settings: Settings) -> Iterator[None]:
    """The pool in a state: with members that run, that are stopped, or that are gone."""
    with worker_pool(settings, workers=2) as pool:
        # Until all are there, they take the machine's time.
        wait_until(lambda: len(members(pool) + members(pool, "scheduler")) == 3)
        time.sleep(0.5)
        everyone = [pool.pid, *members(pool), *members(pool, "scheduler")]
        if state == "killed":
            _signal(everyone, signal.SIGKILL)
            pool.wait()
        try:
            if state == "stopped":
                _signal(everyone, signal.SIGSTOP)
            yield
        finally:
            # Whatever came in between: a pool that is stopped does not hear that it is to end.
            if state == "stopped":
                _signal(everyone, signal.SIGCONT)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        # Members end with their pool.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _block(manager: RedisStateManager, name: str) -> list[int]:
    state = manager.create_session(sample_state(name))
    times = []
    for _ in range(WRITES):
        start = time.perf_counter_ns()
        state = manager.update_session(state)
        times.append(time.perf_counter_ns() - start)
    return times[WRITES // 10 :]


def run(settings: Settings, rounds: int = ROUNDS) -> Iterator[dict[str, list[int]]]:
    """Time blocks of writes, each round in another order of the states."""
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
    with RedisStateManager.connect(settings) as manager:
        for number in range(rounds):
            times = {}
            for place in range(len(STATES)):
                state = STATES[(number + place) % len(STATES)]
                with _pool_in(state, settings):
                    times[state] = _block(manager, f"{state}-{number}")
            yield times


def main() -> int:
    """Run, and say what it shows."""
    with harness(new_namespace("cost")) as settings:
        rounds = []
        for times in run(settings):
            rounds.append(times)
            print("  ".join(f"{state} {median(times[state]) / 1000:6.1f} us" for state in STATES), flush=True)
    verdicts = judge(rounds)
    for verdict in verdicts:
        print(
            f"{verdict.word:12} {verdict.state}: p50 {verdict.ratio:.3f} of that without a pool"
            f" ({verdict.low:.3f} to {verdict.high:.3f}; within {1 / LIMIT:.2f} to {LIMIT:.2f})"
        )
    return exit_status(verdicts)


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
