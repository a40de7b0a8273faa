"""What watchers were told: never back, and in the end the state that there is.

That what they were told was written, and not told before it was, falls out of the order of versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind, Outcome
from loadtests.judging.verdict import Operation, Rule, Violation

if TYPE_CHECKING:
    from loadtests.judging.table import Column, Table
    from loadtests.judging.verdict import Findings


def check_watchers(table: Table, findings: Findings) -> None:
    """Accuse watchers that went back, or did not reach the end."""
    notes = np.flatnonzero(table.is_note)
    notes = notes[np.lexsort((table.token[notes], table.session[notes], table.process[notes]))]
    _never_back(table, notes, findings)
    if table.facts.watchers:
        _final(table, notes, findings)


def _pair(table: Table, first: int, second: int | None, sentence: str) -> Violation:
    origin = table.facts.began_ns or table.origin_ns
    one = Operation.of(table.records[first], origin)
    other = None if second is None else Operation.of(table.records[second], origin)
    return Violation(rule=Rule.WATCHER, session=one.session, sentence=sentence, first=one, second=other)


def _never_back(table: Table, notes: Column, findings: Findings) -> None:
    """Per watcher and session stamps rise; a resynchronisation may repeat one."""
    told = notes[(table.kind[notes] != Kind.RESYNCHRONISED_ABSENT) & (table.incarnation[notes] != 0)]
    before, after = told[:-1], told[1:]
    same = (table.process[before] == table.process[after]) & (table.session[before] == table.session[after])
    n, v = table.incarnation, table.version
    rises = (n[after] > n[before]) | ((n[after] == n[before]) & (v[after] > v[before]))
    repeats = (n[after] == n[before]) & (v[after] == v[before]) & (table.kind[after] == Kind.RESYNCHRONISED)
    wrong = np.flatnonzero(same & ~rises & ~repeats)
    if table.eras > 1:
        wrong = wrong[~_excused(table, before[wrong], after[wrong])]
    findings.accuse(
        Rule.WATCHER,
        len(wrong),
        (
            _pair(
                table,
                int(before[one]),
                int(after[one]),
                f"Watcher p{int(table.process[after[one]])} went back: {_words(table, int(before[one]))}; then "
                f"{_words(table, int(after[one]))}.",
            )
            for one in wrong
        ),
    )


def _words(table: Table, index: int) -> str:
    return Operation.of(table.records[index], table.facts.began_ns or table.origin_ns).words


def _excused(table: Table, before: Column, after: Column) -> Column:
    """Which steps back a loss explains: one for each loss that had happened by then, per watcher and session."""
    losses = np.array([loss.at_ns for loss in table.facts.losses])
    happened = np.searchsorted(losses, table.end_ns[after], side="right")
    key = table.process[before].astype(np.int64) * len(table.sessions) + table.session[before]
    # They are sorted by watcher and session: how many of the same there were, this one included.
    first = np.searchsorted(key, key)
    excused: Column = np.arange(len(key)) - first + 1 <= happened
    return excused


def _final(table: Table, notes: Column, findings: Findings) -> None:
    """Every watcher that was there from the beginning to the end was told of the state that the final reads found."""
    final = _final_reads(table)
    unread = int((final < 0).sum())
    findings.count("sessions without a final read", unread)
    last = np.flatnonzero(np.append((np.diff(table.session[notes]) != 0) | (np.diff(table.process[notes]) != 0), True))
    latest = notes[last] if len(notes) else notes
    by_watcher = {int(one): np.full(len(table.sessions), -1) for one in table.facts.watchers}
    for process, found in by_watcher.items():
        own = latest[table.process[latest] == process]
        found[table.session[own]] = own
    for process, found in by_watcher.items():
        _reached(table, process, final, found, findings)


def _final_reads(table: Table) -> Column:
    """For each session the read behind all else that was known to end; -1 where there is none."""
    last_end = np.zeros(len(table.sessions), np.int64)
    changing = np.flatnonzero(table.is_acknowledged | table.is_deleted)
    np.maximum.at(last_end, table.session[changing], table.end[changing])
    reads = np.flatnonzero((table.kind == Kind.GET) & (table.outcome == Outcome.OK))
    reads = reads[np.lexsort((table.start[reads], table.session[reads]))]
    final = np.full(len(table.sessions), -1)
    # The last of each session stays.
    final[table.session[reads]] = reads
    found = final >= 0
    found[found] &= table.start[final[found]] >= last_end[found]
    return np.where(found, final, -1)


def _reached(table: Table, process: int, final: Column, found: Column, findings: Findings) -> None:
    has_final = final >= 0
    read, note = np.maximum(final, 0), np.maximum(found, 0)
    is_there = has_final & (table.incarnation[read] != 0)
    told = found >= 0
    n, v = table.incarnation, table.version
    is_behind = (n[note] < n[read]) | ((n[note] == n[read]) & (v[note] < v[read]))
    is_gone = np.isin(table.kind[note], [Kind.TOLD_REMOVED, Kind.RESYNCHRONISED_ABSENT])
    # One that was told of an absence has caught up with a removal, and is behind what was created since.
    absent_only = table.kind[note] == Kind.RESYNCHRONISED_ABSENT
    missing = is_there & (~told | is_behind | absent_only)
    stale = has_final & ~is_there & told & ~is_gone
    if table.eras > 1:
        # A loss takes the state back, and who watches is to know that in the end.
        is_ahead = (n[note] > n[read]) | ((n[note] == n[read]) & (v[note] > v[read]))
        stale |= is_there & told & is_ahead & (table.end[note] < table.start[read]) & ~absent_only
    wrong = np.flatnonzero(missing | stale)
    findings.accuse(Rule.WATCHER, len(wrong), (_unreached(table, process, final, found, int(one)) for one in wrong))


def _unreached(table: Table, process: int, final: Column, found: Column, session: int) -> Violation:
    read, note = int(final[session]), int(found[session])
    if note < 0:
        sentence = f"Watcher p{process} was never told of what was read in the end: {_words(table, read)}."
        return _pair(table, read, None, sentence)
    sentence = (
        f"Watcher p{process} did not reach the end: it was last told {_words(table, note)}; in the end was read "
        f"{_words(table, read)}."
    )
    return _pair(table, note, read, sentence)
