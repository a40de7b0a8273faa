"""Histories of which each violates one rule of the checker, and valid twins that no rule may accuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadtests.history import Error, Kind, Outcome, token
from loadtests.judging.checker import Rule, Verdict
from loadtests.judging.story import Story
from tests.violations_of_the_audit import (
    audit_has_a_row_twice,
    audit_has_another_content,
    audit_has_another_writer,
    audit_has_one_place_twice,
    audit_has_what_was_refused,
    audit_is_out_of_order,
    audit_is_out_of_order_behind,
    audit_lacks_a_removal,
    audit_lacks_a_row,
    audit_lacks_an_expiry,
    audit_lacks_the_first_row,
    audit_lacks_what_was_told,
    two_versions,
    unseen_life_that_nobody_ended,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def one_writer(*, broken: bool) -> Verdict:
    """Two acknowledged updates of the same version."""
    story, _, _ = two_versions()
    story.update(3, 5, (1, 1) if broken else (1, 2))
    return story.check()


def one_writer_of_a_removal(*, broken: bool) -> Verdict:
    """An update and a deletion that are both the version behind the first."""
    story, _, _ = two_versions()
    story.add(Kind.DELETE_IF, 3, 6, of=(1, 1) if broken else (1, 2))
    return story.check()


def one_writer_of_a_told_removal(*, broken: bool) -> Verdict:
    """An update, and the end that a watcher was told of as the same version."""
    story, _, _ = two_versions()
    story.delete(5, None)
    story.told(9, (1, 2 if broken else 3), 0, kind=Kind.TOLD_REMOVED)
    return story.check()


def one_removal(*, broken: bool) -> Verdict:
    """Two deletions of one version."""
    story, _, _ = two_versions()
    story.add(Kind.DELETE_IF, 5, 6, of=(1, 2))
    error = {} if broken else {"outcome": Outcome.REFUSED, "error": Error.NOT_FOUND}
    story.add(Kind.DELETE_IF, 5, 7, of=(1, 2), **error)
    return story.check()


def next_version(*, broken: bool) -> Verdict:
    """An update that was acknowledged as the version after the next."""
    story, _, _ = two_versions()
    story.update(5, 6, (1, 2), at=(1, 4) if broken else (1, 3))
    return story.check()


def next_version_of_a_mutation(*, broken: bool) -> Verdict:
    """A mutation that was last shown another version than the one before its own."""
    story, _, _ = two_versions()
    story.add(Kind.MUTATE, 5, 6, of=(1, 1) if broken else (1, 2), at=(1, 3))
    return story.check()


def first_version(*, broken: bool) -> Verdict:
    """A creation that made version 2."""
    story = Story()
    story.add(Kind.CREATE, 1, 2, at=(1, 2 if broken else 1))
    return story.check()


def next_version_seen(*, broken: bool) -> Verdict:
    """An unknown update that was seen as another version than the next."""
    story, _, _ = two_versions()
    own = story.update(5, None, (1, 2))
    story.get(7, 8, (1, 4 if broken else 3), own)
    return story.check()


def real_writer(*, broken: bool) -> Verdict:
    """A read of an attempt that nobody made."""
    story, _, last = two_versions()
    story.get(5, 6, (1, 2), token(99, 9) if broken else last)
    return story.check()


def real_version(*, broken: bool) -> Verdict:
    """A read of a version that nobody made; or an unknown update did."""
    story, _, _ = two_versions()
    if not broken:
        story.update(5, None, (1, 2))
    story.get(7, 8, (1, 3))
    return story.check()


def not_refused(*, broken: bool) -> Verdict:
    """A read of an update that was refused; or is unknown."""
    story, _, _ = two_versions()
    refused: dict[str, Any] = {"outcome": Outcome.REFUSED, "error": Error.UNAVAILABLE, "at": (0, 0)}
    own = story.update(5, 6, (1, 2), **refused) if broken else story.update(5, None, (1, 2))
    story.get(7, 8, (1, 3), own)
    return story.check()


def own_conflict(*, broken: bool) -> Verdict:
    """A conflict with one's own write: it was applied, and reported as refused."""
    story, _, last = two_versions()
    own = token(44, 1)
    refused = {"outcome": Outcome.REFUSED, "error": Error.CONFLICT, "process": 44, "token": own}
    of, at = ((1, 2), (1, 3)) if broken else ((1, 1), (1, 2))
    story.update(5, 6, of, at=at, writer=own if broken else last, **refused)
    return story.check()


