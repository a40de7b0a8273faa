from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics import (
    EXIT_STATUS,
    STATISTICS,
    Estimate,
    Tally,
    Verdict,
    allowed_over,
    estimate,
    estimate_ratio,
    judge,
    judge_above,
    judge_rate,
    judge_target,
    overall,
    tally,
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


def chance_of_at_most(over: int, calls: int, share: Fraction) -> Fraction:
    """The chance that no more calls than these are over a quantile, as an exact fraction."""
    beyond = 1 - share
    return sum(
        (math.comb(calls, number) * beyond**number * share ** (calls - number) for number in range(over + 1)),
        start=Fraction(0),
    )


@pytest.mark.parametrize(
    ("calls", "share", "expected"),
    [
        (58, 0.95, None),
        (59, 0.95, 0),
        (200, 0.95, 4),
        (1_000, 0.95, 38),
        (5_000, 0.95, 224),
        (20_000, 0.95, 949),
        (298, 0.99, None),
        (299, 0.99, 0),
        (2_994, 0.999, None),
        (2_995, 0.999, 0),
        (0, 0.95, None),
        (4, 0.50, None),
        (5, 0.50, 0),
    ],
)
def test_how_many_calls_may_be_over(calls: int, share: float, expected: int | None) -> None:
    """So many calls over a limit still show that the percentile is below it; of too few calls none can."""
    assert expected == allowed_over(calls, share)


@relaxed
@given(calls=st.integers(1, 400), percent=st.sampled_from([50, 80, 90, 95, 99]))
def test_the_allowance_is_exact(calls: int, percent: int) -> None:
    """At the limit so few calls over it have a chance of one in twenty at most, and one more has a larger one."""
    allowed = allowed_over(calls, percent / 100)
    share, at_most = Fraction(percent, 100), Fraction(5, 100)
    if allowed is not None:
        assert chance_of_at_most(allowed, calls, share) <= at_most
    assert chance_of_at_most(0 if allowed is None else allowed + 1, calls, share) > at_most


@relaxed
@given(calls=st.integers(1, 30_000), share=st.sampled_from([0.5, 0.95, 0.99, 0.999]))
def test_another_call_allows_one_more_at_most(calls: int, share: float) -> None:
    """More calls never allow fewer over, and never more than are added; always less than the share that may be."""
    few, many = allowed_over(calls, share), allowed_over(calls + 1, share)
    assert (-1 if few is None else few) <= (-1 if many is None else many) <= (-1 if few is None else few) + 1
    assert few is None or few < calls * (1 - share)


@relaxed
@given(values=st.lists(times, min_size=59, max_size=400), limit=times)
def test_what_the_count_allows_is_below(values: list[float], limit: float) -> None:
    """Where the count of calls holds, the percentile of these calls is below the limit, too."""
    samples = np.asarray(values)
    found = tally(samples, limit, 0.95)
    assert (sum(value >= limit for value in values), len(values)) == (found.over, found.calls)
    if found.holds:
        assert STATISTICS["p95"](samples) < limit


def test_a_call_that_failed_is_over() -> None:
    """A call without a time, or with an endless one, counts as over, and so does one at the limit."""
    samples = np.asarray([1.0] * 100 + [math.nan, math.inf, 2.0])
    assert Tally(3, allowed_over(103, 0.95), 103) == tally(samples, 2.0, 0.95)


@pytest.mark.parametrize(
    ("counted", "holds", "text"),
    [
        (Tally(31, 38, 1_000), True, "31 of 38 allowed in 1,000 calls"),
        (Tally(38, 38, 1_000), True, "38 of 38 allowed in 1,000 calls"),
        (Tally(39, 38, 1_000), False, "39 of 38 allowed in 1,000 calls"),
        (Tally(0, None, 58), False, "0, too few of 58 calls to tell"),
    ],
)
def test_the_words_of_a_count(counted: Tally, holds: bool, text: str) -> None:
    """A count says how many of how many allowed were over; of too few calls none holds."""
    assert (holds, text) == (counted.holds, str(counted))


@pytest.mark.parametrize(
    ("upper", "runs", "counted", "expected"),
    [
        (4.0, 10, None, PASS),
        (4.0, 9, None, INCONCLUSIVE),
        (4.0, 10, Tally(38, 38, 1_000), PASS),
        (4.0, 10, Tally(39, 38, 1_000), INCONCLUSIVE),
        (4.0, 10, Tally(0, None, 50), INCONCLUSIVE),
        (5.5, 20, Tally(0, 38, 1_000), INCONCLUSIVE),
    ],
)
def test_the_rule_of_targets(upper: float, runs: int, counted: Tally | None, expected: Verdict) -> None:
    """A target is met by ten runs whose bound is below it, with no more calls over it than allowed; by nothing else."""
    assert expected is judge_target(Estimate(3.0, 2.0, upper, 1.0, 6.0, runs), 5.0, counted)


@pytest.mark.parametrize("runs", [3, 10])
def test_what_is_plainly_missed(runs: int) -> None:
    """A target that even the lower bound misses has failed, with few runs, too, and however few calls are over it."""
    assert FAIL is judge_target(Estimate(6.0, 5.5, 7.0, 5.0, 7.0, runs), 5.0, Tally(0, 38, 1_000))
    assert FAIL is judge_rate(Estimate(6.0, 5.5, 7.0, 5.0, 7.0, runs), 8.0)


@pytest.mark.parametrize(("runs", "expected"), [(9, INCONCLUSIVE), (10, PASS)])
def test_the_rule_of_rates(runs: int, expected: Verdict) -> None:
    """A rate passes only with ten runs, too."""
    assert expected is judge_rate(Estimate(6.0, 5.5, 7.0, 5.0, 7.0, runs), 5.0)
