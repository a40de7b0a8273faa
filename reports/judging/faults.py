"""The faults: how often each hit, what it cost, and which guarantees held through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.evidence import VALIDATION
from reports.findings import FaultCell, FaultRow
from reports.guarantees import GUARANTEES
from reports.judging.histories import SHOWS, histories
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.evidence import Evidence
    from reports.judging.histories import Judged


def fault_rows(evidence: Evidence) -> list[FaultRow]:
    """Each fault in each arena that it befell; the outages of load tests behind those of the validation."""
    found = []
    validation = evidence.validation
    for one in validation.faults() if validation else []:
        assert validation is not None  # noqa: S101 - it is its own
        rounds = [round_ for round_ in validation.rounds if (round_.fault, round_.arena) == (one.fault, one.arena)]
        found.append(
            FaultRow(
                fault=one.fault,
                arena=one.arena,
                rounds=one.rounds,
                hit=one.hit,
                operations=sum(round_.counts.get("attempted", 0) for round_ in rounds),
                recovery_s=one.recovery_s,
                expected_losses=one.expected_losses,
                file=f"{VALIDATION}/rounds/{rounds[0].number:03d}",
            )
        )
    return [*found, *_of_loads(evidence)]


def _of_loads(evidence: Evidence) -> Iterator[FaultRow]:
    """An outage under load hurts no writer, so there is no return of writes to be told."""
    for one in histories(evidence):
        if one.arena == "load" and one.fault:
            yield FaultRow(
                fault=one.fault,
                arena=one.name.removeprefix("the load test "),
                rounds=1,
                hit=int(one.has_hit),
                operations=one.count("attempted"),
                recovery_s=None,
                expected_losses=0,
                file=one.file,
            )


def fault_cells(evidence: Evidence) -> list[FaultCell]:
    """Each fault with each guarantee that one of its rounds bears on, or is accused of; the rest was not put to it."""
    by_fault: dict[str, list[Judged]] = {}
    for one in histories(evidence):
        if one.fault:
            by_fault.setdefault(one.fault, []).append(one)
    return [
        cell
        for fault, rounds in by_fault.items()
        for guarantee in GUARANTEES
        if (cell := _cell(fault, guarantee, rounds)) is not None
    ]


def _cell(fault: str, guarantee: str, rounds: list[Judged]) -> FaultCell | None:
    shows = SHOWS.get(guarantee)
    of_it = [one for one in rounds if guarantee in one.broken or (shows and (shows.where(one) or not one.counts))]
    if not of_it:
        return None
    hit = [one for one in of_it if one.has_hit]
    if any(guarantee in one.broken for one in of_it):
        verdict = Verdict.FAIL
    elif hit and all(one.is_valid for one in hit):
        verdict = Verdict.PASS
    else:
        verdict = Verdict.INCONCLUSIVE
    return FaultCell(
        fault=fault,
        guarantee=guarantee,
        verdict=verdict,
        rounds=len(hit),
        operations=sum(one.count("attempted") for one in hit),
    )
