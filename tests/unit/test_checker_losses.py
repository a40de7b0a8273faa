"""Losses that a round states: what they take is counted, and nothing else is excused."""

from __future__ import annotations

import time
from random import Random

from loadtests.history import Error, Kind, Outcome
from loadtests.judging import checker
from loadtests.judging.checker import Loss, Rule, Status, Verdict
from loadtests.judging.small_histories import draw_with_loss
from loadtests.judging.story import Story, history_of

_MS = 1_000_000
_LOSS = Loss(at_ns=10 * _MS, back_ns=12 * _MS, why="killed")
_LATER = Loss(at_ns=30 * _MS, back_ns=32 * _MS, why="killed again")
_KEPT = Loss(at_ns=10 * _MS, back_ns=12 * _MS, why="killed", kept="replicated:1")


def rolled_back(*, read: tuple[int, int], losses: tuple[Loss, ...] = (_LOSS,)) -> Verdict:
    """Three acknowledged versions, a kill, and what is there after it."""
    story = Story()
    writers = {(0, 0): 0, (1, 1): story.create(1, 2), (1, 2): story.update(3, 4, (1, 1))}
    writers[1, 3] = story.update(5, 6, (1, 2))
    story.get(14, 15, read, writers.get(read, 0))
    story.get(20, 21, read, writers.get(read, 0))
    return story.check(losses=losses)


def test_an_older_state_is_an_expected_loss() -> None:
    """Acknowledged writes above the state that is left are counted, and are no violation."""
    found = rolled_back(read=(1, 1))
    assert (Status.VALID, 2) == (found.status, found.counts["lost (expected)"])
    found = rolled_back(read=(1, 3))
    assert (Status.VALID, 0) == (found.status, found.counts["lost (expected)"])


def test_a_session_that_is_gone_is_an_expected_loss() -> None:
    """All versions of the life that was lost are counted."""
    found = rolled_back(read=(0, 0))
    assert (Status.VALID, 3) == (found.status, found.counts["lost (expected)"])


def test_without_a_stated_loss_it_is_a_violation() -> None:
    """What was acknowledged must not go where nobody said that it may."""
    assert Rule.ORDER == rolled_back(read=(1, 1), losses=()).violations[0].rule
    assert Rule.ABSENCE == rolled_back(read=(0, 0), losses=()).violations[0].rule


def test_what_nobody_wrote_is_not_excused() -> None:
    """A state that was never there does not come out of a loss."""
    assert Rule.REAL_WRITER == rolled_back(read=(1, 4)).violations[0].rule


def test_what_is_lost_does_not_come_back() -> None:
    """Within the time after a loss everything is judged as ever."""
    story = Story()
    first = story.create(1, 2)
    second = story.update(3, 4, (1, 1))
    story.get(14, 15, (1, 1), first)
    story.get(16, 17, (1, 2), second)
    assert Status.VALID != story.check(losses=(_LOSS,)).status
    twin = Story()
    first = twin.create(1, 2)
    twin.update(3, 4, (1, 1))
    twin.get(14, 15, (1, 1), first)
    twin.get(16, 19, (1, 2), twin.update(16, 17, (1, 1)))
    assert Status.VALID == twin.check(losses=(_LOSS,)).status


def test_two_writers_after_a_loss() -> None:
    """One version may be made once before a loss and once behind it, not twice behind it."""
    for twice in (False, True):
        story = Story()
        story.create(1, 2)
        story.update(3, 4, (1, 1))
        story.update(14, 15, (1, 1))
        if twice:
            story.update(14, 16, (1, 1))
        assert (Status.VIOLATION if twice else Status.VALID) == story.check(losses=(_LOSS,)).status


def test_what_straddles_a_loss_may_be_of_either_side() -> None:
    """A write that was sent before a kill and answered behind it may have been made before, and lost, or after."""
    for read in ((1, 1), (1, 2)):
        story = Story()
        writers = {(1, 1): story.create(1, 2), (1, 2): story.update(9, 13, (1, 1))}
        story.get(14, 15, read, writers[read])
        assert Status.VALID == story.check(losses=(_LOSS,)).status


def test_a_watcher_may_go_back_once_for_each_loss() -> None:
    """A resynchronisation behind a loss may find an older version; without one, or a second time, it may not."""
    for times, losses in ((1, (_LOSS,)), (2, (_LOSS,)), (1, ())):
        story = Story()
        first = story.create(1, 2)
        second = story.update(3, 4, (1, 1))
        story.told(5, (1, 2), second)
        for time_ms in range(times):
            story.told(14 + 2 * time_ms, (1, 1), first, kind=Kind.RESYNCHRONISED)
            story.told(15 + 2 * time_ms, (1, 2), second, kind=Kind.RESYNCHRONISED)
        verdict = story.check(losses=losses)
        if times == len(losses):
            assert Status.VALID == verdict.status
        else:
            assert Rule.WATCHER == verdict.violations[0].rule


