from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from loadtests.judging.verdict import Status
from loadtests.load.facts import LoadError
from loadtests.load.findings import Speed, worst
from loadtests.load.histograms import Histograms, Name
from loadtests.load.targets import judge_target
from loadtests.load.timeline import Deliveries, Timeline
from loadtests.load.verdict import NAME, exit_status, judge_load, read_load_verdict, write_load_verdict
from tests.made_load import Answer, made, quick, scenario, sound, target

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from loadtests.load.findings import Line
    from loadtests.load.plan import Step
    from loadtests.load.verdict import LoadVerdict

PASS, FAIL, INCONCLUSIVE, INVALID = Speed.PASS, Speed.FAIL, Speed.INCONCLUSIVE, Speed.INVALID


def times(factor: float, from_s: float = 0.0, until_s: float = math.inf) -> Callable[[Step, random.Random], Answer]:
    """A system that is slower for a while."""

    def system(step: Step, rng: random.Random) -> Answer:
        answer = quick(step, rng)
        is_slow = from_s <= step.due_ns / 1e9 < until_s
        return answer._replace(service_us=answer.service_us * (factor if is_slow else 1.0))

    return system


def every(number: int, outcome: str) -> Callable[[Step, random.Random], Answer]:
    """A system in which every so manieth step ends so."""
    count = itertools.count(1)

    def system(step: Step, rng: random.Random) -> Answer:
        answer = quick(step, rng)
        return answer._replace(outcome=outcome) if next(count) % number == 0 else answer

    return system


def line(verdict: LoadVerdict, what: str) -> Line:
    """One of them."""
    return next(one for one in verdict.lines if one.what == what)


def test_a_sound_run_passes() -> None:
    """A system that is fast enough passes, with all that is told of it."""
    verdict = judge_load(*sound())
    assert PASS == verdict.verdict
    turn = verdict.targets[0]
    assert turn.lower is not None
    assert turn.measured is not None
    assert turn.upper is not None
    assert 2.0 < turn.lower <= turn.measured <= turn.upper < 5.0
    assert (2, 14) == verdict.judged_s
    assert verdict.offered_per_s == pytest.approx(verdict.done_per_s)
    assert verdict.counts["turn"]["ok"] > 900
    assert (
        verdict.planned == verdict.begun == sum(verdict.counts[one]["ok"] for one in ("create", "start", "turn", "end"))
    )
    row = next(one for one in verdict.percentiles if (one.operation, one.part) == ("turn", "latency"))
    assert turn.calls == row.calls
    assert row.p50 < row.p90 < row.p95 < row.p99 <= row.p999 <= row.longest


@pytest.mark.parametrize(("factor", "expected"), [(1.0, PASS), (6.2, INCONCLUSIVE), (20.0, FAIL)])
def test_limits(factor: float, expected: Speed) -> None:
    """Below the limit PASS, above FAIL, and where nobody can tell INCONCLUSIVE."""
    verdict = judge_load(*made(scenario(targets=[target()]), times(factor)))
    assert ([expected], expected) == ([one.verdict for one in verdict.targets], verdict.verdict)


def test_a_slow_moment_widens_the_interval() -> None:
    """What befalls many calls at once is one moment and not many: the p95 of a run with one is not certain."""
    verdict = judge_load(*made(scenario(targets=[target()]), times(20.0, 7.0, 7.6)))
    found = verdict.targets[0]
    assert found.measured is not None
    assert found.upper is not None
    assert found.measured < 20.0 < found.upper
    assert INCONCLUSIVE == found.verdict


def counted(slow: Sequence[int]) -> Timeline:
    """A hundred turns in each second, of which so many are over the limit."""
    seconds = []
    for number in slow:
        one = Histograms()
        for at in range(100):
            one[Name("turn", "ok", "latency")].record(30_000 if at < number else 1_000)
        seconds.append(one.encoded())
    return Timeline(seconds)