def right_version(*, broken: bool) -> Verdict:
    """A read of a writer at a version that another made."""
    story, first, last = two_versions()
    story.get(3, 6, (1, 2), first if broken else last)
    return story.check()


def right_session(*, broken: bool) -> Verdict:
    """A read of what was written into another session."""
    story, first, _ = two_versions()
    other = story.create(1, 2, session=2)
    story.get(3, 6, (1, 1), first if broken else other, session=2)
    return story.check()


def right_answer(*, broken: bool) -> Verdict:
    """An update that was answered with the state of another."""
    story, first, _ = two_versions()
    story.update(5, 6, (1, 2), writer=first if broken else 0)
    return story.check()


def right_content(*, broken: bool) -> Verdict:
    """A read of a version with another content than was written."""
    story = Story()
    own = story.create(1, 2, digest=7)
    story.get(3, 4, (1, 1), own, digest=8 if broken else 7)
    return story.check()


def right_content_without_writer(*, broken: bool) -> Verdict:
    """Likewise, where the read does not name its writer."""
    story = Story()
    story.create(1, 2, digest=7)
    story.get(3, 4, (1, 1), digest=8 if broken else 7)
    return story.check()


def right_content_of_a_gap(*, broken: bool) -> Verdict:
    """A read of what one of two unknown updates wrote, or neither; of the later one, if that is what it saw."""
    story, _, _ = two_versions()
    story.update(5, None, (1, 2), digest=7)
    story.update(6, None, (1, 2), digest=8)
    story.get(9, 10, (1, 3), digest=9 if broken else 8)
    return story.check()


def shown_nothing(*, broken: bool) -> Verdict:
    """A state that only a mutation can have made that was never shown one."""
    story = Story()
    story.add(Kind.MUTATE if broken else Kind.CREATE, 1, None)
    story.get(3, 4, (1, 1))
    return story.check()


def removal_of_nothing(*, broken: bool) -> Verdict:
    """A watcher that was told of the end of a life that had no version."""
    story, _, _ = two_versions()
    story.delete(5, None)
    story.told(9, (2, 1) if broken else (1, 3), 0, kind=Kind.TOLD_REMOVED)
    return story.check()


def stale_read(*, broken: bool) -> Verdict:
    """A read of a version that was replaced before the read began."""
    story, first, _ = two_versions()
    story.get(5 if broken else 4, 6, (1, 1), first)
    return story.check()


def stale_reads(*, broken: bool) -> Verdict:
    """A read of a version, behind another's read of the next: the update itself is not over yet."""
    story = Story()
    first = story.create(1, 2)
    second = story.update(3, 20, (1, 1))
    story.get(5, 6, (1, 2), second)
    story.get(7 if broken else 6, 8, (1, 1), first)
    return story.check()


def early_read(*, broken: bool) -> Verdict:
    """A read of a version before its write began."""
    story = Story()
    first = story.create(1, 2)
    story.get(3, 4, (1, 2), story.update(5 if broken else 4, 6, (1, 1)))
    story.get(3, 4, (1, 1), first)
    return story.check()


def stale_conflict(*, broken: bool) -> Verdict:
    """A refusal that names a version that was replaced before."""
    story, _, _ = two_versions()
    refused = {"outcome": Outcome.REFUSED, "error": Error.EXISTS}
    story.add(Kind.CREATE, 5 if broken else 4, 6, at=(1, 1), **refused)
    return story.check()


def late_effect(*, broken: bool) -> Verdict:
    """An unknown write that was seen, and then was not there: what was seen can't be undone."""
    story = Story()
    first = story.create(1, 2)
    story.get(5, 6, (1, 2), story.update(3, None, (1, 1)))
    story.get(7 if broken else 6, 8, (1, 1), first)
    return story.check()


