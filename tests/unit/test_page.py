from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec
import pytest

from reports.figures.style import Picture
from reports.findings import MutantRow, NotebookRun, PartRun, Report
from reports.page import render, words
from reports.page.render import files_of, rivals
from reports.page.svg import labelled, scoped
from reports.statistics import Verdict
from tests.made_report import made_pictures, made_report
from tests.read_page import ReadPage

HOSTILE = "<script>alert(1)</script> & \"'><img src=x onerror=alert(2)> {{ 7 * 7 }}"
MOST_BYTES = 3_000_000


def page(report: Report | None = None, **more: Any) -> ReadPage:
    """The page of a report, read."""
    return ReadPage(render(made_report() if report is None else report, made_pictures(), **more))


def numbers_of(row: msgspec.Struct) -> list[int | float]:
    """All numbers that a row has."""
    found: list[int | float] = []
    for name in row.__struct_fields__:
        value = getattr(row, name)
        values = value if isinstance(value, tuple) else (value,)
        found += [item for item in values if isinstance(item, int | float) and not isinstance(item, bool)]
    return found


def shown(row: msgspec.Struct, cells: set[str]) -> list[int | float]:
    """The numbers of a row that no cell of the page has."""
    found = set(re.findall(r"[\d,]*\.?\d+", " ".join(cells)))
    return [
        number
        for number in numbers_of(row)
        if not found & {f"{number:,}", words.figure(number), words.limit(number), words.figure(number * 100)}
    ]


@pytest.mark.parametrize(
    "kind",
    [
        "targets",
        "guarantees",
        "validity",
        "latencies",
        "faults",
        "fault_cells",
        "mutants",
        "loads",
        "parts",
        "notebooks",
    ],
)
def test_every_row_of_the_report_is_on_the_page(kind: str) -> None:
    """Of each row of the report, what it is and all of its numbers stand in one row of a table, or in two."""
    report = made_report()
    tables = page(report).rows
    rows = getattr(report, kind)
    assert rows
    for row in rows:
        names = {
            "targets": ("what",),
            "guarantees": ("number", "text"),
            "validity": ("what", "seen", "limit"),
            "latencies": ("name",),
            "faults": ("fault", "arena"),
            "fault_cells": ("fault",),
            "mutants": ("mutant", "bug", "evidence"),
            "loads": ("name",),
            "parts": ("name", "command"),
            "notebooks": ("name", "question"),
        }[kind]
        wanted = [getattr(row, name) for name in names]
        cells = {
            cell for found in tables if all(any(text in cell for cell in found) for text in wanted) for cell in found
        }
        assert cells, wanted
        if kind == "latencies" and row.subject == "kairos":
            cells |= {cell for found in tables if found[0] == row.operation for cell in found}
        assert [] == shown(row, cells), wanted


def test_laws_coverage_and_counterexample_are_on_the_page() -> None:
    """What is not a row of its own kind is there with all of its numbers, too; of a law without a fit the reason."""
    report = made_report()
    found = page(report)
    assert report.counterexample is not None
    assert report.coverage is not None
    assert report.counterexample.sentence in found.text
    cells = {cell for row in found.rows for cell in row} | {found.text}
    for row in (report.laws[0], report.coverage, report.counterexample):
        assert [] == shown(row, cells)
    assert all(name in found.text and f"{share:.1f} %" in found.text for name, share in report.coverage.files.items())
    assert report.laws[1].note in found.text
    assert "no fit" in found.text


def test_the_exact_number_stands_beside_the_rounded_one() -> None:
    """A program finds what `report.json` has, to the last digit, where people find three digits."""
    report = made_report()
    found = set(page(report).numbers)
    assert {target.value for target in report.targets} <= found
    assert {value for row in report.latencies for value in (row.p50, row.p95, row.p99)} <= found
    assert {row.p99_ms for row in report.loads} <= found


def test_the_first_line_is_the_verdict() -> None:
    """The first heading has the name, the verdict as a sign and a word, and the headline; its reasons come next."""
    reasons = ["The notebook 04_audit crashed: KeyError", "update_session p95 is 12.3 ms"]
    report = made_report(verdict=Verdict.INVALID, headline=f"{reasons[0]}. Nothing follows.", reasons=reasons)
    found = page(report)
    assert f"Kairos ! INVALID {report.headline}" == " ".join(found.first.split())
    text = " ".join(found.text.split())
    assert text.startswith(f"Kairos ! INVALID {report.headline} {' '.join(reasons)}")
    assert render(report, {}).count("<h1>") == 1