def test_pass_takes_both() -> None:
    """PASS takes an interval below the limit, over blocks of time, and no more over it than may be of so many calls."""
    wanted = scenario(ramp_s=1.0)
    few = judge_target(counted([3] * 14), wanted, target())
    assert (36, 1_200, PASS) == (few.over, few.calls, few.verdict)
    # As few, but all at once: another such moment, and it would be more than 5 %.
    at_once = judge_target(counted([0] * 13 + [36]), wanted, target())
    assert (36, INCONCLUSIVE) == (at_once.over, at_once.verdict)
    assert (at_once.measured or 0) < 20.0 < (at_once.upper or 0)
    # Evenly spread, so that blocks tell nothing; by chance it might as well have been 5 %.
    many = judge_target(counted([4] * 14), wanted, target())
    assert (many.upper or 0) < 20.0
    assert (48, INCONCLUSIVE, True) == (many.over, many.verdict, "may be by chance" in many.sentence)


@pytest.mark.parametrize("outcome", ["error", "unknown", "dropped"])
def test_failures_are_over_every_limit(outcome: str) -> None:
    """What failed counts as over the limit whatever its time, and fails the run however rare it is."""
    often = judge_load(*made(scenario(targets=[target()]), every(8, outcome)))
    assert FAIL == often.targets[0].verdict
    assert 600_000 <= (often.targets[0].measured or 0)
    rare = judge_load(*made(scenario(targets=[target()]), every(700, outcome)))
    assert (PASS, FAIL) == (rare.targets[0].verdict, rare.verdict)
    words = {"error": "errors", "unknown": "unknown outcomes", "dropped": "dropped"}
    assert 1 <= line(rare, words[outcome]).measured <= 3
    assert not rare.reasons


def test_conflicts_count_with_their_times() -> None:
    """A conflict is an answer, and no failure."""
    verdict = judge_load(*made(scenario(targets=[target()]), every(3, "conflict")))
    assert PASS == verdict.verdict
    assert verdict.counts["turn"]["conflict"] > 300


def test_few_calls_are_inconclusive() -> None:
    """Of too few calls, or too short a time, nothing is told; a faster system does not help."""
    few = judge_load(*made(scenario(think_s=3.0, targets=[target()])))
    assert (INCONCLUSIVE, "too few") == (few.targets[0].verdict, few.targets[0].sentence[:7])
    p99 = judge_load(*made(scenario(think_s=0.5, targets=[target(statistic="p99")])))
    assert 100 < p99.targets[0].calls < 299
    assert INCONCLUSIVE == p99.targets[0].verdict
    short = judge_load(*made(scenario(duration_s=8.0, targets=[target()])))
    assert (INCONCLUSIVE, "too short") == (short.targets[0].verdict, short.targets[0].sentence[:9])
    none = judge_load(*made(scenario(targets=[target(operation="message")])))
    assert (INCONCLUSIVE, 0) == (none.targets[0].verdict, none.targets[0].calls)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, PASS), (2.0, INCONCLUSIVE), (4.0, FAIL)])
def test_ratios(factor: float, expected: Speed) -> None:
    """A window may be at most so many times as slow as another."""
    windows = {"before": (0.1, 0.5), "after": (0.5, 1.0)}
    wanted = target(below_ms=None, at_most=2.0, window="after", over="before")
    verdict = judge_load(*made(scenario(duration_s=26.0, windows=windows, targets=[wanted]), times(factor, 13.0)))
    found = verdict.targets[0]
    assert (expected, "times") == (found.verdict, found.unit)
    assert found.measured == pytest.approx(factor, rel=0.2)


def test_attempts_are_timed_from_when_they_were_sent() -> None:
    """A target of an attempt looks at its service, which here is half of the step's."""
    verdict = judge_load(*made(scenario(targets=[target(), target(operation="turn.update")])))
    step, attempt = verdict.targets
    assert attempt.measured == pytest.approx((step.measured or 0) / 2, rel=0.02)


def test_an_update_that_nobody_was_told_of() -> None:
    """A delivery that never came counts as over every limit."""
    one = sound()
    never = np.where(np.arange(len(one.deliveries.ms)) % 8 == 0, np.inf, one.deliveries.ms)
    verdict = judge_load(one.load, Deliveries(one.deliveries.at_s, never))
    assert (FAIL, []) == (verdict.targets[1].verdict, verdict.reasons)


