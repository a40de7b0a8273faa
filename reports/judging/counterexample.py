"""One violation, of the subject that is wrong on purpose: every report shows what the judge would say of a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.judging.verdict import Rule, Status
from reports.evidence import VALIDATION
from reports.findings import Counterexample

if TYPE_CHECKING:
    from loadtests.validation import Validation

SUBJECT = "check_then_set"
_ROUND = f"{VALIDATION}/subjects/{SUBJECT}/rounds/001"
# Each of these is an acknowledged write that is gone, or that went over another.
_LOST = (Rule.LOST, Rule.ONE_WRITER, Rule.NEXT_VERSION)


def counterexample(validation: Validation) -> Counterexample | None:
    """The first violation of it, and how many there were; None: it was not attacked, or got away."""
    found = next((one for one in validation.subjects if one.subject == SUBJECT), None)
    if found is None or found.status != Status.VIOLATION:
        return None
    by_rule = {rule: found.counts.get(f"violations: {rule}", 0) for rule in Rule}
    return Counterexample(
        subject=SUBJECT,
        sentence=found.sentence,
        violations=sum(by_rule.values()),
        lost=sum(by_rule[rule] for rule in _LOST),
        operations=found.counts.get("attempted", 0),
        picture=f"{_ROUND}/violation.svg",
        file=f"{_ROUND}/verdict.json",
    )