def test_a_reason_that_the_headline_leaves_out_is_shown() -> None:
    """One reason is not said twice, and is never left out."""
    once = made_report(verdict=Verdict.FAIL, headline="Missed: p95.", reasons=["Missed: p95"])
    assert page(once).text.count("Missed: p95") == 1
    assert "the disk was full" in page(made_report(verdict=Verdict.INVALID, reasons=["the disk was full"])).text


def test_many_reasons_do_not_push_the_counts_away() -> None:
    """Three reasons stand in the open, the rest is folded behind its number: all are there, and the counts near."""
    html = render(made_report(verdict=Verdict.INVALID, reasons=[f"reason {number}." for number in range(9)]), {})
    assert all(f"<li>reason {number}.</li>" in html for number in range(9))
    assert html.index("reason 2.") < html.index("6 more reasons") < html.index("reason 3.") < html.index("of 4 targets")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_a_sign_and_a_word(verdict: Verdict) -> None:
    """Colour alone says nothing: each verdict has its sign and its word, in the heading and in a row."""
    report = made_report(
        verdict=verdict, targets=[msgspec.structs.replace(target, verdict=verdict) for target in made_report().targets]
    )
    found = page(report)
    assert f"{words.sign(verdict)} {verdict.value}" in found.first
    assert {f"{words.sign(verdict)} {verdict.value}"} == {
        row[0] for row in found.rows if row[1:2] and row[1].startswith("drain")
    }


def test_so_and_so_many_of_so_many() -> None:
    """The first screen counts what was met of what was judged, and says what was missed, undecided or not judged."""
    verdicts = [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, None, Verdict.PASS]
    report = made_report(
        targets=[
            msgspec.structs.replace(target, verdict=verdict)
            for target, verdict in zip(made_report().targets, verdicts, strict=True)
        ]
    )
    html = render(report, {})
    assert (html.count(">✔</a>"), html.count(">✘</a>"), html.count(">?</a>"), html.count(">·</a>")) == (2 + 2, 1, 1, 1)
    text = " ".join(ReadPage(html).text.split())
    assert "2 of 4 targets met, 1 missed, 1 undecided, 1 more shown and not judged" in text
    assert "4 of 4 guarantees held" in text
    assert "2 of 2 conditions" in text