def test_a_watcher_knows_in_the_end_what_was_lost() -> None:
    """One that was told of what a loss took is told of what is left; of what came late, nobody asks."""
    for is_told, at_ms in ((True, 5), (False, 5), (False, 40)):
        story = Story()
        first = story.create(1, 2)
        own = story.update(3, 4 if at_ms == 5 else None, (1, 1))
        story.told(2, (1, 1), first)
        story.told(at_ms, (1, 2), own)
        if is_told:
            story.told(14, (1, 1), first, kind=Kind.RESYNCHRONISED)
        story.get(20, 21, (1, 1), first)
        verdict = story.check(losses=(_LOSS,), watchers=(50,))
        wrong = not is_told and at_ms == 5
        assert ({Rule.WATCHER} if wrong else set()) == {one.rule for one in verdict.violations}


def test_no_row_is_doubled_by_a_loss() -> None:
    """The audit may lack what was lost, and hold what the store no longer does; not one attempt twice."""
    for twice in (False, True):
        story = Story()
        first = story.create(1, 2)
        story.update(3, 4, (1, 1))
        story.row(1, (1, 1), first)
        if twice:
            story.row(2, (1, 1), first)
        story.get(14, 15, (1, 1), first)
        verdict = story.check(losses=(_LOSS,), has_audit=True)
        assert ({Rule.AUDIT} if twice else set()) == {one.rule for one in verdict.violations}


def test_refused_is_refused_on_both_sides() -> None:
    """A refused write that is seen behind a loss is a violation."""
    story = Story()
    story.create(1, 2)
    own = story.update(3, 4, (1, 1), at=(0, 0), outcome=Outcome.REFUSED, error=Error.UNAVAILABLE)
    story.get(14, 15, (1, 2), own)
    assert Rule.REAL_WRITER == story.check(losses=(_LOSS,)).violations[0].rule


def test_a_correct_store_that_loses_is_never_accused() -> None:
    """Random histories of a store that goes back once are valid, whatever was in flight."""
    seed = time.time_ns()
    for number in range(250):
        history, facts, _ = draw_with_loss(Random(f"{seed} {number}"))  # noqa: S311 - not for secrets
        verdict = checker.check(history, facts)
        assert not verdict.violations, f"seed '{seed} {number}': {verdict.violations}"


def test_only_what_was_undone_is_called_lost() -> None:
    """Where nothing may be lost, each write that is accused of being gone is one that the store undid."""
    seed = time.time_ns()
    for number in range(250):
        random = Random(f"{seed} {number}")  # noqa: S311 - not for secrets
        history, facts, undone = draw_with_loss(random, kept="replicated:1")
        for one in checker.check(history, facts).violations:
            assert one.rule == Rule.LOST, f"seed '{seed} {number}': {one}"
            assert one.first.token in undone, f"seed '{seed} {number}': {one}"


def test_history_of_nothing_known() -> None:
    """Only reads: after a loss as before it, an absent session is absent."""
    story = Story()
    story.get(1, 2)
    story.get(14, 15)
    assert Status.VALID == checker.check(history_of(story.records), checker.Facts(losses=(_LOSS,))).status


def lost(verdict: Verdict) -> tuple[int, int]:
    """How many are gone for certain, and how many perhaps."""
    assert Status.VALID == verdict.status
    return verdict.counts["lost (expected)"], verdict.counts["perhaps lost (expected)"]


def test_a_session_that_is_removed_behind_a_loss_was_not_lost() -> None:
    """Removed by one that the loss may have come between: what it removed was there, and is not gone with the rest."""
    for created in (False, True):
        story = Story()
        story.create(1, 2)
        story.get(10.2, 10.4, (1, 2), story.update(3, 4, (1, 1)))
        story.update(10.5, 11, (1, 2))
        story.add(Kind.DELETE_IF, 11.2, 11.9, of=(1, 3))
        story.get(14, 15)
        if created:
            story.create(16, 17, 2)
        assert (0, 0) == lost(story.check(losses=(_LOSS,)))


