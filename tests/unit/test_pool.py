from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairos_core.audit.drain import BATCH
from kairos_core.audit.pool import share_out

if TYPE_CHECKING:
    from random import Random

relaxed = settings(deadline=None, database=None)
waiting = st.lists(st.integers(1, 10 * BATCH), max_size=32).map(
    lambda depths: [(depth, lane) for lane, depth in enumerate(depths)]
)
workers = st.integers(1, 16)


@relaxed
@given(lanes=waiting, workers=workers)
def test_each_lane_once(lanes: list[tuple[int, int]], workers: int) -> None:
    """Each lane is handed out exactly once, and no job is empty."""
    jobs = share_out(lanes, workers)
    assert sorted(lane for _, lane in lanes) == sorted(lane for job in jobs for lane in job)
    assert all(jobs)


@relaxed
@given(lanes=waiting, workers=workers)
def test_no_more_jobs_than_are_worth_it(lanes: list[tuple[int, int]], workers: int) -> None:
    """There are at most as many jobs as workers, and a batch for each on average."""
    total = sum(depth for depth, _ in lanes)
    assert len(share_out(lanes, workers)) <= min(workers, max(1, total // BATCH))


@relaxed
@given(lanes=waiting, workers=workers)
def test_jobs_are_even(lanes: list[tuple[int, int]], workers: int) -> None:
    """No job has more to do than another by more than the longest lane."""
    depth_of = {lane: depth for depth, lane in lanes}
    loads = [sum(depth_of[lane] for lane in job) for job in share_out(lanes, workers)]
    if loads:
        assert max(loads) - min(loads) <= max(depth_of.values())


@relaxed
@given(lanes=waiting, workers=workers, order=st.randoms(use_true_random=False))
def test_order_does_not_matter(lanes: list[tuple[int, int]], workers: int, order: Random) -> None:
    """The same lanes are shared out the same way in whatever order they were found."""
    shuffled = list(lanes)
    order.shuffle(shuffled)
    assert share_out(lanes, workers) == share_out(shuffled, workers)


@pytest.mark.parametrize(
    ("lanes", "workers", "expected"),
    [
        ([], 3, []),
        ([(1, 7)], 3, [[7]]),
        ([(5, 1), (3, 2)], 2, [[1, 2]]),
        ([(BATCH, 1), (BATCH - 1, 2)], 2, [[1, 2]]),
        ([(BATCH, 1), (BATCH, 2)], 2, [[2], [1]]),
        ([(BATCH, 1), (BATCH, 2)], 1, [[2, 1]]),
        ([(5000, 3), (4000, 1), (10, 2)], 2, [[3], [1, 2]]),
        ([(100 * BATCH, 1)], 10, [[1]]),
    ],
)
def test_worked_examples(lanes: list[tuple[int, int]], workers: int, expected: list[list[int]]) -> None:
    """Short lanes share a job, long ones have their own."""
    assert expected == share_out(lanes, workers)


@pytest.mark.parametrize("lanes", [[(5 * BATCH, 1), (10, 2), (10, 3)], [(2 * BATCH - 1, 1), (1, 2)]])
def test_no_job_without_a_batch(lanes: list[tuple[int, int]]) -> None:
    """Where there is more than one job, each has at least a batch to do."""
    depth_of = {lane: depth for depth, lane in lanes}
    jobs = share_out(lanes, 5)
    assert len(jobs) == 1 or all(sum(depth_of[lane] for lane in job) >= BATCH for job in jobs)