def written_after_removal(*, broken: bool) -> Verdict:
    """A version of an incarnation that was removed before it."""
    story, _, _ = two_versions()
    story.add(Kind.DELETE_IF, 5, 6, of=(1, 2))
    story.create(7, 8, 2)
    story.update(9, 10, (1, 3) if broken else (2, 1))
    return story.check()


def written_from_a_removal(*, broken: bool) -> Verdict:
    """A version made of the removal itself, at the same time as that."""
    story, _, _ = two_versions()
    story.add(Kind.DELETE_IF, 5, 9, of=(1, 2))
    story.update(5, 9, (1, 3)) if broken else story.update(5, None, (1, 3))
    return story.check()


def lower_incarnation(*, broken: bool) -> Verdict:
    """A later life with a lower number."""
    story = Story()
    story.create(1, 2, 5)
    story.delete(3, 4)
    story.create(5, 6, 4 if broken else 6)
    return story.check()


def premature_absence(*, broken: bool) -> Verdict:
    """A session that is gone though nobody removed it; or an unknown deletion may have."""
    story, _, _ = two_versions()
    if not broken:
        story.delete(5, None)
    story.get(7, 8)
    return story.check()


def absence_before_the_deletion(*, broken: bool) -> Verdict:
    """A session that is gone before its deletion began."""
    story, _, _ = two_versions()
    story.get(5, 6)
    story.delete(7 if broken else 6, 8)
    return story.check()


def absence_after_creation(*, broken: bool) -> Verdict:
    """A session that is not there yet, after it was created."""
    story = Story()
    story.create(1, 2)
    story.update(3 if broken else 2, 4, (1, 1), at=(0, 0), outcome=Outcome.REFUSED, error=Error.NOT_FOUND)
    return story.check()


def presence_after_removal(*, broken: bool) -> Verdict:
    """A touch of a session that was deleted before."""
    story, _, _ = two_versions()
    story.delete(5, 6)
    story.add(Kind.TOUCH, 7 if broken else 6, 8)
    return story.check()


def presence_before_creation(*, broken: bool) -> Verdict:
    """A session that exists, for one who creates it, before it was created."""
    story = Story()
    story.add(Kind.CREATE, 1, 2, outcome=Outcome.REFUSED, error=Error.EXISTS)
    story.create(3 if broken else 2, 4)
    return story.check()


def two_deletions(*, broken: bool) -> Verdict:
    """Two that each deleted the one life; or another life that nobody saw was in between."""
    story, _, _ = two_versions()
    story.delete(5, 6)
    if not broken:
        story.create(7, None)
    story.delete(9, 10)
    return story.check()


def absence_between(*, broken: bool) -> Verdict:
    """An absent session, and then it is there without having been created again."""
    story, _, last = two_versions()
    story.delete(5, None)
    story.get(7, 8)
    if broken:
        story.get(9, 10, (1, 2), last)
    return story.check()


def removal_missing(*, broken: bool) -> Verdict:
    """Another incarnation, without that anybody removed the first."""
    story, _, _ = two_versions()
    if not broken:
        story.delete(5, 6)
    story.create(7, 8, 2)
    return story.check()


def premature_expiry(*, broken: bool) -> Verdict:
    """A session that is gone before its time."""
    story, _, _ = two_versions()
    story.get(7, 12.9 if broken else 13)
    return story.check(session_ttl_ms=10, ttl_slack_ms=0)


def premature_expiry_after_a_touch(*, broken: bool) -> Verdict:
    """A session that is gone before its time, counted from a touch."""
    story, _, _ = two_versions()
    story.add(Kind.TOUCH, 6, 7)
    story.get(14, 15.9 if broken else 16)
    return story.check(session_ttl_ms=10, ttl_slack_ms=0)


def premature_expiry_of_a_life(*, broken: bool) -> Verdict:
    """A session that is created again before its time was over, though nobody removed it."""
    story, _, _ = two_versions()
    story.create(5, 12.9 if broken else 13, 2)
    return story.check(session_ttl_ms=10, ttl_slack_ms=0)


def late_expiry(*, broken: bool) -> Verdict:
    """A session that is still there when it must be gone."""
    story, _, last = two_versions()
    story.get(19.1 if broken else 19, 20, (1, 2), last)
    return story.check(session_ttl_ms=10, ttl_slack_ms=0, late_expiry_ms=5)


