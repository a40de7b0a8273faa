from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from loadtests.load.facts import Outage
from loadtests.load.findings import Speed
from loadtests.load.histograms import Histograms, Name
from loadtests.load.timeline import Deliveries
from loadtests.load.verdict import judge_load
from tests.made_load import late_at, made, scenario, sound, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.load.facts import Load
    from tests.made_load import Made


def _more(found: Load, name: Name, value_us: int = 1_000) -> None:
    """A call more of a name, in the tenth second."""
    one = Histograms()
    one.add(found.seconds[10])
    one[name].record(value_us)
    found.seconds[10] = one.encoded()


def _both(found: Load, **changes: Any) -> None:
    for part in found.parts:
        for name, value in changes.items():
            setattr(part, name, value)


def _lose(found: Load, second: int) -> None:
    found.seconds[second] = {}


# What is broken, and what the reason says of it.
BROKEN: dict[str, tuple[Callable[[Load], object], str]] = {
    "a note of the run": (lambda found: found.notes.append("the master slept"), "the master slept"),
    "a note of a process": (lambda found: found.parts[1].notes.append("it choked"), "process 1: it choked"),
    "no processes": (lambda found: found.parts.clear(), "no process took part"),
    "a process is missing": (lambda found: found.parts.pop(0), "the places 1"),
    "a place twice": (lambda found: setattr(found.parts[1], "place", 0), "the places 0, 0"),
    "another place": (lambda found: setattr(found.parts[1], "place", 2), "the places 0, 2"),
    "less was planned": (lambda found: setattr(found.parts[0], "planned", 1), "process 0 was to do 1 steps, where"),
    "less was begun": (lambda found: setattr(found.parts[0], "begun", 1), "but did 1 and gave up 0"),
    "another seed": (lambda found: setattr(found, "seed", 2), "where the scenario and the seed say"),
    "no reports": (lambda found: setattr(found.parts[1], "reports", 0), "process 1 sent no report"),
    "a second is lost": (lambda found: _lose(found, 12), "steps have a latency, where the processes did"),
    "a step too many": (lambda found: _more(found, Name("turn", "ok", "latency")), "steps have a latency, where"),
    "no waiting of a step": (lambda found: found.seconds[9].pop("turn/ok/waiting"), "steps have a waiting, where"),
    "no service of a step": (lambda found: found.seconds[9].pop("turn/ok/service"), "steps have a service, where"),
    "no lag of a step": (lambda found: found.seconds[9].pop("turn/ok/lag"), "steps have a lag, where"),
    "a step given up": (
        lambda found: _more(found, Name("turn", "dropped", "latency")),
        "1 steps are counted as given up",
    ),
    "few attempts": (lambda found: _both(found, attempted=1), "attempts were timed, where the processes made 2"),
    "a message": (lambda found: _more(found, Name("message_delivery", "ok", "latency")), "1 messages were timed"),
    "no message": (
        lambda found: setattr(found, "messages_told", 3),
        "0 messages were timed, where receivers told of 3",
    ),
    "no histogram": (lambda found: found.seconds[3].update({"turn/ok/latency": "0:!"}), "cannot be read"),
    "no name": (lambda found: found.seconds[3].update({"turn": "0:"}), "cannot be read"),
    "a busy process": (
        lambda found: found.parts[0].cpu.__setitem__(slice(6, 11), [0.71] * 5),
        "wanted a processor for 71%",
    ),
    "nobody says how busy": (lambda found: found.parts[1].cpu.clear(), "process 1 says in 0 of 14 seconds how busy"),
    "nobody says how late": (
        lambda found: _more(found, Name("turn", "ok", "lag"), 60_000),
        "1 steps have a lag above 50 ms, where the processes say that 0 began late",
    ),
    "a late process": (lambda found: late_at(found.parts[1], 3, 20), "process 1 began 20 of"),
    "late at some time": (lambda found: setattr(found.parts[1], "late", 1), "and does not say when"),
    "another machine": (lambda found: setattr(found.parts[1], "boot", "two"), "several machines"),
    "an outage": (
        lambda found: setattr(found, "outage", Outage(from_s=1, until_s=2, most_waiting=99, longest_lag_s=1)),
        "where nobody asked for it",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_is_invalid(name: str) -> None:
    """Whatever is broken in a run, it is INVALID, and a sentence says why."""
    one = sound()
    spoil, words = BROKEN[name]
    spoil(one.load)
    verdict = judge_load(*one)
    assert Speed.INVALID == verdict.verdict
    assert any(words in reason for reason in verdict.reasons), verdict.reasons


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _: None, "nobody says how long deliveries took"),
        (lambda told: Deliveries(told.at_s[1:], told.ms), "times are told"),
        (
            lambda told: Deliveries(told.at_s, np.where(np.arange(len(told.ms)) == 7, -0.1, told.ms)),
            "before it was sent",
        ),
        (lambda told: Deliveries(told.at_s, np.where(np.arange(len(told.ms)) == 7, math.nan, told.ms)), "at no time"),
    ],
)
def test_broken_deliveries(spoil: Callable[[Deliveries], Deliveries | None], words: str) -> None:
    """Deliveries that are a target and cannot be counted make the run INVALID."""
    one = sound()
    verdict = judge_load(one.load, spoil(one.deliveries))
    assert Speed.INVALID == verdict.verdict
    assert any(words in reason for reason in verdict.reasons)


