"""The order of versions: what has a stamp, sorted by it, must not contradict the order in time.

Writes come first at their version, then who read it; a removal is a version of its own, behind all others of its
incarnation. In that order no operation may have ended before one that stands before it has started: a pair that does is
a contradiction, and without one there is an order of all of them that explains what was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind
from loadtests.judging.table import running_max, running_min_from_behind

if TYPE_CHECKING:
    from loadtests.judging.table import Column, Table

# Of what stands in the order without being a record: the state that a lane began with.
BASE = -1


class Chain:
    """Stamped operations, sorted by lane, incarnation, version and phase.

    Attributes:
        index: which record; BASE: none.
        lane: see Table.
        n: incarnation.
        v: version; a removal's is the one behind the last that it removed.
        phase: 0: made that version; 1: saw it.
        removal: whether it is about a removal.
        start: see Table.
        end: see Table.
    """

    NAMES = ("index", "lane", "n", "v", "phase", "removal", "start", "end")
    index: Column
    lane: Column
    n: Column
    v: Column
    phase: Column
    removal: Column
    start: Column
    end: Column

    def __init__(self, table: Table) -> None:
        self._far = table.far
        _fill(self, table)
        order = np.lexsort(((self.v << 1) | self.phase, self.n, self.lane))
        for name in self.NAMES:
            setattr(self, name, getattr(self, name)[order])
        self._mark()

    def insert(self, places: list[int], rows: list[tuple[int, ...]]) -> None:
        """Put more writes in, each before the element at its place; as rows of all columns."""
        columns = zip(*rows, strict=True)
        for name, values in zip(self.NAMES, columns, strict=True):
            column = getattr(self, name)
            setattr(self, name, np.insert(column, places, np.array(values, column.dtype)))
        self._mark()

    def _mark(self) -> None:
        """Note where lanes, incarnations, versions and phases begin."""
        new_lane = _changes(self.lane)
        new_group = new_lane | _changes(self.n)
        new_class = new_group | _changes(self.v)
        self.new_phase: Column = new_class | _changes(self.phase)
        self.new_lane, self.new_group, self.new_class = new_lane, new_group, new_class
        self.class_at: Column = np.flatnonzero(new_class)
        self.group_at: Column = np.flatnonzero(new_group)

    def sweep(self) -> None:
        """Find for each operation the latest start so far, and the earliest end from there on."""
        self.latest: Column = running_max(self.start, self.lane, self._far + 1)
        self.earliest: Column = running_min_from_behind(self.end, self.lane, self._far + 1)

    def contradictions(self) -> list[tuple[int, int]]:
        """Of each lane the two that contradict each other the most: which is first in order, and which ended before."""
        at = np.flatnonzero(self.new_phase)
        # What stands before a phase of a version: all of its lane up to there.
        before = np.where(self.new_lane[at], 0, self.latest[np.maximum(at - 1, 0)])
        bound = np.repeat(before, np.diff(np.append(at, len(self.lane))))
        excess = bound - self.end
        wrong = np.flatnonzero(excess > 0)
        if not len(wrong):
            return []
        order = np.lexsort((-excess[wrong], self.lane[wrong]))
        wrong = wrong[order]
        worst = wrong[_changes(self.lane[wrong])]
        return [(self._starting_at(int(one), int(bound[one])), int(one)) for one in worst]

    def _starting_at(self, place: int, start: int) -> int:
        """Who, before a place, starts that late."""
        first = int(np.searchsorted(self.lane, self.lane[place]))
        return first + int(np.flatnonzero(self.start[first:place] == start)[0])


def _changes(column: Column) -> Column:
    changed = np.ones(len(column), bool)
    np.not_equal(column[1:], column[:-1], out=changed[1:])
    return changed


def _fill(chain: Chain, table: Table) -> None:
    """Take what has a stamp from the table: writes, removals, reads, and what watchers were told."""
    placed = table.lane >= 0
    told_removed = (table.kind == Kind.TOLD_REMOVED) | (table.kind == Kind.RECORDED_REMOVED)
    # Who watches across a loss may be told of what was lost.
    heard = table.is_note & (table.incarnation != 0) & (table.kind != Kind.RESYNCHRONISED_ABSENT) & (table.eras == 1)
    ended = told_removed & (table.incarnation != 0) & (table.eras == 1)
    # An unknown write may belong to any lane behind the one that it began in: it is placed where it is seen.
    wrote = np.flatnonzero((table.wrote_n != 0) & placed)
    removed = np.flatnonzero((table.removed_n != 0) & placed)
    read = np.flatnonzero((table.is_read & placed) | (heard & ~told_removed))
    end = np.flatnonzero(ended)
    parts = [wrote, removed, read, end]
    sizes = [len(part) for part in parts]
    index = np.concatenate(parts)
    chain.index = index
    chain.lane = np.where(table.lane[index] >= 0, table.lane[index], table.session[index])
    chain.n = np.concatenate(
        [table.wrote_n[wrote], table.removed_n[removed], table.incarnation[read], table.incarnation[end]]
    )
    chain.v = np.concatenate([table.wrote_v[wrote], table.removed_v[removed], table.version[read], table.version[end]])
    chain.phase = np.repeat(np.array([0, 0, 1, 1]), sizes)
    chain.removal = np.repeat(np.array([False, True, False, True]), sizes)
    chain.start = table.start[index]
    chain.end = table.end[index]
