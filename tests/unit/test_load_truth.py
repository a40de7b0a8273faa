from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.comparing import MARGIN_MS, QUANTILES, SHARE, compare, is_definite, quantile_ms, tolerance_ms
from loadtests.load.delays import Delays
from loadtests.load.histograms import Histogram
from loadtests.load.plan import plan
from loadtests.load.truth import ATTEMPTS, Truth, truth
from loadtests.scenarios import Scenario

relaxed = settings(deadline=None, database=None, max_examples=30)
MS = 1_000_000
SCENARIO = Scenario(about="", sessions=12, duration_s=6.0, think_s=0.2, life_turns=6, ramp_s=0.5)
STALLS = [(1_000 * MS, 1_200 * MS), (3_000 * MS, 3_050 * MS)]


def found(**changes: Any) -> Truth:
    """What the one process of the scenario must measure."""
    delays = Delays(seed=5, **changes)
    return truth(SCENARIO, 3, 0, 1, delays=delays, begin_ns=delays.begin_ns)


class Later(dict[tuple[int, int], int]):
    """Every answer is so much later."""

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns

    def get(self, key: Any, default: Any = None) -> Any:
        """The same for all."""
        del key, default
        return self._late_ns


@relaxed
@given(seed=st.integers(0, 2**31), session=st.integers(1, 10**6), count=st.integers(0, 10**6))
def test_a_delay_follows_from_what_is_asked(seed: int, session: int, count: int) -> None:
    """Both sides draw the same delay, within its bounds; what is asked next has another."""
    delays = Delays(seed=seed)
    delay_ns = delays.delay_ns(session, count)
    assert MS <= delay_ns <= 400 * MS
    assert delay_ns == Delays(seed=seed).delay_ns(session, count)
    assert len({delay_ns, delays.delay_ns(session, count + 1), delays.delay_ns(session + 1, count)}) > 1


def test_delays_are_spread_as_they_are_said_to_be() -> None:
    """Half of them are above the median, and few are many times as long."""
    delays = Delays(seed=1)
    drawn_ms = np.array([delays.delay_ns(session, count) for session in range(200) for count in range(50)]) / 1e6
    for share, expected_ms in ((0.5, 20.0), (0.99, 20 * np.exp(0.8 * 2.326)), (0.999, 20 * np.exp(0.8 * 3.09))):
        assert abs((drawn_ms <= expected_ms).mean() - share) < 5 * (share * (1 - share) / len(drawn_ms)) ** 0.5


@relaxed
@given(sent_ms=st.integers(0, 5_000), session=st.integers(1, 50), begin_ms=st.integers(0, 10**9))
def test_nothing_is_answered_in_a_stall(sent_ms: int, session: int, begin_ms: int) -> None:
    """What would be answered in a stall is answered at its end, all else as without."""
    delays = Delays(seed=2, begin_ns=begin_ms * MS, stalls=STALLS)
    sent_ns = delays.begin_ns + sent_ms * MS
    free_ns = Delays(seed=2).answered_ns(sent_ns, session, 0)
    since_ns = free_ns - delays.begin_ns
    ends = [until_ns for from_ns, until_ns in STALLS if from_ns <= since_ns < until_ns]
    assert (delays.begin_ns + ends[0] if ends else free_ns) == delays.answered_ns(sent_ns, session, 0)


def test_a_worked_example() -> None:
    """With delays of 30 ms each: creating takes 30; a turn 60, and the turn that is due 20 ms after it waits for 40."""
    scenario = Scenario(about="", sessions=1, duration_s=1.0, think_s=0.1, life_turns=100, ramp_s=0.1, settle_s=0.1)
    delays = Delays(seed=1, median_ms=30.0, spread=0.0)
    steps = list(plan(scenario, 1, 0, 1))
    true = truth(scenario, 1, 0, 1, delays=delays, begin_ns=0)
    free_ns = 0
    for at, step in enumerate(steps):
        begins_ns = max(step.due_ns, free_ns)
        free_ns = begins_ns + 30 * MS * len(ATTEMPTS[step.operation])
        expected = ((free_ns - step.due_ns) / 1e3, (begins_ns - step.due_ns) / 1e3, (free_ns - begins_ns) / 1e3)
        assert expected == (true.latency_us[at], true.waiting_us[at], true.service_us[at])
    assert ["create", "start", "turn"] == list(true.operations[:3])
    assert {"create.create", "start.update", "turn.get", "turn.update"} == set(true.attempts_us)
    assert {30_000.0} == set(np.round(np.concatenate(list(true.attempts_us.values())), 3))
    assert true.waiting_us.max() > 0
    assert 1 == true.busiest


def test_the_truth_has_every_step() -> None:
    """It is in the order of the plan; a session's steps follow each other, and as many are busy as overlap."""
    true, steps = found(), list(plan(SCENARIO, 3, 0, 1))
    assert [(step.operation, step.due_ns) for step in steps] == list(zip(true.operations, true.due_ns, strict=True))
    ends_ns: dict[int, int] = {}
    for at, step in enumerate(steps):
        assert true.begin_ns[at] == max(step.due_ns, ends_ns.get(step.session, 0))
        ends_ns[step.session] = true.end_ns[at]
    most = max(((true.begin_ns <= at_ns) & (at_ns < true.end_ns)).sum() for at_ns in true.begin_ns)
    assert most == true.busiest
    counts = Counter(f"{step.operation}.{name}" for step in steps for name in ATTEMPTS[step.operation])
    assert dict(counts) == {name: len(values) for name, values in true.attempts_us.items()}
    assert np.allclose(sum(map(np.sum, true.attempts_us.values())), true.service_us.sum())