def test_messages_are_counted_as_they_are_sent_and_timed() -> None:
    """That one was sent is no attempt in a history; who is told of its own does not say how long others took."""
    one = sound()
    for _ in range(3):
        _more(one.load, Name("message_delivery", "ok", "latency"))
    one.load.messages_sent, one.load.messages_told, one.load.messages_own = 5, 5, 2
    attempted = sum(part.attempted for part in one.load.parts)
    sent = Histograms()
    for _ in range(attempted):
        sent[Name("message.send", "ok", "service")].record(1_000)
    one.load.seconds[10] |= sent.encoded()
    assert not judge_load(*one).reasons
    one.load.messages_own = 1
    assert ["3 messages were timed, where receivers told of 4 that others sent"] == judge_load(*one).reasons


def test_deliveries_that_nobody_asks_for() -> None:
    """Where no target is about deliveries, nobody needs to know them, and machines may be several."""
    one = made(scenario(targets=[target()]))
    one.load.parts[1].boot = "two"
    assert Speed.PASS == judge_load(one.load).verdict


def test_a_stall_in_a_window_that_is_judged() -> None:
    """Few of all steps were late, but most of those of a window: what is measured in it says nothing."""
    windows = {"before": (0.1, 0.5), "after": (0.9, 1.0)}
    one = made(scenario(duration_s=60.0, windows=windows, targets=[target(), target(window="after")]))
    late_at(one.load.parts[0], 20, 4)
    assert not [reason for reason in judge_load(*one).reasons if "late by" in reason]
    late_at(one.load.parts[0], 56, 6)
    (reason,) = judge_load(*one).reasons
    assert "steps of the window after from 54 s to 60 s began late" in reason


def test_what_is_just_allowed() -> None:
    """A process may be busy for a moment, a little late, and busy before and after what is judged."""
    one = sound()
    part = one.load.parts[0]
    part.cpu[0:2] = [1.0, 1.0]
    part.cpu[8:10] = [1.0] * 2
    part.cpu.append(1.0)
    late_at(part, 0, part.planned // 100)
    assert Speed.PASS == judge_load(*one).verdict


def test_seconds_of_a_process_that_began_later() -> None:
    """How busy a process was is looked at in the seconds that are judged, by the clock of who led it."""
    one = sound()
    part = one.load.parts[0]
    part.begin_ns = one.load.begin_ns + 4_000_000_000
    part.cpu[0:5] = [1.0] * 5
    assert judge_load(*one).reasons
    part.begin_ns = one.load.begin_ns - 4_000_000_000
    assert not judge_load(*one).reasons


@pytest.fixture(scope="module")
def away() -> Made:
    """PostgreSQL was away."""
    return made(scenario(audit_away=(0.4, 0.5)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (None, "was to be away, and was not"),
        ({"most_waiting": 9}, "at most 9 entries waited"),
        ({"longest_lag_s": 3.4}, "no entry waited for longer than 3.4 s"),
        ({"until_s": 8.6}, "away for 3.0 s of the 7.0 s"),
        ({"from_s": 13.0, "until_s": 20.0}, "away for 0.0 s"),
    ],
)
def test_an_outage_must_hit(away: Made, changes: dict[str, Any] | None, words: str) -> None:
    """That PostgreSQL was away shows only where it was away when it was to be, and entries waited for it."""
    assert Speed.PASS == judge_load(*away).verdict
    one = copy.deepcopy(away)
    if changes is None:
        one.load.outage = None
    for name, value in (changes or {}).items():
        setattr(one.load.outage, name, value)
    verdict = judge_load(*one)
    assert Speed.INVALID == verdict.verdict
    assert any(words in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda found: found.memories.clear(), "nobody looked at the memory"),
        (lambda found: found.memories[0].kb.pop(), "the memory of valkey was looked at"),
        (lambda found: found.moments.pop(), "nobody counted what was in the store"),
    ],
)
def test_growth_must_be_looked_at(spoil: Callable[[Load], object], words: str) -> None:
    """Where nothing may grow, a process that nobody looked at makes the run INVALID."""
    one = made(scenario(max_growth=0.05))
    assert Speed.PASS == judge_load(*one).verdict
    spoil(one.load)
    verdict = judge_load(*one)
    assert Speed.INVALID == verdict.verdict
    assert any(words in reason for reason in verdict.reasons)
