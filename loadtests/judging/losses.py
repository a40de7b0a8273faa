"""What a loss took: acknowledged writes that are not in the state that a session went on from.

A write is counted at the first loss that it did not survive. It is gone for certain where the session went on from an
older state, where another attempt made the same version afterwards, or where the session was absent and nothing can
have ended it. It is gone perhaps where the session was absent and may have been ended, by somebody who was never
answered or by its time, or where nobody looked: such writes are counted apart, so that both counts together are an
upper bound, but for what an attempt that nobody ever saw made again.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.history import Error, Kind, seconds
from loadtests.judging.chain import BASE
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from loadtests.judging.chain import Chain
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings, Loss


class Gone(NamedTuple):
    """A write that a loss took.

    Attributes:
        write: its record.
        era: the first that it is missing in.
        shown_by: a record that shows it; -1: none.
    """

    write: int
    era: int
    shown_by: int


class Toll(NamedTuple):
    """What all losses took.

    Attributes:
        gone: for certain.
        perhaps: records of writes of which nobody can tell.
        begun: for each session with a state that its last era began with, the incarnation.
    """

    gone: list[Gone]
    perhaps: list[int]
    begun: dict[int, int]


def toll_of(table: Table, chain: Chain, spoiled: Column) -> Toll:
    """Find what was taken from sessions that are not spoiled."""
    return _Ledger(table, chain).toll(spoiled) if table.eras > 1 else Toll([], [], {})


def judge_losses(table: Table, toll: Toll, findings: Findings) -> None:
    """Count what was allowed to go, and accuse what was not: what had reached the durability that was kept."""
    accused = []
    for one in toll.gone:
        # One that nobody looked for behind the first loss went with one of those since.
        passed = table.facts.losses[int(table.last_era[one.write]) : one.era]
        if all(loss.kept for loss in passed) and table.error[one.write] != Error.DURABILITY:
            accused.append((one, passed[-1]))
    findings.count("lost (expected)", len(toll.gone) - len(accused))
    if table.eras > 1:
        findings.count("perhaps lost (expected)", len(toll.perhaps))
    findings.accuse(Rule.LOST, len(accused), (_violation(table, one, loss) for one, loss in accused))


def _violation(table: Table, one: Gone, loss: Loss) -> Violation:
    origin = table.facts.began_ns or table.origin_ns
    # The stamp of a deletion is not in its own record.
    stamp = int(table.removed_n[one.write]), int(table.removed_v[one.write])
    first = Operation.of(table.records[one.write], origin, stamp)
    second = Operation.of(table.records[one.shown_by], origin) if one.shown_by >= 0 else None
    why = f" ({loss.why})" if loss.why else ""
    sentence = (
        f"What was acknowledged as {loss.kept} is gone behind the loss at {seconds(loss.at_ns, origin)}{why}: "
        f"{first.words}; yet afterwards: {second.words if second else 'nothing is known of it'}."
    )
    return Violation(rule=Rule.LOST, session=first.session, sentence=sentence, first=first, second=second)


class _Ledger:
    """What each lane began with, and what was acknowledged before it."""

    def __init__(self, table: Table, chain: Chain) -> None:
        self._table, self._chain = table, chain
        first = np.flatnonzero(chain.new_lane) if len(chain.lane) else np.zeros(0, np.int64)
        self._begins = dict(zip(chain.lane[first].tolist(), first.tolist(), strict=True))
        absent = np.flatnonzero(table.is_absent & (table.lane >= 0))
        absent = absent[np.argsort(table.end[absent], kind="stable")[::-1]]
        # The first to end stays.
        self._absent = dict(zip(table.lane[absent].tolist(), absent.tolist(), strict=True))
        self._n = np.where(table.wrote_n != 0, table.wrote_n, table.removed_n)
        self._v = np.where(table.wrote_n != 0, table.wrote_v, table.removed_v)
        self._sure = (table.is_acknowledged | table.is_deleted) & (self._n != 0)

    def toll(self, spoiled: Column) -> Toll:
        """What is gone, over all sessions and losses."""
        table = self._table
        order = np.argsort(table.session, kind="stable")
        order = order[~spoiled[table.session[order]]]
        bounds = np.flatnonzero(np.diff(table.session[order], prepend=-1, append=-1))
        toll = Toll([], [], {})
        for begin, end in pairwise(bounds.tolist()):
            own = order[begin:end]
            session = int(table.session[own[0]])
            left = own[self._sure[own]]
            for era in range(1, table.eras):
                left = self._pass(own, left, session * table.eras + era, toll)
            base = self._base(session * table.eras + table.eras - 1)
            if base is not None:
                toll.begun[session] = base[0]
        return toll

    def _base(self, lane: int) -> tuple[int, int] | None:
        """The state that a lane began with, where one was carried into it."""
        place, chain = self._begins.get(lane), self._chain
        if place is None or int(chain.index[place]) != BASE:
            return None
        return int(chain.n[place]), int(chain.v[place])

    def _pass(self, own: Column, left: Column, lane: int, toll: Toll) -> Column:
        """Let what is left of a session's writes pass a loss; what is left of them behind it."""
        era = lane % self._table.eras
        before = left[self._table.last_era[left] < era]
        if not len(before):
            return left
        found = [*self._above(before, lane), *self._made_again(own, before, era)]
        gone = {one.write for one in found}
        rest = before[~np.isin(before, list(gone))]
        whole, perhaps = self._absent_since(own, rest, lane) if len(rest) else ([], [])
        toll.gone.extend({one.write: one for one in [*whole, *found]}.values())
        toll.perhaps.extend(perhaps)
        gone |= {one.write for one in whole} | set(perhaps)
        return left[~np.isin(left, list(gone))]

    def _above(self, before: Column, lane: int) -> list[Gone]:
        """What is above the state that the lane began with."""
        base, place = self._base(lane), self._begins.get(lane, 0)
        if base is None:
            return []
        above = (self._n[before] > base[0]) | ((self._n[before] == base[0]) & (self._v[before] > base[1]))
        shown_by = self._first_of(lane, place)
        return [Gone(write, lane % self._table.eras, shown_by) for write in before[above].tolist()]

    def _first_of(self, lane: int, place: int) -> int:
        """The first record in the order of a lane, from a place on; -1: none."""
        chain = self._chain
        while place < len(chain.lane) and int(chain.lane[place]) == lane:
            if int(chain.index[place]) != BASE:
                return int(chain.index[place])
            place += 1
        return -1

    def _made_again(self, own: Column, before: Column, era: int) -> list[Gone]:
        """Versions that another attempt made behind the loss: of two of one version at most one is there."""
        table = self._table
        later = own[(self._n[own] != 0) & (table.last_era[own] >= era)]
        stamps = zip(self._n[later].tolist(), self._v[later].tolist(), strict=True)
        again = dict(zip(stamps, later.tolist(), strict=True))
        found = []
        for write in before.tolist():
            other = again.get((int(self._n[write]), int(self._v[write])))
            # Not one that may have come first, and was lost before.
            if other is not None and table.first_era[other] >= table.last_era[write]:
                found.append(Gone(write, era, other))
        return found

    def _absent_since(self, own: Column, rest: Column, lane: int) -> tuple[list[Gone], list[int]]:
        """What went with its whole session: its last life, if nobody ended it and it is not there."""
        table, era, base = self._table, lane % self._table.eras, self._base(lane)
        n = int(self._n[rest].max())
        if base is not None and (base[0] == n or (table.last_era[own[table.wrote_n[own] == base[0]]] < era).any()):
            return [], []
        life = rest[self._n[rest] == n]
        end = self._ended_as(own, n, era)
        shown_by = self._absent.get(lane, self._first_of(lane, self._begins.get(lane, len(self._chain.lane))))
        if end:
            return [Gone(write, era, shown_by) for write in life[self._v[life] > end].tolist()], []
        if shown_by < 0:
            # Nobody looked: who did behind the next loss may tell.
            return [], [] if era + 1 < table.eras else life.tolist()
        if self._may_have_ended(own, life, lane, shown_by):
            return [], life.tolist()
        return [Gone(write, era, shown_by) for write in life.tolist()], []

    def _ended_as(self, own: Column, n: int, era: int) -> int:
        """As which version somebody ended a life; 0: nobody is known to have done so."""
        table = self._table
        by_somebody = own[(table.removed_n[own] == n) & (table.first_era[own] <= era)]
        is_told = (table.kind[own] == Kind.TOLD_REMOVED) | (table.kind[own] == Kind.RECORDED_REMOVED)
        told = own[is_told & (table.incarnation[own] == n)]
        return max(int(table.removed_v[by_somebody].max(initial=0)), int(table.version[told].max(initial=0)))

    def _may_have_ended(self, own: Column, life: Column, lane: int, shown_by: int) -> bool:
        """Whether a life may have been ended by somebody of whom that is not known, or by its time."""
        table = self._table
        loose = table.is_removal[own] & (table.removed_n[own] == 0) & (table.first_era[own] <= lane % table.eras)
        loose &= table.is_open[own] | table.is_deleted[own]
        loose &= (table.kind[own] == Kind.DELETE) | (table.expected_n[own] == self._n[life[0]])
        ttl_ms = table.facts.session_ttl_ms
        if ttl_ms is None:
            return bool(loose.any())
        due = int(table.start[life].min()) + (ttl_ms - table.facts.ttl_slack_ms) * 1_000_000
        return bool(loose.any()) or int(table.end[shown_by]) >= due
