"""The checker: what processes recorded of their attempts, and whether any correct store can have answered so.

A session is a register whose states have stamps: an incarnation and, within it, versions one behind the other. So the
order of what changed it is known, and what is left to decide is whether the order in time allows it. That takes
sorting, not searching: a history of n records is judged in O(n log n). Only a session in which the usual explanation of
what has no stamp does not fit is searched for another, and is accused where there is none.

A record is read like this:

- Acknowledged writes have the stamp that they made; UPDATE and MUTATE also that which they were derived from.
- GET that is OK without a stamp, and whatever is answered with NOT_FOUND, refused or not (an update, a deletion, a
  touch), is a read of an absent session. A refusal with a stamp is a read of that state. TOUCH that is OK, and EXISTS
  without a stamp, found some state. Other refusals say nothing.
- DELETE_IF that is OK removed what it was derived from; its own version is the next. DELETE that is OK removed some
  state; which one is said by notifications and rows of the audit, if by any, or by its own stamp if it has one (that of
  the removal).
- Who is told (TOLD, TOLD_REMOVED, RESYNCHRONISED) knows that it had happened by then, nothing more: what watchers were
  told has an end, but no start.
- RECORDED and RECORDED_REMOVED have the place in the session's trail as times; the store's own removals have writer 0.

It trusts nothing of the core, and imports nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind, Outcome
from loadtests.judging import assumptions
from loadtests.judging.absence import Case, check_absence
from loadtests.judging.audit import check_audit
from loadtests.judging.chain import Chain
from loadtests.judging.expiry import check_late_ends
from loadtests.judging.gaps import ChainAccuser, Pool, check_contents, check_structure, fill
from loadtests.judging.losses import judge_losses, toll_of
from loadtests.judging.table import Table
from loadtests.judging.verdict import Facts, Fault, Findings, Loss, Operation, Rule, Status, Verdict, Violation
from loadtests.judging.watchers import check_watchers
from loadtests.judging.writers import attribute

if TYPE_CHECKING:
    from loadtests.history import History
    from loadtests.judging.table import Column

__all__ = ["Facts", "Fault", "Loss", "Operation", "Rule", "Status", "Verdict", "Violation", "check"]


def check(history: History, facts: Facts) -> Verdict:
    """Judge a round.

    Args:
        history: the records of all its processes and of its audit.
        facts: what is known of it beside them.
    """
    table = Table(history, facts)
    findings = Findings()
    _count(table, findings)
    findings.reasons += assumptions.broken(table)
    if findings.reasons:
        return findings.verdict()
    spoiled = attribute(table, findings)
    chain = Chain(table)
    check_structure(table, chain, findings, spoiled)
    pool = Pool(table)
    chosen = fill(table, chain, pool, findings, spoiled)
    chain.sweep()
    check_contents(table, chain, findings, spoiled)
    _check_order(table, chain, findings, spoiled)
    check_late_ends(table, chain, ChainAccuser(table, chain, findings, spoiled))
    check_absence(Case(table, chain, pool, chosen, findings, spoiled))
    check_watchers(table, findings)
    toll = toll_of(table, chain, spoiled)
    if facts.has_audit:
        check_audit(table, toll, findings, spoiled)
    judge_losses(table, toll, findings)
    findings.count("adopted", int(((table.wrote_n != 0) & table.is_open).sum()))
    return findings.verdict()


def _check_order(table: Table, chain: Chain, findings: Findings, spoiled: Column) -> None:
    """Accuse pairs whose order in time is the opposite of that of their versions."""
    accuser = ChainAccuser(table, chain, findings, spoiled)
    pairs = chain.contradictions()
    told = [pair for pair in pairs if table.is_note[chain.index[pair[1]]]]
    others = [pair for pair in pairs if not table.is_note[chain.index[pair[1]]]]
    accuser(Rule.ORDER, others, _out_of_order)
    accuser(Rule.WATCHER, told, _out_of_order)


def _out_of_order(first: Operation, second: Operation) -> str:
    """Say what a person can check: two times, two stamps."""
    later_ms = (first.start_ns - second.end_ns) / 1e6
    stamps = [f"({n}, v{v})" for n, v in (first.stamp, second.stamp)]
    if first.stamp == second.stamp:
        return f"{stamps[0]} was made {later_ms:.3f} ms after it was seen: {second.words}; {first.words}."
    return (
        f"{stamps[1]} was there, and {later_ms:.3f} ms after that came what can only be before it, at {stamps[0]}: "
        f"{second.words}; {first.words}."
    )


def _count(table: Table, findings: Findings) -> None:
    """Count what there is."""
    is_told = table.is_note
    of_attempts = table.is_attempt
    counts = {
        "records": len(table.kind),
        "sessions": len(table.sessions),
        "attempted": int(of_attempts.sum()),
        "acknowledged": int((of_attempts & (table.outcome == Outcome.OK)).sum()),
        "refused": int((table.outcome == Outcome.REFUSED).sum()),
        "unknown": int(table.is_open.sum()),
        "writes acknowledged": int((table.is_acknowledged | table.is_deleted).sum()),
        "reads": int((table.kind == Kind.GET).sum()),
        "notifications": int(is_told.sum()),
        "audit rows": int(table.is_row.sum()),
        "processes": len(np.unique(table.process[of_attempts])),
    }
    for name, number in counts.items():
        findings.count(name, number)
