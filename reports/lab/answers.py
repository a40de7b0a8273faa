"""What the rows of a report say to the question of a notebook; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loadtests.judging.verdict import Status
from reports.figures.style import look
from reports.judging.words import figure, limit
from reports.lab.answer import NOT_JUDGED, Answer
from reports.statistics import Verdict, overall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.findings import Guarantee, Law, Report, Target, Validity
    from reports.lab.read import Judged

# The guarantees of the trail; the others are of the state.
TRAIL = ("G7", "G13")
# Where the files of the latency benchmarks are.
LATENCY = ("latency", "manifest", "checks")
_OURS = "kairos"
_NONE = "Nothing of it was measured in this run."
# A sentence names so many; the tables have all.
_MOST = 3


def latency(report: Report | Judged) -> Answer:
    """Are the targets met?"""
    return _answer(targets_of(report, "latency"), validity=within(report.validity, *LATENCY))


def scaling(report: Report | Judged) -> Answer:
    """How does cost grow?"""
    return _answer(
        targets_of(report, "study"), told=[_law(law) for law in report.laws if law.subject == _OURS or not law.note]
    )


def consistency(report: Report | Judged) -> Answer:
    """Is anything lost?"""
    found = of_state(report)
    told = []
    if report.counterexample is not None:
        told = [f"What is wrong on purpose was caught: {report.counterexample.sentence}"]
    gone = sum(one.expected_losses for one in report.faults)
    if gone:
        told.append(f"{gone:,} acknowledged writes went with a store that was killed, at a durability that allows it.")
    return _answer(guarantees=found, told=told)


def audit(report: Report | Judged) -> Answer:
    """Is the trail complete, and how late is it?"""
    late = [
        f"PostgreSQL was away for {one.outage_s:.0f} s: {one.most_waiting:,} entries waited at the most, "
        f"the oldest for {one.longest_lag_s:.0f} s."
        for one in report.loads
        if one.outage_s is not None
    ]
    return _answer(targets_of_audit(report), of_trail(report), within(report.validity, "load/audit_outage"), late)


def faults(report: Report | Judged) -> Answer:
    """What happens when things break?"""
    verdicts = [cell.verdict for cell in report.fault_cells]
    if not verdicts:
        return Answer(Verdict.INCONCLUSIVE.value, [_NONE])
    told = [
        f"{one.guarantee} did not hold in: {one.fault}." for one in report.fault_cells if one.verdict is Verdict.FAIL
    ]
    idle = [f"{one.fault} ({one.arena})" for one in report.faults if not one.hit]
    if idle:
        told.append(f"Never hit, so that nothing is known of it: {_some(idle)}.")
    held = sum(verdict is Verdict.PASS for verdict in verdicts)
    hit, rounds = sum(one.hit for one in report.faults), sum(one.rounds for one in report.faults)
    told.append(
        f"{held} of {len(verdicts)} pairs of fault and guarantee held; a fault hit in {hit} of {rounds} rounds."
    )
    slowest = max((one for one in report.faults if one.recovery_s is not None), key=_recovery, default=None)
    if slowest is not None:
        told.append(f"Writes went on {figure(slowest.recovery_s, 's')} after the slowest of them, {slowest.fault}.")
    return Answer(overall(verdicts).value, told)


def _recovery(row: object) -> float:
    return float(getattr(row, "recovery_s", None) or 0.0)


def load(report: Report | Judged) -> Answer:
    """Where is the knee?"""
    targets = targets_of(report, "load")
    wrong = [one for one in report.loads if one.correctness == Status.VIOLATION]
    knees = [one for one in targets if _is_knee(one) and one.value is not None]
    told = [f"{one.what}: {one.note or f'{figure(one.value, one.unit)}.'}" for one in knees]
    answer = _answer(targets, validity=within(report.validity, "load/"), told=told)
    if wrong:
        violated = f"The histories of {_some([one.name for one in wrong])} hold a violation."
        return Answer(Verdict.FAIL.value, [violated, *answer.sentences])
    return answer


def _is_knee(one: Target) -> bool:
    """Whether it asks how much is taken: there is no limit to that."""
    return not one.is_below and not one.limit


def targets_of(report: Report | Judged, source: str) -> list[Target]:
    """The targets that one kind of measuring has."""
    return [one for one in report.targets if one.source == source]


def targets_of_audit(report: Report | Judged) -> list[Target]:
    """Those of the outage, and of how fast it is worked off."""
    return [one for one in report.targets if "audit_outage" in one.file or one.what.startswith("drain")]


def within(found: Iterable[Validity], *places: str) -> list[Validity]:
    """What has to be so of the measuring whose files begin so."""
    return [one for one in found if one.file.startswith(places)]


def of_state(report: Report | Judged) -> list[Guarantee]:
    """The guarantees of the state."""
    return [one for one in report.guarantees if one.number not in TRAIL]


def of_trail(report: Report | Judged) -> list[Guarantee]:
    """The guarantees of the audit trail."""
    return [one for one in report.guarantees if one.number in TRAIL]


def _answer(
    targets: Sequence[Target] = (),
    guarantees: Sequence[Guarantee] = (),
    validity: Sequence[Validity] = (),
    told: Sequence[str] = (),
) -> Answer:
    """As of a whole report: what is wrong weighs most, then what cannot be trusted, then what is missed."""
    broken = [one for one in guarantees if one.verdict is Verdict.FAIL]
    unfair = [one for one in validity if not one.is_valid]
    verdicts = [one.verdict for one in targets if one.verdict is not None] + [one.verdict for one in guarantees]
    if broken:
        word = Verdict.FAIL.value
    elif unfair:
        word = Verdict.INVALID.value
    elif verdicts:
        word = overall(verdicts).value
    else:
        word = NOT_JUDGED if targets or told else Verdict.INCONCLUSIVE.value
    sentences = [f"Not to be trusted: {one.what}: {one.seen}, must be {one.limit}." for one in unfair]
    sentences += [*_of_guarantees(guarantees), *_of_targets(targets), *told]
    return Answer(word, sentences or [_NONE])


def _of_guarantees(found: Sequence[Guarantee]) -> Iterable[str]:
    if not found:
        return
    for one in found:
        if one.verdict is Verdict.FAIL:
            yield f"{one.number} does not hold: {one.text}: {one.violations:,} violations."
    doubtful = [one.number for one in found if one.verdict is Verdict.INCONCLUSIVE]
    if doubtful:
        yield f"Too little was shown of {', '.join(doubtful)}."
    held = sum(one.verdict is Verdict.PASS for one in found)
    caught, mutants = sum(one.mutants_caught for one in found), sum(one.mutants for one in found)
    yield (
        f"{held} of {len(found)} guarantees hold, with {sum(one.violations for one in found):,} violations; "
        f"{caught} of {mutants} broken variants of them were noticed."
    )


def _of_targets(found: Sequence[Target]) -> Iterable[str]:
    judged = [one for one in found if one.verdict is not None]
    for verdict, words in (
        (Verdict.FAIL, "Missed"),
        (Verdict.INVALID, "Not to be told"),
        (Verdict.INCONCLUSIVE, "Not told"),
    ):
        some = [_seen(one) for one in judged if one.verdict is verdict]
        if some:
            yield f"{words}: {_some(some)}."
    met = [one for one in judged if one.verdict is Verdict.PASS]
    if met:
        nearest = min(met, key=_room)
        near = f"; the nearest is {_seen(nearest)}, {nearest.margin}" if _room(nearest) < math.inf else ""
        yield f"{len(met)} of {len(judged)} targets are met{near}."
    open_ = len(found) - len(judged)
    if open_:
        more = " more" if judged else ""
        yield f"{open_}{more} {'is' if open_ == 1 else 'are'} shown and not judged: this profile measures too little."


def _seen(one: Target) -> str:
    side = "<" if one.is_below else ">"
    return f"{one.what}, {figure(one.value, one.unit)} ({side} {limit(one.limit, one.unit)})"


def _room(one: Target) -> float:
    """How many times as far the limit is; of what is below 0, or has no limit, there is no such number."""
    if not one.value or not one.limit or one.value / one.limit < 0:
        return math.inf
    return one.limit / one.value if one.is_below else one.value / one.limit


def _law(law: Law) -> str:
    name = look(law.subject).words
    if law.note:
        return f"{name}: no law was fitted, {law.note}."
    peak = "no number of instances was shown beyond which more do less"
    if law.peak is not None:
        peak = f"beyond {law.peak:.1f} instances more do less"
    return f"{name}: one instance does {law.one_per_s[0]:,.0f} updates a second, and {peak}."


def _some(found: Sequence[str]) -> str:
    more = len(found) - _MOST
    return "; ".join(found[:_MOST]) + (f"; and {more} more" if more > 0 else "")
