"""The guarantees: what checks, mutants and judged histories show of each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from loadtests.guarantees import GUARANTEES as DIRECTED
from loadtests.mutants.catch import CAUGHT, FAILED, GREEN, RED, SURVIVED
from loadtests.validation import NAME as VALIDATION_FILE
from reports.evidence import VALIDATION
from reports.findings import Guarantee
from reports.guarantees import GUARANTEES
from reports.judging.histories import SHOWS, bearing, histories
from reports.statistics import Verdict

if TYPE_CHECKING:
    from loadtests.mutants.catch import Caught
    from reports.evidence import Evidence
    from reports.judging.histories import Judged

HARNESS = "harness"
# The counts of a judged attack, as its check tells them.
_ATTEMPTED = re.compile(r"\battempted (\d+)")


class Check(NamedTuple):
    """What a check said of the core as it is.

    Attributes:
        name: the check.
        guarantees: that it bears on.
        result: `green`, `RED` or `could not run`.
        evidence: what was seen.
    """

    name: str
    guarantees: frozenset[str]
    result: str
    evidence: str


def guarantees(evidence: Evidence) -> list[Guarantee]:
    """All fourteen."""
    checks, found = checks_of(evidence), histories(evidence)
    mutants = evidence.validation.mutants if evidence.validation else []
    return [
        _judged(
            number,
            [one for one in checks if number in one.guarantees],
            [one for one in mutants if one.guarantee == number],
            found,
        )
        for number in GUARANTEES
    ]


def checks_of(evidence: Evidence) -> list[Check]:
    """Each check once, on the core as it is: those of the validation, and those between instances."""
    found: dict[str, Check] = {}
    for one in evidence.validation.mutants if evidence.validation else []:
        if not one.mutant:
            found[one.check] = Check(one.check, _bears_on(one.check, evidence), one.result, one.evidence)
    for result in evidence.latency.checks if evidence.latency else []:
        earlier = found.get(result.name)
        # One that was asked for twice held only if it held twice.
        if result.passed and earlier is not None:
            continue
        known = earlier.guarantees if earlier else frozenset[str]()
        word = GREEN if result.passed else RED
        found[result.name] = Check(result.name, known | {result.guarantee}, word, result.evidence)
    return list(found.values())


def _bears_on(check: str, evidence: Evidence) -> frozenset[str]:
    """What a check says it is of, and all that it has noticed to be broken: on that it would be red."""
    mutants = evidence.validation.mutants if evidence.validation else []
    found = {one.guarantee for one in mutants if one.mutant and one.check == check}
    return frozenset(found | ({DIRECTED[check].guarantee} if check in DIRECTED else set()))


def _judged(number: str, checks: list[Check], mutants: list[Caught], found: list[Judged]) -> Guarantee:
    shown = [one for one in bearing(number, found) if one.is_valid]
    violations = sum(one.broken.get(number, 0) for one in found)
    caught = [one for one in mutants if one.result == CAUGHT]
    return Guarantee(
        number=number,
        text=GUARANTEES[number],
        verdict=_verdict(checks, mutants, shown, violations),
        file=f"{VALIDATION}/{VALIDATION_FILE}",
        operations=sum(one.count("attempted") for one in shown),
        rounds=len(shown),
        faults=sum(one.has_hit for one in shown),
        violations=violations,
        checks=len(checks),
        checks_held=sum(one.result == GREEN for one in checks),
        mutants=len(mutants),
        mutants_caught=len(caught),
        sentences=[*_violated(number, found), *_wrong(checks, mutants), *_shown(number, shown), *_held(checks)],
    )


def _verdict(checks: list[Check], mutants: list[Caught], shown: list[Judged], violations: int) -> Verdict:
    """PASS takes something that held, and something that was seen to notice where it does not."""
    results = {one.result for one in checks} | {one.result for one in mutants}
    if violations or results & {RED, SURVIVED}:
        return Verdict.FAIL
    if FAILED in results or CAUGHT not in results or not (shown or GREEN in results):
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def _violated(number: str, found: list[Judged]) -> list[str]:
    return [
        f"Violated {one.broken[number]:,} times in {one.name}. {' '.join(one.sentences[:1])}".strip()
        for one in found
        if number in one.broken
    ]


def _wrong(checks: list[Check], mutants: list[Caught]) -> list[str]:
    told = [f"The check {one.name} is red on the core as it is: {one.evidence}" for one in checks if one.result == RED]
    told += [f"The check {one.name} could not be run: {one.evidence}" for one in checks if one.result == FAILED]
    told += [
        f"The mutant {one.mutant} ({one.bug}) survived the check {one.check}: what is to notice a violation did not."
        for one in mutants
        if one.result == SURVIVED
    ]
    return told + [
        f"The mutant {one.mutant} could not be run: {one.evidence}" for one in mutants if one.result == FAILED
    ]


def _shown(number: str, shown: list[Judged]) -> list[str]:
    if not shown:
        return []
    counts = {words: sum(one.count(name) for one in shown) for name, words in SHOWS[number].counts.items()}
    told = ", ".join(f"{number_:,} {words}" for words, number_ in counts.items())
    many = "1 history" if len(shown) == 1 else f"{len(shown)} histories"
    attempts = sum(one.count("attempted") for one in shown)
    return [f"In {many} of {attempts:,} attempts ({told}) {SHOWS[number].sentence}."]


def _held(checks: list[Check]) -> list[str]:
    return [f"{one.name}: {_short(one.evidence)}" for one in checks if one.result == GREEN]


def _short(evidence: str) -> str:
    """What a check saw; of an attack that was judged, which tells all its counts, how many attempts there were."""
    attempts = _ATTEMPTED.search(evidence)
    if not evidence.startswith("records ") or attempts is None:
        return evidence
    return f"{int(attempts[1]):,} attempts of a short attack of its own, and nothing that must not be"
