"""What a report says, for a terminal: the tables of targets and guarantees, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.cells import guarantee_cells, target_cells
from reports.tables import Table, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.findings import Guarantee, Report, Target

# So many reasons beside the first are told here; all of them are on the page.
_MOST_REASONS = 5


def told(report: Report) -> list[str]:
    """The report in lines; the verdict comes last, where who waited for it looks."""
    lines = [targets(report.targets).text(), "", guarantees(report.guarantees).text(), ""]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"{part.name} ended without a result: {part.tail[-1]}" for part in report.parts if part.tail]
    # The first of them is in the headline.
    more = report.reasons[1 + _MOST_REASONS :]
    lines += [f"besides: {reason}" for reason in report.reasons[1 : 1 + _MOST_REASONS]]
    lines += [f"besides: {len(more)} more, which are on the page"] if more else []
    return [*lines, f"{signed(report.verdict.value)}   {report.headline}"]


def targets(found: Sequence[Target]) -> Table:
    """Each target with its value, interval, margin and verdict."""
    return Table(
        ("verdict", "what", "measured", "target", "margin", "95 % bounds", "calls over the target"),
        [_target(one) for one in found],
    )


def _target(one: Target) -> tuple[str, ...]:
    # The words stand below each other, the signs before them.
    cells = target_cells(one, "  not judged")
    over = cells.over if one.calls is None else f"{cells.over} of {cells.allowed} allowed in {cells.calls}"
    return (cells.verdict, cells.what, cells.measured, cells.limit, cells.margin, cells.bounds, over)


def guarantees(found: Sequence[Guarantee]) -> Table:
    """Each guarantee with what was done to it, and what that showed; its text last, since that is as long as it is."""
    return Table(
        ("verdict", "", "attempts", "faults", "violations", "checks held", "mutants caught", "guarantee"),
        [_guarantee(one) for one in found],
    )


def _guarantee(one: Guarantee) -> tuple[str, ...]:
    cells = guarantee_cells(one)
    counts = (cells.attempts, cells.faults, cells.violations, cells.checks, cells.mutants)
    return (cells.verdict, cells.number, *counts, cells.text)
