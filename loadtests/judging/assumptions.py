"""What a history must be before anything follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import NEVER, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.judging.table import Column, Table

# From how many records of one process on times that are all whole microseconds are no chance.
_ENOUGH_TIMES = 200
_ROUNDED_TO_NS = 1_000


def broken(table: Table) -> list[str]:
    """Which assumptions do not hold, each in a sentence."""
    if not table.is_attempt.any():
        return ["assumption: nothing was attempted"]
    return [*_tokens(table), *_times(table), *_processes(table), *_attempts(table)]


def _tokens(table: Table) -> Iterator[str]:
    """Every attempt has a token of its own."""
    found = np.sort(table.token[~table.is_row], kind="stable")
    twice = found[1:][found[1:] == found[:-1]]
    if len(twice):
        yield f"assumption: token {int(twice[0]):x} is that of two attempts ({len(twice)} such)"
    if (found == 0).any():
        yield "assumption: a record has no token"


def _times(table: Table) -> Iterator[str]:
    timed = ~table.is_row
    start, end = table.start_ns[timed], table.end_ns[timed]
    backwards = np.flatnonzero(end < start)
    if len(backwards):
        yield f"assumption: {len(backwards)} records end before they start"
    process = table.process[timed]
    for name, times, of in (("start", start, process), ("end", end[end != NEVER], process[end != NEVER])):
        # Of each by itself: among many, one whose timer rounds would go unnoticed.
        counts = np.bincount(of)
        rounded = np.bincount(of[times % _ROUNDED_TO_NS == 0], minlength=len(counts))
        for one in np.flatnonzero((counts >= _ENOUGH_TIMES) & (rounded == counts)):
            yield f"assumption: all {counts[one]} {name} times of process {one} are whole microseconds: it rounds"
    unknown = ~np.isin(table.kind, [int(kind) for kind in Kind])
    if unknown.any():
        yield f"assumption: {int(unknown.sum())} records are of no known kind"
    underived = table.is_acknowledged & (table.kind != Kind.CREATE) & (table.expected_n == 0)
    if underived.any():
        yield f"assumption: of {int(underived.sum())} acknowledged writes nobody knows what they were derived from"
    unstamped = table.is_acknowledged & (table.incarnation == 0)
    if unstamped.any():
        yield f"assumption: {int(unstamped.sum())} acknowledged writes have no version"


def _processes(table: Table) -> Iterator[str]:
    """One process's attempts do not overlap, but for what a mutation's function was shown within it."""
    attempts = np.flatnonzero(table.is_attempt)
    order = attempts[np.argsort(table.token[attempts], kind="stable")]
    process, start, end = table.process[order], table.start_ns[order], table.end_ns[order]
    # What has no end holds up nobody: its process went on.
    end = np.where(end == NEVER, start, end)
    shown, _ = _shown(table, order)
    kept = ~shown
    process, start, end, order = process[kept], start[kept], end[kept], order[kept]
    overlaps = np.flatnonzero((process[1:] == process[:-1]) & (start[1:] < end[:-1]))
    if len(overlaps):
        one = int(process[overlaps[0]])
        yield f"assumption: attempts of process {one} overlap, or are not in order ({len(overlaps)} such)"
    yield from _plans(table, order)


def _plans(table: Table, order: Column) -> Iterator[str]:
    """What was planned was attempted in that order and not before its time; `order` is of attempts, by token."""
    planned = np.ascontiguousarray(table.records["planned_ns"])[order]
    has_plan = planned != 0
    if not has_plan.any():
        return
    process = table.process[order]
    of, at, start = process[has_plan], planned[has_plan], table.start_ns[order[has_plan]]
    sharing = np.full(int(process.max()) + 1, -1)
    for number, together in enumerate(table.facts.shared_plans):
        sharing[[one for one in together if one < len(sharing)]] = number
    alone = sharing[of] < 0
    if ((of[1:] == of[:-1]) & (at[1:] < at[:-1]) & alone[1:]).any():
        yield "assumption: attempts were not made in the order in which they were planned"
    shared = np.flatnonzero(~alone)
    session = table.session[order[has_plan]]
    shared = shared[np.lexsort((start[shared], session[shared], sharing[of[shared]]))]
    before, after = shared[:-1], shared[1:]
    same = (sharing[of[before]] == sharing[of[after]]) & (session[before] == session[after])
    wrong = int((same & (at[after] < at[before])).sum())
    if wrong:
        yield f"assumption: attempts on a session were not made in the order in which they were planned ({wrong} such)"
    if (start < at).any():
        yield "assumption: attempts began before their time"
    if np.isin(process, np.unique(of)).sum() != len(of):
        yield "assumption: some attempts of a planned process have no planned time"


def _shown(table: Table, order: Column) -> tuple[Column, Column]:
    """Which attempts, ordered by token, are what a mutation's function was shown; and which may be.

    They lie within the mutation's interval. Of one whose end is not known, nobody can tell them from what came later.
    """
    around = table.kind[order] == Kind.MUTATE
    latest = np.maximum.accumulate(np.where(around, np.arange(len(order)), -1))
    outer = order[np.maximum(latest, 0)]
    inside = (latest >= 0) & (table.kind[order] == Kind.GET)
    inside &= (table.process[order] == table.process[outer]) & (table.session[order] == table.session[outer])
    inside &= table.start_ns[order] >= table.start_ns[outer]
    is_open = table.is_open[outer]
    return inside & ~is_open & (table.end_ns[order] <= table.end_ns[outer]), inside & is_open


def _attempts(table: Table) -> Iterator[str]:
    """Every process made as many attempts as it was to make."""
    if not table.facts.planned:
        return
    attempts = np.flatnonzero(table.is_attempt)
    order = attempts[np.argsort(table.token[attempts], kind="stable")]
    shown, perhaps = _shown(table, order)
    length = int(table.process.max(initial=0)) + 1
    most = np.bincount(table.process[order[~shown]], minlength=length)
    fewest = most - np.bincount(table.process[order[perhaps]], minlength=length)
    for process, planned in table.facts.planned.items():
        low, high = (int(fewest[process]), int(most[process])) if process < length else (0, 0)
        if low > planned or (high < planned and process not in table.facts.killed):
            yield f"assumption: process {process} made {high} of {planned} planned attempts"
