from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from loadtests.load.accuracy import Found, examine, table
from loadtests.load.delays import Delays
from loadtests.load.facts import Load, Part
from loadtests.load.histograms import Histograms, Name
from loadtests.load.truth import Truth, truth
from loadtests.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000
# Enough of its turns are above the last quantile.
SCENARIO = Scenario(about="", sessions=900, duration_s=20.0, think_s=0.6, life_turns=20, ramp_s=1.0, hands=500)
SMALL = msgspec.structs.replace(SCENARIO, sessions=40)
BEGINS_NS = (5 * MS, 9 * MS)
DELAYS = Delays(seed=4, begin_ns=2 * MS, stalls=[(5_000 * MS, 5_150 * MS), (12_000 * MS, 12_150 * MS)])


def is_plain(latency_us: float) -> float:
    """As it is."""
    return latency_us


@cache
def truths(sessions: int) -> list[Truth]:
    """What the two processes must measure."""
    scenario = msgspec.structs.replace(SCENARIO, sessions=sessions)
    return [truth(scenario, 8, place, 2, delays=DELAYS, begin_ns=begin_ns) for place, begin_ns in enumerate(BEGINS_NS)]


def reported(change: Callable[[float], float] = is_plain, scenario: Scenario = SCENARIO, **of_part: Any) -> Load:
    """What two processes report that measure the truth, changed in this way."""
    counted = Histograms()
    load = Load(
        name="known",
        scenario=scenario,
        time=1.0,
        size=1.0,
        subject="delayed",
        seed=8,
        prefix="p",
        command=[],
        began_at="",
        begin_ns=0,
        boot="b",
    )
    for place, (begin_ns, true) in enumerate(zip(BEGINS_NS, truths(scenario.sessions), strict=True)):
        for operation, latency_us in zip(true.operations, true.latency_us, strict=True):
            counted[Name(str(operation), "ok", "latency")].record(change(latency_us))
        for attempt, took_us in true.attempts_us.items():
            for value_us in took_us:
                counted[Name(attempt, "ok", "service")].record(change(value_us))
        steps = len(true.due_ns)
        facts = {"hands": 500, "planned": steps, "begun": steps} | of_part
        load.parts.append(Part(place=place, boot="b", begin_ns=begin_ns, **facts))
    load.seconds = [counted.encoded()]
    return load


def judged(found: Found) -> list[bool]:
    """Whether those that are judged are within."""
    return [row.compared.is_within for row in found.rows if row.is_judged]


def test_what_is_true_is_found_to_be() -> None:
    """Of a load test that reports the truth, all quantiles are within, those with few values above are not judged."""
    found = examine(reported(), DELAYS, {})
    assert (0, []) == (found.status, found.reasons)
    assert all(judged(found))
    few = {(row.what, row.compared.share) for row in found.rows if not row.is_judged}
    assert ("end latency", 0.999) in few
    assert ("turn latency", 0.999) not in few
    lines = table(found.rows)
    assert 1 + len(found.rows) == len(lines)
    assert not any("too much" in line for line in lines)


def test_what_is_untrue_is_found_to_be() -> None:
    """Of one that reports half a millisecond and 3 % more, or never more than the median, quantiles are not within."""
    for change in (lambda value_us: 1.03 * value_us + 500, lambda value_us: min(value_us, 60_000)):
        found = examine(reported(change), DELAYS, {})
        assert (1, []) == (found.status, found.reasons)
        assert not all(judged(found))
        assert any("too much" in line for line in table(found.rows))


class Late(dict[tuple[int, int], int]):
    """A server that was always late by so much."""

    def __missing__(self, key: tuple[int, int]) -> int:
        return 0

    def get(self, key: Any, default: Any = None) -> Any:
        """The same for all."""
        del key, default
        return 3 * MS


@pytest.mark.parametrize(
    ("of_part", "reason"),
    [
        ({"hands": 2}, "needed"),
        ({"begun": 10}, "where"),
        ({"notes": ["the store was full"]}, "the store was full"),
        ({"place": 0}, "not those that there were to be"),
    ],
)
def test_what_shows_nothing_is_not_judged(of_part: dict[str, Any], reason: str) -> None:
    """Too few hands, steps that were not done, a note, or a process that is missing: nothing follows from it."""
    load = reported(scenario=SMALL, **{name: value for name, value in of_part.items() if name != "place"})
    for part in load.parts:
        part.place = of_part.get("place", part.place)
    found = examine(load, DELAYS, {})
    assert 2 == found.status
    assert any(reason in one for one in found.reasons)


def test_a_server_that_was_late_shows_nothing() -> None:
    """Where the server itself moved a quantile by more than is allowed, what is reported is not judged by it."""
    found = examine(reported(scenario=SMALL), DELAYS, Late())
    assert 2 == found.status
    assert any("the server was late" in one for one in found.reasons)
