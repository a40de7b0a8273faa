"""What a history must be before anything follows from it: where it is not, nothing is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.history import Error, Kind, Outcome, token
from loadtests.judging.checker import Status, Verdict
from loadtests.judging.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable

_MS = 1_000_000


def tokens(*, broken: bool) -> Verdict:
    """Two attempts with one token."""
    story = Story()
    story.create(1, 2, token=token(1, 1))
    story.get(1, 2, token=token(1, 1) if broken else token(2, 1))
    return story.check()


def overlap(*, broken: bool) -> Verdict:
    """Two attempts of one process at the same time."""
    story = Story()
    story.create(1, 3, process=1)
    story.get(2.9 if broken else 3, 4, (1, 1), process=1)
    return story.check()


def shown(*, broken: bool) -> Verdict:
    """What a mutation was shown lies within it, and only that."""
    story = Story()
    own = story.create(1, 2, process=1)
    story.add(Kind.MUTATE, 3, 9, of=(1, 1), at=(1, 2), process=1, token=token(1, 3))
    story.get(4, 5, (1, 1), own, process=1, token=token(1, 4), session=2 if broken else 1)
    if broken:
        story.create(1, 2, session=2)
    return story.check()


def order(*, broken: bool) -> Verdict:
    """An attempt that ended before it began."""
    story = Story()
    story.create(5, 4 if broken else 5)
    return story.check()


def planned(*, broken: bool) -> Verdict:
    """A process that made fewer attempts than it was to make."""
    story = Story()
    story.create(1, 2, process=4)
    return story.check(planned={4: 2 if broken else 1})


def more_than_planned(*, broken: bool) -> Verdict:
    """A process that made more attempts than it was to make; what a mutation was shown is none."""
    story = Story()
    own = story.create(1, 2, process=4)
    story.add(Kind.MUTATE, 3, 9, of=(1, 1), at=(1, 2), process=4)
    story.get(4, 5, (1, 1), own, process=4)
    return story.check(planned={4: 1 if broken else 2})


def all_missing(*, broken: bool) -> Verdict:
    """A process that is missing as a whole."""
    story = Story()
    story.create(1, 2, process=4)
    return story.check(planned={4: 1, 5: 1} if broken else {4: 1})


def killed(*, broken: bool) -> Verdict:
    """One that was killed may have made fewer, not more."""
    story = Story()
    story.create(1, 2, process=4)
    story.get(3, 4, (1, 1), process=4)
    return story.check(planned={4: 1 if broken else 3}, killed=(4,))


def on_time(*, broken: bool) -> Verdict:
    """Attempts that were made in another order than planned: some were skipped, and made up for."""
    story = Story()
    story.create(3, 4, process=4, planned_ns=2 * _MS)
    story.get(5, 6, (1, 1), process=4, planned_ns=(1 if broken else 3) * _MS)
    return story.check()


def on_time_together(*, broken: bool) -> Verdict:
    """Processes that share a plan: each in any order, but what they attempt on each session as it was planned."""
    story = Story()
    story.create(4, 5, process=4, planned_ns=3 * _MS)
    story.get(6, 7, process=4, planned_ns=2 * _MS, session=2)
    story.get(8, 9, (1, 1), process=5, planned_ns=(1 if broken else 4) * _MS)
    return story.check(shared_plans=((4, 5, 6),))


def on_time_beside_others(*, broken: bool) -> Verdict:
    """Who shares no plan with others is not excused by those who do; nor are two plans one."""
    story = Story()
    story.create(4, 5, process=4, planned_ns=3 * _MS)
    story.get(6, 7, (1, 1), process=5, planned_ns=2 * _MS)
    story.get(8, 9, (1, 1), process=6, planned_ns=3 * _MS)
    story.get(8, 9, (1, 1), process=7, planned_ns=4 * _MS)
    story.get(10, 11, (1, 1), process=7, planned_ns=(3 if broken else 5) * _MS)
    return story.check(shared_plans=((4,), (5, 6)))


def too_soon_together(*, broken: bool) -> Verdict:
    """An attempt of a shared plan that began before its time."""
    story = Story()
    story.create(3, 4, process=4, planned_ns=round((3.5 if broken else 3) * _MS))
    return story.check(shared_plans=((4, 5),))


def too_soon(*, broken: bool) -> Verdict:
    """An attempt that began before its time."""
    story = Story()
    story.create(3, 4, process=4, planned_ns=round((3.5 if broken else 3) * _MS))
    return story.check()


def without_a_plan(*, broken: bool) -> Verdict:
    """A process of which some attempts have a time and others none."""
    story = Story()
    story.create(3, 4, process=4, planned_ns=3 * _MS)
    story.get(5, 6, (1, 1), process=4, planned_ns=0 if broken else 4 * _MS)
    return story.check()


def rounded(*, broken: bool) -> Verdict:
    """A thousand times of one process that are whole microseconds; another one's are not."""
    story = Story()
    for number in range(1_000):
        for process in (1, 2):
            story.get(1 + number / 7, 1 + number / 7 + 0.01, process=process, session=number)
        if broken:
            story.records[-1]["start_ns"] -= story.records[-1]["start_ns"] % 1_000
    return story.check()


