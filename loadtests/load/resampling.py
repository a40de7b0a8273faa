"""Percentiles of what was counted, and how far they can be trusted. No I/O.

Calls of one run are not independent: a slow moment befalls many at once. So whole blocks of time are drawn again, and
not calls; an interval over calls would be far too narrow.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from loadtests.load.histograms import rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Counts = NDArray[np.int64]

CONFIDENCE = 0.95
# The percentiles of targets, as shares.
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p999": 0.999}
# Of fewer blocks their spread is hardly known; more would be too short for a slow moment to lie within one.
FEWEST_BLOCKS = 10
MOST_BLOCKS = 20
# Enough that another seed hardly moves an end of the interval.
_RESAMPLES = 2_999
_SEED = 1979


def percentile(values: Values, counts: Counts, share: float) -> float:
    """The smallest value that this share of all are not above: one that was measured, never one between two."""
    return float(values[np.searchsorted(np.cumsum(counts), rank(share, int(counts.sum())))])


def resampled(values: Values, counts: Counts, share: float, seed: int = _SEED) -> Values:
    """The percentile of each of many runs that might have been: as many blocks, drawn from those that were.

    Args:
        values: what was counted, rising.
        counts: blocks by values; at least one call.
        share: of the percentile.
        seed: of the drawing.
    """
    blocks = len(counts)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=_RESAMPLES)
    up_to = np.cumsum(counts, axis=1)
    calls = drawn @ up_to[:, -1]
    # A draw of blocks that are all empty says nothing.
    drawn, calls = drawn[calls > 0], calls[calls > 0]
    ranks = np.maximum(1, np.ceil(np.round(share * calls, 6)))
    # Halved until one place is left: to add up all values of all draws would take a hundred times as long.
    low, high = np.zeros(len(calls), np.intp), np.full(len(calls), len(values) - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        reaches = (drawn * up_to.T[middle]).sum(axis=1) >= ranks
        low, high = np.where(reaches, low, middle + 1), np.where(reaches, middle, high)
    return values[low]


def interval(samples: Values, blocks: int) -> tuple[float, float]:
    """Lower and upper end of the two-sided 95 % interval.

    Few blocks hide how far they are spread, so that what is drawn from them is too narrow, as a normal interval with so
    few degrees of freedom would be; it is widened by as much as Student's would be (Hesterberg, "What Teachers Should
    Know About the Bootstrap", The American Statistician 2015).

    Args:
        samples: what might have been measured.
        blocks: how many they were drawn from; at least 2, or nothing is widened.
    """
    tail = (1 - CONFIDENCE) / 2
    if blocks > 1:
        from scipy.special import stdtrit  # noqa: PLC0415 - scipy takes its time to import

        reach = float(stdtrit(blocks - 1, tail)) * math.sqrt(blocks / (blocks - 1))
        tail = NormalDist().cdf(reach)
    lower, upper = np.quantile(samples, [tail, 1 - tail])
    return float(lower), float(upper)


def allowed_over(calls: int, share: float) -> int | None:
    """How many calls may be over a limit so that the percentile is still below it, with 95 % confidence.

    Were the percentile at the limit, calls over it would be binomial with a chance of 1 - share each; so few as this
    would be seen at most once in twenty. It takes calls as independent, so it is never the only test.

    Returns:
        the largest such number, or None where even none at all would not show it: of a p95 below 59 calls.
    """
    if not calls:
        return None
    chance = 1 - share
    # From the mean on, so few are no rarity any more.
    numbers = np.arange(1, min(calls, math.ceil(calls * chance)) + 1)
    steps = np.log((calls - numbers + 1) / numbers) + math.log(chance / share)
    logs = calls * math.log(share) + np.concatenate([[0.0], np.cumsum(steps)])
    allowed = int(np.count_nonzero(np.cumsum(np.exp(logs)) <= 1 - CONFIDENCE)) - 1
    return allowed if allowed >= 0 else None
