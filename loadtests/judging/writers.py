"""Who wrote what: what was seen must be somebody's write, of one that may have been applied, as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind, Outcome, name_of
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings


def attribute(table: Table, findings: Findings) -> Column:
    """Adopt what was seen of unknown writes and deletions; accuse what was seen of none, or otherwise than written.

    Returns:
        Which sessions are beyond further judgement, since two of their records contradict each other already.
    """
    spoiled = np.zeros(len(table.sessions), bool)
    accuse = _Accuser(table, findings, spoiled)
    seen = np.flatnonzero((table.writer != 0) & (table.is_read | table.is_note | table.is_row | table.is_acknowledged))
    order = np.argsort(table.token, kind="stable")
    tokens = table.token[order]
    place = np.minimum(np.searchsorted(tokens, table.writer[seen]), len(tokens) - 1)
    writers = order[place]
    removal = (table.kind[seen] == Kind.TOLD_REMOVED) | (table.kind[seen] == Kind.RECORDED_REMOVED)
    fits = np.where(removal, table.is_removal[writers], table.is_write[writers])
    real = (tokens[place] == table.writer[seen]) & (table.session[writers] == table.session[seen]) & fits
    accuse.of_nobody(seen[~real])
    seen, writers, removal = seen[real], writers[real], removal[real]
    # A deletion of what was not there took nothing away, either.
    refused = (table.outcome[writers] == Outcome.REFUSED) | (table.is_removal[writers] & table.is_absent[writers])
    accuse(
        Rule.REAL_WRITER, writers[refused], seen[refused], lambda one, _: f"what {one} was refused, and yet it was seen"
    )
    kept = ~refused
    seen, writers, removal = seen[kept], writers[kept], removal[kept]
    _adopt(table, seen[~removal], writers[~removal], (table.wrote_n, table.wrote_v), accuse)
    _adopt(table, seen[removal], writers[removal], (table.removed_n, table.removed_v), accuse)
    _check_digests(table, seen[~removal], writers[~removal], accuse)
    _check_steps(table, accuse)
    return spoiled


class _Accuser:
    """Puts two records beside each other, and spoils their session."""

    def __init__(self, table: Table, findings: Findings, spoiled: Column) -> None:
        self._table, self._findings, self._spoiled = table, findings, spoiled

    def __call__(self, rule: Rule, first: Column, second: Column, why: Callable[[str, str], str]) -> None:
        """Accuse pairs of records; `why` is given the names of both attempts."""
        if not len(first):
            return
        table = self._table
        sessions = table.session[second]
        # One of each session: what follows from a contradiction is no news. Rows of the audit are the audit's.
        _, places = np.unique(sessions, return_index=True)
        self._spoiled[sessions] = True
        self._findings.accuse(rule, len(places), (self._pair(rule, first[p], second[p], why) for p in sorted(places)))

    def of_nobody(self, seen: Column) -> None:
        """Accuse what names a writer that never was."""
        self(
            Rule.REAL_WRITER,
            seen,
            seen,
            lambda _, other: f"{other} saw a write that no attempt on this session made",
        )

    def _pair(self, rule: Rule, first: int, second: int, why: Callable[[str, str], str]) -> Violation:
        table = self._table
        origin = table.facts.began_ns or table.origin_ns
        stamp = (int(table.incarnation[second]), int(table.version[second]))
        one = Operation.of(table.records[first], origin, stamp)
        other = Operation.of(table.records[second], origin)
        names = (named(table, first), named(table, second))
        # What only the audit has seen is for the audit to answer.
        rule = Rule.AUDIT if table.is_row[second] and rule == Rule.REAL_WRITER else rule
        return Violation(
            rule=rule,
            session=one.session,
            sentence=f"{why(*names)}: {other.words}" + (f"; but {one.words}." if first != second else "."),
            first=one,
            second=None if first == second else other,
        )


def named(table: Table, index: int) -> str:
    """An attempt as a sentence names it."""
    return f"{Kind(int(table.kind[index])).name.lower()} {name_of(int(table.token[index]))}"


def _adopt(table: Table, seen: Column, writers: Column, stamps: tuple[Column, Column], accuse: _Accuser) -> None:
    """What was seen of a write says what it made; all that was seen of it must say the same."""
    wrote_n, wrote_v = stamps
    unstamped = wrote_n[writers] == 0
    # The first that saw it, so that what is said of it does not depend on how the records were sorted.
    backwards = np.flatnonzero(unstamped)[::-1]
    wrote_n[writers[backwards]] = table.incarnation[seen[backwards]]
    wrote_v[writers[backwards]] = table.version[seen[backwards]]
    other = (wrote_n[writers] != table.incarnation[seen]) | (wrote_v[writers] != table.version[seen])
    if table.eras > 1:
        # A creation that was sent again after a loss may have been made in both.
        other &= table.kind[writers] != Kind.CREATE
    accuse(
        Rule.REAL_WRITER,
        writers[other],
        seen[other],
        lambda one, _: f"what {one} wrote was seen as another version",
    )


def _check_digests(table: Table, seen: Column, writers: Column, accuse: _Accuser) -> None:
    """What was seen is what its writer wrote."""
    was, is_ = table.digest[writers], table.digest[seen]
    other = (was != is_) & (was != 0) & (is_ != 0)
    accuse(
        Rule.REAL_WRITER,
        writers[other],
        seen[other],
        lambda one, _: f"what {one} wrote was seen with another content",
    )


def _check_steps(table: Table, accuse: _Accuser) -> None:
    """A write makes the version behind that which it was derived from; a creation makes the first."""
    wrote = table.wrote_n != 0
    creation = wrote & (table.kind == Kind.CREATE)
    step = (table.wrote_n == table.expected_n) & (table.wrote_v == table.expected_v + 1)
    bad = np.flatnonzero((creation & (table.wrote_v != 1)) | (wrote & (table.kind != Kind.CREATE) & ~step))
    accuse(Rule.NEXT_VERSION, bad, bad, lambda one, _: f"{one} did not make the version behind the one it was given")
    removed = (table.removed_n != 0) & (table.kind == Kind.DELETE_IF)
    step = (table.removed_n == table.expected_n) & (table.removed_v == table.expected_v + 1)
    bad = np.flatnonzero(removed & ~step)
    accuse(Rule.NEXT_VERSION, bad, bad, lambda one, _: f"{one} removed another version than the one it was given")