def late_expiry_after_a_touch(*, broken: bool) -> Verdict:
    """Likewise; or a touch let it live on."""
    story, _, last = two_versions()
    story.add(Kind.TOUCH, 8, 9, session=2 if broken else 1)
    if broken:
        story.create(1, 7, session=2)
    story.get(22, 23, (1, 2), last)
    return story.check(session_ttl_ms=10, ttl_slack_ms=0, late_expiry_ms=5)


def watched(*told: tuple[float, tuple[int, int], Kind], final: bool = True) -> Verdict:
    """A creation, an update, what a watcher was told of them, and a final read."""
    story, first, last = two_versions()
    writers = {1: first, 2: last}
    for at_ms, at, kind in told:
        story.told(at_ms, at, writers.get(at[1], 0), kind=kind)
    story.get(20, 21, (1, 2), last)
    return story.check(watchers=(50,) if final else ())


def watcher_went_back(*, broken: bool) -> Verdict:
    """A watcher that was told of a version, and then of the one before."""
    versions = [(1, 2), (1, 1), (1, 2)] if broken else [(1, 1), (1, 2)]
    return watched(*((9 + place, at, Kind.TOLD) for place, at in enumerate(versions)), final=False)


def watcher_was_told_twice(*, broken: bool) -> Verdict:
    """A watcher that was told twice of one version; a resynchronisation may find what was told already."""
    return watched((8, (1, 2), Kind.TOLD), (9, (1, 2), Kind.TOLD if broken else Kind.RESYNCHRONISED))


def watcher_resynchronised_back(*, broken: bool) -> Verdict:
    """A watcher whose resynchronisation found an older version than it knew."""
    at = (1, 1) if broken else (1, 2)
    return watched((8, (1, 2), Kind.TOLD), (9, at, Kind.RESYNCHRONISED), final=False)


def watcher_was_told_early(*, broken: bool) -> Verdict:
    """A watcher that was told of a write before it began."""
    return watched((2.9 if broken else 3, (1, 2), Kind.TOLD))


def told_before_written(*, broken: bool) -> Verdict:
    """A watcher that was told of a version, and then the one before is still read."""
    story = Story()
    first = story.create(1, 2)
    second = story.update(3, 20, (1, 1))
    story.told(5, (1, 2), second)
    story.get(5.1 if broken else 5, 8, (1, 1), first)
    return story.check()


def watcher_not_at_the_end(*, broken: bool) -> Verdict:
    """A watcher that was not told of the last version."""
    return watched((9, (1, 1 if broken else 2), Kind.TOLD))


def watcher_never_told(*, broken: bool) -> Verdict:
    """A watcher that was told nothing of a session, however much of another."""
    story = Story()
    other = story.create(1, 2, 9, session=2)
    story.told(3, (9, 1), other, session=2)
    story.get(20, 21, (9, 1), other, session=2)
    own = story.create(1, 2)
    if not broken:
        story.told(9, (1, 1), own, kind=Kind.RESYNCHRONISED)
    story.get(20, 21, (1, 1), own)
    return story.check(watchers=(50,))


def watcher_missed_the_removal(*, broken: bool) -> Verdict:
    """A watcher that was not told that the session is gone."""
    story, _, last = two_versions()
    own = story.delete(5, 6)
    story.told(7, (1, 2), last)
    if not broken:
        story.told(8, (1, 3), own, kind=Kind.TOLD_REMOVED)
    story.get(20, 21)
    return story.check(watchers=(50,))


def watcher_of_nothing(*, broken: bool) -> Verdict:
    """A watcher that was told of a version that nobody wrote."""
    story, _, _ = two_versions()
    if not broken:
        story.update(5, None, (1, 2))
    story.told(8, (1, 3), 0)
    return story.check()


def watcher_of_a_removal_that_was_none(*, broken: bool) -> Verdict:
    """A watcher that was told of a removal by one who found nothing to remove."""
    story, _, _ = two_versions()
    own = story.delete(5, 6)
    none = story.delete(5, 6, outcome=Outcome.REFUSED, error=Error.NOT_FOUND)
    story.told(8, (1, 3), none if broken else own, kind=Kind.TOLD_REMOVED)
    return story.check()


