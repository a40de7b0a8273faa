"""Load tests that nobody ran: what a system of a known speed would have left behind."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loadtests.load.facts import Load, Memory, Moment, Outage, Part
from loadtests.load.histograms import Histograms, Name
from loadtests.load.offered import LATE_MS
from loadtests.load.plan import plan
from loadtests.load.timeline import Deliveries
from loadtests.scenarios import Scenario, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.load.plan import Step

BOOT = "one"
BEGIN_NS = 5_000_000_000
PLACES = 2


class Answer(NamedTuple):
    """How a step ended."""

    outcome: str = "ok"
    waiting_us: float = 1.0
    service_us: float = 1_000.0
    lag_us: float = 500.0


class Made(NamedTuple):
    """A load test and its deliveries."""

    load: Load
    deliveries: Deliveries


def scenario(**changes: Any) -> Scenario:
    """About a hundred turns a second, for a little while."""
    facts: dict[str, Any] = {
        "about": "made",
        "sessions": 10,
        "duration_s": 14.0,
        "think_s": 0.1,
        "life_turns": 60,
        "ramp_s": 1.0,
        "targets": [target(), target(operation="delivery")],
    }
    return Scenario(**(facts | changes))


def target(**changes: Any) -> Target:
    """That turns are below 20 ms."""
    facts: dict[str, Any] = {"operation": "turn", "statistic": "p95", "below_ms": 20.0}
    return Target(**(facts | changes))


def quick(_: Step, rng: random.Random) -> Answer:
    """What is answered in about 2 ms."""
    return Answer(service_us=rng.lognormvariate(7.6, 0.3))


def made(wanted: Scenario, system: Callable[[Step, random.Random], Answer] = quick, places: int = PLACES) -> Made:
    """A load test of a system."""
    rng = random.Random(7)  # noqa: S311 - not a secret
    seconds = [Histograms() for _ in range(int(wanted.duration_s))]
    parts, sent = [], []
    for place in range(places):
        part = Part(place=place, boot=BOOT, begin_ns=BEGIN_NS, hands=4, reports=14)
        part.cpu = [0.3] * int(wanted.duration_s)
        for step in plan(wanted, 1, place, places):
            answer = system(step, rng)
            _record(seconds[step.due_ns // 10**9], str(step.operation), answer)
            part.planned += 1
            part.attempted += 2
            if answer.outcome != "dropped" and answer.lag_us > 1e3 * LATE_MS:
                late_at(part, step.due_ns // 10**9, 1)
            part.begun += answer.outcome != "dropped"
            part.dropped += answer.outcome == "dropped"
            sent.append(step.due_ns / 1e9)
        parts.append(part)
    load = Load(
        name="made",
        scenario=wanted,
        time=1.0,
        size=1.0,
        subject="kairos",
        seed=1,
        prefix="made",
        command=["made"],
        began_at="2026-01-01",
        begin_ns=BEGIN_NS,
        boot=BOOT,
        seconds=[one.encoded() for one in seconds],
        parts=parts,
    )
    if wanted.max_growth is not None:
        at_s = [moment / 4 for moment in range(int(wanted.duration_s * 4.8))]
        load.memories = [
            Memory(name=name, pid=1, at_s=at_s, kb=[50_000] * len(at_s)) for name in ("valkey", "worker 1")
        ]
        load.moments = [Moment(at_s=at, waiting=0, lag_s=0.0, keys=20) for at in (0.0, wanted.duration_s * 2)]
    if wanted.audit_away is not None:
        begins, share = wanted.audit_away
        from_s, until_s = begins * wanted.duration_s, (begins + share) * wanted.duration_s
        load.outage = Outage(from_s=from_s, until_s=until_s, most_waiting=500, longest_lag_s=until_s - from_s)
    times = np.array(sent)
    return Made(load, Deliveries(times, np.array([rng.lognormvariate(1.0, 0.3) for _ in sent])))


def late_at(part: Part, second: int, count: int) -> None:
    """Let a process say that it began so many steps late that were due in a second."""
    part.late += count
    part.late_in = [*part.late_in, (second, count)]


def _record(histograms: Histograms, operation: str, answer: Answer) -> None:
    latency_us = answer.waiting_us + answer.service_us
    histograms[Name(operation, answer.outcome, "latency")].record(latency_us)
    if answer.outcome == "dropped":
        return
    histograms[Name(operation, answer.outcome, "waiting")].record(answer.waiting_us)
    histograms[Name(operation, answer.outcome, "service")].record(answer.service_us)
    histograms[Name(operation, answer.outcome, "lag")].record(answer.lag_us)
    if operation == "turn":
        histograms[Name("turn.update", answer.outcome, "service")].record(answer.service_us / 2)


@cache
def _sound(**changes: Any) -> Made:
    return made(scenario(**changes))


def sound() -> Made:
    """One in which all is well; a copy that may be broken."""
    return copy.deepcopy(_sound())
