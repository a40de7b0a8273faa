"""Versions that somebody must have made: unknown writes fill them, earliest start first, or nobody did.

All unknown writes end never, so of those that fit a version the one that started first is the least constraining: if
any of them explains what was seen, that one does. The same holds for creations: the earlier of two belongs to the
earlier incarnation.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from loadtests.history import Kind
from loadtests.judging.chain import BASE
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.judging.chain import Chain
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings


Why: TypeAlias = "Callable[[Operation, Operation], str]"


class Pool:
    """Unknown writes that nobody is known to have seen, each at most once to be used in a lane."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_expected: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        self._stamped: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        self._strays: dict[int, list[int]] = defaultdict(list)
        self._used: set[tuple[int, int]] = set()
        loose = np.flatnonzero(table.is_open & table.is_write & (table.wrote_n == 0))
        loose = loose[np.argsort(table.start[loose], kind="stable")]
        keys = zip(
            table.session[loose].tolist(),
            np.where(table.kind[loose] == Kind.CREATE, 0, table.expected_n[loose]).tolist(),
            np.where(table.kind[loose] == Kind.CREATE, 0, table.expected_v[loose]).tolist(),
            table.kind[loose].tolist(),
            loose.tolist(),
            strict=True,
        )
        for session, n, v, kind, index in keys:
            # A mutation that was never shown a state wrote none.
            if kind == Kind.CREATE or n:
                self._by_expected[session, n, v].append(index)
        if table.eras > 1:
            # Known writes that may belong to either side of a loss.
            for index in np.flatnonzero((table.wrote_n != 0) & (table.lane < 0)).tolist():
                stamp = int(table.wrote_n[index]), int(table.wrote_v[index])
                self._stamped[int(table.session[index]), *stamp].append(index)
                if table.kind[index] == Kind.CREATE:
                    self._strays[int(table.session[index])].append(index)

    def take(self, lane: int, n: int, v: int, digests: set[int]) -> int | None:
        """The unknown write that is to have made a version, for nothing else any more; None where there is none."""
        index = self.look(lane, n, v, digests)
        if index is not None:
            self._used.add((lane, index))
        return index

    def look(self, lane: int, n: int, v: int, digests: set[int] | None = None) -> int | None:
        """The unknown write that may have made a version; None where there is none."""
        table = self._table
        session, era = divmod(lane, table.eras)
        key = (session, n, v - 1) if v > 1 else (session, 0, 0)
        index: int
        for index in [*self._stamped.get((session, n, v), ()), *self._by_expected.get(key, ())]:
            fits = not digests or not table.digest[index] or int(table.digest[index]) in digests
            in_time = table.first_era[index] <= era <= table.last_era[index]
            if fits and in_time and (lane, index) not in self._used:
                return index
        return None

    def was_possible_before(self, lane: int, n: int, v: int) -> bool:
        """Whether a version may have been made before the loss that a lane begins with."""
        table = self._table
        session, era = divmod(lane, table.eras)
        same = (table.session == session) & (table.first_era < era) & table.is_write
        made = same & (table.wrote_n == n)
        loose = same & table.is_open & (table.wrote_n == 0)
        while v >= 1:
            if (made & (table.wrote_v == v)).any():
                return True
            expected = (table.expected_n == n) & (table.expected_v == v - 1)
            if not (loose & ((table.kind == Kind.CREATE) if v == 1 else expected)).any():
                return False
            v -= 1
        return True

    def base(self, lane: int, n: int, v: int) -> int:
        """The version that a lane began with, v or one below it from which unknown writes lead there; 0: none."""
        while v >= 1 and not self.was_possible_before(lane, n, v):
            v = v - 1 if self.look(lane, n, v) is not None else 0
        return v

    def creations(self, lane: int) -> list[int]:
        """Unknown creations that a lane has not used yet, earliest first; and known ones of who knows which lane."""
        session, era = divmod(lane, self._table.eras)
        first, last = self._table.first_era, self._table.last_era
        found = [
            index
            for index in [*self._by_expected.get((session, 0, 0), ()), *self._strays.get(session, ())]
            if (lane, index) not in self._used and first[index] <= era <= last[index]
        ]
        return sorted(found, key=lambda index: int(self._table.start[index]))


