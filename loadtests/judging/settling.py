"""Removals that nobody saw, and reads that carry no stamp: is there a way in which they fit the lives of a session?

Each life but the last was ended by somebody, once: by a deletion whose version is not known, by one of which not even
that is known whether it happened, or by the store, when its time had come. The way that is tried here is the one that
usually fits. That it fits proves that the session is explained; where it does not, `search.py` tries all others.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from loadtests.history import Kind
from loadtests.judging.standing import Bounds, Fallen, stand
from loadtests.judging.verdict import Rule

if TYPE_CHECKING:
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


class Removals:
    """Who may have removed a life of a session, where no stamp says it."""

    def __init__(self, table: Table, lane: Lane) -> None:
        self._perhaps = [one for one in lane.perhaps if not is_bound(table, one)]
        self._bound: dict[tuple[int, int], list[Loose]] = {}
        for one in lane.perhaps:
            if is_bound(table, one):
                self._bound.setdefault(bound_to(table, one), []).append(one)
        ttl_ms = table.facts.session_ttl_ms
        self._life = None if ttl_ms is None else (ttl_ms - table.facts.ttl_slack_ms) * 1_000_000
        self._far = table.far
        self._pinned = _pinned(lane) if self._life is not None and lane.presences else {}
        self._used = 0

    def expiry(self, number: int, written: int) -> int | None:
        """When a life can have come to its end by itself, at the earliest."""
        if self._life is None:
            return None
        latest = max(written, self._pinned.get(number, 0))
        # What was carried over a loss may have been old.
        return min(latest + self._life, self._far - 1) if latest else 0

    def take(self, number: int, life: Life, written: int, until: int) -> int | None:
        """The earliest start of those that may have removed a life, if not after `until`."""
        bound = self._bound.get((life.n, life.top), ())
        loose = self._perhaps[self._used] if self._used < len(self._perhaps) else None
        starts = [one.start for one in bound[:1]]
        expiry = self.expiry(number, written)
        starts += [] if expiry is None else [expiry]
        best = min(starts, default=self._far)
        if loose is not None and (best > until or loose.start < best) and loose.start <= until:
            self._used += 1
            return loose.start
        return best if best <= until and best < self._far else None


def is_bound(table: Table, one: Loose) -> bool:
    """Whether a deletion is of one version only, or known to have been."""
    return bool(table.kind[one.index] == Kind.DELETE_IF or table.removed_n[one.index])


def bound_to(table: Table, one: Loose) -> tuple[int, int]:
    """Which version a deletion is of."""
    if table.removed_n[one.index]:
        return int(table.removed_n[one.index]), int(table.removed_v[one.index]) - 1
    return int(table.expected_n[one.index]), int(table.expected_v[one.index])


def _pinned(lane: Lane) -> dict[int, int]:
    """For each life the latest start of the touches that can only have been of it."""
    found: dict[int, int] = {}
    lives = lane.lives
    for one in lane.presences:
        possible = [n for n, life in enumerate(lives) if life.created <= one.end and one.start <= life.gone]
        if len(possible) == 1:
            found[possible[0]] = max(found.get(possible[0], 0), one.start)
    return found


def settle(table: Table, lane: Lane, *, has_base: bool = False) -> Trouble | None:
    """Try the usual way; None where it fits.

    Args:
        table: the records.
        lane: the session.
        has_base: whether the first life was carried over a loss, so that nothing was absent before it.
    """
    lives, far = lane.lives, table.far
    removed, trouble = _remove(table, lane)
    if trouble is not None:
        return trouble
    bounds = bounds_of(lane, removed, far, has_base=has_base)
    is_open = bool(lives) and removed[-1] is None
    fallen, placed = stand(bounds, lane.absences, lane.presences)
    if fallen is not None:
        return _fallen(table, lane, fallen)
    if not is_open:
        return None
    # Somebody must have removed the last life, if any read of an absent session can only stand behind it.
    behind = [one for one, position in placed if position == 2 * len(lives)]
    if not behind:
        return None
    first = min(behind, key=lambda one: one.end)
    spare = _spare(table, lane, removed, first.end)
    return None if spare else Trouble(_rule(table), len(lives) - 1, first)


def _remove(table: Table, lane: Lane) -> tuple[list[tuple[int, int] | None], Trouble | None]:
    """Find a removal for each life that needs one: start and end; None for a last one that need not have ended."""
    lives, far = lane.lives, table.far
    removals = Removals(table, lane)
    waiting: list[tuple[int, Loose]] = []
    next_deletion = latest = 0
    removed: list[tuple[int, int] | None] = []
    for number, life in enumerate(lives):
        if life.removed[0] >= 0:
            removed.append(life.removed)
            latest = max(latest, life.removed[0])
            continue
        while next_deletion < len(lane.deletions) and lane.deletions[next_deletion].start <= life.gone:
            one = lane.deletions[next_deletion]
            heapq.heappush(waiting, (one.end, one))
            next_deletion += 1
        if waiting:
            _, one = heapq.heappop(waiting)
            if one.end < max(life.seen, latest):
                return removed, Trouble(Rule.ABSENCE, number, one, is_present=True)
            removed.append((one.start, one.end))
            latest = max(latest, one.start)
        elif number < len(lives) - 1 or life.is_told:
            start = removals.take(number, life, max(life.written, latest), life.gone)
            if start is None:
                return removed, Trouble(_rule(table), number, None)
            removed.append((start, far))
            latest = max(latest, start)
        else:
            removed.append(None)
    left = [one for _, one in waiting] + lane.deletions[next_deletion:]
    if left:
        return removed, Trouble(Rule.ABSENCE, len(lives) - 1, left[0], is_present=True)
    return removed, None


def bounds_of(lane: Lane, removed: list[tuple[int, int] | None], far: int, *, has_base: bool) -> Bounds:
    """The bounds of lives whose removals are settled; of one without, as if it ended whenever it had to."""
    gap_from, life_from = [0], []
    latest = 0
    for life, removal in zip(lane.lives, removed, strict=True):
        life_from.append(max(life.created, latest))
        latest = max(latest, life.seen, removal[0] if removal else 0)
        gap_from.append(latest)
    gap_to, life_to = [], []
    earliest = far
    for life, removal in zip(reversed(lane.lives), reversed(removed), strict=True):
        gap_to.append(min(life.after, earliest))
        earliest = min(earliest, life.gone, removal[1] if removal else far)
        life_to.append(earliest)
    gap_to.append(-1 if has_base else min(lane.first_end, earliest))
    return Bounds(gap_from, gap_to[::-1], life_from, life_to[::-1])


def _spare(table: Table, lane: Lane, removed: list[tuple[int, int] | None], until: int) -> bool:
    """Whether somebody may have removed the last life by then."""
    removals = Removals(table, lane)
    latest = 0
    for number, (life, removal) in enumerate(zip(lane.lives, removed, strict=True)):
        if removal is not None:
            if life.removed[0] < 0 and removal[1] == table.far:
                removals.take(number, life, max(life.written, latest), life.gone)
            latest = max(latest, removal[0])
    last = lane.lives[-1]
    return removals.take(len(lane.lives) - 1, last, max(last.written, latest), until) is not None


def _rule(table: Table) -> Rule:
    return Rule.ABSENCE if table.facts.session_ttl_ms is None else Rule.EXPIRY


def _fallen(table: Table, lane: Lane, fallen: Fallen) -> Trouble:
    is_present = bool(fallen.position % 2)
    number = min((fallen.position if is_present else fallen.position - 1) // 2, len(lane.lives) - 1)
    return Trouble(Rule.ABSENCE, number, fallen.one, is_present)