@pytest.mark.parametrize(("told", "expected"), [(0, FAIL), (299, FAIL), (300, PASS), (301, FAIL)])
def test_messages(told: int, expected: Speed) -> None:
    """Every message that was handed out was told of, and no other."""
    one = made(scenario(targets=[target()], message_s=1.0, listeners=2))
    one.load.messages_sent, one.load.messages_told = 300, told
    verdict = judge_load(*one)
    assert expected == line(verdict, "messages lost or invented").verdict
    assert told == 0 or verdict.reasons


def test_no_messages_where_some_were_wanted() -> None:
    """Where receivers wait and nothing was handed out, nothing was shown."""
    verdict = judge_load(*made(scenario(targets=[target()], message_s=1.0, listeners=2)))
    assert INCONCLUSIVE == verdict.verdict


def test_what_remains_of_several() -> None:
    """The worst of all is the verdict; nothing judged is a doubt."""
    assert INVALID == worst([PASS, FAIL, INVALID, INCONCLUSIVE])
    assert FAIL == worst([PASS, INCONCLUSIVE, FAIL])
    assert INCONCLUSIVE == worst([PASS, INCONCLUSIVE])
    assert (PASS, INCONCLUSIVE) == (worst([PASS]), worst([]))


@pytest.mark.parametrize(
    ("speed", "correctness", "expected"),
    [
        (PASS, Status.VALID, 0),
        (PASS, Status.UNDECIDED, 2),
        (PASS, Status.VIOLATION, 1),
        (PASS, None, 2),
        (FAIL, Status.VALID, 1),
        (FAIL, Status.UNDECIDED, 1),
        (FAIL, None, 1),
        (INCONCLUSIVE, Status.VALID, 2),
        (INCONCLUSIVE, Status.VIOLATION, 1),
        (INVALID, Status.VALID, 2),
        (INVALID, Status.UNDECIDED, 2),
        (INVALID, Status.VIOLATION, 1),
    ],
)
def test_exit_status(speed: Speed, correctness: Status | None, expected: int) -> None:
    """0 only where both hold; 1 where one does not; a violation is one in an INVALID run, too."""
    assert expected == exit_status(speed, correctness)


def test_it_is_written_and_read(tmp_path: Path) -> None:
    """The file holds all of it, with failures that are over every limit, too."""
    verdict = judge_load(*made(scenario(), every(8, "error")))
    write_load_verdict(tmp_path, verdict)
    assert verdict == read_load_verdict(tmp_path)


def test_what_is_no_verdict_is_refused(tmp_path: Path) -> None:
    """A file that is not there, that is none, or that is of another format is not read."""
    with pytest.raises(LoadError, match="No such file"):
        read_load_verdict(tmp_path)
    verdict = judge_load(*sound())
    verdict.format += 1
    write_load_verdict(tmp_path, verdict)
    with pytest.raises(LoadError, match="another format"):
        read_load_verdict(tmp_path)
    (tmp_path / NAME).write_text("{}")
    with pytest.raises(LoadError, match="missing"):
        read_load_verdict(tmp_path)


def test_one_process_says_nothing_of_deliveries() -> None:
    """A delivery is from one process to another: where there is one, its target is not judged, and that is said."""
    targets = [target(), target(operation="delivery")]
    verdict = judge_load(*made(scenario(targets=targets), places=1))
    assert (["turn"], ["delivery p95"]) == ([one.target.operation for one in verdict.targets], verdict.unjudged)


def test_who_is_told_nothing_is_not_judged_by_it() -> None:
    """A subject from outside may have no watch: then no target of deliveries has passed or failed. Others have one."""
    found, deliveries = made(scenario(targets=[target(), target(operation="delivery")]))
    for part in found.parts:
        part.watchers = []
    judged = judge_load(found, deliveries)
    assert (2, []) == (len(judged.targets), judged.unjudged)
    found.subject = "mine:Sessions"
    judged = judge_load(found, deliveries)
    assert (["turn"], ["delivery p95"]) == ([one.target.operation for one in judged.targets], judged.unjudged)
    found.parts[0].watchers = [7]
    assert [] == judge_load(found, deliveries).unjudged