def test_what_others_wrote_is_text() -> None:
    """A headline, a bug, a traceback or a name with tags or a template in it is shown, and does nothing."""
    report = made_report(
        headline=HOSTILE,
        reasons=[HOSTILE, "and more"],
        commit=HOSTILE,
        profile=HOSTILE,
        command=HOSTILE,
        notes=[HOSTILE],
        environment=[(HOSTILE, HOSTILE)],
        mutants=[
            MutantRow(
                mutant=HOSTILE,
                guarantee="G1",
                bug=HOSTILE,
                check=HOSTILE,
                result="caught",
                attempts=1,
                seconds=1.0,
                evidence=HOSTILE,
                is_well=False,
            )
        ],
        parts=[PartRun(name=HOSTILE, command=HOSTILE, status=2, tail=[HOSTILE])],
        notebooks=[
            NotebookRun(name=HOSTILE, question=HOSTILE, seconds=1.0, cells=2, cells_run=1, error=HOSTILE, file=HOSTILE)
        ],
        targets=[
            msgspec.structs.replace(made_report().targets[0], what=HOSTILE, file="javascript:alert(1)", note=HOSTILE)
        ],
    )
    picture = Picture("<svg><g/></svg>", HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    found = ReadPage(render(report, {"latency": [picture]}))
    assert set() == {"script", "img"} & set(found.tags)
    assert [] == found.handlers
    assert [] == found.unbalanced
    assert [] == [lead for lead in found.leads if lead.startswith("javascript:")]
    assert found.text.count(HOSTILE) > 12
    assert [HOSTILE] == found.labels
    assert HOSTILE in found.first


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    """The page is one file: no address leads elsewhere, and there is no script in it."""
    text = render(made_report(), made_pictures())
    found = ReadPage(text)
    assert set() == set(found.tags) & {"script", "link", "iframe", "object", "embed", "base", "img", "form"}
    assert [] == found.handlers
    assert [] == [lead for lead in found.leads if ":" in lead or lead.startswith("/")]
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_ids_are_unique_and_every_anchor_leads_somewhere() -> None:
    """No two elements have one name, though pictures come with the same; each link within the page has its end."""
    found = page()
    assert [] == [name for name, times in Counter(found.ids).items() if times > 1]
    assert set() == set(found.anchors) - set(found.ids)
    assert {"targets", "guarantees", "validity", "glossary", "term-p99"} <= set(found.anchors)
    assert [] == found.unbalanced
    assert all(found.ids)


def test_an_empty_report_says_what_is_not_there() -> None:
    """A run in which nothing was measured still has a page, with every section, each of which says that it is empty."""
    report = made_report(
        verdict=Verdict.INVALID,
        headline="Nothing was measured.",
        targets=[],
        guarantees=[],
        validity=[],
        latencies=[],
        faults=[],
        fault_cells=[],
        mutants=[],
        loads=[],
        laws=[],
        counterexample=None,
        coverage=None,
        environment=[],
        notes=[],
        parts=[],
        notebooks=[],
    )
    text = render(report, {})
    found = ReadPage(text)
    assert text.count('class="nothing"') == 16
    assert "0 of 0 targets" in " ".join(found.text.split())
    assert "None" not in found.text
    assert set() == set(found.anchors) - set(found.ids)
    assert set(page().ids) >= {"coverage", "violation", "load-tests"} <= set(found.ids)


def test_a_level_of_durability_is_no_rival() -> None:
    """Kairos that waits for the disk stands among its own times, not among those whom it is compared with."""
    row = next(row for row in made_report().latencies if row.subject != "kairos")
    level = msgspec.structs.replace(row, operation="durability", subject="fsync", name="Kairos, fsync")
    assert [row] == [one for found in rivals([row, level]).values() for _, one in found]
    assert "update_session, Kairos, fsync" in render(made_report(latencies=[level]), {})


def test_broken_harnesses_are_told_apart_from_mutants_of_the_core() -> None:
    """The sum of the mutants is more than those of the guarantees, and the page says by what."""
    row = next(row for row in made_report().mutants if row.mutant)
    harness = msgspec.structs.replace(row, guarantee="harness")
    assert "1 of them broken harnesses" in render(made_report(mutants=[row, harness]), {})
    assert "broken harnesses:" not in render(made_report(mutants=[row]), {})


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_page_that_is_no_pass_says_what_now(verdict: Verdict) -> None:
    """Whoever reads that something is wrong, or unknown, reads what can be done about it."""
    text = render(made_report(verdict=verdict, reasons=["It is so."]), {})
    assert (verdict is not Verdict.PASS) == ("What now: " in text)


def test_a_crashed_notebook_is_open_with_its_traceback() -> None:
    """Who opens the page of a run with a crashed notebook, or a failed part, sees how it ended without a click."""
    error = "Traceback (most recent call last)\n----> 1 audit['lag']\nKeyError: 'lag'"
    crashed = NotebookRun(
        name="04_audit", question="Is it complete?", seconds=1.0, cells=8, cells_run=2, error=error, file=""
    )
    failed = PartRun(
        name="studies", command="python -m loadtests.studies", status=2, seconds=1.0, tail=["one", "no space left"]
    )
    text = render(made_report(notebooks=[crashed], parts=[failed]), {})
    assert text.count('<details class="fold" open>') == 2
    found = ReadPage(text)
    assert error in found.text
    assert "one\nno space left" in found.text
    assert any(row[0] == "! crashed" and row[3] == "2 of 8" for row in found.rows)
    assert any(row[0] == "✘ no result (2)" for row in found.rows)


def test_a_mutant_that_nobody_noticed_is_not_folded_away() -> None:
    """The table of mutants is folded, with their number; what is not as it has to be stands before it."""
    rows = made_report().mutants
    rows = [*rows[:-1], msgspec.structs.replace(rows[-1], result="survived", is_well=False)]
    text = render(made_report(mutants=rows), {})
    assert "3 of 4 mutants noticed" in text
    assert text.index("✘</span> survived") < text.index("3 of 4 mutants noticed")


def test_numbers_lead_to_files_that_are_there() -> None:
    """Each link is the prefix and a file; where there is no such file there is no link, and that is said."""
    everything = page(prefix="runs/20260301T120000 quick/")
    assert "runs/20260301T120000%20quick/latency/run-01.json" in everything.leads
    assert all(lead.startswith("runs/20260301T120000%20quick/") for lead in everything.leads)
    assert "is not kept beside this page" not in everything.text
    some = page(is_there=lambda name: not name.startswith("latency/"))
    assert [] == [lead for lead in some.leads if lead.startswith("latency/")]
    assert set(some.leads) == {
        lead.removeprefix("runs/20260301T120000%20quick/") for lead in everything.leads if "latency/" not in lead
    }
    assert "is not kept beside this page" in some.text
    assert "0.299 ms°" in {cell for row in some.rows for cell in row}


def test_every_kind_of_row_has_a_link() -> None:
    """Every number leads to the file that it is from: each file of the report is linked from the page."""
    report = made_report()
    files = files_of(report, {})
    assert len(files) == 17
    leads = Counter(page(report).leads)
    assert files <= set(leads)
    assert leads["validation/rounds/002"] == 1
    assert leads["latency/run-01.json"] == 3 + 1 + len(report.latencies)


def test_the_page_of_many_rows_and_large_pictures_is_small() -> None:
    """The largest report with a megabyte and a half of pictures makes a page under 3 MB."""
    report = made_report()
    svg = made_pictures()["latency"][0].svg
    large = svg.replace("</svg>", '<g id="patch_9"><path d="M1 2L3 4"/></g>' * 2_500 + "</svg>")
    many = made_report(
        targets=report.targets * 10,
        guarantees=report.guarantees * 4,
        latencies=report.latencies * 3,
        mutants=report.mutants * 17,
        faults=report.faults * 17,
        loads=report.loads * 4,
    )
    drawn = {
        section: [Picture(large, "A", "B")] * 2
        for section in ("latency", "load", "rivals", "scaling", "audit", "faults")
    }
    assert sum(len(picture.svg) for found in drawn.values() for picture in found) > 1_200_000
    assert len(render(many, drawn).encode()) < MOST_BYTES


def test_a_picture_keeps_its_names_to_itself() -> None:
    """Names within a picture are its own, those that nothing refers to go, and no rule of it holds for the page."""
    svg = made_pictures()["latency"][0].svg
    found = scoped(svg, "load2")
    assert ["load2-m1", "load2-c1"] == ReadPage(found).ids
    assert 'xlink:href="#load2-m1"' in found
    assert "url(#load2-c1)" in found
    assert "<style" not in found
    assert "<metadata" not in found
    assert "figure_1" not in found


def test_a_picture_without_coordinates_is_given_them() -> None:
    """A picture grows and shrinks with the page, also one that was drawn with a size alone; and it is one image."""
    found = labelled('<svg width="300" height="200.5"><g/></svg>', "a", "what is seen")
    assert '<svg viewBox="0 0 300 200.5" role="img" aria-label="what is seen"><g/></svg>' == found
    assert "" == labelled("no picture", "a", "b")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.18249, "0.182"),
        (0.00321, "0.00321"),
        (12.345, "12.3"),
        (9.999, "10.0"),
        (999.9, "1,000"),
        (1_234.5, "1,230"),
        (23_456.7, "23,500"),
        (0.0, "0"),
        (7, "7"),
        (1_213, "1,210"),
        (-0.0512, "-0.0512"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float | None, text: str) -> None:
    """People read three digits, without an exponent and with thousands apart."""
    assert text == words.figure(value)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.21, "0.210 s"), (59.96, "60.0 s"), (185.2, "3 min 5 s"), (3_725, "1 h 2 min")]
)
def test_a_duration_is_told_in_the_units_of_people(seconds: float, text: str) -> None:
    """Minutes and hours, where seconds would have to be divided in the head."""
    assert text == words.lasted(seconds)


def test_an_interval_says_which_is_faster() -> None:
    """Only an interval on one side of 1 says that one of two is faster."""
    assert ["faster", "slower", "not told apart", "–"] == [
        words.against_one(lower, upper) for lower, upper in ((0.5, 0.9), (1.1, 1.3), (1.01, 1.02), (None, None))
    ]
