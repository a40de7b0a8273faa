"""The other pages: of runs that did not go well, of notebooks, and of all runs."""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest

from loadtests import ROOT
from reports.findings import NotebookRun
from reports.notebooks import as_html
from reports.statistics import Verdict
from reports.trend import write_trend
from tests.browser.opened import SCREENS, dead
from tests.browser.written import Written, written
from tests.made_report import made_pictures
from tests.made_run import made_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.opened import Look, Opened, Window

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_ERROR = "ValueError: there is no such percentile"
_TRACEBACK = f"cell 3 of 5: {_ERROR}\n\nTraceback (most recent call last)\n  percentile(101)\n{_ERROR}"


def _notebook(error: str | None) -> NotebookRun:
    return NotebookRun(
        name="01_latency",
        question="Are the targets met?",
        seconds=3.0,
        cells=5,
        cells_run=2 if error else 5,
        error=error,
        file="notebooks/01_latency.ipynb",
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """Runs that did not go well, beside one that did, without their pictures."""
    folder = tmp_path_factory.mktemp("reports") / "runs"
    made_run(folder / "sound")
    shutil.copytree(folder / "sound", folder / "crashed")
    made_run(folder / "missed", slow="update_session")
    made_run(folder / "invalid", itself="get_session")
    made_run(folder / "violated", itself="get_session", has_violation=True)
    return {
        path.name: written(path, [_notebook(_TRACEBACK if path.name == "crashed" else None)], is_drawn=False)
        for path in sorted(folder.iterdir())
    }


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("sound", Verdict.PASS, "✔ PASS"),
        ("missed", Verdict.FAIL, "✘ FAIL"),
        ("invalid", Verdict.INVALID, "! INVALID"),
        ("crashed", Verdict.INVALID, "! INVALID"),
        ("violated", Verdict.FAIL, "✘ FAIL"),
    ],
)
def test_the_first_line_says_what_came_of_it(
    runs: dict[str, Written], window: Window, name: str, verdict: Verdict, words: str
) -> None:
    """The first line of a page says whether the run is good, and if it is not, why not; in the window as it opens."""
    run = runs[name]
    opened = window.open(run.path, SCREENS[0])
    assert verdict == run.report.verdict
    assert opened.first_line.endswith(f"{words} {run.report.headline}")
    assert words.split()[1] in opened.page.title()
    box = opened.page.locator("h1").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < opened.page.viewport_size["height"]  # type: ignore[index]  # it has one
    assert [] == opened.complaints


@pytest.mark.parametrize(("name", "reason"), [("missed", "update_session"), ("crashed", "01_latency")])
def test_the_first_line_names_the_reason(runs: dict[str, Written], window: Window, name: str, reason: str) -> None:
    """What was missed, or which notebook crashed, stands in the first line, and its traceback on the page."""
    opened = window.open(runs[name].path, SCREENS[0])
    assert reason in opened.first_line
    text = opened.page.locator("body").evaluate("element => element.textContent")
    assert (name == "crashed") == ("percentile(101)" in text)


def test_a_page_without_pictures_is_whole(runs: dict[str, Written], window: Window) -> None:
    """What went wrong takes nothing else with it: the page is as wide as the window, and its links lead somewhere."""
    opened = window.open(runs["crashed"].path, SCREENS[0])
    assert 0 >= opened.wider_than_window_px
    assert [] == dead(opened, runs["crashed"].path)


@pytest.fixture(scope="module")
def notebook_pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Each notebook as a page, its first cell with pictures and a table; the last one ended early."""
    folder = tmp_path_factory.mktemp("notebooks")
    names = [path.stem for path in NOTEBOOKS]
    pictures = [picture._repr_html_() for found in made_pictures().values() for picture in found]
    shown = (
        "".join(pictures) + "<table><tr><th>operation</th><th>p95</th></tr><tr><td>get</td><td>1 ms</td></tr></table>"
    )
    output = nbformat.v4.new_output("display_data", data={"text/html": shown, "text/plain": "a picture"})
    pages = []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        next(cell for cell in notebook.cells if cell.cell_type == "code").outputs = [output]
        pages.append(folder / f"{path.stem}.html")
        text = as_html(notebook, path.stem, names, _TRACEBACK if path == NOTEBOOKS[-1] else None)
        pages[-1].write_text(text, encoding="utf-8")
    (folder.parent / "report.html").touch()
    return pages


def test_notebooks_open_likewise(notebook_pages: list[Path], window: Window) -> None:
    """Each notebook's page asks for nothing, shows its pictures and leads somewhere; each in another look."""
    assert notebook_pages
    for path, look in zip(notebook_pages, itertools.cycle(SCREENS), strict=False):
        assert [] == whole(window.open(path, look), path), (path.name, look)


@pytest.mark.parametrize("look", SCREENS, ids=str)
def test_a_notebook_that_crashed_says_so(notebook_pages: list[Path], window: Window, look: Look) -> None:
    """Its page says first how it ended, is whole all the same, and keeps nobody out."""
    opened = window.open(notebook_pages[-1], look)
    assert [] == whole(opened, notebook_pages[-1])
    assert [] == opened.violations()
    assert f"ended early: cell 3 of 5: {_ERROR}" in opened.page.locator("body").inner_text()


@pytest.mark.parametrize("look", SCREENS, ids=str)
def test_the_trend_opens_likewise(runs: dict[str, Written], window: Window, look: Look) -> None:
    """The page of all runs asks for nothing, has every run with its verdict, and leads to their pages."""
    path = write_trend(runs["sound"].path.parent.parent)
    opened = window.open(path, look)
    assert [] == whole(opened, path)
    assert [] == opened.violations()
    links = {os.path.normpath(link) for link in opened.links}
    assert {f"{name}/report.html" for name in runs} <= links


def whole(opened: Opened, path: Path) -> list[str]:
    """What is wrong with a page that anybody may open."""
    wider = opened.wider_than_window_px
    found = [*opened.complaints, *opened.unseen, *opened.blank(), *opened.faint, *dead(opened, path)]
    return [*found, f"{wider} pixels wider than the window"] if wider > 0 else found
