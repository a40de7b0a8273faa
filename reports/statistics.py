"""Statistics and verdicts; pure functions.

The unit of replication is the run, a fresh process with fresh connections, and not the call: calls of one run share
their luck, so an interval over calls would be far too narrow.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# One-sided: a target is one limit, and only one side of it matters.
CONFIDENCE = 0.95
FEWEST_RUNS = 3
# A target is met only by so many runs: of fewer, the spread itself is hardly known.
RUNS_TO_PASS = 10
# Of fewer runs not even the range from the smallest to the largest holds their median 95 times in 100: 1 - 2 / 2^5.
RUNS_TO_COMPARE = 6
# A change must be larger to be one: the least A/A band.
BAND = 1.03
# An operation beside itself may differ by so much before anyone doubts the run. Less than the band, so that a run that
# was unfair by 3 % is found out nineteen times in twenty, and not every other time.
FAIR = 1.025
# So far from 1 a run was not fair to itself, however widely its runs are spread.
WIDEST_SELF_RATIO = 1.10
# What does not depend on Kairos may become so many times as slow, or as fast, from the one half of the runs to the
# other: beyond, the machine was not one machine. Single runs differ by more, also on a machine that does nothing else,
# since a virtual processor sleeps in some of them and not in others, which alone makes a factor of 4: in 16 reports
# that were looked at, runs differed by a factor of 7 at most, and the halves by 2.9. What that does to a target is in
# its interval, and those that are compared take turns.
WIDEST_DRIFT = 5.0
# Where an operation might have become so many times as slow unseen, it is not said that it did not.
BLIND = 2.0
# How often a regression of the smallest visible size is seen.
POWER = 0.80
# Enough that another seed hardly moves an end of the interval.
_RESAMPLES = 2_999
_SEED = 1979


class Verdict(Enum):
    """What a run says about a claim."""

    PASS = "PASS"  # noqa: S105 - not a secret
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class Estimate(NamedTuple):
    """A statistic over runs.

    Attributes:
        value: the mean of the runs' values (of ratios: their geometric mean).
        lower: one-sided 95 % bound below.
        upper: one-sided 95 % bound above.
        smallest: the smallest of the runs.
        largest: the largest of the runs.
        runs: how many there were.
    """

    value: float
    lower: float
    upper: float
    smallest: float
    largest: float
    runs: int


def _mean(samples: NDArray[np.float64]) -> float:
    return float(np.mean(samples))


def _quantile(share: float) -> Callable[[NDArray[np.float64]], float]:
    # Hyndman and Fan's first definition: a value that was really measured, never one between two.
    return lambda samples: float(np.quantile(samples, share, method="inverted_cdf"))


# The percentiles, by name, as shares.
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
STATISTICS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "mean": _mean,
    **{name: _quantile(share) for name, share in SHARES.items()},
}


class Tally(NamedTuple):
    """Calls over a limit, and how many of them the limit's percentile allows.

    Attributes:
        over: calls that were not below the limit; one that failed is among them.
        allowed: how many may be, so that the percentile is below the limit with 95 % confidence; None: too few calls.
        calls: how many there were.
    """

    over: int
    allowed: int | None
    calls: int

    @property
    def holds(self) -> bool:
        """Whether no more are over than may be."""
        return self.allowed is not None and self.over <= self.allowed

    def __str__(self) -> str:
        if self.allowed is None:
            return f"{self.over:,}, too few of {self.calls:,} calls to tell"
        return f"{self.over:,} of {self.allowed:,} allowed in {self.calls:,} calls"


class Comparison(NamedTuple):
    """How many times as long one takes as another that took turns with it.

    Attributes:
        ratio: the median over runs.
        lower: lower end of its two-sided 95 % interval.
        upper: upper end of it.
        runs: how many there were.
    """

    ratio: float
    lower: float
    upper: float
    runs: int

    @property
    def excludes_one(self) -> bool:
        """Whether the two are shown to differ."""
        return self.lower > 1 or self.upper < 1

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.lower:.3f} to {self.upper:.3f})"


def allowed_over(calls: int, share: float) -> int | None:
    """How many calls may be over a limit so that the quantile `share` is still below it, with 95 % confidence.

    Distribution-free: were the quantile at the limit, calls over it would be binomial with a chance of 1 - share each;
    so few as this would be seen at most once in twenty. It takes calls as independent, so it is never the only test.

    Returns:
        the largest such number, or None where even none at all would not show it: of a p95 below 59 calls.
    """
    from scipy.special import bdtr  # noqa: PLC0415 - as below

    at_most = 1 - CONFIDENCE
    # From the mean on the chance is near a half, so the answer is below it.
    chances = bdtr(np.arange(math.ceil(calls * (1 - share)) + 1), calls, 1 - share)
    allowed = int(np.count_nonzero(chances <= at_most)) - 1
    return allowed if allowed >= 0 else None


def tally(samples: NDArray[np.float64], limit: float, share: float) -> Tally:
    """Count the calls that are not below a limit; what is not a number is not below it."""
    calls = len(samples)
    return Tally(calls - int(np.count_nonzero(samples < limit)), allowed_over(calls, share), calls)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean over runs, with Student's t bounds.

    Raises:
        ValueError: fewer than 3 runs say nothing about their spread.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - scipy takes its time to import, and a refusal need not wait

    count = len(values)
    if count < FEWEST_RUNS:
        raise ValueError(f"{count} runs; {FEWEST_RUNS} are the fewest that can be judged")
    array = np.asarray(values, dtype=np.float64)
    middle = float(array.mean())
    half = float(stdtrit(count - 1, CONFIDENCE)) * float(array.std(ddof=1)) / math.sqrt(count)
    return Estimate(middle, middle - half, middle + half, float(array.min()), float(array.max()), count)


def estimate_ratio(ratios: Sequence[float]) -> Estimate:
    """The geometric mean of ratios over runs, with bounds from their logarithms: a half weighs as much as a double."""
    logs = estimate([math.log(ratio) for ratio in ratios])
    value, lower, upper, smallest, largest = (math.exp(log) for log in logs[:5])
    return Estimate(value, lower, upper, smallest, largest, logs.runs)


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """The median over runs of ours over theirs, with a bootstrap interval over runs.

    Args:
        ours: one value of each run.
        theirs: the other's values of the same runs, in the same order.

    The percentile bootstrap of the median of the log ratios (Efron, 1979). In simulations of 10 runs it holds the true
    median 94 times in 100, skewed or not, and BCa is no better; where runs are skewed, Student's t falls to 88.
    The resamples are always the same ones, so that a run is judged alike each time. Runs are taken as independent: if
    each is like the one before it (a correlation of 0.7) the interval holds the true median 62 times in 100 only. But a
    slow drift meets both of those that take turns within a run, so their ratio hardly follows it.

    Raises:
        ValueError: there is no run, or a value that is not above 0; or they are not as many of one as of the other.
    """
    return compare_logs([math.log(our) - math.log(their) for our, their in zip(ours, theirs, strict=True)])


def compare_logs(logs: Sequence[float]) -> Comparison:
    """The same of log ratios, one of each run: of blocks within a run, their median."""
    count = len(logs)
    if count == 0:
        raise ValueError("no run to compare")
    array = np.asarray(logs, dtype=np.float64)
    ratio = math.exp(float(np.median(array)))
    if count < RUNS_TO_COMPARE:
        return Comparison(ratio, 0.0, math.inf, count)
    lower, upper = np.quantile(np.median(array[_chosen(count)], axis=1), (0.025, 0.975))
    return Comparison(ratio, math.exp(float(lower)), math.exp(float(upper)), count)


@cache
def _chosen(count: int) -> NDArray[np.intp]:
    """Which runs are in each resample; the same for all comparisons of so many."""
    return np.random.default_rng(_SEED).integers(0, count, (_RESAMPLES, count))


def fires(again: Comparison, band: float = FAIR) -> bool:
    """Whether an operation beside itself shows that the run is not to be trusted.

    It does where it is further from 1 than the band, and so far that the interval would have to be more than twice as
    wide to reach 1: a report has many such rows, and an interval of 95 % would exclude 1 in one row of twenty. And it
    does where it is further than 10 %, whatever the interval. In simulations of 10 runs a fair row whose runs spread by
    1 % (standard deviation) fires less than once in 10,000 times and one of 5 % four times in 1,000.
    """
    log = math.log(again.ratio)
    if not abs(log) < math.log(WIDEST_SELF_RATIO):
        return True
    reach = log - _log(again.lower) if log > 0 else _log(again.upper) - log
    return abs(log) > math.log(band) and abs(log) > 2 * reach


def _log(ratio: float) -> float:
    return math.log(ratio) if ratio > 0 else -math.inf


def band_of(again: Comparison) -> float:
    """The A/A band: how far from 1 the interval of an operation beside itself reaches; 3 % at least."""
    return max(BAND, again.upper, 1 / again.lower if again.lower > 0 else math.inf)


def smallest_visible(again: Comparison, band: float = BAND, batches: int = 1) -> float:
    """The smallest regression that would have been seen 80 times in 100, from the spread of an operation beside itself.

    Seen is a ratio that exceeds the band and whose interval excludes 1, in each of the batches.

    Returns:
        a ratio, such as 1.04; infinite where the runs are too few for an interval.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as below

    error = (_log(again.upper) - _log(again.lower)) / (2 * float(ndtri(0.975)))
    power = float(ndtri(POWER ** (1 / batches)))
    return math.exp(max(float(ndtri(0.975)) * error, math.log(band)) + power * error)


