"""Finds the knee of a load that grows in steps: the last one that the system takes. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from loadtests.load.findings import KneeStep, Speed, TargetResult, in_words
from loadtests.load.generator import BUSY, busiest
from loadtests.load.offered import LATE_MS
from loadtests.load.resampling import SHARES
from loadtests.load.targets import of_window, too_few
from loadtests.load.timeline import CONFLICT, ERROR, OK, STEPS, UNKNOWN

if TYPE_CHECKING:
    from loadtests.load.facts import Load
    from loadtests.load.offered import Offered
    from loadtests.load.timeline import Timeline
    from loadtests.scenarios import Target

# A system keeps up while so much of what is offered is done.
KEPT_UP = 0.99
# A step is offered where no more than so much of it begins late by the generator's own fault.
LATE_SHARE = 0.01
# Waiting grows where it is more than twice what it was, and by more than this share of the limit: less is noise.
_GROWS = 2.0
_GROWS_OF_LIMIT = 0.1
_BEGUN = (OK, CONFLICT, UNKNOWN, ERROR)


class Knee(NamedTuple):
    """What came of the search.

    Attributes:
        result: of the target; of it, `measured` is the rate that the system takes, or at least takes.
        steps: all of them.
        until_s: until when the system took the load, in whole seconds; 0: it never did.
        reason: why the search shows nothing, in a sentence; empty: it does.
    """

    result: TargetResult
    steps: list[KneeStep]
    until_s: int
    reason: str = ""


def find_knee(found: Load, timeline: Timeline, planned: Offered, target: Target) -> Knee:
    """Look at each step, and find the first that the system does not take.

    Raises:
        ValueError: the target has no limit.
    """
    if target.below_ms is None:
        raise ValueError(f"a knee of {target.operation} needs below_ms")
    steps = [_step(found, timeline, planned, target, number) for number in range(found.scenario.steps)]
    taken: list[KneeStep] = []
    for step in steps:
        if step.is_saturated or not step.is_taken:
            break
        taken.append(step)
    end = steps[len(taken)] if len(taken) < len(steps) else None
    verdict, sentence = _told(taken, end)
    higher = [step for step in steps[len(taken) + 1 :] if step.is_taken]
    if higher and end is not None and not end.is_saturated:
        # A system that takes more takes less, too: something else was the matter.
        verdict = Speed.INCONCLUSIVE
        sentence = f"step {end.number} was not taken ({end.why}), and step {higher[-1].number}, which is more, was"
    last = taken[-1] if taken else None
    result = TargetResult(
        target=target,
        unit="/s",
        limit=target.below_ms,
        verdict=verdict,
        measured=last.offered_per_s if last else None,
        calls=last.calls if last else steps[0].calls,
        sentence=sentence,
    )
    reason = (
        f"the generator could not offer even the first step: {end.why}" if not last and end and end.is_saturated else ""
    )
    return Knee(result, steps, last.until_s if last else 0, reason)


def _told(taken: list[KneeStep], end: KneeStep | None) -> tuple[Speed, str]:
    """What follows from the steps that were taken, and from the one that ended the search."""
    if not taken:
        if end is None or end.is_saturated or not end.calls or end.why.startswith("too "):
            return Speed.INCONCLUSIVE, f"of the first step nothing can be said: {end.why if end else 'there is none'}"
        return Speed.FAIL, f"not even the first step is taken: {end.why}"
    rate = f"{taken[-1].offered_per_s:,.0f} steps/s"
    if end is None:
        return Speed.PASS, f"at least {rate}: all steps are taken"
    if end.is_saturated:
        return Speed.PASS, f"at least {rate}: the generator could offer no more ({end.why})"
    if end.why.startswith("too "):
        return Speed.PASS, f"at least {rate}: of the next step nothing can be said ({end.why})"
    return Speed.PASS, f"{rate}; at {end.offered_per_s:,.0f} {end.why}"


def _step(found: Load, timeline: Timeline, planned: Offered, target: Target, number: int) -> KneeStep:
    within = timeline.whole(found.scenario, *found.scenario.step_s(number))
    # What was answered behind the end is waiting of the last step; nothing was offered then.
    offering = range(within.start, min(within.stop, len(planned.by_second)))
    counted = of_window(timeline, within, target.operation)
    percentile_ms = counted.at_ms(SHARES[target.statistic])
    offered_per_s = planned.rate(offering)
    begun = timeline.count(within, operation=STEPS, part="latency", outcome=_BEGUN)
    begun_per_s = begun / max(1, len(offering))
    first_ms, last_ms = _waiting(timeline, offering)
    cpu = [busiest(found, part, offering) for part in found.parts]
    highest = max((share for share in cpu if share is not None), default=0.0)
    late = timeline.counted(within, operation=STEPS, part="lag", outcome=(OK, CONFLICT))
    late_share = late.over(LATE_MS) / late.calls if late.calls else 0.0
    limit_ms = target.below_ms or 0.0
    why = _why_saturated(highest, late_share)
    is_saturated = bool(why)
    if not why:
        why = too_few(counted, target.statistic, target.operation)
    if not why and percentile_ms >= limit_ms:
        why = f"{target.statistic} is {in_words(percentile_ms)}"
    if not why and begun_per_s < KEPT_UP * offered_per_s:
        why = f"only {begun_per_s:,.0f} are done"
    if not why and last_ms > _GROWS * first_ms and last_ms - first_ms > _GROWS_OF_LIMIT * limit_ms:
        why = f"waiting grows from {first_ms:.1f} to {last_ms:.1f} ms"
    return KneeStep(
        number=number + 1,
        from_s=within.start,
        until_s=within.stop,
        offered_per_s=offered_per_s,
        begun_per_s=begun_per_s,
        percentile_ms=percentile_ms,
        calls=counted.calls,
        waiting_first_ms=first_ms,
        waiting_last_ms=last_ms,
        cpu=highest,
        late_share=late_share,
        is_saturated=is_saturated,
        is_taken=not why,
        why=why,
    )


def _why_saturated(cpu: float, late_share: float) -> str:
    if cpu > BUSY:
        return f"a process of it wanted a processor for {cpu:.0%} of the time"
    if late_share > LATE_SHARE:
        return f"{late_share:.1%} of the steps began late by its own fault"
    return ""


def _waiting(timeline: Timeline, within: range) -> tuple[float, float]:
    """Median waiting in the first and in the last third of some seconds, in milliseconds."""
    third = max(1, len(within) // 3)
    first, last = within[:third], within[-third:]
    # Of what failed it is its waiting, too, and not that it counts as the longest.
    rows = [timeline.counted(some, operation=STEPS, part="waiting", outcome=(OK, CONFLICT)) for some in (first, last)]
    return rows[0].at_ms(0.5), rows[1].at_ms(0.5)
