"""All pictures of a report, by the section of the page that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.figures import audit, faults, latency, load, rivals, scaling, violation
from reports.figures.style import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reports.evidence import Evidence
    from reports.figures.style import Picture

# The sections of the page that have pictures, in its order.
SECTIONS = ("latency", "load", "rivals", "scaling", "audit", "faults", "violation")


def pictures(evidence: Evidence, failed: Callable[[str, Exception], object] | None = None) -> dict[str, list[Picture]]:
    """What can be drawn of a run, by section; of what was not measured there is none.

    Args:
        evidence: of the run.
        failed: told the section and the error where one cannot be drawn, and the others are drawn all the same; None:
            the error is raised.
    """
    found = {}
    for section in SECTIONS:
        some: list[Picture] = []
        try:
            for picture in _each(evidence, section):
                some.append(picture)  # noqa: PERF402 - what was drawn before an error stays
        except Exception as error:
            if failed is None:
                raise
            failed(section, error)
        found[section] = some
    return found


def of_section(evidence: Evidence, section: str) -> list[Picture]:
    """What can be drawn of a run in one section."""
    return list(_each(evidence, section))


def _each(evidence: Evidence, section: str) -> Iterator[Picture]:
    drawers = {
        "latency": _latency,
        "load": _load,
        "rivals": _rivals,
        "scaling": _scaling,
        "audit": _audit,
        "faults": _faults,
        "violation": _violation,
    }
    there = (picture for picture in drawers[section](evidence) if picture is not None)
    # Pictures of the same title, and the same picture in two sections, must not share an id.
    yield from (alone(picture, f"{section}-{place}") for place, picture in enumerate(there, 1))


def _latency(evidence: Evidence) -> Iterator[Picture | None]:
    if evidence.latency is not None:
        yield from latency.spectra(evidence.latency)
        yield latency.drift(evidence.latency)


def _load(evidence: Evidence) -> Iterator[Picture | None]:
    for test in evidence.loads.values():
        yield load.latency(test)
        yield load.outcomes(test)
        yield load.knee(test)


def _rivals(evidence: Evidence) -> Iterator[Picture | None]:
    if evidence.latency is not None:
        yield rivals.ratios(evidence.latency)
        yield rivals.medians(evidence.latency)


def _scaling(evidence: Evidence) -> Iterator[Picture | None]:
    for name, study in evidence.studies.items():
        draw = {"instances": scaling.instances, "contention": scaling.contention}.get(name, scaling.growth)
        yield draw(study)


def _audit(evidence: Evidence) -> Iterator[Picture | None]:
    # Where PostgreSQL was away is what there is to see; without that, any test shows how late the trail is.
    tests = list(evidence.loads.values())
    for test in [test for test in tests if test.load.outage is not None] or tests[:1]:
        yield audit.lag(test)


def _faults(evidence: Evidence) -> Iterator[Picture | None]:
    if evidence.validation is not None:
        yield faults.recoveries(evidence.validation.faults())


def _violation(evidence: Evidence) -> Iterator[Picture | None]:
    yield violation.counterexample(evidence.folder)
