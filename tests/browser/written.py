"""Reports that are written for a test, as `make report` writes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from reports.evidence import Evidence
from reports.findings import NotebookRun, Report, write_report
from reports.judging import judged
from reports.page import render
from reports.pictures import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MADE_AT = "2026-01-01T00:00:00+00:00"


class Written(NamedTuple):
    """A report that was written.

    Attributes:
        path: its page, in the run's folder.
        newest: the same page where the newest one always is, two folders above.
        report: what it says.
        pictures: how many it shows.
    """

    path: Path
    newest: Path
    report: Report
    pictures: int


def written(folder: Path, notebooks: Sequence[NotebookRun] = (), *, is_drawn: bool = True) -> Written:
    """Judge a run and write its page.

    Args:
        folder: of the run.
        notebooks: how they ended; those that are named are put there, empty.
        is_drawn: whether with pictures: they take most of the time.
    """
    for notebook in notebooks:
        path = folder / notebook.file
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.with_suffix(".html").touch()
    evidence = Evidence(folder)
    drawn = pictures(evidence) if is_drawn else {}
    report = judged(evidence, list(notebooks), profile="quick", command="make report", made_at=MADE_AT)
    write_report(folder, report)
    path, newest = folder / "report.html", folder.parent.parent / "latest.html"
    path.write_text(render(report, drawn), encoding="utf-8")
    prefix = f"{os.path.relpath(folder, newest.parent)}/"
    newest.write_text(render(report, drawn, prefix=prefix), encoding="utf-8")
    return Written(path, newest, report, sum(map(len, drawn.values())))
