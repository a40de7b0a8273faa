"""Removals that nobody saw, and reads that carry no stamp: is there a way in which they fit the lives of a session?

Each life but the last was ended by somebody, once: by a deletion whose version is not known, by one of which not even
that is known whether it happened, or by the store, when its time had come. The way that is tried here is the one that
usually fits. That it fits proves that the session is explained; where it does not, `search.py` tries all others.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from loadtests.judging.standing import Bounds, Expiries, Fallen, stand
from loadtests.judging.verdict import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.judging.lives import Lane, Life, Loose
    from loadtests.judging.table import Table


class Trouble(NamedTuple):
    """What does not fit, at first sight.

    Attributes:
        rule: which rule it would violate.
        life: the number of the life that stands against it; -1: none.
        one: the operation; None where a removal is missing.
        is_present: whether the operation found the session there.
    """

    rule: Rule
    life: int
    one: Loose | None
    is_present: bool = False


class Removal(NamedTuple):
    """Who removed a life: when; and if it ended by itself, from which moment its time was counted."""

    start: int
    end: int
    after: int | None = None


class Removals:
    """Who may have removed a life of a session, where no stamp says it."""

    def __init__(self, table: Table, lane: Lane, *, is_late: bool) -> None:
        self._is_late = is_late
        self._perhaps = [one for one in lane.perhaps if one.of is None]
        self._bound = earliest_of_one(lane)
        self._clock = Lifetime(table, lane)
        self._far = table.far
        self._used = 0

    def take(self, life: Life, written: int, until: int, next_created: int) -> Removal | None:
        """Who may have removed a life first; None where nobody can have by then."""
        found = [Removal(self._bound[life.n, life.top], self._far)] if (life.n, life.top) in self._bound else []
        ways = self._clock.all(written, next_created)
        if self._is_late:
            # The last way that is still in time, rather than the first.
            ways = iter([one for one in ways if one.start <= until][-1:])
        expiry = next(ways, None)
        found += [] if expiry is None else [expiry]
        best = min(found, default=None, key=lambda one: one.start)
        loose = self._perhaps[self._used] if self._used < len(self._perhaps) else None
        if loose is not None and loose.start <= until and (best is None or loose.start < best.start):
            self._used += 1
            return Removal(loose.start, self._far)
        return best if best is not None and best.start <= until else None


class Lifetime:
    """When a life may have come to its end by itself."""

    def __init__(self, table: Table, lane: Lane) -> None:
        ttl_ms = table.facts.session_ttl_ms
        self._life = None if ttl_ms is None else (ttl_ms - table.facts.ttl_slack_ms) * 1_000_000
        self._far = table.far
        if self._life is not None:
            # What can't be before an end by itself, once it is too late for what that end is counted from.
            touches = [(one.start, one.end, True) for one, refreshes in lane.presences if refreshes]
            reads = sorted([(one.start, one.end, False) for one in lane.absences] + touches)
            self._starts = [start for start, _, _ in reads]
            self._ends = [end for _, end, _ in reads]
            self._touches = [is_touch for _, _, is_touch in reads]

    def first(self, written: int, next_created: int) -> Removal | None:
        """The first way in which a life that was last written then may have ended by itself."""
        return next(self.all(written, next_created), None)

    def all(self, written: int, next_created: int) -> Iterator[Removal]:
        """All ways: each counts from a moment behind which nothing was that must have been before the end.

        Args:
            written: the moment of the last write.
            next_created: when the next life can have begun: who touched one ended after that, or touched this one.
        """
        if self._life is None:
            return
        if not written:
            # What was carried over a loss may have been old.
            yield Removal(0, self._far, 0)
        after: int | None = written
        while after is not None:
            place = bisect_right(self._starts, after)
            end = after + self._life
            inside = place
            while (
                inside < len(self._starts)
                and self._starts[inside] < end
                and self._ends[inside] >= (max(end, next_created) if self._touches[inside] else end)
            ):
                inside += 1
            if inside == len(self._starts) or self._starts[inside] >= end:
                yield Removal(min(end, self._far - 1), self._far, after)
                inside = place
            after = self._starts[inside] if inside < len(self._starts) else None


def earliest_of_one(lane: Lane) -> dict[tuple[int, int], int]:
    """For versions that an unknown deletion was to remove, and no other: when the first of these began."""
    found: dict[tuple[int, int], int] = {}
    for one in lane.perhaps:
        if one.of is not None:
            found[one.of] = min(one.start, found.get(one.of, one.start))
    return found


def settle(table: Table, lane: Lane, *, has_base: bool = False, is_late: bool = False) -> Trouble | None:
    """Try the usual way; None where it fits.

    Args:
        table: the records.
        lane: the session.
        has_base: whether the first life was carried over a loss, so that nothing was absent before it.
        is_late: whether lives that ended by themselves are to have done so as late as they may, rather than as early.
    """
    removals = Removals(table, lane, is_late=is_late)
    removed, trouble = _remove(table, lane, removals)
    if trouble is not None:
        return trouble
    fallen, placed = _stand(table, lane, removed, has_base=has_base)
    # Somebody must have removed the last life, if any read of an absent session can only stand behind it.
    if lane.lives and removed[-1] is None:
        behind = [one for one, position in placed if position == 2 * len(lane.lives)]
        if behind:
            first = min(behind, key=lambda one: one.end)
            life = lane.lives[-1]
            latest = max((one.start for one in removed if one), default=0)
            removal = removals.take(life, max(life.written, latest), first.end, table.far)
            if removal is None:
                return Trouble(_rule(table), len(lane.lives) - 1, first)
            removed[-1] = removal
            fallen, _ = _stand(table, lane, removed, has_base=has_base)
    return None if fallen is None else _fallen(lane, fallen)


def _stand(
    table: Table, lane: Lane, removed: list[Removal | None], *, has_base: bool
) -> tuple[Fallen | None, list[tuple[Loose, int]]]:
    expiries = None
    for number, removal in enumerate(removed):
        if removal is not None and removal.after is not None:
            expiries = expiries or Expiries()
            expiries.add(number, removal.after)
    bounds = bounds_of(lane, removed, table.far, has_base=has_base)
    return stand(bounds, lane.absences, lane.presences, expiries)


def _remove(table: Table, lane: Lane, removals: Removals) -> tuple[list[Removal | None], Trouble | None]:
    """Find a removal for each life that needs one; None for a last one that need not have ended."""
    lives = lane.lives
    waiting: list[tuple[int, Loose]] = []
    next_deletion = latest = 0
    removed: list[Removal | None] = []
    for number, life in enumerate(lives):
        found: Removal | None = None
        while next_deletion < len(lane.deletions) and lane.deletions[next_deletion].start <= life.gone:
            one = lane.deletions[next_deletion]
            heapq.heappush(waiting, (one.end, one))
            next_deletion += 1
        if life.removed[0] >= 0:
            found = Removal(*life.removed)
        elif waiting:
            _, one = heapq.heappop(waiting)
            found = Removal(one.start, one.end)
            if one.end < max(life.seen, latest):
                return removed, Trouble(Rule.ABSENCE, number, one, is_present=True)
        elif number < len(lives) - 1 or life.is_told:
            next_created = lives[number + 1].created if number + 1 < len(lives) else table.far
            found = removals.take(life, max(life.written, latest), life.gone, next_created)
            if found is None:
                return removed, Trouble(_rule(table), number, None)
        removed.append(found)
        latest = max(latest, found.start if found else 0)
    left = [one for _, one in waiting] + lane.deletions[next_deletion:]
    if left:
        return removed, Trouble(Rule.ABSENCE, len(lives) - 1, left[0], is_present=True)
    return removed, None


def bounds_of(lane: Lane, removed: list[Removal | None], far: int, *, has_base: bool) -> Bounds:
    """The bounds of lives whose removals are settled; of one without, as if it ended whenever it had to."""
    gap_from, life_from = [0], []
    latest = 0
    for life, removal in zip(lane.lives, removed, strict=True):
        life_from.append(max(life.created, latest))
        latest = max(latest, life.seen, removal.start if removal else 0)
        gap_from.append(latest)
    gap_to, life_to = [], []
    earliest = far
    for life, removal in zip(reversed(lane.lives), reversed(removed), strict=True):
        gap_to.append(min(life.after, earliest))
        earliest = min(earliest, life.gone, removal.end if removal else far)
        life_to.append(earliest)
    gap_to.append(-1 if has_base else min(lane.first_end, earliest))
    return Bounds(gap_from, gap_to[::-1], life_from, life_to[::-1])


def _rule(table: Table) -> Rule:
    return Rule.ABSENCE if table.facts.session_ttl_ms is None else Rule.EXPIRY


def _fallen(lane: Lane, fallen: Fallen) -> Trouble:
    is_present = bool(fallen.position % 2)
    number = min((fallen.position if is_present else fallen.position - 1) // 2, len(lane.lives) - 1)
    return Trouble(Rule.ABSENCE, number, fallen.one, is_present)