class Injected(NamedTuple):
    """A slowdown that was put in, and what was seen of it.

    Attributes:
        injected: the ratio that it makes: 1.05 where a twentieth was added.
        measured: the slowed operation over itself.
        seen: whether it was seen as a regression.
    """

    injected: float
    measured: Comparison
    seen: bool

    def __str__(self) -> str:
        return f"{self.injected:.3f} put in, {self.measured} measured: {'seen' if self.seen else 'not seen'}"


def injected(plain: Sequence[float], slowed: Sequence[float], delay: float, band: float = BAND) -> Injected:
    """Whether a slowdown of known size was seen.

    Args:
        plain: one value of each run of the operation.
        slowed: of the operation with the delay, in the same runs.
        delay: what was added to each call, in the same unit.
        band: what a change must exceed to be seen.
    """
    expected = float(np.median([(value + delay) / value for value in plain]))
    measured = compare(slowed, plain)
    return Injected(expected, measured, measured.lower > 1 and measured.ratio > band)


def change(now: Comparison, before: Comparison) -> Comparison:
    """The ratio of now over that of before, which were measured apart.

    The interval joins both of theirs (MOVER: Zou and Donner, 2008): on the log scale each distance is the root of the
    sum of the squares of the two distances that make it up.
    """
    middle = math.log(now.ratio) - math.log(before.ratio)
    down = math.hypot(math.log(now.ratio) - _log(now.lower), _log(before.upper) - math.log(before.ratio))
    up = math.hypot(_log(now.upper) - math.log(now.ratio), math.log(before.ratio) - _log(before.lower))
    runs = min(now.runs, before.runs)
    return Comparison(math.exp(middle), math.exp(middle - down), math.exp(middle + up), runs)


