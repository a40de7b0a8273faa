"""The audit: every write once, in order, by who wrote it, and none that was refused.

That rows name real attempts, and what these wrote, is decided with all else that was seen (see `writers.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from loadtests.judging.losses import Toll
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings


def check_audit(table: Table, toll: Toll, findings: Findings, spoiled: Column) -> None:
    """Accuse trails that are not the history.

    Across a loss, rows of what was lost may be there or not. What a store keeps over a loss is all that it had done up
    to some moment: of a session that went on, each write up to the state that it went on from, and with it its record.
    """
    rows = np.flatnonzero(table.is_row)
    rows = rows[np.lexsort((table.start_ns[rows], table.session[rows]))]
    rows = rows[~spoiled[table.session[rows]]]
    accuser = _Accuser(table, findings)
    _in_order(table, rows, accuser)
    _once_by_token(table, rows, accuser)
    if table.eras == 1:
        _steps(table, rows, accuser)
        _complete(table, rows, accuser, spoiled)
    else:
        _survivors(table, rows, accuser, toll, spoiled)


class _Accuser:
    """Accuses the audit, of each session once for each thing."""

    def __init__(self, table: Table, findings: Findings) -> None:
        self._table, self._findings = table, findings

    def __call__(self, first: Column, second: Column | None, why: str) -> None:
        table = self._table
        _, places = np.unique(table.session[first], return_index=True)
        told = (self._violation(int(first[p]), None if second is None else int(second[p]), why) for p in sorted(places))
        self._findings.accuse(Rule.AUDIT, len(first), told)

    def _violation(self, first: int, second: int | None, why: str) -> Violation:
        table = self._table
        origin = table.facts.began_ns or table.origin_ns
        one = Operation.of(table.records[first], origin)
        other = None if second is None else Operation.of(table.records[second], origin)
        words = one.words if other is None else f"{one.words}; {other.words}"
        return Violation(rule=Rule.AUDIT, session=one.session, sentence=f"{why}: {words}.", first=one, second=other)


def _in_order(table: Table, rows: Column, accuser: _Accuser) -> None:
    """No two rows have the same place."""
    before, after = rows[:-1], rows[1:]
    same = (table.session[before] == table.session[after]) & (table.start_ns[before] == table.start_ns[after])
    accuser(before[same], after[same], "Two rows are at the same place of a session's trail")


def _once_by_token(table: Table, rows: Column, accuser: _Accuser) -> None:
    """No attempt is recorded twice."""
    named = rows[table.writer[rows] != 0]
    named = named[np.lexsort((table.start_ns[named], table.writer[named]))]
    twice = table.writer[named[1:]] == table.writer[named[:-1]]
    accuser(named[:-1][twice], named[1:][twice], "One attempt has two rows")


def _steps(table: Table, rows: Column, accuser: _Accuser) -> None:
    """Versions 1 to V of each incarnation, one behind the other; another one only behind a removal."""
    first = np.append(True, table.session[rows[1:]] != table.session[rows[:-1]]) if len(rows) else np.zeros(0, bool)
    n, v = table.incarnation[rows], table.version[rows]
    removal = table.kind[rows] == Kind.RECORDED_REMOVED
    again, before = rows[1:], rows[:-1]
    goes_on = (n[1:] == n[:-1]) & (v[1:] == v[:-1] + 1) & ~removal[:-1]
    begins_anew = (n[1:] > n[:-1]) & (v[1:] == 1) & removal[:-1]
    wrong = ~first[1:] & ~goes_on & ~begins_anew
    accuser(before[wrong], again[wrong], "These rows do not follow each other")


def _complete(table: Table, rows: Column, accuser: _Accuser, spoiled: Column) -> None:
    """All that was acknowledged, or seen, has a row."""
    recorded = np.isin(table.token, table.writer[rows][table.writer[rows] != 0])
    made = ((table.wrote_n != 0) | table.is_deleted) & ~spoiled[table.session]
    missing = np.flatnonzero(made & ~recorded & (table.lane >= 0))
    # What the audit names without a token is there as well.
    unnamed = rows[(table.writer[rows] == 0) & (table.kind[rows] == Kind.RECORDED)]
    if len(unnamed):
        there = set(_stamps(table.session, table.incarnation, table.version, unnamed))
        stamps = _stamps(table.session, table.wrote_n, table.wrote_v, missing)
        missing = missing[[stamp not in there for stamp in stamps]]
    accuser(missing, None, "What was acknowledged, or seen, is not in the audit")
    _ends(table, rows, accuser, spoiled)


def _survivors(table: Table, rows: Column, accuser: _Accuser, toll: Toll, spoiled: Column) -> None:
    """All that was acknowledged behind the last loss, or outlasted all of them, has a row."""
    recorded = np.isin(table.token, table.writer[rows][table.writer[rows] != 0])
    n = np.where(table.wrote_n != 0, table.wrote_n, table.removed_n)
    v = np.where(table.wrote_n != 0, table.wrote_v, table.removed_v)
    made = (n != 0) & ~recorded & ~spoiled[table.session]
    since = made & (table.lane >= 0) & (table.first_era == table.eras - 1)
    # A life without unknown writes: of these one might have made a version again that was lost.
    clear = np.ones(len(table.sessions), bool)
    clear[table.session[table.is_open & (table.is_write | table.is_removal)]] = False
    begun = np.zeros(len(table.sessions), np.int64)
    begun[list(toll.begun)] = list(toll.begun.values())
    outlasted = made & (table.is_acknowledged | table.is_deleted) & (table.last_era < table.eras - 1)
    outlasted &= clear[table.session] & (n == begun[table.session])
    outlasted[[one.write for one in toll.gone]] = False
    outlasted[toll.perhaps] = False
    missing = np.flatnonzero(since | outlasted)
    # Where a row has the same stamp, its place was taken by what was lost.
    there = set(_stamps(table.session, table.incarnation, table.version, rows))
    missing = missing[np.array([stamp not in there for stamp in _stamps(table.session, n, v, missing)], bool)]
    accuser(missing, None, "What was acknowledged and is not lost is not in the audit")


def _stamps(session: Column, n: Column, v: Column, at: Column) -> list[tuple[int, int, int]]:
    return list(zip(session[at].tolist(), n[at].tolist(), v[at].tolist(), strict=True))


def _ends(table: Table, rows: Column, accuser: _Accuser, spoiled: Column) -> None:
    """What watchers were told of the end of a life has a row."""
    told = np.flatnonzero((table.kind == Kind.TOLD_REMOVED) & ~spoiled[table.session])
    removal_rows = rows[table.kind[rows] == Kind.RECORDED_REMOVED]
    there = set(_stamps(table.session, table.incarnation, table.version, removal_rows))
    stamps = _stamps(table.session, table.incarnation, table.version, told)
    missing = told[np.array([stamp not in there for stamp in stamps], bool)]
    accuser(missing, None, "The end that a watcher was told of is not in the audit")
