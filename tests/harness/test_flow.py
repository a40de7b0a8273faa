"""The whole way of `make report`, but for the measuring: runs that nobody measured, and notebooks of a cell or two."""

from __future__ import annotations

import io
import os
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import nbformat
import pytest

import reports.__main__
from loadtests.measure import FORMAT
from reports import build, notebooks, parts
from reports.findings import read_report
from reports.parts import Part
from reports.statistics import Verdict
from tests.made_run import made_run
from tests.read_page import ReadPage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reports.findings import Report

# A kernel starts, and pictures are drawn.
pytestmark = pytest.mark.timeout(120)


class Told(NamedTuple):
    """A report that was asked for on the command line.

    Attributes:
        status: its exit status.
        out, err: what was said.
        folder: of the run.
    """

    status: int
    out: str
    err: str
    folder: Path

    @property
    def report(self) -> Report:
        """What it says."""
        return read_report(self.folder)

    @property
    def page(self) -> ReadPage:
        """Its page."""
        return ReadPage((self.folder / "report.html").read_text(encoding="utf-8"))


def notebook(folder: Path, name: str, *cells: str) -> None:
    """Write a notebook with these cells behind its parameters."""
    given = nbformat.v4.new_code_cell("folder = profile = ''", metadata={"tags": ["parameters"]})
    found = [nbformat.v4.new_markdown_cell("# Is it so?"), given, *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=found), folder / f"{name}.ipynb")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the notebooks, in which there is none; the newest page is written beside it."""
    folder = tmp_path / "sources"
    folder.mkdir()
    monkeypatch.setattr(build, "execute_all", partial(notebooks.execute_all, sources=folder))
    monkeypatch.setattr(build, "LATEST", tmp_path / "latest.html")
    for name in ("KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures: they take their time, and are not what is looked at."""
    monkeypatch.setattr(build, "pictures", lambda *_: {})


