"""What a reader has to know: what was left out and why, what was run shorter, what was lost as it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.load.validity import is_searched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.validation import Validation
    from reports.evidence import Evidence
    from reports.findings import Target


def notes(evidence: Evidence, targets: Sequence[Target]) -> list[str]:
    """Each a sentence or a few."""
    found = [f"{one.name} was left out: {one.left_out.rstrip('.')}." for one in evidence.parts if one.left_out]
    left = sum(one.verdict is None for one in targets)
    if left:
        found.append(f"{left} targets are shown and not judged, since only a full run measures enough of them.")
    if evidence.latency is not None and evidence.latency.manifest.get("servers_given"):
        found.append("The servers were given by the environment; the levels of durability ran on embedded ones.")
    found += [*_of_loads(evidence), *_of_validation(evidence.validation), *_of_coverage(evidence)]
    found.append("What an operation costs beside a million sessions is judged by make scale, which takes minutes.")
    return found


def _of_loads(evidence: Evidence) -> Iterator[str]:
    for name, test in evidence.loads.items():
        if not test.verdict.time == test.verdict.size == 1:
            yield f"The load test {name} was run with TIME={test.verdict.time:g} and SIZE={test.verdict.size:g}."
        if is_searched(test.load):
            yield f"{name}: its percentiles are of all its steps, also of those beyond what the system takes."
        for one in test.verdict.unjudged:
            yield f"{name}: {one} was not judged, since there was one process."


def _of_validation(validation: Validation | None) -> Iterator[str]:
    if validation is None:
        return
    repeated = sum(one.is_repeated for one in validation.rounds)
    if repeated:
        yield f"{repeated} rounds showed nothing and were done again; both are among the faults."
    losses: dict[str, int] = {}
    for one in validation.rounds:
        if one.losses_allowed:
            losses[one.arena] = losses.get(one.arena, 0) + one.expected_losses
    if losses:
        told = ", ".join(f"{arena} {number:,}" for arena, number in losses.items())
        yield (
            "Acknowledged writes that are gone where the durability that was asked for allows it, since the store was"
            f" killed or replaced: {told}. They are no violation."
        )


def _of_coverage(evidence: Evidence) -> Iterator[str]:
    if evidence.coverage is None:
        yield "Coverage of the tests: not measured at this commit: make coverage."
    elif not evidence.coverage.is_of_this:
        yield f"Coverage of the tests: not measured at this commit, but at {evidence.coverage.commit}: make coverage."
