"""How throughput grows with instances: the Universal Scalability Law, fitted to what the study `instances` saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.evidence import STUDIES
from reports.findings import Law
from reports.usl import fit_usl

if TYPE_CHECKING:
    from loadtests.studies.study import Result

STUDY = "instances"
VALUE = "updates_per_s"
_NOTHING = (0.0, 0.0, 0.0)


def laws(studies: dict[str, Result]) -> list[Law]:
    """One for each subject of the study; with a note where there is no fit."""
    if STUDY not in studies:
        return []
    return [_law(studies[STUDY], subject) for subject in dict.fromkeys(one.subject for one in studies[STUDY].points)]


def _law(result: Result, subject: str) -> Law:
    points = [
        (one.x, one.values[VALUE])
        for one in result.points
        if one.subject == subject and isinstance(one.x, int) and VALUE in one.values
    ]
    file = f"{STUDIES}/{STUDY}.json"
    try:
        found = fit_usl(points)
    except ValueError as error:
        return Law(
            subject=subject,
            one_per_s=_NOTHING,
            contention=_NOTHING,
            coherency=_NOTHING,
            peak=None,
            file=file,
            note=str(error),
        )
    return Law(
        subject=subject,
        one_per_s=found.throughput,
        contention=found.contention,
        coherency=found.coherency,
        peak=found.peak,
        file=file,
    )
