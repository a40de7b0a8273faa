from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from kairos_core.errors import ConfigurationError
from loadtests.load.plan import Operation
from loadtests.scenarios import Scenario, scenario_named, scenarios

OPERATIONS = {*Operation, "turn.get", "turn.update", "delivery", "message_delivery"}
ALL = list(scenarios())


def test_there_are_those_that_are_asked_for() -> None:
    """The file holds the load tests by name; another name is an error that lists them."""
    assert {"baseline", "sessions_1k", "sessions_10k", "high_frequency", "broadcast_stress", "sustained"} < set(ALL)
    assert {"spike", "capacity", "audit_outage"} < set(ALL)
    assert scenarios()["spike"] is scenario_named("spike")
    with pytest.raises(ConfigurationError, match="there is no nothing; there are baseline"):
        scenario_named("nothing")


@pytest.mark.parametrize("name", ALL)
def test_every_target_can_be_judged(name: str) -> None:
    """A target names an operation, a statistic and windows that there are, and one limit."""
    scenario = scenarios()[name]
    assert scenario.targets
    assert scenario.about.endswith(".")
    for target in scenario.targets:
        assert target.operation in OPERATIONS
        assert target.statistic in {"p50", "p95", "p99", "p999"}
        assert {target.window, target.over} <= {"", *scenario.windows}
        assert (target.below_ms is None) != (target.at_most is None)
        # What is compared is compared with another window, and a knee is looked for where the load grows.
        assert (target.at_most is None) == (not target.over)
        assert target.window != target.over or not target.over
        assert scenario.steps > 1 or not target.is_knee
        messages = target.operation in {"message", "message_delivery"}
        assert scenario.message_s is not None or not messages


@pytest.mark.parametrize("name", ALL)
def test_every_window_is_in_the_time(name: str) -> None:
    """Windows and steps begin before they end, within the test; none but the first step touches the ramp."""
    scenario = scenarios()[name]
    for window in ("", *scenario.windows):
        begins_s, ends_s = scenario.window_s(window)
        assert scenario.ramp_s <= begins_s < ends_s <= scenario.duration_s
    steps = [scenario.step_s(number) for number in range(scenario.steps)]
    assert all(begins_s < ends_s for begins_s, ends_s in steps)
    assert math.isclose(scenario.duration_s, steps[-1][1])
    if scenario.audit_away:
        begins, lasts = scenario.audit_away
        assert begins + lasts < 1


@pytest.mark.parametrize("name", ALL)
def test_stretches_are_the_factor_over_time(name: str) -> None:
    """Where the load is as high all the time, its factor is what it is at any moment in between."""
    scenario = scenarios()[name]
    begins_s = 0.0
    for ends_s, factor in scenario.stretches():
        for share in (0.01, 0.5, 0.99):
            assert factor == scenario.factor_at(begins_s + share * (ends_s - begins_s))
        begins_s = ends_s
    assert scenario.duration_s == begins_s


@pytest.mark.parametrize("name", ALL)
def test_scaled(name: str) -> None:
    """In half the time with twice the sessions, the load of each is as it was, and windows are the same shares."""
    scenario = scenarios()[name]
    scaled = scenario.scaled(time=0.5, size=2.0)
    assert (2 * scenario.sessions, scenario.duration_s / 2, scenario.ramp_s / 2) == (
        scaled.sessions,
        scaled.duration_s,
        scaled.ramp_s,
    )
    assert (scenario.think_s, scenario.targets, scenario.hands) == (scaled.think_s, scaled.targets, scaled.hands)
    for window in scenario.windows:
        assert tuple(at_s / 2 for at_s in scenario.window_s(window)) == scaled.window_s(window)
    assert 1 == scenario.scaled(size=1e-9).sessions


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_is_a_number_above_0(scale: float) -> None:
    """What would leave no test is refused, by the name of the scale."""
    scenario = Scenario(about="", sessions=1, duration_s=1.0, think_s=1.0, life_turns=1)
    for name in ("time", "size"):
        with pytest.raises(ConfigurationError, match=name.upper()):
            scenario.scaled(**{name: scale})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"phases": [(0.5, 2.0), (0.2, 1.0)]}, "phases"),
        ({"audit_away": (0.8, 0.4)}, "audit_away"),
        ({"windows": {"late": (0.5, 0.4)}}, "late ends before"),
        ({"targets": [{"operation": "turn", "statistic": "p95", "below_ms": 1.0, "window": "none"}]}, "no window none"),
        ({"targets": [{"operation": "tum", "statistic": "p95", "below_ms": 1.0}]}, "no tum"),
        ({"targets": [{"operation": "turn", "statistic": "p9", "below_ms": 1.0}]}, "no p9"),
        ({"targets": [{"operation": "turn", "statistic": "p95"}]}, "below_ms or at_most"),
        ({"targets": [{"operation": "turn", "statistic": "p95", "at_most": 2.0}]}, "over goes with"),
        ({"listeners": -1}, "listeners"),
        ({"sesions": 3}, "sesions"),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, Any], word: str) -> None:
    """A scenario that could not be run or judged as it was meant is refused when it is read, with what is wrong."""
    plain = {"about": "", "sessions": 1, "duration_s": 1.0, "think_s": 1.0, "life_turns": 1}
    assert msgspec.convert(plain, Scenario).sessions == 1
    with pytest.raises(msgspec.ValidationError, match=word):
        msgspec.convert(plain | changes, Scenario)
