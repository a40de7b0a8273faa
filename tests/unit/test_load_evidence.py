from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from loadtests.history import NEVER, RECORD, Error, Kind, Outcome
from loadtests.load.evidence import contradictions
from loadtests.load.findings import Speed
from loadtests.load.histograms import Histograms, Name
from loadtests.load.latency import Latency, split
from loadtests.load.plan import Operation, plan
from loadtests.load.tally import Tally
from loadtests.load.timeline import Timeline
from loadtests.load.verdict import judge_load
from tests.made_load import made, scenario, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.history import History
    from loadtests.load.facts import Load
    from loadtests.load.plan import Step

HANDS = 2
# So few hands for so many sessions that steps wait for both.
SCENARIO = scenario(sessions=8, duration_s=4.0, think_s=0.12, life_turns=10, is_shared=True, targets=[target()])
KINDS = {
    Operation.CREATE: ("create",),
    Operation.START: ("update",),
    Operation.TURN: ("get", "update"),
    Operation.END: ("get", "update", "delete"),
}
CODES = {"create": Kind.CREATE, "get": Kind.GET, "update": Kind.UPDATE, "delete": Kind.DELETE_IF}
ENDS = {"ok": (Outcome.OK, Error.NONE), "unknown": (Outcome.UNKNOWN, Error.OUTCOME_UNKNOWN)} | {
    "conflict": (Outcome.REFUSED, Error.CONFLICT),
    "error": (Outcome.REFUSED, Error.UNAVAILABLE),
}


class Way(NamedTuple):
    """How a process counts: by default as it should."""

    parts: Callable[[Latency], Latency] = lambda latency: latency
    outcome: Callable[[str], str] = lambda outcome: outcome
    attempt: Callable[[float], float] = lambda took_us: took_us
    is_unseen: Callable[[Step], bool] = lambda _: False


class Ran(NamedTuple):
    """What processes counted, and their histories."""

    load: Load
    records: History

    def reasons(self) -> list[str]:
        """How they contradict each other."""
        return contradictions(self.load, Timeline(self.load.seconds), self.records)


AS_IT_SHOULD = Way()


