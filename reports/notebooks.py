"""Executes the notebooks on a run, with progress, and keeps them with what they put out, however they end."""

from __future__ import annotations

import asyncio
import json
import string
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
from nbconvert import HTMLExporter

from loadtests import ROOT
from reports.findings import NotebookRun
from reports.kernels import KERNEL, Outcome, Watch, execute, private_homes, run_aside, with_parameters
from reports.time_left import TimeLeft

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SOURCES = ROOT / "notebooks"
# In a run's folder.
FOLDER = "notebooks"
# What a notebook reads is there when a report executes it: what takes longer hangs.
CELL_LIMIT_S = 120.0
# More would only share the two cores that a small machine has; fewer would wait while a kernel starts.
AT_A_TIME = 2
_TIMES = "times.json"
_SCROLLS = '<div class="scroll" tabindex="0" role="group" aria-label="Table">'
_PAGE = Path(__file__).with_name("notebook_page")
# The report's, and what a notebook has besides.
_STYLES = (Path(__file__).with_name("page") / "templates" / "style.css", _PAGE / "style.css")


def execute_all(  # noqa: PLR0913 - the rest has a default
    folder: Path,
    profile: str,
    say: Callable[[str], object],
    *,
    sources: Path = SOURCES,
    cell_limit_s: float = CELL_LIMIT_S,
    kernel: str = KERNEL,
) -> list[NotebookRun]:
    """Execute all notebooks on a run; one that raises, hangs or loses its kernel ends there, and the others go on.

    Args:
        folder: of the run; each is kept in `notebooks/` within it, as NAME.ipynb and as NAME.html.
        profile: quick or full.
        say: takes a line for each cell that begins, and for each notebook that ended.
        sources: where the notebooks are.
        cell_limit_s: a cell that takes longer is ended.
        kernel: what executes them, by its name.
    """
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(sources.glob("*.ipynb"))}
    given = {"folder": _within_the_project(folder), "profile": profile}
    parameterised = {name: with_parameters(notebook, given) for name, notebook in notebooks.items()}
    before = _last_times(target)
    left = TimeLeft({name: len(_code(notebook)) for name, notebook in parameterised.items()}, before, AT_A_TIME)
    every = _All(target, left, say, list(parameterised), cell_limit_s, kernel)
    with private_homes() as home:
        found = run_aside(every.run(parameterised, home))
    (target / _TIMES).write_text(json.dumps({**before, **left.times}) + "\n", encoding="utf-8")
    return found


class _All(NamedTuple):
    """All notebooks while they are executed."""

    target: Path
    left: TimeLeft
    say: Callable[[str], object]
    names: list[str]
    cell_limit_s: float
    kernel: str

    async def run(self, notebooks: Mapping[str, Any], home: Path) -> list[NotebookRun]:
        """Execute them, some at a time; in their order."""
        lanes = asyncio.Semaphore(AT_A_TIME)
        every = (self._one(name, notebooks[name], home, lanes) for name in self.names)
        # Where it is interrupted, each is waited for: none may be interrupted twice, and leave its kernel behind.
        found = await asyncio.gather(*every, return_exceptions=True)
        runs = []
        for one in found:
            if isinstance(one, BaseException):
                raise one
            runs.append(one)
        return runs

    async def _one(self, name: str, notebook: Any, home: Path, lanes: asyncio.Semaphore) -> NotebookRun:
        async with lanes:
            where = f"notebook {self.names.index(name) + 1} of {len(self.names)}, {name}"
            cells = len(_code(notebook))
            watch = Watch(
                lambda cell: self.say(f"{where}: cell {cell} of {cells}, {self.left.words}"),
                lambda _, seconds: self.left.cell_ended(name, seconds),
            )
            try:
                outcome = await execute(notebook, ROOT, home, self.cell_limit_s, watch, self.kernel)
            finally:
                # Also where all of it is interrupted: what it put out so far is kept.
                nbformat.write(notebook, self.target / f"{name}.ipynb")
            self.left.notebook_ended(name)
            self.say(f"{where}: {_ended(outcome)}")
            page = as_html(notebook, name, self.names, outcome.error)
            (self.target / f"{name}.html").write_text(page, encoding="utf-8")
        return NotebookRun(
            name=name,
            question=question_of(notebook) or name,
            seconds=round(outcome.seconds, 3),
            cells=outcome.cells,
            cells_run=outcome.cells_run,
            error=outcome.error,
            file=f"{FOLDER}/{name}.ipynb",
        )


def question_of(notebook: Any) -> str:
    """Its first heading; empty: it has none."""
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("# "):
                return str(line[2:].strip())
    return ""


def as_html(notebook: Any, name: str, names: list[str], error: str | None = None) -> str:
    """An executed notebook as a page of its own, with its code folded; nothing in it comes from the network.

    Args:
        notebook: with its outputs.
        name: its name.
        names: of all, which the page links to.
        error: what ended it early; the page says so first.
    """
    exporter = HTMLExporter(
        template_name=_PAGE.name, extra_template_basedirs=[str(_PAGE.parent)], exclude_anchor_links=True
    )
    # The answer stands at the end, where it follows from something; and below the question, for who has ten seconds.
    title, end, rest = exporter.from_notebook_node(notebook)[0].partition("</h1>")
    # What scrolls can be scrolled by the keyboard.
    body = f"{title}{end}\n{_answer(notebook)}{rest}".replace('<div class="scroll">', _SCROLLS)
    here = ' aria-current="page"'
    links = " ".join(f'<a href="{other}.html"{here if other == name else ""}>{other}</a>' for other in names)
    head, _, rest = (error or "").partition("\n")
    stopped = (
        f'<div class="box invalid"><strong>! This notebook ended early: {escape(head)}</strong>'
        f"<details><summary>Traceback</summary><pre>{escape(rest.strip())}</pre></details></div>\n"
        if error
        else ""
    )
    shell = string.Template((_PAGE / "shell.html").read_text(encoding="utf-8"))
    return shell.substitute(
        title=f"{escape(question_of(notebook) or name)} · Kairos",
        style="".join(path.read_text(encoding="utf-8") for path in _STYLES),
        links=links,
        error=stopped,
        body=body,
    )


def _answer(notebook: Any) -> str:
    """What its last cell showed, as HTML; empty where it was not reached."""
    shown = [output.get("data", {}).get("text/html", "") for output in (_code(notebook) or [{}])[-1].get("outputs", ())]
    return "\n".join(html for html in shown if html.startswith('<div class="box'))


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _ended(outcome: Outcome) -> str:
    if outcome.error is None:
        return f"done after {outcome.seconds:.1f} s"
    return f"ended early, {outcome.error.partition(chr(10))[0]}"


def _within_the_project(folder: Path) -> str:
    """A folder as the notebooks name it: where it is within the project, so that it says nothing of the machine."""
    folder = folder.resolve()
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)


def _last_times(target: Path) -> dict[str, list[float]]:
    """What the cells took the last time: in this run's folder, or else in the newest one beside it."""
    beside = sorted(target.parent.parent.glob(f"*/{FOLDER}/{_TIMES}"), key=_age, reverse=True)
    for path in (target / _TIMES, *beside):
        try:
            found = json.loads(path.read_bytes())
            return {str(name): [float(seconds) for seconds in took] for name, took in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            continue
    return {}


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
