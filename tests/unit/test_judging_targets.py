"""Which targets a report judges, and how."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests import ROOT
from loadtests.load.findings import Speed
from reports.evidence import Evidence
from reports.judging.loads import load_row
from reports.judging.notes import notes
from reports.judging.targets import targets
from reports.statistics import Verdict
from tests.judged_runs import (
    invalid,
    judged,
    of_source,
    put,
    set_load,
)
from tests.made_run import coverage

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_quick_run_judges(sound: Evidence) -> None:
    """It judges percentiles where there are calls enough, and failures; ratios, knees and bars it only shows."""
    found = targets(sound, "quick")
    shown = [one for one in found if one.verdict is None]
    assert all(one.value is not None and "PROFILE=full" in one.note for one in shown)
    assert all(one.verdict is None for one in of_source(found, "study"))
    assert {one.what for one in of_source(found, "load") if one.verdict is not None} == {
        "audit_outage: calls that failed or were given up",
        "capacity: calls that failed or were given up",
    }
    assert 3 == sum(one.verdict is None for one in of_source(found, "latency"))


def test_what_failed_beyond_the_knee_is_not_counted_and_that_is_said(sound: Evidence) -> None:
    """A load that grows until something gives fails in the end: its row says that it is of the time before."""
    notes_of = {one.what: one.note for one in targets(sound, "quick")}
    assert notes_of["capacity: calls that failed or were given up"].endswith("What came before the knee.")
    assert "knee" not in notes_of["audit_outage: calls that failed or were given up"]


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ({}, ""),
        ({"time": 0.3}, " Here: 0.3 times its time."),
        ({"time": 0.3, "size": 2.0}, " Here: 0.3 times its time and 2 times its size."),
    ],
)
def test_a_load_test_that_was_scaled_says_so(sound: Evidence, scale: dict[str, float], told: str) -> None:
    """What a scenario is about holds of its whole length: of another, the row says how long it was."""
    test = sound.loads["audit_outage"]
    load = msgspec.structs.replace(test.load, **({"time": 1.0, "size": 1.0} | scale))
    assert f"{load.scenario.about}{told}" == load_row("audit_outage", test._replace(load=load), "quick").about


def test_a_reason_of_which_there_may_be_none_says_no_limit(sound: Evidence) -> None:
    """Where any at all is too much, the headline says what was seen and leaves it at that."""
    invalid(sound)
    assert "where it has to be" not in judged(sound).headline


def test_what_a_full_run_judges(made_folder: Path, sound: Evidence) -> None:
    """It judges everything that has a limit; what it measured too little of leaves it in doubt."""
    full = Evidence(made_folder).latency
    assert full is not None
    full.manifest["profile"] = "full"
    put(sound, latency=full)
    found = targets(sound, "full")
    of = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
    count = sum(len(of[kind]) for kind in ("latency", "ratio", "difference", "rate"))
    assert count == len(of_source(found, "latency"))
    doubts = {one.what for one in found if one.verdict is not Verdict.PASS}
    assert {"audit_outage: turn.update p99 away over before", "audit_outage: turn.update p99 back"} == doubts
    assert {Verdict.INCONCLUSIVE, Verdict.PASS} == {one.verdict for one in found}


@pytest.mark.parametrize(
    ("sentence", "verdict"), [("too few: 3 turn", None), ("the interval holds it", Verdict.INCONCLUSIVE)]
)
def test_a_load_target_in_doubt(sound: Evidence, sentence: str, verdict: Verdict | None) -> None:
    """A quick run leaves out what had too few calls; what had enough and could not be told leaves all in doubt."""
    results = [
        msgspec.structs.replace(one, verdict=Speed.INCONCLUSIVE, sentence=sentence)
        for one in sound.loads["audit_outage"].verdict.targets
    ]
    set_load(sound, "audit_outage", targets=results)
    ratio, percentile = (one.verdict for one in of_source(targets(sound, "quick"), "load") if "p99" in one.what)
    assert (None, verdict) == (ratio, percentile)
    assert judged(sound).verdict == (verdict or Verdict.PASS)
    assert {Verdict.INCONCLUSIVE} == {
        one.verdict for one in targets(sound, "full") if "p99 " in one.what and one.source == "load"
    }


def test_failed_calls_miss_a_target_in_each_profile(sound: Evidence) -> None:
    """None may fail, however little was measured."""
    lines = [
        msgspec.structs.replace(one, measured=7, verdict=Speed.FAIL) if one.what == "dropped" else one
        for one in sound.loads["audit_outage"].verdict.lines
    ]
    set_load(sound, "audit_outage", lines=lines, verdict=Speed.FAIL)
    expected = "Missed: audit_outage: calls that failed or were given up is 7 calls, where it must be below 1 calls."
    assert expected == judged(sound).headline
    assert Verdict.FAIL is load_row("audit_outage", sound.loads["audit_outage"], "quick").verdict


def test_an_invalid_load_test_meets_nothing(sound: Evidence) -> None:
    """Of one that shows nothing, no target looks as if it were met."""
    invalid(sound)
    found = [one for one in of_source(targets(sound, "quick"), "load") if one.what.startswith("audit_outage")]
    assert {Verdict.INCONCLUSIVE} == {one.verdict for one in found}
    assert Verdict.INVALID is load_row("audit_outage", sound.loads["audit_outage"], "quick").verdict


@pytest.mark.parametrize(
    ("field", "limit"), [("managers_percent", 90.0), ("audit_percent", 85.0), ("all_percent", 80.0)]
)
def test_coverage(sound: Evidence, field: str, limit: float) -> None:
    """What the tests reach has to be above its limit; at it, it is missed."""
    for value, verdict in ((limit, Verdict.FAIL), (limit + 0.1, Verdict.PASS)):
        put(sound, coverage=msgspec.structs.replace(coverage(), **{field: value}))
        assert verdict == judged(sound).verdict
        assert [one.verdict for one in of_source(targets(sound, "quick"), "coverage")].count(verdict) in (1, 3)


def test_coverage_of_another_tree_is_no_coverage(sound: Evidence) -> None:
    """It is not judged, and a note says how to have it."""
    for found in (coverage("other", audit_percent=1.0), None):
        put(sound, coverage=found)
        assert [] == of_source(targets(sound, "quick"), "coverage")
        assert Verdict.PASS == judged(sound).verdict
        (note,) = (one for one in notes(sound, []) if "Coverage" in one)
        assert "not measured at this commit" in note
        assert "make coverage" in note
