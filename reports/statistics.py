"""Statistics and verdicts; pure functions.

The unit of replication is the run, a fresh process with fresh connections, and not the call: calls of one run share
their luck, so an interval over calls would be far too narrow.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

# One-sided: a target is one limit, and only one side of it matters.
CONFIDENCE = 0.95
FEWEST_RUNS = 3


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


STATISTICS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "mean": _mean,
    "p50": _quantile(0.50),
    "p95": _quantile(0.95),
    "p99": _quantile(0.99),
}


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


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One failure fails all; then one doubt leaves all in doubt; nothing judged is a doubt, too."""
    for verdict in (Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS if verdicts else Verdict.INVALID


EXIT_STATUS = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2, Verdict.INVALID: 2}
