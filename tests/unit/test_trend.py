from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reports.figures.trend import load_of
from reports.findings import NAME, write_report
from reports.statistics import Verdict
from reports.trend import TREND, main_numbers, write_trend
from tests.made_report import made_report
from tests.read_page import ReadPage

if TYPE_CHECKING:
    from pathlib import Path

    from reports.findings import Report


def stored(runs: Path, name: str, report: Report, *, has_page: bool = True) -> None:
    """Store a run's report, and a page beside it."""
    (runs / name).mkdir()
    write_report(runs / name, report)
    if has_page:
        (runs / name / "report.html").write_text("a page", encoding="utf-8")


def test_all_runs_are_there_and_the_newest_is_first(tmp_path: Path) -> None:
    """Each run has a row with its verdict, headline and main numbers, and a link to its page if it has one."""
    older = made_report(started_at="2026-02-01T12:00:00+00:00", headline="As it was before.")
    newer = made_report(verdict=Verdict.FAIL, headline="A target is missed.", profile="full", commit="fedcba9")
    stored(tmp_path, "b old", older)
    stored(tmp_path, "a-new", newer)
    stored(tmp_path, "c-bare", made_report(started_at="2026-01-01T12:00:00+00:00"), has_page=False)
    assert tmp_path / TREND == write_trend(tmp_path)
    found = ReadPage((tmp_path / TREND).read_text(encoding="utf-8"))
    rows = found.rows[1:]
    assert ["✘ FAIL", "✔ PASS", "✔ PASS"] == [row[0] for row in rows]
    assert "2026-03-01 12:00 UTCA target is missed." == rows[0][1]
    assert ["full", "fedcba9", "4 of 4", "4 of 4", "4 of 4", "0.667 ×", "0.667 ×"] == rows[0][2:9]
    assert ["0.184", "0.252", "0.252", "–", "23,500", "3.99"] == rows[0][9:]
    assert ["a-new/report.html", "b%20old/report.html"] == found.leads
    assert "c-bare has no page" in rows[2][1]


def test_a_run_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A report of another format, or half of one, is named with the reason; a folder without one is not."""
    stored(tmp_path, "good", made_report())
    for name, content in (("broken", "{"), ("other", '{"format": 99}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_text(content, encoding="utf-8")
    (tmp_path / "batch").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    text = ReadPage(write_trend(tmp_path).read_text(encoding="utf-8")).text
    assert "broken: " in text
    assert "other: " in text
    assert "format 99" in text
    assert "batch" not in text


def test_the_trend_says_what_can_be_compared_and_loads_nothing(tmp_path: Path) -> None:
    """Ratios hold from day to day and times do not, which the page says; it is one file, without a script."""
    for number in range(3):
        stored(
            tmp_path,
            f"run-{number}",
            made_report(started_at=f"2026-03-0{number + 1}T12:00:00+00:00", headline="<script>"),
        )
    found = ReadPage(write_trend(tmp_path).read_text(encoding="utf-8"))
    assert "Compare ratios" in found.text
    assert [] == found.unbalanced
    assert len(found.ids) == len(set(found.ids))
    assert set() == set(found.tags) & {"script", "link", "img", "iframe"}
    assert [] == [lead for lead in found.leads if ":" in lead]
    assert found.labels
    assert set() == set(found.anchors) - set(found.ids)


def test_without_a_run_the_trend_says_so(tmp_path: Path) -> None:
    """Nothing measured yet is a page, too."""
    assert "There is no run yet" in ReadPage(write_trend(tmp_path).read_text(encoding="utf-8")).text


def test_one_load_test_is_followed_through_all_runs() -> None:
    """Of several load tests the one that most runs have is shown, so that no two of them are compared."""
    report = made_report()
    other = msgspec.structs.replace(report.loads[0], name="baseline", p99_ms=99.0)
    both = made_report(loads=[other, *report.loads])
    assert load_of([report, both]) == "audit_outage"
    assert main_numbers(both, "audit_outage").turn_p99_ms == report.loads[0].p99_ms
    assert main_numbers(made_report(loads=[other]), "audit_outage").turn_p99_ms is None
    assert not load_of([])
