from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.plan import Operation, Step, plan
from loadtests.scenarios import Scenario, scenarios

if TYPE_CHECKING:
    from collections.abc import Iterable

relaxed = settings(deadline=None, database=None, max_examples=40)
seeds = st.integers(0, 2**31)


def small(*, is_shared: bool | None = None) -> st.SearchStrategy[Scenario]:
    """Scenarios of some tens or hundreds of steps."""
    times_s = st.floats(0.01, 2.0)
    return st.builds(
        Scenario,
        about=st.just("small"),
        sessions=st.integers(1, 12),
        duration_s=st.floats(0.1, 10.0),
        think_s=st.floats(0.2, 2.0),
        life_turns=st.integers(1, 8),
        ramp_s=times_s,
        settle_s=times_s,
        is_shared=st.booleans() if is_shared is None else st.just(is_shared),
        message_s=st.none() | st.floats(0.2, 2.0),
        phases=st.lists(st.tuples(st.floats(0, 1), st.floats(0.2, 5.0)), max_size=3).map(sorted),
        steps=st.integers(1, 3),
        step_factor=st.floats(0.5, 2.0),
    )


def all_of(scenario: Scenario, seed: int, places: int) -> list[list[Step]]:
    """The plans of all processes."""
    return [list(plan(scenario, seed, place, places)) for place in range(places)]


def turns_s(steps: Iterable[Step]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """When turns are due, in seconds."""
    return np.array([step.due_ns for step in steps if step.operation == Operation.TURN]) / 1e9


@relaxed
@given(scenario=small(is_shared=False), seed=seeds, places=st.integers(2, 4))
def test_the_load_is_the_same_by_however_many(scenario: Scenario, seed: int, places: int) -> None:
    """Of sessions that are not shared, all steps are done by one process or another, whatever their number."""
    (alone,) = all_of(scenario, seed, 1)
    together = [step for steps in all_of(scenario, seed, places) for step in steps]
    assert sorted(alone) == sorted(together)
    by = [{step.session for step in steps} for steps in all_of(scenario, seed, places)]
    assert sum(map(len, by)) == len(set().union(*by))


@relaxed
@given(scenario=small(), seed=seeds, places=st.integers(1, 3))
def test_a_session_lives_in_order(scenario: Scenario, seed: int, places: int) -> None:
    """A plan is in the order of time and within the test's; each session is created, started, played and ended."""
    for steps in all_of(scenario, seed, places):
        assert all(first.due_ns <= second.due_ns for first, second in pairwise(steps))
        assert all(0 <= step.due_ns < scenario.duration_s * 1e9 for step in steps)
        sessions: dict[int, list[Step]] = {}
        for step in steps:
            sessions.setdefault(step.session, []).append(step)
        for life in sessions.values():
            assert [False] * (len(life) - 1) + [True] == [step.is_last for step in life]
            in_order = [step.operation for step in life]
            ends = in_order[in_order.index(Operation.END) :] if Operation.END in in_order else []
            assert ends in ([], [Operation.END])
            first = in_order[0]
            assert first == Operation.CREATE or (scenario.is_shared and first == Operation.TURN)
            if first == Operation.CREATE and len(life) > 1:
                assert Operation.START == in_order[1]
            assert {Operation.TURN, Operation.MESSAGE} >= set(in_order) - {*in_order[:2], *ends}


@relaxed
@given(scenario=small(is_shared=True), seed=seeds, places=st.integers(1, 3))
def test_a_shared_session_has_one_owner(scenario: Scenario, seed: int, places: int) -> None:
    """A session that all write is created, started and ended by one of them; all turns of the others lie in between."""
    plans = all_of(scenario, seed, places)
    for operation in (Operation.CREATE, Operation.START, Operation.END):
        done = [step.session for steps in plans for step in steps if step.operation == operation]
        assert len(done) == len(set(done))
    for session in {step.session for steps in plans for step in steps}:
        moments = [(step.due_ns, step.operation) for steps in plans for step in steps if step.session == session]
        ends = [at_ns for at_ns, operation in moments if operation == Operation.END]
        assert Operation.CREATE == min(moments)[1]
        assert all(at_ns <= end_ns for end_ns in ends for at_ns, _ in moments)


@relaxed
@given(scenario=small(), seed=seeds)
def test_a_plan_follows_from_its_seed(scenario: Scenario, seed: int) -> None:
    """The same seed gives the same plan, another seed another."""
    assert all_of(scenario, seed, 2) == all_of(scenario, seed, 2)
    played = Scenario(about="", sessions=5, duration_s=10.0, think_s=0.5, life_turns=5)
    assert all_of(played, seed, 1) != all_of(played, seed + 1, 1)


def test_a_load_that_changes_does_so_at_once() -> None:
    """In each part of a test as many turns are due as its factor says, from the part's first moments on."""
    # Think times as long as the phases: what was drawn before a change must not outlast it.
    scenario = Scenario(
        about="",
        sessions=2_000,
        duration_s=20.0,
        think_s=4.0,
        life_turns=10_000,
        ramp_s=0.5,
        phases=[(0.0, 1.0), (0.4, 5.0), (0.6, 0.5)],
    )
    moments_s = turns_s(plan(scenario, 20_261_129, 0, 1))
    per_second = scenario.sessions / scenario.think_s
    for from_s, until_s, factor in ((2, 8, 1.0), (8, 8.5, 5.0), (8.5, 12, 5.0), (12, 12.5, 0.5), (12.5, 20, 0.5)):
        expected = per_second * factor * (until_s - from_s)
        found = ((moments_s >= from_s) & (moments_s < until_s)).sum()
        # A count of independent events: five standard deviations; the seed is fixed besides.
        assert abs(found - expected) < 5 * expected**0.5, (from_s, found, expected)


def test_a_load_that_grows_does_so_in_steps() -> None:
    """Each step of a load that grows has its factor more than the one before, for the same time."""
    scenario = Scenario(
        about="", sessions=1_000, duration_s=12.0, think_s=2.0, life_turns=10_000, ramp_s=0.1, steps=3, step_factor=2.0
    )
    moments_s = turns_s(plan(scenario, 7, 0, 1))
    for number, factor in ((0, 1), (1, 2), (2, 4)):
        from_s, until_s = scenario.step_s(number)
        expected = 500 * factor * (until_s - from_s)
        found = ((moments_s >= from_s) & (moments_s < until_s)).sum()
        assert abs(found - expected) < 5 * expected**0.5, (number, found, expected)


def test_as_many_live_as_are_asked_for() -> None:
    """From the end of the ramp on, as many sessions live as the scenario says, but for those that follow each other."""
    scenario = scenarios()["sessions_1k"].scaled(time=0.25)
    steps = list(plan(scenario, 3, 0, 1))
    for at_s in (12.0, 20.0, 29.0):
        begun = {step.session for step in steps if step.operation == Operation.CREATE and step.due_ns < at_s * 1e9}
        ended = {step.session for step in steps if step.operation == Operation.END and step.due_ns < at_s * 1e9}
        assert 0.97 * scenario.sessions <= len(begun - ended) <= scenario.sessions


def test_times_between_turns_are_exponential() -> None:
    """Players think for as long as the scenario says on average, and the times scatter as widely."""
    scenario = Scenario(about="", sessions=1, duration_s=4_000.0, think_s=0.2, life_turns=10**6)
    between_s = np.diff(turns_s(plan(scenario, 11, 0, 1)))
    assert abs(between_s.mean() / 0.2 - 1) < 5 / len(between_s) ** 0.5
    assert abs(between_s.std() / 0.2 - 1) < 10 / len(between_s) ** 0.5
