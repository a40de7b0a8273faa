"""Histories that the audit contradicts, each in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadtests.history import Error, Kind, Outcome
from loadtests.judging.story import Story

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.judging.checker import Verdict


def two_versions() -> tuple[Story, int, int]:
    """A creation and an update behind it."""
    story = Story()
    return story, story.create(1, 2), story.update(3, 4, (1, 1))


def audited(change: Callable[[Story, list[tuple[int, tuple[int, int], int, Kind]]], None]) -> Verdict:
    """Two lives and all their rows, with a change."""
    story, first, last = two_versions()
    removal = story.delete(5, 6)
    second = story.create(7, 8, 2)
    rows = [
        (1, (1, 1), first, Kind.RECORDED),
        (2, (1, 2), last, Kind.RECORDED),
        (3, (1, 3), removal, Kind.RECORDED_REMOVED),
        (4, (2, 1), second, Kind.RECORDED),
    ]
    change(story, rows)
    for row in rows:
        story.row(*row)
    return story.check(has_audit=True)


def nothing(_: Story, __: list[Any]) -> None:
    """No change."""


def without(place: int) -> Callable[[Story, list[Any]], None]:
    """One row less."""

    def drop(_: Story, rows: list[Any]) -> None:
        del rows[place]

    return drop


def doubled(_: Story, rows: list[Any]) -> None:
    """The last row again."""
    rows.append((5, *rows[3][1:]))


def audit_lacks_a_row(*, broken: bool) -> Verdict:
    """The last row is missing."""
    return audited(without(3) if broken else nothing)


def audit_lacks_the_first_row(*, broken: bool) -> Verdict:
    """The first row is missing."""
    return audited(without(0) if broken else nothing)


def audit_lacks_a_removal(*, broken: bool) -> Verdict:
    """The row of the deletion is missing."""
    return audited(without(2) if broken else nothing)


def audit_has_a_row_twice(*, broken: bool) -> Verdict:
    """A row is there twice."""
    return audited(doubled if broken else nothing)


def audit_is_out_of_order(*, broken: bool) -> Verdict:
    """Two rows have each other's place."""

    def swap(_: Story, rows: list[Any]) -> None:
        rows[0], rows[1] = (2, *rows[0][1:]), (1, *rows[1][1:])

    return audited(swap if broken else nothing)


def audit_is_out_of_order_behind(*, broken: bool) -> Verdict:
    """Two rows behind the first have each other's place."""

    def swap(_: Story, rows: list[Any]) -> None:
        rows[1], rows[2] = (3, *rows[1][1:]), (2, *rows[2][1:])

    return audited(swap if broken else nothing)


def audit_lacks_an_expiry(*, broken: bool) -> Verdict:
    """A life that came to its end by itself, without a row of that."""
    story, first, last = two_versions()
    story.row(1, (1, 1), first)
    story.row(2, (1, 2), last)
    if not broken:
        story.row(3, (1, 3), 0, Kind.RECORDED_REMOVED)
    story.row(4, (2, 1), story.create(20, 21, 2))
    return story.check(has_audit=True, session_ttl_ms=10)


def audit_has_one_place_twice(*, broken: bool) -> Verdict:
    """Two rows are at one place."""

    def move(_: Story, rows: list[Any]) -> None:
        rows[1] = (1, *rows[1][1:])

    return audited(move if broken else nothing)


def audit_has_another_writer(*, broken: bool) -> Verdict:
    """A row names another writer than the one who was acknowledged."""

    def name(_: Story, rows: list[Any]) -> None:
        rows[1] = (*rows[1][:2], rows[0][2], rows[1][3])

    return audited(name if broken else nothing)


def audit_has_what_was_refused(*, broken: bool) -> Verdict:
    """A row of a write that was refused; or that is unknown."""

    def record(story: Story, rows: list[Any]) -> None:
        refused: dict[str, Any] = {"outcome": Outcome.REFUSED, "error": Error.BACKLOG_FULL, "at": (0, 0)}
        own = story.update(9, 10, (2, 1), **refused) if broken else story.update(9, None, (2, 1))
        rows.append((5, (2, 2), own, Kind.RECORDED))

    return audited(record)


def audit_has_another_content(*, broken: bool) -> Verdict:
    """A row with another content than was written."""
    story = Story()
    own = story.create(1, 2, digest=7)
    story.row(1, (1, 1), own, digest=8 if broken else 7)
    return story.check(has_audit=True)


def audit_lacks_what_was_told(*, broken: bool) -> Verdict:
    """A watcher was told of an end that the audit does not have."""
    story, first, last = two_versions()
    story.row(1, (1, 1), first)
    story.row(2, (1, 2), last)
    if not broken:
        story.row(3, (1, 3), 0, Kind.RECORDED_REMOVED)
    story.told(20, (1, 3), 0, kind=Kind.TOLD_REMOVED)
    return story.check(has_audit=True, session_ttl_ms=10)


def unseen_life_that_nobody_ended(*, broken: bool) -> Verdict:
    """An unknown creation, which somebody met, and an unknown deletion of a version that it never had."""
    story = Story()
    story.create(1, None)
    story.add(Kind.CREATE, 3, 4, outcome=Outcome.REFUSED, error=Error.EXISTS)
    story.add(Kind.DELETE_IF, 5, None, of=(1, 2))
    if not broken:
        story.update(2, None, (1, 1))
    story.get(7, 8)
    return story.check()
