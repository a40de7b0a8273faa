"""The seven notebooks on a run that nobody measured: their cells one after the other in this process."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from loadtests import ROOT
from reports.evidence import Evidence
from reports.findings import Report, read_report, write_report
from reports.judging import judged
from reports.judging.words import figure
from reports.lab.answer import Answer
from tests.made_run import made_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Shown:
    """What the cells of a notebook showed, as a page has it and as a terminal has it; the last is the verdict."""

    def __init__(self, values: list[Any]) -> None:
        self.html = "\n".join(value._repr_html_() for value in values)
        self.text = "\n".join(str(value) for value in values)
        self.answer = values[-1]


def run_cells(name: str, **given: str) -> Shown:
    """Execute a notebook's code cells with these parameters."""
    (path,) = [path for path in NOTEBOOKS if path.stem.endswith(name)]
    scope: dict[str, Any] = {}
    values = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, name, "exec"), scope)  # noqa: S102 - our own notebook
            if shown is not None:
                values.append(eval(compile(ast.Expression(shown.value), name, "eval"), scope))  # noqa: S307 - likewise
            if "parameters" in cell.metadata.get("tags", []):
                scope |= given
    return Shown(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, with its report."""
    run = made_run(tmp_path_factory.mktemp("runs") / "run")
    made = judged(Evidence(run), profile="quick", command="", made_at="2026-11-30T00:00:00+00:00")
    write_report(run, made)
    return run


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    """What the report of the run says."""
    return read_report(folder)


@pytest.fixture(scope="module")
def shown(folder: Path) -> Callable[[str], Shown]:
    """What a notebook shows of it."""
    found: dict[str, Shown] = {}

    def of(name: str) -> Shown:
        if name not in found:
            found[name] = run_cells(name, folder=str(folder), profile="stored")
        return found[name]

    return of


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_each_ends_with_an_answer(shown: Callable[[str], Shown], name: str) -> None:
    """Each notebook runs to its end and shows a verdict in a word with its sign, and why; and nothing of Python."""
    found = shown(name)
    assert isinstance(found.answer, Answer)
    assert found.answer.sentences
    assert f"<strong>{found.answer.sign} {found.answer.word}</strong>" in found.html
    assert [] == [word for word in ("None", "nan", " inf", " object at ", "()") if word in found.text]


def test_a_run_that_is_well_is_said_to_be(shown: Callable[[str], Shown]) -> None:
    """Of a sound run each answer is PASS, or that nothing of it is judged in its profile, or that nothing differs."""
    words = {path.stem: shown(path.stem).answer.word for path in NOTEBOOKS}
    assert {
        "01_latency": "PASS",
        "02_scaling": "shown, not judged",
        "03_consistency": "PASS",
        "04_audit": "PASS",
        "05_faults": "PASS",
        "06_load": "PASS",
        "07_compare": "no difference shown",
    } == words


def test_the_numbers_are_those_of_the_report(shown: Callable[[str], Shown], report: Report) -> None:
    """Each row of `report.json` stands in the notebook whose question it answers, with the same number."""
    rows = {
        "01_latency": [(one.what, figure(one.value, one.unit)) for one in report.targets if one.source == "latency"],
        "02_scaling": [
            (f"{one.one_per_s[0]:,.0f} (", f"{one.contention[0]:.3f} (") for one in report.laws if not one.note
        ],
        "03_consistency": [(one.text, f"{one.operations:,}") for one in report.guarantees if one.operations],
        "04_audit": [(f"{one.most_waiting:,}", f"{one.longest_lag_s:.1f} s") for one in report.loads if one.outage_s],
        "05_faults": [(one.fault, f"{one.recovery_s:.2f} s") for one in report.faults if one.recovery_s is not None],
        "06_load": [(one.name, f"{one.p95_ms:.2f}") for one in report.loads],
    }
    assert all(rows.values())
    trail = {one.text for one in report.guarantees if one.number in {"G7", "G13"}}
    for name, some in rows.items():
        lines = shown(name).text.splitlines()
        for what, number in some:
            assert what in trail or any(what in line and number in line for line in lines), (name, what, number)


def test_pictures_are_those_of_the_report(shown: Callable[[str], Shown]) -> None:
    """Every notebook that asks for what changes over something draws it."""
    for name in ("01_latency", "02_scaling", "03_consistency", "04_audit", "05_faults", "06_load", "07_compare"):
        assert "<svg" in shown(name).html, name


def test_a_run_without_a_part_is_no_error(tmp_path: Path) -> None:
    """Where nothing was measured of its question, a notebook says so and does not raise: the others have their say."""
    run = made_run(tmp_path / "run", without=("validation", "load/audit_outage", "load/capacity", "studies"))
    names = ("scaling", "consistency", "audit", "faults", "load")
    words = {name: run_cells(name, folder=str(run), profile="stored").answer.word for name in names}
    assert dict.fromkeys(names, "INCONCLUSIVE") == words