def test_stalls_lengthen_what_they_meet() -> None:
    """Whatever would end in a stall ends at its end, and what waits for it waits; nothing ends in one."""
    true, free = found(begin_ns=77 * MS, stalls=STALLS), found()
    for from_ns, until_ns in STALLS:
        assert not ((from_ns <= true.end_ns) & (true.end_ns < until_ns)).any()
        assert (true.end_ns == until_ns).any()
    before = free.end_ns < STALLS[0][0]
    assert (true.end_ns[before] == free.end_ns[before]).all()
    assert true.latency_us.sum() > free.latency_us.sum()


def test_where_a_process_began_counts() -> None:
    """A process that began half a second after what the stalls count from meets them half a second earlier."""
    delays = Delays(seed=5, begin_ns=10, stalls=STALLS)
    earlier = [(from_ns - 500 * MS, until_ns - 500 * MS) for from_ns, until_ns in STALLS]
    moved = truth(SCENARIO, 3, 0, 1, delays=delays, begin_ns=10 + 500 * MS)
    assert (found(stalls=earlier).end_ns == moved.end_ns).all()


def test_lateness_of_the_server_can_be_a_part_of_it() -> None:
    """Where every answer is later by a millisecond, a step is by one for each of its attempts, but for waiting."""
    true = found()
    late = truth(SCENARIO, 3, 0, 1, delays=Delays(seed=5), begin_ns=0, late_ns=Later(MS))
    attempts = np.array([len(ATTEMPTS[operation]) for operation in true.operations])
    assert np.allclose(late.service_us - true.service_us, 1_000 * attempts)
    assert (late.waiting_us >= true.waiting_us).all()


def test_what_the_plan_does_not_tell_is_refused() -> None:
    """Of sessions that several processes write, or that get messages, nobody knows the order of requests."""
    for changes in ({"is_shared": True}, {"message_s": 1.0}):
        scenario = Scenario(about="", sessions=1, duration_s=1.0, think_s=1.0, life_turns=1, **changes)
        with pytest.raises(ValueError, match="order"):
            truth(scenario, 1, 0, 1, delays=Delays(seed=1), begin_ns=0)


def histogram(values_us: np.ndarray[Any, Any]) -> Histogram:
    """The histogram of these values."""
    counted = Histogram()
    for value_us in values_us:
        counted.record(value_us)
    return counted


def test_what_is_true_is_within() -> None:
    """A histogram of the truth itself is within at each quantile, and so is one of values that are 1 % longer."""
    true_us = found(stalls=STALLS).latency_us
    for factor in (1.0, 1.01, 0.99):
        compared = compare(true_us, histogram(true_us * factor))
        assert list(QUANTILES) == [one.share for one in compared]
        assert all(one.is_within for one in compared), factor
        assert [quantile_ms(true_us, share) for share in QUANTILES] == [one.truth_ms for one in compared]


def test_what_is_not_true_is_not_within() -> None:
    """Not within: what is 3 % longer or shorter, what stalls are left out of, what misses a value; and nothing."""
    true_us = found(stalls=STALLS).latency_us
    for factor in (1.03, 0.97):
        assert not any(one.is_within for one in compare(true_us, histogram(true_us * factor)))
    # What a generator reports that counts from when it sent, and not from when it was to.
    service_us = found(stalls=STALLS).service_us
    assert not all(one.is_within for one in compare(true_us, histogram(service_us)))
    assert not any(one.is_within for one in compare(true_us, histogram(true_us[1:])))
    assert not any(one.is_within for one in compare(np.array([]), Histogram()))


def test_of_short_times_a_tenth_of_a_millisecond_is_allowed() -> None:
    """2 % of 1 ms would be less than a trip to another process varies by."""
    assert MARGIN_MS == tolerance_ms(1.0)
    assert 50.0 * SHARE == tolerance_ms(50.0)
    values_us = np.full(1_000, 1_000.0)
    assert all(one.is_within for one in compare(values_us, histogram(values_us + 95)))
    assert not any(one.is_within for one in compare(values_us, histogram(values_us + 110)))


def test_a_quantile_is_definite_where_its_neighbours_are_near() -> None:
    """What may be off by 2 % is told among values 0.1 % apart, not among some 5 % apart, nor with few above it."""
    near, far = 20_000 * 1.001 ** np.arange(2_000), 20_000 * 1.05 ** np.arange(200)
    assert is_definite(near, 0.95)
    assert is_definite(near[::-1], 0.95)
    assert not is_definite(far, 0.5)
    assert not is_definite(near, 0.999)
    assert not is_definite(near[:0], 0.5)


def test_what_is_definite_hides_no_bias() -> None:
    """A report that is 3 % too high differs too much at each quantile that is judged, and there are such."""
    true = np.random.default_rng(5).lognormal(np.log(20_000), 0.8, 30_000)
    reported = Histogram()
    for value_us in true:
        reported.record(1.03 * value_us)
    judged = [one for one in compare(true, reported) if is_definite(true, one.share)]
    assert [0.5, 0.9, 0.95, 0.99] == [one.share for one in judged][:4]
    assert not any(one.is_within for one in judged)