def test_who_may_have_ended_a_session_leaves_its_loss_open() -> None:
    """A deletion without an answer, or the session's time, may be why it is gone: that is counted apart."""
    for kind, of, ttl_ms in ((Kind.DELETE, (0, 0), None), (Kind.DELETE_IF, (1, 2), None), (None, (0, 0), 8)):
        story = Story()
        story.create(1, 2)
        story.update(3, 4, (1, 1))
        if kind:
            story.add(kind, 5, None, of=of)
        story.get(14, 15)
        assert (0, 2) == lost(story.check(losses=(_LOSS,), session_ttl_ms=ttl_ms, ttl_slack_ms=0))
    story = Story()
    story.create(1, 2)
    assert (0, 1) == lost(story.check(losses=(_LOSS,)))
    story.get(14, 15)
    assert (1, 0) == lost(story.check(losses=(_LOSS,), session_ttl_ms=100))


def test_what_was_made_again_was_lost_before() -> None:
    """Of two acknowledged writes to one version the first is gone, though the version is there; so is a deletion."""
    story = Story()
    story.create(1, 2)
    story.update(3, 4, (1, 1))
    story.get(14, 15, (1, 2), story.update(10.5, 13, (1, 1)))
    assert (1, 0) == lost(story.check(losses=(_LOSS,)))
    story = Story()
    first = story.create(1, 2)
    story.add(Kind.DELETE_IF, 3, 4, of=(1, 1))
    story.get(14, 15, (1, 1), first)
    assert (1, 0) == lost(story.check(losses=(_LOSS,)))
    story = Story()
    story.create(1, 2)
    story.create(14, 15, 2)
    assert (1, 0) == lost(story.check(losses=(_LOSS,)))


def test_each_write_is_lost_once() -> None:
    """Two losses: the second may take what outlasted the first, and what nobody looked for in between."""
    for between in (False, True):
        story = Story()
        first = story.create(1, 2)
        second = story.update(3, 4, (1, 1))
        if between:
            story.get(14, 15, (1, 2), second)
            story.update(16, 17, (1, 2))
        story.get(34, 35, (1, 1), first)
        assert (1 + between, 0) == lost(story.check(losses=(_LOSS, _LATER)))


def test_what_reached_the_durability_that_was_kept_may_not_be_lost() -> None:
    """Across a failover without loss, only writes that were answered that they had not reached it may go."""
    for read in ((1, 1), (0, 0)):
        for error in (Error.NONE, Error.DURABILITY):
            for loss in (_KEPT, _LOSS):
                story = Story()
                first = story.create(1, 2, error=error if read == (0, 0) else Error.NONE)
                own = story.update(3, 4, (1, 1), error=error)
                story.get(14, 15, read, first if any(read) else 0)
                verdict = story.check(losses=(loss,))
                if loss is _KEPT and error == Error.NONE:
                    assert {Rule.LOST} == {one.rule for one in verdict.violations}
                    assert own in {one.first.token for one in verdict.violations}
                    assert verdict.violations[0].second is not None
                else:
                    assert (2 - sum(read) // 2, 0) == lost(verdict)


def test_a_deletion_that_was_kept_is_not_undone() -> None:
    """A session that is there again behind a loss of nothing: its deletion was lost."""
    story = Story()
    first = story.create(1, 2)
    own = story.add(Kind.DELETE_IF, 3, 4, of=(1, 1))
    story.get(14, 15, (1, 1), first)
    verdict = story.check(losses=(_KEPT,))
    assert [(Rule.LOST, own)] == [(one.rule, one.first.token) for one in verdict.violations]


def test_what_outlasts_a_loss_is_in_the_audit() -> None:
    """Rows of what is there behind a loss, or was written behind it, must be there; of what was lost they need not."""
    for missing in (None, (1, 1), (1, 2), (1, 3), (1, 4)):
        story = Story()
        writers = {(1, 1): story.create(1, 2), (1, 2): story.update(3, 4, (1, 1))}
        story.update(5, 6, (1, 2))
        story.get(14, 15, (1, 2), writers[1, 2])
        writers[1, 3] = story.update(16, 17, (1, 2))
        writers[1, 4] = story.update(18, 19, (1, 3))
        for place, (stamp, own) in enumerate(writers.items(), 1):
            if stamp != missing:
                story.row(place, stamp, own)
        # Of what was lost, and then made again by one that the loss may have come between, neither need have a row.
        story.row(1, (1, 1), story.create(1, 2, session=2), session=2)
        story.update(5, 6, (1, 1), session=2)
        story.get(14, 15, (1, 2), story.update(10.5, 13, (1, 1), session=2), session=2)
        verdict = story.check(losses=(_LOSS,), has_audit=True)
        assert ({Rule.AUDIT} if missing else set()) == {one.rule for one in verdict.violations}