def check_structure(table: Table, chain: Chain, findings: Findings, spoiled: Column) -> None:
    """One writer of each version, and nothing behind a removal."""
    accuser = ChainAccuser(table, chain, findings, spoiled)
    if not len(chain.lane):
        return
    twice = np.flatnonzero((chain.phase == 0) & ~chain.new_phase)
    accuser(Rule.ONE_WRITER, [(int(one) - 1, int(one)) for one in twice], "both made the same version")
    at = chain.class_at
    some = np.logical_or.reduceat(chain.removal, at)
    every = np.logical_and.reduceat(chain.removal, at)
    ends = np.append(at[1:], len(chain.lane))
    pairs = [_either(chain, int(at[one]), int(ends[one])) for one in np.flatnonzero(some & ~every)]
    accuser(Rule.ONE_WRITER, pairs, "one removed the session as the version that the other has as a state")
    last = np.append(chain.new_group[at[1:]], True)
    followed = np.flatnonzero(some & ~last)
    pairs = [(int(at[one]), int(at[one + 1])) for one in followed]
    accuser(Rule.ORDER, pairs, "one removed the session, the other is of a later version of the same incarnation")


def _either(chain: Chain, begin: int, end: int) -> tuple[int, int]:
    """Of a version's operations one that is about a removal, and one that is not."""
    removal = chain.removal[begin:end]
    return begin + int(np.argmax(removal)), begin + int(np.argmin(removal))


