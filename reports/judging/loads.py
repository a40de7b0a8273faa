"""The load tests: what each offered, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.load.timeline import CONFLICT, DROPPED, ERROR, OK, STEPS, UNKNOWN
from reports.evidence import LOAD
from reports.findings import LoadRow
from reports.judging.targets import of_load
from reports.statistics import Verdict, overall

if TYPE_CHECKING:
    from reports.evidence import LoadTest

# What users of a session do most, and wait for.
_TURN = "turn"


def load_row(name: str, test: LoadTest, profile: str) -> LoadRow:
    """A load test in a row; its verdict is that of what this profile judges of it."""
    found, verdict = test.load, test.verdict
    turns = [one for one in verdict.percentiles if (one.operation, one.outcome, one.part) == (_TURN, OK, "latency")]
    p50, p95, p99, p999, longest = (
        (turns[0].p50, turns[0].p95, turns[0].p99, turns[0].p999, turns[0].longest) if turns else (0.0,) * 5
    )
    moments = [(one.waiting, one.lag_s) for one in found.moments]
    if found.outage is not None:
        moments.append((found.outage.most_waiting, found.outage.longest_lag_s))
    return LoadRow(
        name=name,
        about=_about(test),
        verdict=_verdict(name, test, profile),
        correctness=test.correctness,
        reasons=verdict.reasons,
        seconds=found.scenario.duration_s,
        instances=len(found.parts),
        offered_per_s=verdict.offered_per_s,
        done_per_s=verdict.done_per_s,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        longest_ms=longest,
        steps=verdict.planned,
        errors=_count(test, ERROR),
        unknown=_count(test, UNKNOWN),
        dropped=_count(test, DROPPED),
        conflicts=_count(test, CONFLICT),
        busiest=max(verdict.busiest, default=0.0),
        outage_s=found.outage.until_s - found.outage.from_s if found.outage else None,
        most_waiting=max((waiting for waiting, _ in moments), default=0),
        longest_lag_s=max((lag_s for _, lag_s in moments), default=0.0),
        file=f"{LOAD}/{name}/load.json",
    )


def _about(test: LoadTest) -> str:
    """What it is; where it was scaled, how."""
    scaled = [f"{factor:g} times its {what}" for what, factor in (("time", test.load.time), ("size", test.load.size))]
    told = [one for one, factor in zip(scaled, (test.load.time, test.load.size), strict=True) if factor != 1]
    return f"{test.load.scenario.about} Here: {' and '.join(told)}." if told else test.load.scenario.about


def _verdict(name: str, test: LoadTest, profile: str) -> Verdict:
    if test.verdict.reasons:
        return Verdict.INVALID
    judged = [one.verdict for one in of_load(name, test, profile) if one.verdict is not None]
    return overall(judged) if judged else Verdict.INCONCLUSIVE


def _count(test: LoadTest, outcome: str) -> int:
    return sum(test.verdict.counts.get(step, {}).get(outcome, 0) for step in STEPS)
