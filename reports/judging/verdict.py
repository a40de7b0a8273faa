"""The verdict on the whole run, why, and the first line of the report.

A violation of correctness is FAIL, whatever else is wrong: it was seen, and nothing explains it. Else a run that says
nothing is INVALID. Else a target that is missed, or a broken core that was not noticed, is FAIL. Else what could not be
told leaves all INCONCLUSIVE. What remains is PASS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from loadtests.judging.verdict import Status
from loadtests.mutants.catch import RED, SURVIVED
from reports.judging.guarantees import HARNESS, checks_of
from reports.judging.histories import histories
from reports.judging.validity import NOTHING_LIKE_IT
from reports.judging.words import measured, wanted
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.evidence import Evidence
    from reports.findings import Guarantee, Target, Validity


class Said(NamedTuple):
    """What is said of the whole run.

    Attributes:
        verdict: on it.
        headline: in a sentence.
        reasons: why it is no PASS, the most important first.
    """

    verdict: Verdict
    headline: str
    reasons: list[str]


class Reason(NamedTuple):
    """A sentence without its full stop, and what a reader has to know besides, which the headline leaves out."""

    text: str
    more: str = ""

    @property
    def whole(self) -> str:
        """Both."""
        return f"{self.text} ({self.more})" if self.more else self.text


class Why(NamedTuple):
    """All reasons, by how much they weigh."""

    violations: list[Reason]
    invalid: list[Reason]
    failures: list[Reason]
    doubts: list[Reason]


def said(
    evidence: Evidence, targets: Sequence[Target], guarantees: Sequence[Guarantee], validity: Sequence[Validity]
) -> Said:
    """What follows from all of it."""
    why = Why(
        violations=[*map(Reason, _violations(evidence))],
        invalid=[
            Reason(
                f"{one.what}: {one.seen}"
                + ("" if one.limit == NOTHING_LIKE_IT else f", where it has to be: {one.limit}")
            )
            for one in validity
            if not one.is_valid
        ],
        failures=[*map(Reason, _unnoticed(evidence)), *map(Reason, _missed(targets))],
        doubts=[*_doubts(evidence, targets, guarantees)],
    )
    verdict, opening = _verdict(why)
    reasons = [_sentence(one.whole) for kind in why for one in kind]
    if verdict is Verdict.PASS:
        return Said(verdict, _all_is_well(targets, guarantees), [])
    first = next(one for kind in why for one in kind).text.rstrip(".")
    more = f" {_more(len(reasons) - 1)}" if len(reasons) > 1 else ""
    return Said(verdict, f"{opening}: {first}.{more}", reasons)


def _verdict(why: Why) -> tuple[Verdict, str]:
    """The verdict, and how the headline begins: it does not repeat the word, which stands before it."""
    if why.violations:
        return Verdict.FAIL, "What must not be was seen"
    if why.invalid:
        return Verdict.INVALID, "This run shows nothing"
    if why.failures:
        return Verdict.FAIL, "Missed"
    if why.doubts:
        return Verdict.INCONCLUSIVE, "Not shown"
    return Verdict.PASS, ""


def _violations(evidence: Evidence) -> Iterator[str]:
    """Histories that no correct core can have left, and checks that are red on the core as it is."""
    for one in histories(evidence):
        if one.is_violation:
            broken = ", ".join(one.broken) or "no guarantee that is known"
            told = f": {one.sentences[0]}" if one.sentences else ""
            yield f"{one.name} is a violation of {broken}{told}"
    for check in checks_of(evidence):
        if check.result == RED:
            broken = ", ".join(sorted(check.guarantees, key=_number)) or HARNESS
            yield f"the check {check.name} ({broken}) is red on the core as it is: {check.evidence}"


def _number(guarantee: str) -> int:
    return int(guarantee[1:]) if guarantee[1:].isdigit() else 99


def _unnoticed(evidence: Evidence) -> Iterator[str]:
    """Mutants that survived; those of the harness make the run invalid instead."""
    validation = evidence.validation
    for one in validation.mutants if validation else []:
        if one.result == SURVIVED and one.guarantee != HARNESS:
            yield f"the mutant {one.mutant} ({one.guarantee}: {one.bug}) survived the check {one.check}"
    if (
        validation
        and validation.mutants_status == 1
        and not {one.result for one in validation.mutants} & {SURVIVED, RED}
    ):
        yield "a mutant survived, or a check is red on the core as it is, and the results do not say which"


def _missed(targets: Sequence[Target]) -> Iterator[str]:
    return (f"{measured(one)}, {wanted(one)}" for one in targets if one.verdict is Verdict.FAIL)


def _doubts(evidence: Evidence, targets: Sequence[Target], guarantees: Sequence[Guarantee]) -> Iterator[Reason]:
    nothing = tuple(f"{name}: " for name, test in evidence.loads.items() if test.verdict.reasons)
    for target in targets:
        # What a load test that shows nothing leaves open is said by what makes it invalid.
        if target.verdict is Verdict.INCONCLUSIVE and not (target.source == "load" and target.what.startswith(nothing)):
            yield Reason(f"{measured(target)}, {wanted(target)}", target.note.rstrip("."))
    for one in guarantees:
        if one.verdict is Verdict.INCONCLUSIVE:
            shown = (
                f"{one.checks_held} of {one.checks} checks held, {one.mutants_caught} of {one.mutants} mutants caught"
            )
            yield Reason(f"{one.number} ({one.text}): too little was shown: {shown}, {one.rounds} histories")
    if evidence.validation is not None:
        yield from (Reason(f"validation: {doubt}") for doubt in evidence.validation.doubts())
    for name, test in evidence.loads.items():
        if test.correctness == Status.UNDECIDED:
            rounds = test.judged.rounds.values() if test.judged else ()
            reason = next((reason for one in rounds for reason in one.reasons), "nobody judged it")
            yield Reason(f"whether the load test {name} is right could not be told: {reason}")


def _sentence(text: str) -> str:
    """With a full stop, and with a capital letter unless it begins with a name."""
    first = text.partition(" ")[0]
    is_name = "_" in first or first.endswith(":")
    return f"{text if is_name else text[:1].upper() + text[1:]}".rstrip(".") + "."


def _all_is_well(targets: Sequence[Target], guarantees: Sequence[Guarantee]) -> str:
    met = sum(one.verdict is Verdict.PASS for one in targets)
    left = sum(one.verdict is None for one in targets)
    judged = (
        f"All {met} targets that were judged are met ({left} take a full run)" if left else f"All {met} targets are met"
    )
    return f"{judged}, and all {len(guarantees)} guarantees held; the run is valid."


def _more(number: int) -> str:
    return "One more reason stands below." if number == 1 else f"{number} more reasons stand below."
