"""What a report says, for a terminal: the tables of targets and guarantees, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.judging.words import between, figure, limit
from reports.tables import Table, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.findings import Guarantee, Report, Target

_NOTHING = "–"
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
    allowed = _NOTHING if one.allowed is None else f"{one.allowed:,}"
    return (
        "  not judged" if one.verdict is None else signed(one.verdict.value),
        one.what,
        _NOTHING if one.value is None else figure(one.value, one.unit),
        f"{'<' if one.is_below else '>'} {limit(one.limit, one.unit)}",
        one.margin,
        between(one) or _NOTHING,
        _NOTHING if one.calls is None else f"{one.over or 0:,} of {allowed} allowed in {one.calls:,}",
    )


def guarantees(found: Sequence[Guarantee]) -> Table:
    """Each guarantee with what was done to it, and what that showed; its text last, since that is as long as it is."""
    return Table(
        ("verdict", "", "attempts", "faults", "violations", "checks held", "mutants caught", "guarantee"),
        [_guarantee(one) for one in found],
    )


def _guarantee(one: Guarantee) -> tuple[str, ...]:
    return (
        signed(one.verdict.value),
        one.number,
        f"{one.operations:,}" if one.rounds else _NOTHING,
        f"{one.faults:,}" if one.rounds else _NOTHING,
        f"{one.violations:,}",
        f"{one.checks_held} of {one.checks}",
        f"{one.mutants_caught} of {one.mutants}",
        one.text,
    )
