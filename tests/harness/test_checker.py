"""The checker beside an oracle that tries all orders, and on histories of a size that no oracle can judge."""

from __future__ import annotations

import math
import time
from collections import Counter
from random import Random

import numpy as np
import pytest

from loadtests.judging import checker, synthetic
from loadtests.judging.checker import Facts, Status
from loadtests.judging.exhaustive import compare
from loadtests.judging.spoiled import SPOILERS

_BUDGET_S = 4.0
_MOST = 2_500


def test_agrees_with_all_orders() -> None:
    """On random small histories the checker says what an exhaustive search says; others each time."""
    seed = time.time_ns()
    counts: Counter[tuple[Status, Status]] = Counter()
    deadline = time.process_time() + _BUDGET_S
    while time.process_time() < deadline and counts.total() < _MOST:
        name = f"{seed} {counts.total()}"
        one = compare(Random(name))  # noqa: S311 - not for secrets
        counts[one.expected, one.found] += 1
        assert one.found in {one.expected, Status.UNDECIDED}, f"seed '{name}'"
    undecided = sum(count for (_, found), count in counts.items() if found == Status.UNDECIDED)
    # Those in which nothing was attempted, or nearly nothing.
    assert undecided <= 3 + counts.total() / 100
    for status in (Status.VALID, Status.VIOLATION):
        assert counts[status, status] > counts.total() / 10, counts


@pytest.mark.parametrize("ttl_ms", [None, 2])
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_a_correct_store_is_never_accused(*, ttl_ms: int | None, seen: bool) -> None:
    """Thousands of attempts of rivals, with and without watchers and an audit that say who deleted what."""
    seed = time.time_ns() % 2**32
    history, facts = synthetic.generate(3_000, seed, ttl_ms=ttl_ms, watched=seen, audited=seen)
    verdict = checker.check(history, facts)
    assert not verdict.violations, f"seed {seed}: {verdict.violations}"
    # Lives as short as an answer may have more explanations than are tried, where nobody saw them end.
    assert seen is False or Status.VALID == verdict.status, f"seed {seed}: {verdict.reasons}"


@pytest.mark.parametrize("name", SPOILERS)
def test_one_violation_among_thousands_is_found(name: str) -> None:
    """Whatever is wrong with one of thousands of records, it is found, and only its session is accused."""
    seed = time.time_ns() % 2**32
    history, facts = synthetic.generate(4_000, seed)
    spoiled = SPOILERS[name](history, np.random.default_rng(seed))
    verdict = checker.check(spoiled, facts)
    assert Status.VIOLATION == verdict.status, f"seed {seed}"
    assert len({one.session for one in verdict.violations}) <= 2, f"seed {seed}"


def test_repeated_histories_are_histories() -> None:
    """A large history is a small one several times, in other sessions and later: none of it is lost, or overlaps."""
    history, facts = synthetic.generate(1_500, 5)
    played = synthetic._repeat(history, 3, int(history["session"].max()))
    verdict = checker.check(played, Facts(watchers=facts.watchers, has_audit=True))
    assert (Status.VALID, 3 * len(history)) == (verdict.status, verdict.counts["records"])


def test_cost_grows_as_sorting_does() -> None:
    """Eight times the records cost little more than eight times as much, in processor time."""

    def cost_s(attempts: int) -> tuple[float, int]:
        history, facts = synthetic.generate(attempts, 3)
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            assert Status.VALID == checker.check(history, facts).status
            best = min(best, time.process_time() - start)
        return best, len(history)

    small_s, few = cost_s(4_000)
    large_s, many = cost_s(32_000)
    # Generous: what it must not be is quadratic, which would be 64 times as much.
    assert large_s < 3 * small_s * many * math.log(many) / (few * math.log(few))
