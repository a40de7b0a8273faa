"""The summary of a report for CI."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from reports.findings import FaultRow, Guarantee, Latency, LoadRow, PartRun, Report, Target, Validity
from reports.statistics import Verdict
from reports.summary import markdown

CELLS = re.compile(r"(?<!\\)\|")


def target(**changes: Any) -> Target:
    """A target that is met."""
    facts: dict[str, Any] = {
        "source": "latency",
        "what": "get_session p95",
        "unit": "ms",
        "value": 0.4,
        "lower": 0.3,
        "upper": 0.5,
        "limit": 5.0,
        "is_below": True,
        "verdict": Verdict.PASS,
        "file": "latency",
        "calls": 3_000,
        "over": 1,
        "allowed": 130,
    }
    return Target(**(facts | changes))


def report(**changes: Any) -> Report:
    """One in which all is well."""
    facts: dict[str, Any] = {
        "verdict": Verdict.PASS,
        "headline": "All 1 targets are met.",
        "reasons": [],
        "profile": "quick",
        "command": "make report PROFILE=quick",
        "made_at": "then",
        "started_at": "before",
        "finished_at": "now",
        "commit": "abc",
        "targets": [target()],
        "guarantees": [
            Guarantee(number="G1", text="one wins", verdict=Verdict.PASS, file="", rounds=2, operations=2_000)
        ],
        "validity": [Validity(what="drift", seen="1", limit="4", is_valid=True, file="")],
    }
    return Report(**(facts | changes))


def rows(text: str) -> list[list[str]]:
    """The cells of each line of a table, as a reader of Markdown takes them apart."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in lines]


def test_the_verdict_comes_first() -> None:
    """The first line is the verdict with its sign, the next what came of it."""
    assert ["# ✔ PASS", "", "All 1 targets are met."] == markdown(report()).splitlines()[:3]


def test_targets_and_guarantees_are_tables() -> None:
    """Each is a row with its numbers and their units, under a head of as many cells."""
    found = rows(markdown(report()))
    assert ["✔ PASS", "get\\_session p95", "0.400 ms", "0.300 to 0.500"] == found[2][:4]
    assert ["\\< 5 ms", "12.5 times below", "1 of 130 in 3,000"] == found[2][4:]
    assert ["✔ PASS", "G1", "one wins", "2,000", "0"] == found[5][:5]
    assert {7, 8} == {len(row) for row in found}


def test_what_was_not_judged_says_so() -> None:
    """What is shown only has no verdict, and what was not measured no value."""
    text = markdown(report(targets=[target(verdict=None, value=None, lower=None, calls=None)]))
    assert ["not judged", "get\\_session p95", "–", "–"] == rows(text)[2][:4]


@pytest.mark.parametrize("text", ["a|b", "a\nb", "<b>a</b>", "*a*", "a`b", "a\\|b"])
def test_nothing_is_markup(text: str) -> None:
    """Whatever a name or a reason holds, a table keeps its cells, and text stays text."""
    found = markdown(report(targets=[target(what=text)], headline=text, reasons=[text, text], notes=[text]))
    assert {7, 8} == {len(row) for row in rows(found)}
    assert not re.search(r"(?<!\\)[<`*](?!``)", found.replace("```", ""))


def test_what_makes_it_invalid_is_a_table() -> None:
    """What was seen stands beside how it has to be; where all is so, it says of how much."""
    wrong = Validity(what="drift of the floor", seen="5.2 times", limit="at most 5 times", is_valid=False, file="")
    text = markdown(report(verdict=Verdict.INVALID, validity=[wrong], reasons=["first", "second"]))
    assert text.startswith("# ! INVALID\n")
    assert ["✘", "drift of the floor", "5.2 times", "at most 5 times"] in rows(text)
    assert "1. first\n1. second\n" in text
    assert "Yes: 1 of 1 conditions hold." in markdown(report())


def test_the_slowest_and_how_to_see_it_again() -> None:
    """What took longest is told, and the command stands in a block of its own, as one types it."""
    facts: dict[str, Any] = dict.fromkeys(LoadRow.__struct_fields__, 0)
    facts |= {"name": "audit_outage", "about": "", "verdict": Verdict.PASS, "correctness": "VALID", "reasons": []}
    load = LoadRow(**(facts | {"outage_s": 8.25, "most_waiting": 3_455, "longest_lag_s": 8.4, "file": ""}))
    fault = FaultRow(
        fault="failover", arena="sentinel", rounds=1, hit=1, operations=1, recovery_s=1.7, expected_losses=0, file=""
    )
    quick, slow = (
        Latency(
            operation=name,
            subject="kairos",
            name="Kairos",
            p50=p99 / 2,
            p95=p99,
            p99=p99,
            p50_smallest=0,
            p50_largest=0,
            file="",
        )
        for name, p99 in (("get_session", 0.2), ("delivery", 0.9))
    )
    rival = msgspec.structs.replace(slow, subject="lock", p99=50.0)
    parts = [PartRun(name="studies", command="", seconds=25.0), PartRun(name="latency", command="", seconds=115.0)]
    text = markdown(report(latencies=[quick, rival, slow], faults=[fault], loads=[load], parts=parts))
    told = text.partition("## The slowest")[2].partition("##")[0]
    assert [
        "- delivery: p99 0.900 ms, p50 0.450 ms",
        "- get\\_session: p99 0.200 ms, p50 0.100 ms",
        "- slowest return of writes: 1.70 s after failover, sentinel",
        "- audit\\_outage: PostgreSQL was away for 8.25 s; at most 3,455 entries waited, the oldest for 8.40 s",
        "- part latency: 115 s",
        "- part studies: 25 s",
    ] == told.split("\n\n")[1].splitlines()
    assert "```sh\nmake report PROFILE=quick\n```" in text
    assert text.endswith("Commit abc, profile quick, measured from before to now.\n")
