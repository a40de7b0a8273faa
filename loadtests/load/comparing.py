"""Whether what a load test reports is true. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.load.histograms import rank

if TYPE_CHECKING:
    from loadtests.load.histograms import Histogram
    from loadtests.load.truth import Numbers

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
# What is reported may differ from the truth by the larger of the two.
SHARE = 0.02
MARGIN_MS = 0.1
_FEWEST_ABOVE = 10
# What takes a little longer changes places with so many others, at the most.
_NEIGHBOURS = 2


class Compared(NamedTuple):
    """A quantile as it is and as it was reported.

    Attributes:
        share: of all, that are not above it.
        truth_ms: what it is.
        reported_ms: what was reported.
        is_within: whether they are as near as is asked for.
    """

    share: float
    truth_ms: float
    reported_ms: float
    is_within: bool


def tolerance_ms(truth_ms: float) -> float:
    """By how much what is reported may differ from the truth."""
    return max(SHARE * truth_ms, MARGIN_MS)


def quantile_ms(values_us: Numbers, share: float) -> float:
    """The smallest of the values that this share of all are not above, in milliseconds; of none, 0."""
    at = rank(share, len(values_us))
    return float(np.partition(values_us, at - 1)[at - 1]) / 1e3 if at else 0.0


def is_definite(values_us: Numbers, share: float) -> bool:
    """Whether a quantile of the values can be told as well as is asked for.

    Of one that few are above, or whose neighbours lie further apart than what is reported may be off, one value more or
    less decides.
    """
    at = rank(share, len(values_us))
    if len(values_us) - at < _FEWEST_ABOVE:
        return False
    places = [max(0, at - 1 - _NEIGHBOURS), at - 1, at - 1 + _NEIGHBOURS]
    below_ms, true_ms, above_ms = np.partition(values_us, places)[places] / 1e3
    return bool(max(true_ms - below_ms, above_ms - true_ms) <= tolerance_ms(float(true_ms)))


def compare(truth_us: Numbers, histogram: Histogram) -> list[Compared]:
    """Compare what a histogram says with the truth, at each of `QUANTILES`.

    Where not as many were counted as there are, nothing is within: of those that are missing nobody knows.
    """
    is_whole = len(truth_us) == len(histogram) > 0
    found = []
    for share in QUANTILES:
        true_ms, reported_ms = quantile_ms(truth_us, share), histogram.at_ms(share)
        is_near = abs(reported_ms - true_ms) <= tolerance_ms(true_ms)
        found.append(Compared(share, true_ms, reported_ms, is_whole and is_near))
    return found
