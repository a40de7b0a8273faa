"""What a report says, for a terminal: the tables of targets and guarantees, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.tables import Table, signed

if TYPE_CHECKING:
    from reports.findings import Guarantee, Report, Target

# From here on decimals are noise.
_WHOLE = 1_000


def told(report: Report) -> list[str]:
    """The report in lines; the verdict comes last, where who waited for it looks."""
    lines = [targets(report.targets).text(), "", guarantees(report.guarantees).text(), ""]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"{part.name} ended without a result: {part.tail[-1]}" for part in report.parts if part.tail]
    # The first of them is in the headline.
    lines += [f"besides: {reason}" for reason in report.reasons[1:]]
    return [*lines, f"{signed(report.verdict.value)}   {report.headline}"]


def targets(found: list[Target]) -> Table:
    """Each target with its value, interval, margin and verdict."""
    return Table(
        ("verdict", "what", "measured", "target", "margin", "95 % interval", "calls over it"),
        [_target(one) for one in found],
    )


def _target(one: Target) -> tuple[str, ...]:
    return (
        "– not judged" if one.verdict is None else signed(one.verdict.value),
        one.what,
        "nothing" if one.value is None else f"{_figure(one.value)} {one.unit}",
        f"{'<' if one.is_below else '>'} {one.limit:,g} {one.unit}",
        one.margin,
        "–" if one.lower is None or one.upper is None else f"{_figure(one.lower)} to {_figure(one.upper)}",
        "–" if one.over is None or one.allowed is None else f"{one.over:,} of {one.allowed:,} allowed",
    )


def guarantees(found: list[Guarantee]) -> Table:
    """Each guarantee with what was done to it, and what that showed."""
    return Table(
        ("verdict", "guarantee", "attempts", "faults", "violations", "checks held", "mutants caught"),
        [_guarantee(one) for one in found],
    )


def _guarantee(one: Guarantee) -> tuple[str, ...]:
    return (
        signed(one.verdict.value),
        f"{one.number} {one.text}",
        f"{one.operations:,}" if one.operations else "–",
        f"{one.faults}" if one.rounds else "–",
        f"{one.violations}",
        f"{one.checks_held} of {one.checks}",
        f"{one.mutants_caught} of {one.mutants}",
    )


def _figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < _WHOLE else f"{value:,.0f}"