def watcher_of_a_removal_that_found_nothing(*, broken: bool) -> Verdict:
    """Likewise, where that is not a refusal but an answer."""
    story, _, _ = two_versions()
    own = story.delete(5, 6)
    none = story.delete(5, 6, error=Error.NOT_FOUND)
    story.told(8, (1, 3), none if broken else own, kind=Kind.TOLD_REMOVED)
    return story.check()


CASES: dict[Callable[..., Verdict], Rule] = {
    one_writer: Rule.ONE_WRITER,
    one_writer_of_a_removal: Rule.ONE_WRITER,
    one_writer_of_a_told_removal: Rule.ONE_WRITER,
    one_removal: Rule.ONE_WRITER,
    next_version: Rule.NEXT_VERSION,
    next_version_of_a_mutation: Rule.NEXT_VERSION,
    first_version: Rule.NEXT_VERSION,
    next_version_seen: Rule.NEXT_VERSION,
    real_writer: Rule.REAL_WRITER,
    real_version: Rule.REAL_WRITER,
    not_refused: Rule.REAL_WRITER,
    own_conflict: Rule.REAL_WRITER,
    right_version: Rule.REAL_WRITER,
    right_session: Rule.REAL_WRITER,
    right_answer: Rule.REAL_WRITER,
    right_content: Rule.REAL_WRITER,
    right_content_without_writer: Rule.REAL_WRITER,
    right_content_of_a_gap: Rule.REAL_WRITER,
    shown_nothing: Rule.REAL_WRITER,
    removal_of_nothing: Rule.WATCHER,
    stale_read: Rule.ORDER,
    stale_reads: Rule.ORDER,
    early_read: Rule.ORDER,
    stale_conflict: Rule.ORDER,
    late_effect: Rule.ORDER,
    written_after_removal: Rule.ORDER,
    written_from_a_removal: Rule.ORDER,
    lower_incarnation: Rule.ORDER,
    premature_absence: Rule.ABSENCE,
    absence_before_the_deletion: Rule.ABSENCE,
    absence_after_creation: Rule.ABSENCE,
    presence_after_removal: Rule.ABSENCE,
    presence_before_creation: Rule.ABSENCE,
    two_deletions: Rule.ABSENCE,
    absence_between: Rule.ABSENCE,
    removal_missing: Rule.ABSENCE,
    unseen_life_that_nobody_ended: Rule.ABSENCE,
    premature_expiry: Rule.EXPIRY,
    premature_expiry_after_a_touch: Rule.EXPIRY,
    premature_expiry_of_a_life: Rule.EXPIRY,
    late_expiry: Rule.EXPIRY,
    late_expiry_after_a_touch: Rule.EXPIRY,
    watcher_went_back: Rule.WATCHER,
    watcher_was_told_twice: Rule.WATCHER,
    watcher_resynchronised_back: Rule.WATCHER,
    watcher_was_told_early: Rule.WATCHER,
    told_before_written: Rule.WATCHER,
    watcher_not_at_the_end: Rule.WATCHER,
    watcher_never_told: Rule.WATCHER,
    watcher_missed_the_removal: Rule.WATCHER,
    watcher_of_nothing: Rule.WATCHER,
    watcher_of_a_removal_that_was_none: Rule.REAL_WRITER,
    watcher_of_a_removal_that_found_nothing: Rule.REAL_WRITER,
    audit_lacks_a_row: Rule.AUDIT,
    audit_lacks_the_first_row: Rule.AUDIT,
    audit_lacks_a_removal: Rule.AUDIT,
    audit_has_a_row_twice: Rule.AUDIT,
    audit_is_out_of_order: Rule.AUDIT,
    audit_is_out_of_order_behind: Rule.AUDIT,
    audit_lacks_an_expiry: Rule.AUDIT,
    audit_has_one_place_twice: Rule.AUDIT,
    audit_has_another_writer: Rule.AUDIT,
    audit_has_what_was_refused: Rule.AUDIT,
    audit_has_another_content: Rule.AUDIT,
    audit_lacks_what_was_told: Rule.AUDIT,
}