class ChainAccuser:
    """Accuses pairs of places in the chain, one of each session that is not spoiled yet."""

    MOST = 1_000

    def __init__(self, table: Table, chain: Chain, findings: Findings, spoiled: Column) -> None:
        self._table, self._chain, self._findings, self._spoiled = table, chain, findings, spoiled

    def __call__(self, rule: Rule, pairs: list[tuple[int, int]], why: str | Why) -> None:
        """Accuse pairs (first, second)."""
        told: list[Violation] = []
        sessions: set[int] = set()
        for first, second in pairs:
            session = int(self._chain.lane[second]) // self._table.eras
            if self._spoiled[session] or session in sessions:
                continue
            sessions.add(session)
            if len(told) < self.MOST:
                told.append(self._violation(rule, first, second, why))
        self._spoiled[list(sessions)] = True
        self._findings.accuse(rule, len(sessions), told)

    def _violation(self, rule: Rule, first: int, second: int, why: str | Why) -> Violation:
        one, other = self.operation(first), self.operation(second)
        if not isinstance(why, str):
            return Violation(rule=rule, session=other.session, sentence=why(one, other), first=one, second=other)
        return Violation(
            rule=rule,
            session=other.session,
            sentence=f"{why[0].upper()}{why[1:]}: {one.words}; {other.words}.",
            first=one,
            second=other,
        )

    def operation(self, place: int) -> Operation:
        """The operation at a place of the chain."""
        table, chain = self._table, self._chain
        origin = table.facts.began_ns or table.origin_ns
        index, stamp = int(chain.index[place]), (int(chain.n[place]), int(chain.v[place]))
        if index == BASE:
            session = int(table.sessions[int(chain.lane[place]) // table.eras])
            return Operation.by_the_store(session, stamp, table.time_of(0), origin)
        return Operation.of(table.records[index], origin, stamp)


def fill(table: Table, chain: Chain, pool: Pool, findings: Findings, spoiled: Column) -> set[int]:
    """Put unknown writes where versions have no writer; accuse versions that nobody can have made.

    Returns:
        The creations that were chosen, rather than seen.
    """
    if not len(chain.lane):
        return set()
    filling = _Filling(table, chain, pool, findings)
    at = chain.class_at
    v, first = chain.v[at], chain.new_group[at]
    removal = np.logical_or.reduceat(chain.removal, at)
    has_writer = (chain.phase[at] == 0) | removal
    before = np.where(first, 0, v[np.maximum(np.arange(len(at)) - 1, 0)])
    # A removal is a version, too: what it removed was one before it.
    of_nothing = removal & (v <= 1)
    wrong = ~has_writer | (v != before + 1) | of_nothing
    for one in np.flatnonzero(wrong & ~spoiled[chain.lane[at] // table.eras]).tolist():
        session = int(chain.lane[at[one]]) // table.eras
        if not spoiled[session]:
            missing = (int(before[one]) + 1, int(v[one]) + (not has_writer[one]))
            spoiled[session] = not filling.fill(one, missing, is_of_nothing=bool(of_nothing[one]))
    if filling.places:
        chain.insert(filling.places, filling.rows)
    return filling.chosen


class _Filling:
    """What is put into the chain where versions have no writer."""

    def __init__(self, table: Table, chain: Chain, pool: Pool, findings: Findings) -> None:
        self._table, self._chain, self._pool, self._findings = table, chain, pool, findings
        self._accuser = ChainAccuser(table, chain, findings, np.zeros(len(table.sessions), bool))
        self.places: list[int] = []
        self.rows: list[tuple[int, ...]] = []
        self.chosen: set[int] = set()

    def fill(self, one: int, missing: tuple[int, int], *, is_of_nothing: bool) -> bool:
        """Fill the versions from the first on, up to before the second, in front of a version; False: nobody can."""
        chain, table = self._chain, self._table
        place = int(chain.class_at[one])
        lane, n, v = int(chain.lane[place]), int(chain.n[place]), int(chain.v[place])
        low, high = missing
        if is_of_nothing:
            _accuse_nobody(self._accuser, place, (n, v - 1), self._findings)
            return False
        if lane % table.eras and chain.new_lane[place]:
            low = self._begin(place, lane, n, high) or low
        for version in range(low, high):
            digests = _digests(table, chain, one) if version == v else set()
            index = self._pool.take(lane, n, version, digests)
            if index is None:
                _accuse_nobody(self._accuser, place, (n, version), self._findings)
                return False
            self._put(place, (index, lane, n, version, 0, False, int(table.start[index]), table.far))
            self._findings.count("adopted to fill a gap")
            if version == 1 and not digests:
                self.chosen.add(index)
            if table.eras == 1:
                table.wrote_n[index], table.wrote_v[index] = n, version
        return True

    def _begin(self, place: int, lane: int, n: int, high: int) -> int:
        """Put what a lane began with in front: the last version that nobody in it made; the one behind it, or 0."""
        base = self._pool.base(lane, n, high - 1)
        if base:
            self._put(place, (BASE, lane, n, base, 0, False, 0, self._table.far))
        return base and base + 1

    def _put(self, place: int, row: tuple[int, ...]) -> None:
        self.places.append(place)
        self.rows.append(row)


def _digests(table: Table, chain: Chain, one: int) -> set[int]:
    """The contents that readers of a version saw."""
    end = int(chain.class_at[one + 1]) if one + 1 < len(chain.class_at) else len(chain.lane)
    found = table.digest[chain.index[int(chain.class_at[one]) : end]]
    return set(found[found != 0].tolist())


def _accuse_nobody(accuser: ChainAccuser, place: int, stamp: tuple[int, int], findings: Findings) -> None:
    operation = accuser.operation(place)
    what = f"version {stamp[1]} of incarnation {stamp[0]}"
    rule = Rule.WATCHER if operation.kind.startswith(("told", "resync")) else Rule.REAL_WRITER
    findings.accuse(
        rule,
        1,
        [
            Violation(
                rule=rule,
                session=operation.session,
                sentence=f"Nobody can have made {what}, and yet: {operation.words}.",
                first=operation,
            )
        ],
    )


def check_contents(table: Table, chain: Chain, findings: Findings, spoiled: Column) -> None:
    """Who saw a version without knowing its writer saw what that writer wrote."""
    if not len(chain.lane):
        return
    sizes = np.diff(np.append(chain.class_at, len(chain.lane)))
    writer_at = np.repeat(chain.class_at, sizes)
    writer = chain.index[writer_at]
    known = (writer != BASE) & (chain.index != BASE) & (chain.phase == 1) & (chain.phase[writer_at] == 0)
    known &= ~chain.removal
    was, is_ = table.digest[writer], table.digest[chain.index]
    wrong = np.flatnonzero(known & (was != is_) & (was != 0) & (is_ != 0))
    accuser = ChainAccuser(table, chain, findings, spoiled)
    pairs = [(int(writer_at[one]), int(one)) for one in wrong]
    accuser(Rule.REAL_WRITER, pairs, "what was written was seen with another content")
