"""A report as Markdown, for a summary of CI: what came of it, and how to see it again. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.cells import guarantee_cells, target_cells
from reports.judging.words import figure
from reports.tables import signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.findings import Guarantee, Report, Target

# So many of the operations and mutants that took longest.
_SLOWEST = 3
# What stands for itself in Markdown and would be read as markup, or end a cell of a table.
_MARKUP = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_[]<>|#~"})


def markdown(report: Report) -> str:
    """It in Markdown, as GitHub renders it."""
    parts = [
        [f"# {signed(report.verdict.value)}", "", _escaped(report.headline), ""],
        _reasons(report.reasons),
        _targets(report.targets),
        _guarantees(report.guarantees),
        _invalid(report),
        _left_out(report),
        _slowest(report),
        _reproduce(report),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _reasons(reasons: Sequence[str]) -> Iterator[str]:
    if len(reasons) > 1:
        yield from (*(f"1. {_escaped(reason)}" for reason in reasons), "")


def _targets(targets: Sequence[Target]) -> Iterator[str]:
    yield from ("## Targets", "")
    if not targets:
        yield from ("None was measured.", "")
        return
    head = ("verdict", "what", "measured", "95 % bounds", "target", "margin", "over it, of allowed, in calls")
    yield from _table(head, [_target(one) for one in targets])


def _target(one: Target) -> tuple[str, ...]:
    cells = target_cells(one)
    over = cells.over if one.calls is None else f"{cells.over} of {cells.allowed} in {cells.calls}"
    return (cells.verdict, cells.what, cells.measured, cells.bounds, cells.limit, cells.margin, over)


def _guarantees(guarantees: Sequence[Guarantee]) -> Iterator[str]:
    yield from ("## Guarantees", "")
    head = ("verdict", "", "guarantee", "attempts judged", "faults", "violations", "checks held", "mutants caught")
    yield from _table(head, [_guarantee(one) for one in guarantees])


def _guarantee(one: Guarantee) -> tuple[str, ...]:
    cells = guarantee_cells(one)
    counts = (cells.attempts, cells.faults, cells.violations, cells.checks, cells.mutants)
    return (cells.verdict, cells.number, cells.text, *counts)


def _invalid(report: Report) -> Iterator[str]:
    """What makes it invalid; and if nothing does, of how much that was made sure."""
    yield from ("## Is the run valid", "")
    wrong = [one for one in report.validity if not one.is_valid]
    if wrong:
        yield from _table(
            ("", "what", "seen", "how it has to be"), [("✘", one.what, one.seen, one.limit) for one in wrong]
        )
    else:
        yield from (f"Yes: {len(report.validity)} of {len(report.validity)} conditions hold.", "")


def _left_out(report: Report) -> Iterator[str]:
    if report.notes:
        yield from ("## To know", "", *(f"- {_escaped(note)}" for note in report.notes), "")


def _slowest(report: Report) -> Iterator[str]:
    """What took longest: of calls, of recoveries, of waiting entries, of parts."""
    ours = sorted((one for one in report.latencies if one.subject == "kairos"), key=lambda one: -one.p99)
    facts = [f"{one.operation}: p99 {figure(one.p99, 'ms')}, p50 {figure(one.p50, 'ms')}" for one in ours[:_SLOWEST]]
    back = [one for one in report.faults if one.recovery_s is not None]
    if back:
        last = max(back, key=lambda one: one.recovery_s or 0.0)
        facts.append(
            f"slowest return of writes: {figure(last.recovery_s or 0.0, 's')} after {last.fault}, {last.arena}"
        )
    waited = [one for one in report.loads if one.outage_s is not None]
    facts += [
        f"{one.name}: PostgreSQL was away for {figure(one.outage_s or 0.0, 's')}; at most {one.most_waiting:,} entries"
        f" waited, the oldest for {figure(one.longest_lag_s, 's')}"
        for one in waited
    ]
    parts = sorted((one for one in report.parts if one.seconds), key=lambda one: -one.seconds)
    facts += [f"part {one.name}: {one.seconds:,.0f} s" for one in parts[:_SLOWEST]]
    if facts:
        yield from ("## The slowest", "", *(f"- {_escaped(fact)}" for fact in facts), "")


def _reproduce(report: Report) -> Iterator[str]:
    yield from ("## How to reproduce it", "", "```sh", *report.command.splitlines(), "```", "")
    yield _escaped(
        f"Commit {report.commit}, profile {report.profile}, measured from {report.started_at} to {report.finished_at}."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([_escaped(cell) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _escaped(text: str) -> str:
    """On one line, and so that nothing of it is markup."""
    return " ".join(text.split()).translate(_MARKUP)
