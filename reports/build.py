"""From a run's folder to its report: notebooks, verdict, pictures, page, `report.json` and the summary."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from loadtests import ROOT
from loadtests.whole import write_whole
from reports.evidence import Evidence
from reports.findings import PAGE, SUMMARY, Report, write_report
from reports.judging import judged
from reports.notebooks import execute_all
from reports.page.render import render
from reports.parts import STORED, note_missing, profile_of
from reports.pictures import pictures
from reports.summary import markdown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reports.figures.style import Picture

# The page of the newest run.
LATEST = ROOT / "reports" / "latest.html"


class Built(NamedTuple):
    """A report that was written.

    Attributes:
        folder: of the run.
        report: what it says.
        drawn: its pictures by section.
    """

    folder: Path
    report: Report
    drawn: dict[str, list[Picture]]


def build(folder: Path, profile: str, say: Callable[[str], object]) -> Built:
    """Execute the notebooks on what is in a run's folder, judge it, and write the report beside it.

    Args:
        folder: of the run.
        profile: what it is taken for where it does not say so itself.
        say: told of progress, a line at a time.
    """
    profile = profile_of(folder) or profile
    note_missing(folder, profile)
    notebooks = execute_all(folder, STORED, say)
    say("judging what was seen, drawing it, writing the page ...")
    evidence = Evidence(folder)
    drawn = _drawn(evidence)
    report = judged(
        evidence,
        notebooks,
        profile=profile,
        command=_command(evidence, profile),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_report(folder, report)
    (folder / SUMMARY).write_text(markdown(report), encoding="utf-8")
    built = Built(folder, report, drawn)
    _write_page(built, folder / PAGE)
    return built


def publish(built: Built) -> Path:
    """Write the page to where the newest one always is, with links that lead from there."""
    _write_page(built, LATEST)
    return LATEST


def _drawn(evidence: Evidence) -> dict[str, list[Picture]]:
    """All pictures; what cannot be drawn is a problem of the run and does not take the report with it."""

    def failed(section: str, error: Exception) -> None:
        traceback.print_exception(error)
        evidence.problems.append(f"the pictures of {section} cannot be drawn: {type(error).__name__}: {error}")

    return pictures(evidence, failed)


def _command(evidence: Evidence, profile: str) -> str:
    run = evidence.latency
    given = "KAIROS_REDIS_URL=… KAIROS_POSTGRES_URL=… " if run and run.manifest.get("servers_given") else ""
    return f"{given}make report PROFILE={profile}"


def _write_page(built: Built, path: Path) -> None:
    prefix = os.path.relpath(built.folder, path.parent)
    page = render(
        built.report,
        built.drawn,
        prefix="" if prefix == "." else f"{prefix}/",
        is_there=lambda name: (built.folder / name).exists(),
    )
    write_whole(path, page.encode(), beside=built.folder.name)
