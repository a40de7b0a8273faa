from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics import (
    EXIT_STATUS,
    STATISTICS,
    Estimate,
    Verdict,
    estimate,
    estimate_ratio,
    judge,
    judge_above,
    overall,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

PASS, FAIL, INCONCLUSIVE, INVALID = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.INVALID
relaxed = settings(deadline=None, database=None)
# Measured times: positive, and far from where a float overflows.
times = st.floats(1e-6, 1e6)
TRIALS = 4_000


def close(expected: float, actual: float) -> bool:
    """Whether two numbers are the same but for rounding."""
    return math.isclose(expected, actual, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("runs", [3, 10, 20])
def test_bounds_cover_the_mean(runs: int) -> None:
    """Each bound is on the right side of the true mean in 95 % of all sets of runs, be they few or many."""
    generator = np.random.default_rng(20_260_101)
    found = [estimate(list(generator.normal(3.0, 0.5, runs))) for _ in range(TRIALS)]
    # Four standard errors of a share of 0.95 in 4,000 trials are 0.014.
    assert abs(sum(one.upper > 3.0 for one in found) / TRIALS - 0.95) < 0.014
    assert abs(sum(one.lower < 3.0 for one in found) / TRIALS - 0.95) < 0.014


@pytest.mark.parametrize("runs", [3, 10])
def test_bounds_cover_the_ratio(runs: int) -> None:
    """The same holds for ratios, whose logarithms are normal, and for their geometric mean."""
    generator = np.random.default_rng(20_260_102)
    found = [estimate_ratio(list(np.exp(generator.normal(math.log(1.3), 0.1, runs)))) for _ in range(TRIALS)]
    assert abs(sum(one.upper > 1.3 for one in found) / TRIALS - 0.95) < 0.014
    assert abs(sum(one.lower < 1.3 for one in found) / TRIALS - 0.95) < 0.014


def test_a_claim_at_its_limit_seldom_passes() -> None:
    """Where the true mean is at the limit, at most one run in twenty passes and one in twenty fails."""
    generator = np.random.default_rng(20_260_103)
    verdicts = [judge(estimate(list(generator.normal(5.0, 1.0, 10))), 5.0) for _ in range(TRIALS)]
    assert verdicts.count(PASS) / TRIALS < 0.064
    assert verdicts.count(FAIL) / TRIALS < 0.064


def test_a_worked_example() -> None:
    """Mean 2, standard deviation 1, three runs: the bounds are 2.920 (Student's t) times 1/√3 away."""
    found = estimate([1.0, 2.0, 3.0])
    half = 2.9199855803537 / math.sqrt(3)
    assert (2.0, 1.0, 3.0, 3) == (found.value, found.smallest, found.largest, found.runs)
    assert close(2.0 - half, found.lower)
    assert close(2.0 + half, found.upper)


@relaxed
@given(values=st.lists(times, min_size=3, max_size=20))
def test_the_parts_of_an_estimate(values: list[float]) -> None:
    """The bounds stand on both sides of the mean, equally far; smallest and largest are runs."""
    found = estimate(values)
    assert found.lower <= found.value <= found.upper
    assert math.isclose(found.upper - found.value, found.value - found.lower, rel_tol=1e-6, abs_tol=1e-6)
    assert (min(values), max(values), len(values)) == (found.smallest, found.largest, found.runs)


@relaxed
@given(values=st.lists(times, min_size=3, max_size=20), factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_unit_does_not_matter(values: list[float], factor: float) -> None:
    """In another unit every part of an estimate is what it was, in that unit."""
    expected = [part * factor for part in estimate(values)[:5]]
    found = estimate([value * factor for value in values])[:5]
    assert np.allclose(expected, found, rtol=1e-9, atol=1e-9)


@relaxed
@given(ratios=st.lists(st.floats(0.01, 100), min_size=3, max_size=20))
def test_a_ratio_turned_round(ratios: list[float]) -> None:
    """The estimate of b over a is one over that of a over b: a half weighs as much as a double."""
    found, turned = estimate_ratio(ratios), estimate_ratio([1 / ratio for ratio in ratios])
    assert math.isclose(1 / found.value, turned.value, rel_tol=1e-6)
    assert math.isclose(1 / found.upper, turned.lower, rel_tol=1e-6)
    assert math.isclose(1 / found.smallest, turned.largest, rel_tol=1e-6)


def test_a_geometric_mean() -> None:
    """A half, one and a double come out at one."""
    found = estimate_ratio([0.5, 1.0, 2.0])
    assert close(1.0, found.value)
    assert close(1.0, found.lower * found.upper)
    assert close(0.5, found.smallest)
    assert close(2.0, found.largest)


def test_runs_that_agree() -> None:
    """Runs that agree exactly have no interval, and do not divide by it."""
    assert Estimate(1.5, 1.5, 1.5, 1.5, 1.5, 3) == estimate([1.5] * 3)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_too_few_runs(values: list[float]) -> None:
    """Fewer than three runs are not judged."""
    for function in (estimate, estimate_ratio):
        with pytest.raises(ValueError, match=f"{len(values)} runs; 3 are the fewest"):
            function(values)


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_what_is_no_ratio(ratio: float) -> None:
    """A ratio that cannot be one is an error, and not left out."""
    with pytest.raises(ValueError, match=r"math domain error|positive"):
        estimate_ratio([1.0, ratio, 1.0])


@pytest.mark.parametrize(
    ("lower", "upper", "limit", "expected"),
    [
        (1.0, 2.0, 2.1, PASS),
        (1.0, 2.0, 2.0, INCONCLUSIVE),
        (1.0, 2.0, math.nextafter(2.0, 3.0), PASS),
        (1.0, 2.0, 1.5, INCONCLUSIVE),
        (1.0, 2.0, math.nextafter(1.0, 2.0), INCONCLUSIVE),
        (1.0, 2.0, 1.0, FAIL),
        (1.0, 2.0, 0.9, FAIL),
        (2.0, 2.0, 2.0, FAIL),
        (math.nan, math.nan, 2.0, INCONCLUSIVE),
        (1.0, math.nan, 2.0, INCONCLUSIVE),
        (1.0, math.inf, 2.0, INCONCLUSIVE),
        (1.0, 2.0, math.nan, INCONCLUSIVE),
    ],
)
def test_judge(lower: float, upper: float, limit: float, expected: Verdict) -> None:
    """A claim passes only with its whole interval below the limit; at the limit is not below, and NaN never passes."""
    assert expected is judge(Estimate(1.5, lower, upper, 1.0, 2.0, 3), limit)


@pytest.mark.parametrize(
    ("lower", "upper", "limit", "expected"),
    [
        (1.0, 2.0, 0.9, PASS),
        (1.0, 2.0, math.nextafter(1.0, 0.0), PASS),
        (1.0, 2.0, 1.0, INCONCLUSIVE),
        (1.0, 2.0, math.nextafter(2.0, 0.0), INCONCLUSIVE),
        (1.0, 2.0, 2.0, FAIL),
        (1.0, 2.0, 2.1, FAIL),
        (2.0, 2.0, 2.0, FAIL),
        (math.nan, math.nan, 2.0, INCONCLUSIVE),
        (math.nan, 3.0, 2.0, INCONCLUSIVE),
        (1.0, 2.0, math.nan, INCONCLUSIVE),
    ],
)
def test_judge_above(lower: float, upper: float, limit: float, expected: Verdict) -> None:
    """A rate passes only with its whole interval above the limit; at the limit is not above, and NaN never passes."""
    assert expected is judge_above(Estimate(1.5, lower, upper, 1.0, 2.0, 3), limit)


def test_a_run_without_a_number() -> None:
    """One run that gave NaN keeps the claim from passing."""
    assert INCONCLUSIVE is judge(estimate([1.0, 1.0, math.nan]), 5.0)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], INVALID),
        ([PASS], PASS),
        ([PASS, PASS], PASS),
        ([PASS, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, FAIL, PASS], FAIL),
        ([FAIL, INVALID, PASS], INVALID),
    ],
)
def test_overall(verdicts: list[Verdict], expected: Verdict) -> None:
    """One failure fails all, one doubt leaves all in doubt, and nothing judged is no pass."""
    assert expected is overall(verdicts)


