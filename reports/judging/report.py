"""Puts everything together that a report says."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reports import tables
from reports.evidence import moment
from reports.findings import Report
from reports.judging.counterexample import counterexample
from reports.judging.faults import fault_cells, fault_rows
from reports.judging.guarantees import guarantees
from reports.judging.laws import laws
from reports.judging.loads import load_row
from reports.judging.mutants import mutant_rows
from reports.judging.notes import notes
from reports.judging.rivals import latencies
from reports.judging.targets import targets
from reports.judging.validity import validity
from reports.judging.verdict import said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.evidence import Evidence
    from reports.findings import NotebookRun


def judged(
    evidence: Evidence, notebooks: Sequence[NotebookRun] = (), *, profile: str, command: str, made_at: str
) -> Report:
    """Judge a run.

    Args:
        evidence: what it left behind.
        notebooks: as they were executed.
        profile: quick or full.
        command: what reproduces it.
        made_at: when the report is made, ISO 8601 in UTC.
    """
    valid = validity(evidence, notebooks, profile)
    goals, promises = targets(evidence, profile), guarantees(evidence)
    found = said(evidence, goals, promises, valid)
    run, validation = evidence.latency, evidence.validation
    started_at, finished_at = _times(evidence, made_at)
    return Report(
        verdict=found.verdict,
        headline=found.headline,
        reasons=found.reasons,
        profile=profile,
        command=command,
        made_at=made_at,
        started_at=started_at,
        finished_at=finished_at,
        commit=_commit(evidence),
        targets=goals,
        guarantees=promises,
        validity=valid,
        latencies=latencies(run) if run else [],
        faults=fault_rows(evidence),
        fault_cells=fault_cells(evidence),
        mutants=mutant_rows(validation) if validation else [],
        loads=[load_row(name, test, profile) for name, test in evidence.loads.items()],
        laws=laws(evidence.studies),
        counterexample=counterexample(validation) if validation else None,
        coverage=evidence.coverage,
        environment=_environment(evidence),
        notes=notes(evidence, goals),
        parts=evidence.parts,
        notebooks=list(notebooks),
    )


def _times(evidence: Evidence, made_at: str) -> tuple[str, str]:
    """When the first part began and the last one ended, as far as they say; else when the report is made."""
    found = sorted(_moments(evidence)) or [datetime.fromisoformat(made_at)]
    return found[0].isoformat(timespec="seconds"), found[-1].isoformat(timespec="seconds")


def _moments(evidence: Evidence) -> Iterator[datetime]:
    said_at = [(study.started_at, study.finished_at) for study in evidence.studies.values()]
    if evidence.latency is not None:
        manifest = evidence.latency.manifest
        said_at.append((str(manifest.get("started_at", "")), str(manifest.get("finished_at", ""))))
    yield from (moment(text) for pair in said_at for text in pair if text)
    for test in evidence.loads.values():
        began = moment(test.load.began_at)
        yield from (began, began + timedelta(seconds=test.load.scenario.duration_s))


def _commit(evidence: Evidence) -> str:
    machines = [evidence.latency.manifest.get("machine", {})] if evidence.latency else []
    machines += [study.facts.get("machine", {}) for study in evidence.studies.values()]
    return next((str(one["commit"]) for one in machines if one.get("commit")), "unknown")


def _environment(evidence: Evidence) -> list[tuple[str, str]]:
    """The machine and the servers; of a run without benchmarks what its studies say of the machine."""
    if evidence.latency is not None and "machine" in evidence.latency.manifest:
        return [(row[0], row[1]) for row in tables.environment(evidence.latency).rows]
    for study in evidence.studies.values():
        machine = study.facts.get("machine", {})
        return [(str(name), str(value)) for name, value in machine.items() if isinstance(value, str | int)]
    return []
