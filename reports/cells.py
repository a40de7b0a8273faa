"""The cells of a row, by their names: terminal, summary and notebooks show the same ones, each in its own order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports.judging.words import between, figure, limit
from reports.tables import NOTHING, signed

if TYPE_CHECKING:
    from reports.findings import Guarantee, Target


class TargetCells(NamedTuple):
    """A target in words.

    Attributes:
        verdict: with its sign.
        what: was measured.
        measured: the value with its unit.
        bounds: its interval.
        limit: with the side that the value must be on, and the unit.
        margin: how far on which side it is.
        over, allowed, calls: of a percentile, how many calls were over the limit, how many may be, and of how many.
    """

    verdict: str
    what: str
    measured: str
    bounds: str
    limit: str
    margin: str
    over: str
    allowed: str
    calls: str


def target_cells(one: Target, not_judged: str = "not judged") -> TargetCells:
    """The cells of a target; what is not there is a dash.

    Args:
        one: the target.
        not_judged: what stands for the verdict where there is none.
    """
    is_counted = one.calls is not None
    return TargetCells(
        verdict=not_judged if one.verdict is None else signed(one.verdict.value),
        what=one.what,
        measured=figure(one.value, one.unit),
        bounds=between(one) or NOTHING,
        limit=f"{'<' if one.is_below else '>'} {limit(one.limit, one.unit)}",
        margin=one.margin,
        over=f"{one.over or 0:,}" if is_counted else NOTHING,
        allowed=NOTHING if one.allowed is None else f"{one.allowed:,}",
        calls=f"{one.calls:,}" if is_counted else NOTHING,
    )


class GuaranteeCells(NamedTuple):
    """A guarantee in words.

    Attributes:
        verdict: with its sign.
        number: `G1` to `G14`.
        text: what is guaranteed.
        attempts, rounds, faults: in the histories that were judged for it; dashes where there is none.
        violations: of it.
        checks, mutants: how many held, or were caught, of how many.
    """

    verdict: str
    number: str
    text: str
    attempts: str
    rounds: str
    faults: str
    violations: str
    checks: str
    mutants: str


def guarantee_cells(one: Guarantee) -> GuaranteeCells:
    """The cells of a guarantee."""
    attempts, rounds, faults = (
        f"{count:,}" if one.rounds else NOTHING for count in (one.operations, one.rounds, one.faults)
    )
    return GuaranteeCells(
        verdict=signed(one.verdict.value),
        number=one.number,
        text=one.text,
        attempts=attempts,
        rounds=rounds,
        faults=faults,
        violations=f"{one.violations:,}",
        checks=f"{one.checks_held} of {one.checks}",
        mutants=f"{one.mutants_caught} of {one.mutants}",
    )