@pytest.fixture
def tell(sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Writes the report of a run as the command does, with these arguments besides."""
    assert sources.exists()

    def run(folder: Path, *arguments: str) -> Told:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["reports", *(arguments or ("--run", str(folder)))])
        monkeypatch.setattr(reports.__main__, "unwind_on_termination", lambda: None)
        status = reports.__main__.main()
        said = capsys.readouterr()
        return Told(status, said.out, said.err, folder)

    return run


def test_a_sound_run_passes(tell: Callable[..., Told], sources: Path, tmp_path: Path) -> None:
    """All of it, with pictures and a notebook: PASS, status 0, and the page begins with it; nothing is measured."""
    notebook(
        sources,
        "01_question",
        "from reports.parts import load",
        "evidence = load(folder, profile, 'latency', 'validation', 'load', 'studies')\nprint(len(evidence.studies))",
    )
    folder = made_run(tmp_path / "runs" / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    told = tell(folder)
    assert (0, "", Verdict.PASS, []) == (told.status, told.err, told.report.verdict, told.report.reasons)
    assert told.report.headline in told.page.first
    assert "✔ PASS" in told.out.splitlines()[-3]
    assert told.report.headline in told.out
    for target in told.report.targets:
        assert target.what in told.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (one,) = told.report.notebooks
    assert ("01_question", None) == (one.name, one.error)
    assert (folder / "summary.md").read_text(encoding="utf-8")
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
    # An old run's page is not the newest's.
    assert not build.LATEST.exists()
    assert (tmp_path / "runs" / "trend.html").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("wanted", "verdict", "status"),
    [
        ({"slow": "get_session"}, Verdict.FAIL, 1),
        ({"has_violation": True, "itself": "get_session"}, Verdict.FAIL, 1),
        ({"itself": "get_session"}, Verdict.INVALID, 2),
        ({"without": ("validation",)}, Verdict.INVALID, 2),
    ],
    ids=["a missed target", "a violation", "a run unlike itself", "a part that is missing"],
)
def test_the_first_line_says_what_is_wrong(
    tell: Callable[..., Told], tmp_path: Path, wanted: dict[str, object], verdict: Verdict, status: int
) -> None:
    """A run with a missed target, with a violation, or one that shows nothing: its page and its status say so first."""
    told = tell(made_run(tmp_path / "runs" / "run", **wanted))
    assert (status, verdict) == (told.status, told.report.verdict)
    assert verdict.value in told.page.first
    assert told.report.headline in told.page.first
    assert told.report.reasons
    assert told.report.headline in told.out.splitlines()[-3]


@pytest.mark.usefixtures("undrawn")
def test_a_notebook_that_crashes_is_said_first(tell: Callable[..., Told], sources: Path, tmp_path: Path) -> None:
    """Where a notebook crashes, the others are executed, the page begins with it and has its traceback; status 2."""
    notebook(sources, "01_broken", "print('before')", "raise RuntimeError('the last cell failed')")
    notebook(sources, "02_sound", "print('sound')")
    told = tell(made_run(tmp_path / "runs" / "run"))
    assert (2, Verdict.INVALID) == (told.status, told.report.verdict)
    assert [True, False] == [one.error is not None for one in told.report.notebooks]
    assert "INVALID" in told.page.first
    assert "01_broken" in told.page.first
    assert "the last cell failed" in told.page.text
    kept = nbformat.read(told.folder / "notebooks" / "01_broken.ipynb", as_version=4)
    assert ["stream", "error"] == [one.output_type for cell in kept.cells for one in cell.get("outputs", ())]


def test_a_picture_that_cannot_be_drawn_does_not_lose_the_report(
    tell: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a picture raises, the page is written with the others, says so first, and the status is 2."""

    def draw(*_: object) -> None:
        raise ZeroDivisionError("no width")

    monkeypatch.setattr("reports.figures.latency.spectra", draw)
    told = tell(made_run(tmp_path / "runs" / "run", without=("studies", "load/capacity", "load/audit_outage")))
    assert (2, Verdict.INVALID) == (told.status, told.report.verdict)
    assert any(
        "the pictures of latency cannot be drawn: ZeroDivisionError: no width" in one for one in told.report.reasons
    )
    assert "<svg" in (told.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_a_new_run_is_measured_and_published(
    tell: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is measured, and the newest page leads to the files of its run; `--run` measures nothing."""
    stored = made_run(tmp_path / "stored")
    results = {
        "latency": "manifest.json",
        "validation": "validation/validation.json",
        "load": "load/capacity/load_verdict.json",
        "studies": "studies/instances.json",
    }
    copied = [
        Part(name=name, command=f"tests.a_copy {stored} RUN {name}", results=[result], seconds=60.0)
        for name, result in results.items()
    ]
    monkeypatch.setattr(parts, "profiles", lambda: {"quick": copied})
    told = tell(tmp_path, "--runs", str(tmp_path / "runs"))
    (run,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert "part 1 of 4: latency, about 60 s of 5 min left" in told.out
    newest = ReadPage(build.LATEST.read_text(encoding="utf-8"))
    leads = [one for one in newest.leads if one.startswith(f"runs/{run.name}/")]
    assert leads
    assert all((tmp_path / one).exists() for one in leads)
    shutil.rmtree(run / "studies")
    assert 2 == tell(run).status
    assert not (run / "studies").exists()
    again = tell(run, "--run", str(run), "--measure")
    assert told.status == again.status
    assert "part 1 of 1: studies" in again.out
    assert (run / "studies" / "instances.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_an_interruption_of_the_writing_keeps_what_was_measured(
    tell: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where writing the report is interrupted, or fails, the run is kept, and it is said how to write it again."""
    folder = made_run(tmp_path / "runs" / "run")
    for error, status in ((KeyboardInterrupt, 130), (ZeroDivisionError, 2)):

        def end(*_: object, error: type[BaseException] = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(build, "judged", end)
        told = tell(folder)
        assert status == told.status
        assert told.out.splitlines()[-1].endswith(f"-m reports --run {folder} writes its report")
        assert (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no run"),
        ("{}", f"format None, this version reads {FORMAT}"),
        ('{"format": 1,', "holds no finished run"),
        ('{"format": 999}', f"format 999, this version reads {FORMAT}"),
    ],
)
def test_what_is_no_run_is_one_line(tell: Callable[..., Told], tmp_path: Path, content: str | None, said: str) -> None:
    """A folder that is no run, half of one, or one of another version: one line, status 2, and nothing is written."""
    folder = tmp_path / "run"
    folder.mkdir()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    told = tell(folder)
    assert (2, 1) == (told.status, len(told.err.splitlines()))
    assert told.err.startswith(f"kairos: --run: {folder}: ")
    assert said in told.err
    assert len(list(folder.iterdir())) == (content is not None)


def test_a_place_that_cannot_be_written_is_named(tell: Callable[..., Told], tmp_path: Path) -> None:
    """Where no run can be stored, nothing is measured: one line that names the option."""
    (tmp_path / "file").touch()
    told = tell(tmp_path, "--runs", str(tmp_path / "file" / "runs"))
    assert 2 == told.status
    assert told.err.startswith("kairos: --runs: ")
    assert os.linesep not in told.err.strip()


def test_a_terminal_without_a_check_mark_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the terminal takes ASCII only, what it cannot show is replaced; that does not end the report."""
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["reports", "--run", str(tmp_path)])
    reports.__main__.main()
    sys.stdout.write("\u2714 PASS")
    sys.stdout.flush()
    assert b"? PASS" == taken.getvalue()