def ran(way: Way = AS_IT_SHOULD, seed: int = 1) -> Ran:
    """A load test of two processes in which steps wait for their session and for a hand, and some fail."""
    load = made(SCENARIO).load
    rng = random.Random(seed)  # noqa: S311 - not a secret
    rows: list[tuple[int, ...]] = []
    seconds: dict[int, Histograms] = {}
    for part in load.parts:
        part.hands, part.attempted = HANDS, 0
        part.histories = [1 + 10 * part.place + hand for hand in range(HANDS)]
        tally = Tally()
        hands = dict.fromkeys(part.histories, 0)
        free: dict[int, int] = {}
        for step in plan(SCENARIO, load.seed, part.place, len(load.parts)):
            due_ns = part.begin_ns + step.due_ns
            hand = min(hands, key=hands.__getitem__)
            could_ns = max(due_ns, free.get(step.session, 0), hands[hand])
            at_ns = begin_ns = could_ns + rng.randrange(10**5, 10**6)
            outcome = "ok"
            for name in KINDS[step.operation]:
                outcome = rng.choices(list(ENDS), [20, 1, 1, 1])[0]
                end_ns = at_ns + rng.randrange(10**6, 9 * 10**7)
                rows.append((due_ns, at_ns, end_ns, step.session, hand, CODES[name], *ENDS[outcome]))
                if not way.is_unseen(step):
                    took_us = way.attempt((end_ns - at_ns) / 1e3)
                    tally.attempt(step.due_ns // 10**9, f"{step.operation}.{name}", way.outcome(outcome), took_us)
                at_ns = end_ns
                part.attempted += 1
                if outcome != "ok":
                    break
            latency = split(
                due_ns=due_ns,
                session_free_ns=free.get(step.session, 0),
                hand_free_ns=hands[hand],
                begin_ns=begin_ns,
                end_ns=at_ns,
            )
            free[step.session] = hands[hand] = at_ns
            if not way.is_unseen(step):
                tally.step(step.due_ns // 10**9, step.operation, way.outcome(outcome), way.parts(latency))
        for second, histograms in tally.take()["seconds"].items():
            seconds.setdefault(int(second), Histograms()).add(histograms)
    load.seconds = [seconds.get(second, Histograms()).encoded() for second in range(1 + max(seconds))]
    return Ran(load, recorded(rows))


def recorded(rows: list[tuple[int, ...]]) -> History:
    """A history with these records."""
    columns = ("planned_ns", "start_ns", "end_ns", "session", "process", "kind", "outcome", "error")
    records = np.zeros(len(rows), RECORD)
    for name, column in zip(columns, zip(*rows, strict=True), strict=True):
        records[name] = column
    records["end_ns"][records["outcome"] == Outcome.UNKNOWN] = NEVER
    # What a get read.
    records["incarnation"] = 1
    return records


def test_what_was_counted_as_it_was_contradicts_nothing() -> None:
    """Steps that wait for sessions and hands, refusals, errors and unknown outcomes: all are found as they are."""
    found = ran()
    waiting = Timeline(found.load.seconds).counted(range(9), operation="turn", part="waiting", outcome="ok")
    assert waiting.over(10.0) > 50
    assert not found.reasons()


MUTANTS = {
    "without waiting": Way(parts=lambda one: one._replace(waiting_us=0.0)),
    "waiting is its own": Way(parts=lambda one: Latency(0.0, one.lag_us + one.waiting_us, one.service_us)),
    "twice as fast": Way(parts=lambda one: one._replace(service_us=one.service_us / 2)),
    "all at once": Way(attempt=lambda _: 1.0),
    "errors are well": Way(outcome=lambda outcome: "ok" if outcome == "error" else outcome),
    "unknown is well": Way(outcome=lambda outcome: "ok" if outcome == "unknown" else outcome),
    "conflicts are well": Way(outcome=lambda outcome: "ok" if outcome == "conflict" else outcome),
    "some are lost": Way(is_unseen=lambda step: step.due_ns % 100 == 0),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_who_counts_otherwise_is_found_out(name: str) -> None:
    """What is counted better than it was, or not at all, is not what the histories have."""
    assert ran(MUTANTS[name]).reasons()


def swapped(found: Ran) -> Ran:
    """With the times of two seconds in each other's place."""
    found.load.seconds[2:4] = found.load.seconds[3:1:-1]
    return found


def replaced(found: Ran) -> Ran:
    """With a call that was slow counted as one that was fast."""
    fast = Histograms()
    fast.add(found.load.seconds[3])
    turns = fast[Name("turn", "ok", "service")]
    number = len(turns)
    one = Histograms()
    for _ in range(number):
        one[Name("turn", "ok", "service")].record(1_000)
    found.load.seconds[3] |= one.encoded()
    return found


def moved(found: Ran) -> Ran:
    """With another beginning."""
    for part in found.load.parts:
        part.begin_ns += 1_000
    return found


def of_another(found: Ran) -> Ran:
    """With the histories of another run of the same plan."""
    return Ran(found.load, ran(seed=2).records)


def cut(found: Ran) -> Ran:
    """With a record less."""
    return Ran(found.load, found.records[1:])


@pytest.mark.parametrize("doctor", [swapped, replaced, moved, of_another, cut])
def test_what_is_doctored_is_found_out(doctor: Callable[[Ran], Ran]) -> None:
    """What was counted and what the histories have cannot be changed but together."""
    assert doctor(ran()).reasons()


def test_where_a_history_is_not_at_hand_nothing_is_said() -> None:
    """Of processes on other machines the histories may be there: that they are missing here, the judge says."""
    found = ran()
    assert not Ran(found.load, found.records[found.records["process"] < 10]).reasons()


def test_a_run_that_contradicts_itself_is_invalid() -> None:
    """Nothing follows from it, and a few sentences say why."""
    found = of_another(ran())
    verdict = judge_load(found.load, None, found.records)
    assert Speed.INVALID == verdict.verdict
    told = [reason for reason in verdict.reasons if "than the histories have" in reason or "histories have" in reason]
    assert told
    assert len(told) <= 5
    assert not [reason for reason in judge_load(found.load).reasons if "histories" in reason]
