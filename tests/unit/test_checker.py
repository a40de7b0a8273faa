"""Each rule has a history that violates it and no other, and a valid twin that differs in one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from loadtests.history import Error, Kind, Outcome
from loadtests.judging.checker import Facts, Loss, Status, Verdict, check
from loadtests.judging.story import Story, history_of
from loadtests.judging.table import running_max, running_min_from_behind
from tests.violations import CASES
from tests.violations_of_the_audit import two_versions

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_violation(case: Callable[..., Verdict]) -> None:
    """A history that violates one rule is accused of that, and of nothing else; its valid twin is not accused."""
    verdict = case(broken=True)
    assert {CASES[case]} == {violation.rule for violation in verdict.violations}, verdict
    assert Status.VIOLATION == verdict.status
    twin = case(broken=False)
    assert (Status.VALID, (), ()) == (twin.status, twin.violations, twin.reasons)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_sentence(case: Callable[..., Verdict]) -> None:
    """Every violation names its operations, and a verdict survives being stored."""
    verdict = case(broken=True)
    violation = verdict.violations[0]
    assert violation.first.words in violation.sentence
    assert violation.second is None or violation.second.words in violation.sentence
    assert verdict == msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict)


def test_an_absence_is_told_with_what_was_there_before_and_behind() -> None:
    """Three operations: it was there, it was not, and it was there again; and whether its time can have been over."""
    for ttl_ms, when in ((None, ""), (50, ", and its time was not over in the end")):
        story = Story()
        first = story.create(1, 2)
        story.get(3, 3.5)
        story.get(5, 5.5, (1, 1), first)
        (violation,) = story.check(began_ns=1, session_ttl_ms=ttl_ms).violations
        assert f"of session 1{when}: p3 get" in violation.sentence
        assert "Yet 1.500 ms before that, it was found absent: p2 get" in violation.sentence
        assert "and before that, it was there: p1 create" in violation.sentence


def test_the_worst_pair_is_told() -> None:
    """Of many contradictions in a session the one with the largest gap is told, once."""
    story, first, second = two_versions()
    story.update(5, 6, (1, 2))
    story.get(7, 8, (1, 1), first)
    last = story.get(90, 91, (1, 1), first)
    (violation,) = story.check().violations
    assert (last, second) == (violation.first.token, violation.second and violation.second.token)


def test_what_is_pending_has_no_end() -> None:
    """A process that was killed while it completed a record may have put down a time; it is none."""
    story = Story()
    first = story.create(1, 2)
    own = story.update(3, 4, (1, 1), at=(0, 0), outcome=Outcome.PENDING)
    story.get(5, 6, (1, 1), first)
    story.get(7, 8, (1, 2), own)
    assert Status.VALID == story.check().status


def test_what_was_refused_names_no_content() -> None:
    """A refused write's content is that which it was to write, whatever version it was refused for."""
    story = Story()
    own = story.create(1, 2, digest=7)
    refused = {"outcome": Outcome.REFUSED, "error": Error.EXISTS, "digest": 8}
    story.add(Kind.CREATE, 3, 4, at=(1, 1), writer=own, **refused)
    story.add(Kind.CREATE, 3, 4, at=(1, 1), **refused)
    assert Status.VALID == story.check().status


def test_lanes_are_apart_however_many() -> None:
    """Many sessions over a long time are more than one integer holds; they are scanned in parts."""
    far = 2**50
    lanes = np.sort(np.arange(40_000) % 20_000) * 3
    values = np.arange(40_000) * 25_000_000_000 % far
    expected = np.where(np.arange(40_000) % 2, np.maximum(values, np.roll(values, 1)), values)
    assert expected.tolist() == running_max(values, lanes, far).tolist()
    backwards = far - running_min_from_behind(far - values[::-1], lanes, far)
    assert expected.tolist() == backwards[::-1].tolist()


def test_sessions_do_not_meet() -> None:
    """What happens in one session has no bearing on another."""
    story = Story()
    for session in (1, 2):
        own = story.create(10 * session, 10 * session + 1, session=session)
        story.get(10 * session + 2, 10 * session + 3, (1, 1), own, session=session)
        story.get(1, 2, session=session)
    assert Status.VALID == story.check().status


def test_ties_are_concurrent() -> None:
    """Intervals are closed: what ends as another begins may have come behind it."""
    story = Story()
    story.get(2, 3)
    story.create(1, 2)
    story.delete(2, 2)
    assert Status.VALID == story.check().status


def test_untouched_facts_are_enough() -> None:
    """A round's facts come from JSON, where processes are keys of an object."""
    facts = msgspec.json.decode(b'{"planned": {"1": 2}, "losses": [{"at_ns": 1, "back_ns": 2}]}', type=Facts)
    assert ({1: 2}, (Loss(at_ns=1, back_ns=2),)) == (facts.planned, facts.losses)


def test_an_empty_history_shows_nothing() -> None:
    """Nothing that was attempted is no proof of anything."""
    assert Status.UNDECIDED == check(history_of([]), Facts()).status
