from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.usl import FEWEST_LEVELS, FEWEST_REPETITIONS, Interval, Usl, fit_usl, law

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = range(1, 9)
relaxed = settings(deadline=None, database=None, max_examples=5)


def points(
    throughput: float,
    contention: float,
    coherency: float,
    spread: float = 0.0,
    seed: int = 20_260_301,
    levels: Sequence[int] = LEVELS,
    repetitions: int = 4,
) -> list[tuple[int, float]]:
    """What a system that obeys the law would be measured to do."""
    generator = np.random.default_rng(seed)
    return [
        (number, float(law(number, throughput, contention, coherency)) * math.exp(spread * generator.normal()))
        for number in levels
        for _ in range(repetitions)
    ]


@relaxed
@given(
    throughput=st.floats(1.0, 1e6),
    contention=st.floats(0.0, 0.5),
    coherency=st.floats(0.0, 0.05),
)
def test_what_obeys_the_law_is_found(throughput: float, contention: float, coherency: float) -> None:
    """Of throughputs without noise the fit finds the parameters that they were made with."""
    found = fit_usl(points(throughput, contention, coherency), resamples=2)
    assert math.isclose(throughput, found.throughput.value, rel_tol=1e-3)
    assert abs(contention - found.contention.value) < 1e-3
    assert abs(coherency - found.coherency.value) < 1e-3


def test_a_worked_example() -> None:
    """With a contention of 0.1 and a coherency of 0.01, two do 2 / 1.12 times as much as one; the peak is at 9.5."""
    assert math.isclose(2_000 / 1.12, float(law(2, 1_000, 0.1, 0.01)))
    found = fit_usl(points(1_000, 0.1, 0.01, 0.002), resamples=100)
    assert found.peak is not None
    assert math.isclose(9.487, found.peak, rel_tol=0.05)


def test_the_intervals_cover_the_parameters() -> None:
    """In repeated experiments each parameter is mostly in its interval."""
    true = (3_000.0, 0.05, 0.01)
    held = np.zeros(3)
    trials = 10
    for seed in range(trials):
        found = fit_usl(points(*true, 0.03, 20_260_310 + seed), resamples=100)
        parts = (found.throughput, found.contention, found.coherency)
        held += [part.lower <= value <= part.upper for part, value in zip(parts, true, strict=True)]
    # By simulation 87 to 94 of 100; of ten, fewer than five would be an accident of one in 1,000.
    assert held.min() >= 5


def test_a_system_without_a_peak_has_none() -> None:
    """Where the coherency is 0 its interval holds 0, and no peak is told."""
    found = fit_usl(points(3_000, 0.3, 0.0, 0.03), resamples=100)
    assert found.coherency.lower <= 1e-6
    assert found.peak is None


def test_a_peak_too_far_away_is_not_told() -> None:
    """A peak beyond twice the largest number of instances is no finding of this measurement."""
    found = fit_usl(points(3_000, 0.05, 0.001, 0.0005), resamples=100)
    assert found.coherency.lower > 1e-6
    assert math.sqrt(0.95 / 0.001) > 2 * found.largest
    assert found.peak is None


def test_the_law_is_no_prophet() -> None:
    """Throughput is told up to twice what was measured, with an interval around it, and no further."""
    found = fit_usl(points(3_000, 0.05, 0.01, 0.03), resamples=100)
    for number in (1, 4, 8, 16):
        told = found.at(number)
        assert told.lower < told.value < told.upper
    assert found.at(16).upper / found.at(16).lower > found.at(4).upper / found.at(4).lower
    for number in (0, 17):
        with pytest.raises(ValueError, match="twice"):
            found.at(number)


@pytest.mark.parametrize("factor", [0.001, 1_024.0])
def test_the_unit_does_not_matter(factor: float) -> None:
    """In another unit throughput is what it was, in that unit; the other two are the same."""
    measured = points(3_000, 0.05, 0.01, 0.03)
    expected = fit_usl(measured, resamples=20)
    found = fit_usl([(number, factor * throughput) for number, throughput in measured], resamples=20)
    assert np.allclose([factor * part for part in expected.throughput], found.throughput, rtol=1e-4)
    assert np.allclose(expected.contention, found.contention, rtol=1e-3, atol=1e-4)
    assert np.allclose(expected.coherency, found.coherency, rtol=1e-3, atol=1e-4)


def test_the_same_points_give_the_same_fit() -> None:
    """A fit does not depend on chance, nor on the order of the levels."""
    measured = points(3_000, 0.05, 0.01, 0.03)
    first, second = fit_usl(measured, resamples=20), fit_usl(measured, resamples=20)
    assert first[:4] == second[:4]
    turned = fit_usl(measured[::-1], resamples=20)
    assert math.isclose(first.throughput.value, turned.throughput.value, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("levels", "repetitions", "reason"),
    [
        (range(1, FEWEST_LEVELS), 5, "5 levels; 6 are the fewest"),
        ([1] * 10, 5, "1 levels"),
        ([], 5, "0 levels"),
        (LEVELS, FEWEST_REPETITIONS - 1, "fewer than 3 repetitions of 1, 2, 3, 4, 5, 6, 7, 8"),
    ],
)
def test_too_little_to_fit(levels: Sequence[int], repetitions: int, reason: str) -> None:
    """Fewer levels or repetitions than can bear three parameters and their intervals are refused."""
    with pytest.raises(ValueError, match=reason):
        fit_usl(points(3_000, 0.05, 0.01, levels=levels, repetitions=repetitions))


@pytest.mark.parametrize("wrong", [(8, 0.0), (8, -1.0), (8, math.nan), (8, math.inf), (0, 3_000.0)])
def test_what_cannot_be_a_throughput(wrong: tuple[int, float]) -> None:
    """A throughput that cannot be one is an error, and not left out."""
    measured = points(3_000, 0.05, 0.01)
    with pytest.raises(ValueError, match=r"throughput|repetitions"):
        fit_usl([*measured, wrong])


def test_linear_growth_has_no_contention() -> None:
    """Twice the instances that do twice as much have neither contention nor coherency, in spite of noise."""
    found: Usl = fit_usl(points(3_000, 0.0, 0.0, 0.01), resamples=100)
    assert 0 <= found.contention.lower <= found.contention.value < 0.02
    assert 0 <= found.coherency.lower <= found.coherency.value < 0.005
    assert found.peak is None


def test_what_obeys_no_such_law_is_an_error() -> None:
    """Where the solver finds nothing it is said in the way in which all that cannot be fitted is."""
    random = np.random.default_rng(3)
    measured = [(level, random.lognormal(0, 3)) for level in (2, 3, 5, 9, 17, 30) for _ in range(3)]
    with pytest.raises(ValueError, match="no such law"):
        fit_usl(measured, resamples=10)


def test_a_peak_that_the_best_fit_has_not_is_not_told() -> None:
    """Where the best fit is one without a peak, there is none, whatever the resamples say."""
    one = Interval(0.1, 0.1, 0.1)
    assert Usl(one, one, Interval(0.0, 0.01, 0.02), 8, np.asarray([[0.1, 0.1, 0.01]])).peak is None