def regressed(now: Comparison, before: Comparison, band: float = BAND) -> str | None:
    """Why one batch of runs is slower than the baseline; None where it is not shown to be.

    Args:
        now: the ratio to another subject of the same run.
        before: the baseline's ratio.
        band: the A/A band: `band_of` the row of the operation beside itself.
    """
    changed = change(now, before)
    if not (changed.lower > 1 and changed.ratio > band):
        return None
    return (
        f"{now.ratio:.3f} times, {before.ratio:.3f} before: {changed.ratio:.3f} times as much "
        f"({changed.lower:.3f} to {changed.upper:.3f}), beyond {band:.3f}"
    )


def regressed_again(batches: Sequence[Comparison], before: Comparison, band: float = BAND) -> str | None:
    """Why the gate fails: the last batch's reason where each of two batches or more shows it; else None."""
    reasons = [regressed(now, before, band) for now in batches]
    return reasons[-1] if len(reasons) > 1 and all(reasons) else None


def drift(values: Sequence[float]) -> float:
    """How many times as much the later half of some runs has as the earlier one, or the other way round: medians.

    Of an odd number the one in the middle is of both.
    """
    half = (len(values) + 1) // 2
    earlier, later = float(np.median(values[:half])), float(np.median(values[-half:]))
    return max(later / earlier, earlier / later)


def judge(estimated: Estimate, limit: float) -> Verdict:
    """PASS only where even the upper bound is below the limit; FAIL where even the lower bound is not."""
    if estimated.upper < limit:
        return Verdict.PASS
    if estimated.lower >= limit:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE


def judge_above(estimated: Estimate, limit: float) -> Verdict:
    """The same for what must be above its limit: PASS only where even the lower bound is."""
    if estimated.lower > limit:
        return Verdict.PASS
    if estimated.upper <= limit:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE


def judge_target(estimated: Estimate, limit: float, counted: Tally | None = None) -> Verdict:
    """The rule of targets: PASS takes 10 runs or more and, of a percentile, no more calls over the limit than allowed.

    Args:
        estimated: the statistic over runs.
        limit: what it must be below.
        counted: the pooled calls over the limit, of a percentile; None of a mean or a ratio.
    """
    verdict = judge(estimated, limit)
    if verdict is Verdict.PASS and (estimated.runs < RUNS_TO_PASS or (counted is not None and not counted.holds)):
        return Verdict.INCONCLUSIVE
    return verdict


def judge_rate(estimated: Estimate, limit: float) -> Verdict:
    """The same for a rate, which must be above its limit."""
    verdict = judge_above(estimated, limit)
    return Verdict.INCONCLUSIVE if verdict is Verdict.PASS and estimated.runs < RUNS_TO_PASS else verdict


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One failure fails all; then one doubt leaves all in doubt; nothing judged is a doubt, too."""
    for verdict in (Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS if verdicts else Verdict.INVALID


EXIT_STATUS = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2, Verdict.INVALID: 2}
