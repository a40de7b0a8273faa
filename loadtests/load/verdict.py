"""The verdict on the speed of a load test: `load_verdict.json`, and what a program ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loadtests.judging.verdict import Status
from loadtests.load.evidence import contradictions
from loadtests.load.facts import LoadError
from loadtests.load.findings import KneeStep, Line, Percentiles, Speed, TargetResult, worst
from loadtests.load.generator import busiest
from loadtests.load.growth import growth
from loadtests.load.knee import find_knee
from loadtests.load.offered import offered
from loadtests.load.targets import judge_target
from loadtests.load.timeline import (
    CONFLICT,
    DELIVERY,
    DROPPED,
    ERROR,
    FAILED,
    MESSAGE_DELIVERY,
    OK,
    STEPS,
    UNKNOWN,
    Timeline,
    part_of,
)
from loadtests.load.validity import why_broken, why_invalid
from loadtests.subjects.outside import is_outside
from loadtests.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.history import History
    from loadtests.load.facts import Load
    from loadtests.load.knee import Knee
    from loadtests.load.offered import Offered
    from loadtests.load.timeline import Deliveries

# 1: the first.
FORMAT = 1
NAME = "load_verdict.json"
_TOLD = 4
_EXIT_STATUS = {Speed.PASS: 0, Speed.FAIL: 1, Speed.INCONCLUSIVE: 2, Speed.INVALID: 2}


class LoadVerdict(msgspec.Struct, kw_only=True):
    """What a load test showed of speed.

    Attributes:
        format: of the file.
        verdict: the worst of all that was judged; INVALID where there are reasons.
        name: of the scenario.
        time, size: as it was scaled.
        reasons: why nothing follows from the run, in sentences.
        targets: in the order of the scenario.
        unjudged: targets about which nothing can be seen: there is one process alone, or none is told of another's.
        lines: what may not be, or not grow, beside them.
        knee: the steps of a load that grows.
        percentiles: of everything in the time that is judged.
        judged_s: that time: from the end of the ramp on, in whole seconds.
        offered_per_s: how many steps were planned in it.
        done_per_s: how many were answered in it, whatever the answer.
        busiest: of each process the highest share of a processor that it had over any five seconds of that time.
        planned, begun, dropped, late: steps in all.
        counts: of each operation how often it ended how, in all the time.
    """

    format: int = FORMAT
    verdict: Speed
    name: str
    time: float
    size: float
    reasons: list[str]
    targets: list[TargetResult] = []
    unjudged: list[str] = []
    lines: list[Line] = []
    knee: list[KneeStep] = []
    percentiles: list[Percentiles] = []
    judged_s: tuple[int, int] = (0, 0)
    offered_per_s: float = 0.0
    done_per_s: float = 0.0
    busiest: list[float] = []
    planned: int = 0
    begun: int = 0
    dropped: int = 0
    late: int = 0
    counts: dict[str, dict[str, int]] = {}


def judge_load(found: Load, deliveries: Deliveries | None = None, records: History | None = None) -> LoadVerdict:
    """What a load test showed.

    Args:
        found: as it was.
        deliveries: of its updates; None: they are not known.
        records: of all its processes, with which what was counted is compared; None: it is not.
    """
    try:
        timeline = Timeline(found.seconds, deliveries if _fit(deliveries) else None)
    except (ValueError, TypeError) as error:
        reason = f"what was counted cannot be read: {error}"
        return LoadVerdict(
            verdict=Speed.INVALID, name=found.name, time=found.time, size=found.size, reasons=[*found.notes, reason]
        )
    planned = offered(found.scenario, found.seed, len(found.parts))
    reasons = why_invalid(found, timeline, planned, deliveries)
    if records is not None:
        reasons += _contradictions(found, timeline, records)
    targets, knees, unjudged = _judge_targets(found, timeline, planned)
    reasons += [knee.reason for knee in knees if knee.reason]
    # Behind its knee a system fails: that is what the knee is.
    judged_until_s = min((knee.until_s for knee in knees), default=timeline.length_s)
    lines = [*_failures(timeline, range(judged_until_s)), *_messages(found), *growth(found)]
    judged = timeline.window(found.scenario, "")
    offering = range(judged.start, min(judged.stop, len(planned.by_second)))
    done = timeline.count(judged, operation=STEPS, part="latency", outcome=(OK, CONFLICT, UNKNOWN, ERROR))
    verdicts = [*(target.verdict for target in targets), *(line.verdict for line in lines)]
    return LoadVerdict(
        verdict=Speed.INVALID if reasons else worst(verdicts),
        name=found.name,
        time=found.time,
        size=found.size,
        reasons=reasons,
        targets=targets,
        unjudged=unjudged,
        lines=lines,
        knee=[step for knee in knees[:1] for step in knee.steps],
        percentiles=timeline.percentiles(judged),
        judged_s=(judged.start, judged.stop),
        offered_per_s=planned.rate(offering),
        done_per_s=done / max(1, len(offering)),
        busiest=[busiest(found, part, judged) or 0.0 for part in found.parts],
        planned=sum(part.planned for part in found.parts),
        begun=sum(part.begun for part in found.parts),
        dropped=sum(part.dropped for part in found.parts),
        late=sum(part.late for part in found.parts),
        counts=_counts(timeline),
    )


def _judge_targets(
    found: Load, timeline: Timeline, planned: Offered
) -> tuple[list[TargetResult], list[Knee], list[str]]:
    """What came of each target; what was found of those that are knees; and which nobody can judge."""
    targets: list[TargetResult] = []
    knees: list[Knee] = []
    unjudged: list[str] = []
    for target in found.scenario.targets:
        if _is_untold(found) and target.operation in (DELIVERY, MESSAGE_DELIVERY):
            # It is from one process to another.
            unjudged.append(f"{target.operation} {target.statistic}")
        elif target.is_knee:
            knees.append(find_knee(found, timeline, planned, target))
            targets.append(knees[-1].result)
        else:
            targets.append(judge_target(timeline, found.scenario, target))
    return targets, knees, unjudged


def exit_status(speed: LoadVerdict | Speed, correctness: Status | None) -> int:
    """What a program ends with: 0: all is well; 1: something is wrong; 2: something could not be told.

    A violation is one in a run that says nothing of speed, too: it was seen, and nothing explains it. What is too slow
    is too slow where nothing is known of correctness. Everything else that is in doubt leaves all in doubt.

    Args:
        speed: the verdict on it.
        correctness: that of the judge; None: nobody judged.
    """
    verdict = speed if isinstance(speed, Speed) else speed.verdict
    if correctness == Status.VIOLATION:
        return 1
    if _EXIT_STATUS[verdict]:
        return _EXIT_STATUS[verdict]
    return 0 if correctness == Status.VALID else 2


def write_load_verdict(folder: Path, verdict: LoadVerdict) -> None:
    """Write it beside the `load.json` that it is of."""
    write_whole(folder / NAME, msgspec.json.format(msgspec.json.encode(verdict), indent=2))


def read_load_verdict(folder: Path) -> LoadVerdict:
    """Read it.

    Raises:
        LoadError: there is none, or it is none, or one of another format.
    """
    try:
        found = msgspec.json.decode((folder / NAME).read_bytes(), type=LoadVerdict)
    except (OSError, msgspec.MsgspecError) as error:
        raise LoadError(f"{folder}: {error}") from error
    if found.format != FORMAT:
        raise LoadError(f"{folder}: a verdict of another format, where this version reads format {FORMAT}")
    return found


def _is_untold(found: Load) -> bool:
    """Whether no process can be told of what another one wrote: it is alone, or its subject has no watch."""
    is_deaf = is_outside(found.subject) and not any(part.watchers for part in found.parts)
    return len(found.parts) == 1 or is_deaf


def _contradictions(found: Load, timeline: Timeline, records: History) -> list[str]:
    """What was counted otherwise than the histories have it: the first few sentences, as most say the same."""
    wrong = contradictions(found, timeline, records)
    return [*wrong[:_TOLD], *([f"and {len(wrong) - _TOLD} more of this kind"] if len(wrong) > _TOLD else [])]


def _fit(deliveries: Deliveries | None) -> bool:
    """Whether they can be counted; if not, there is a reason (see `validity`)."""
    return deliveries is not None and not why_broken(deliveries)


def _counts(timeline: Timeline) -> dict[str, dict[str, int]]:
    """Each call once: steps by their latency, attempts by their service."""
    found: dict[str, dict[str, int]] = {}
    for name in timeline.names():
        if name.part == part_of(name.operation):
            number = timeline.count(operation=name.operation, part=name.part, outcome=name.outcome)
            found.setdefault(name.operation, {})[name.outcome] = number
    return found


def _failures(timeline: Timeline, within: range) -> list[Line]:
    """What failed: none may, of steps and of their attempts."""
    lines = []
    for outcome, what in ((ERROR, "errors"), (UNKNOWN, "unknown outcomes"), (DROPPED, "dropped")):
        of = {
            operation: timeline.count(within, operation=operation, part=part, outcome=outcome)
            for operation, part in _operations(timeline)
        }
        steps = sum(number for operation, number in of.items() if "." not in operation)
        attempts = sum(number for operation, number in of.items() if "." in operation)
        told = ", ".join(f"{operation} {number:,}" for operation, number in of.items() if number)
        # A step that failed has an attempt that did: each is one failure.
        number = max(steps, attempts)
        verdict = Speed.FAIL if number else Speed.PASS
        lines.append(Line(what=what, measured=number, limit=0, unit="", verdict=verdict, sentence=told))
    return lines


def _operations(timeline: Timeline) -> list[tuple[str, str]]:
    pairs = {(name.operation, part_of(name.operation)) for name in timeline.names() if name.outcome in FAILED}
    return sorted(pairs)


def _messages(found: Load) -> list[Line]:
    """Every receiver to which the store handed a message told of it."""
    scenario = found.scenario
    has_receivers = scenario.message_s is not None and scenario.listeners > 0
    if not has_receivers and not found.messages_sent and not found.messages_told:
        return []
    missing = found.messages_sent - found.messages_told
    sentence = f"{found.messages_told:,} told of {found.messages_sent:,} handed out"
    verdict = Speed.FAIL if missing else Speed.PASS if found.messages_sent else Speed.INCONCLUSIVE
    return [
        Line(
            what="messages lost or invented",
            measured=abs(missing),
            limit=0,
            unit="",
            verdict=verdict,
            sentence=sentence,
        )
    ]
