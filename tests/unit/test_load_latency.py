from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.latency import split

relaxed = settings(deadline=None, database=None)
# Multiples of a microsecond, so that sums of what is divided are exact.
moments = st.integers(0, 10**9).map(lambda number: number * 1_000)


@relaxed
@given(due=moments, session_free=moments, hand_free=moments, begun=moments, took=moments)
def test_the_parts_are_the_whole(due: int, session_free: int, hand_free: int, begun: int, took: int) -> None:
    """Waiting, lag and service are all the time from when a step was due until it was answered; none is negative."""
    begin = max(due, begun)
    found = split(due_ns=due, session_free_ns=session_free, hand_free_ns=hand_free, begin_ns=begin, end_ns=begin + took)
    assert (begin + took - due) / 1e3 == found.waiting_us + found.lag_us + found.service_us
    assert min(found) >= 0
    assert took / 1e3 == found.service_us
    assert found.latency_us == found.waiting_us + found.service_us


@relaxed
@given(due=moments, session_free=moments, hand_free=moments, took=moments)
def test_what_is_begun_at_once_has_no_lag(due: int, session_free: int, hand_free: int, took: int) -> None:
    """A step that begins as soon as its session and a hand are free waited for them, and for nothing else."""
    begin = max(due, session_free, hand_free)
    found = split(due_ns=due, session_free_ns=session_free, hand_free_ns=hand_free, begin_ns=begin, end_ns=begin + took)
    assert (0.0, (begin - due) / 1e3) == (found.lag_us, found.waiting_us)


def test_a_worked_example() -> None:
    """Due at 10 us, the session was free at 30, the hand at 20; begun at 34 and answered at 50: 20 + 4 + 16 us."""
    found = split(due_ns=10_000, session_free_ns=30_000, hand_free_ns=20_000, begin_ns=34_000, end_ns=50_000)
    assert (20.0, 4.0, 16.0, 36.0) == (*found, found.latency_us)
    late = split(due_ns=10_000, session_free_ns=0, hand_free_ns=0, begin_ns=34_000, end_ns=50_000)
    assert (0.0, 24.0, 16.0, 16.0) == (*late, late.latency_us)
