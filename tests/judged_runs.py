"""Runs that are judged, with something changed in them: for tests of what a report says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from loadtests.judging.verdict import Rule, Status
from loadtests.load.findings import Speed
from reports.judging.guarantees import guarantees
from reports.judging.targets import targets
from reports.judging.validity import validity
from reports.judging.verdict import said
from tests.made_run import coverage

if TYPE_CHECKING:
    from loadtests.validation import Validation
    from reports.evidence import Evidence
    from reports.findings import Guarantee, NotebookRun, Target, Validity
    from reports.judging.verdict import Said


def put(evidence: Evidence, **parts: Any) -> None:
    """Put something in the place of parts that would be read."""
    evidence.__dict__.update(parts)


def judged(evidence: Evidence, profile: str = "quick", notebooks: tuple[NotebookRun, ...] = ()) -> Said:
    """The verdict on it."""
    return said(
        evidence, targets(evidence, profile), guarantees(evidence), validity(evidence, list(notebooks), profile)
    )


def validation_of(evidence: Evidence) -> Validation:
    """Its validation, which is there."""
    assert evidence.validation is not None
    return evidence.validation


def guarantee(evidence: Evidence, number: str) -> Guarantee:
    """What is said of one guarantee."""
    return next(one for one in guarantees(evidence) if one.number == number)


def set_mutant(evidence: Evidence, name: str, result: str, check: str = "") -> None:
    """Give a mutant another result; without a name, the core as it is under a check."""
    found = validation_of(evidence)
    found.mutants = [
        msgspec.structs.replace(one, result=result) if one.mutant == name and check in ("", one.check) else one
        for one in found.mutants
    ]


def set_load(evidence: Evidence, name: str, correctness: str | None = None, **changes: Any) -> None:
    """Let a load test have come out otherwise."""
    test = evidence.loads[name]
    verdict = msgspec.structs.replace(test.verdict, **changes)
    evidence.loads[name] = test._replace(verdict=verdict, correctness=correctness or test.correctness)


def violated(evidence: Evidence, rule: Rule = Rule.ONE_WRITER, place: int = 1) -> None:
    """Let a round have found a violation."""
    one = validation_of(evidence).rounds[place]
    one.status, one.counts = Status.VIOLATION, {**one.counts, f"violations: {rule}": 3}
    one.sentences = ["Both made the same version."]


def invalid(evidence: Evidence) -> None:
    """Let a load test show nothing."""
    set_load(evidence, "audit_outage", verdict=Speed.INVALID, reasons=["process 0 began 9 of 10 steps late"])


def missed(evidence: Evidence) -> None:
    """Let the tests reach too little of the audit."""
    put(evidence, coverage=coverage(audit_percent=70.0))


def doubted(evidence: Evidence) -> None:
    """Let a round have shown nothing."""
    validation_of(evidence).rounds[0].status = Status.UNDECIDED


def rows(found: list[Validity], what: str) -> list[Validity]:
    """Of what has to be so, what begins with these words."""
    return [one for one in found if one.what.startswith(what)]


def of_source(found: list[Target], source: str) -> list[Target]:
    """The targets that were measured so."""
    return [one for one in found if one.source == source]