def derived(*, broken: bool) -> Verdict:
    """A mutation of which nobody put down what it was shown."""
    story = Story()
    story.create(1, 2)
    story.add(Kind.MUTATE, 3, 4, at=(1, 2), of=(0, 0) if broken else (1, 1))
    return story.check()


def stamped(*, broken: bool) -> Verdict:
    """An acknowledged write without a version."""
    story = Story()
    story.add(Kind.CREATE, 1, 2, at=(0, 0) if broken else (1, 1))
    return story.check()


def known(*, broken: bool) -> Verdict:
    """A record of a kind that there is none of."""
    story = Story()
    story.create(1, 2)
    story.get(3, 4, (1, 1))
    story.records[-1]["kind"] = 9 if broken else Kind.GET
    return story.check()


CASES: dict[Callable[..., Verdict], str] = {
    tokens: "is that of two attempts",
    overlap: "of process 1 overlap",
    shown: "of process 1 overlap",
    order: "end before they start",
    planned: "process 4 made 1 of 2",
    more_than_planned: "process 4 made 2 of 1",
    all_missing: "process 5 made 0 of 1",
    killed: "process 4 made 2 of 1",
    on_time: "in the order in which they were planned",
    on_time_together: "on a session were not made in the order in which they were planned (1 such)",
    on_time_beside_others: "attempts were not made in the order in which they were planned",
    too_soon_together: "began before their time",
    too_soon: "began before their time",
    without_a_plan: "have no planned time",
    rounded: "start times of process 2 are whole microseconds: it rounds",
    derived: "nobody knows what they were derived from",
    stamped: "have no version",
    known: "of no known kind",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_assumption(case: Callable[..., Verdict]) -> None:
    """A history that breaks one assumption is undecided, for that reason alone; its twin is judged."""
    found = case(broken=True)
    assert Status.UNDECIDED == found.status
    assert 1 == len(found.reasons), found.reasons
    assert CASES[case] in found.reasons[0]
    twin = case(broken=False)
    assert (Status.VALID, ()) == (twin.status, twin.reasons)


def test_an_unknown_mutation_may_have_shown_what_came_after() -> None:
    """Where the end of a mutation is not known, reads behind it are counted neither as attempts nor as none."""
    for count in (2, 3):
        story = Story()
        own = story.create(1, 2, process=4)
        story.add(Kind.MUTATE, 3, None, of=(1, 1), process=4)
        story.get(4, 5, (1, 1), own, process=4)
        assert Status.VALID == story.check(planned={4: count}).status


def test_a_violation_is_not_looked_for_in_what_is_no_history() -> None:
    """Two writers of one version show nothing if the times do not hold."""
    story = Story()
    story.create(1, 2)
    story.update(4, 3, (1, 1))
    story.update(3, 4, (1, 1))
    assert (Status.UNDECIDED, ()) == (story.check().status, story.check().violations)


def test_refusals_without_a_word_say_nothing() -> None:
    """What was refused for want of a server, or of room, was not applied, and shows no state."""
    story = Story()
    for error in (Error.UNAVAILABLE, Error.BACKLOG_FULL, Error.OTHER):
        story.add(Kind.UPDATE, 1, 2, of=(3, 4), outcome=Outcome.REFUSED, error=error)
    story.create(3, 4)
    assert Status.VALID == story.check().status