@given(verdicts=st.lists(st.sampled_from(Verdict), min_size=1), more=st.sampled_from(Verdict))
@relaxed
def test_another_verdict_never_helps(verdicts: list[Verdict], more: Verdict) -> None:
    """No further verdict makes the whole better, and the order does not matter."""
    badness: Sequence[Verdict] = (PASS, INCONCLUSIVE, FAIL, INVALID)
    both = overall([*verdicts, more])
    assert badness.index(both) >= badness.index(overall(verdicts))
    assert both is overall([more, *verdicts])


def test_exit_status() -> None:
    """Only a pass ends with status 0; a failure is told from a doubt."""
    assert {PASS: 0, FAIL: 1, INCONCLUSIVE: 2, INVALID: 2} == EXIT_STATUS


@pytest.mark.parametrize(
    ("count", "p50", "p95", "p99"),
    [(1, 1, 1, 1), (2, 1, 2, 2), (20, 10, 19, 20), (100, 50, 95, 99), (300, 150, 285, 297), (2000, 1000, 1900, 1980)],
)
def test_percentiles(count: int, p50: int, p95: int, p99: int) -> None:
    """Of the numbers 1 to n the 95th percentile is the smallest that 95 % do not exceed."""
    samples = np.random.default_rng(1).permutation(np.arange(1, count + 1, dtype=np.float64))
    assert (p50, p95, p99) == tuple(STATISTICS[name](samples) for name in ("p50", "p95", "p99"))
    assert close((count + 1) / 2, STATISTICS["mean"](samples))


@relaxed
@given(values=st.lists(times, min_size=1, max_size=50), name=st.sampled_from(["p50", "p95", "p99"]))
def test_a_percentile_was_measured(values: list[float], name: str) -> None:
    """A percentile is a value that was really measured, never one between two."""
    assert STATISTICS[name](np.asarray(values)) in values
