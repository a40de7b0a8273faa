from __future__ import annotations

from math import inf

import pytest

from loadtests.worker_cost import STATES, exit_status, judge, median_bounds


def rounds(running: float, count: int = 20) -> list[dict[str, list[int]]]:
    """Rounds on a machine that gets slower, in which a write takes so many times as long while the pool runs."""
    factors = dict(zip(STATES, (running, 1.0, 1.0), strict=True))
    return [
        {state: [round(factor * (90_000 + 1_000 * number))] * 9 for state, factor in factors.items()}
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("running", "count", "words", "status"),
    [
        (1.0, 20, ["PASS", "PASS"], 0),
        (1.05, 20, ["PASS", "PASS"], 0),
        (1.2, 20, ["FAIL", "PASS"], 1),
        (0.8, 20, ["FAIL", "PASS"], 1),
        (1.0, 5, ["INCONCLUSIVE", "INCONCLUSIVE"], 2),
    ],
)
def test_the_judge(running: float, count: int, words: list[str], status: int) -> None:
    """What costs the same passes, what does not fails, and too few rounds are no verdict."""
    verdicts = judge(rounds(running, count))
    assert words == [verdict.word for verdict in verdicts]
    assert status == exit_status(verdicts)
    assert running == pytest.approx(verdicts[0].ratio, rel=1e-4)


def test_noise_is_no_verdict() -> None:
    """Where rounds contradict each other, nothing is claimed."""
    mixed = [rounds(1.4)[number] if number % 2 else rounds(0.9)[number] for number in range(20)]
    assert "INCONCLUSIVE" == judge(mixed)[0].word


def test_the_bounds_of_a_median() -> None:
    """The known ranks: of 6 numbers the outermost, of 20 the sixth from each end; of 5, none suffices."""
    assert (0.0, inf) == median_bounds([1, 2, 3, 4, 5])
    assert (1, 6) == median_bounds([1, 2, 3, 4, 5, 6])
    assert (6, 15) == median_bounds(range(1, 21))
