from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import nbformat
import pytest

from loadtests import ROOT
from reports.findings import NotebookRun
from reports.kernels import without_paths
from reports.lab import Answer
from reports.notebooks import as_html, execute_all, question_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["01_latency", "02_scaling", "03_consistency", "04_audit", "05_faults", "06_load", "07_compare"]
DEADLINE_S = 50.0
# What makes of a notebook a program.
PROGRAMS = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.AsyncFor, ast.While, ast.Try),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
# A number with its unit: what a run says, and no prose before it.
FIGURE = re.compile(r"\d[\d.,]*\s*(ms|µs|s|seconds|minutes|rows|MB|GB|×)\b|\d\s*(/s|writes|updates|calls)")


def read(path: Path) -> Any:
    """A notebook as it is stored."""
    return nbformat.read(path, as_version=4)


def test_there_are_seven() -> None:
    """One notebook for each question."""
    assert NAMES == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_and_answers(path: Path) -> None:
    """Each begins with its question, has its parameters, and ends with its verdict; it is valid, with stable ids."""
    notebook = read(path)
    nbformat.validate(notebook)
    assert question_of(notebook).endswith("?")
    assert "**What this does not say:**" in notebook.cells[0].source
    (given,) = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    scope: dict[str, str] = {}
    exec(given, scope)  # noqa: S102 - our own notebook
    assert ("reports/runs/notebook", "quick") == (scope["folder"], scope["profile"])
    assert [f"{path.stem}-{number:02d}" for number in range(len(notebook.cells))] == [
        cell.id for cell in notebook.cells
    ]
    assert "## Verdict" == notebook.cells[-2].source
    assert re.fullmatch(r"lab\.answers\.\w+\(report\)|found\.answer", notebook.cells[-1].source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_only_calls(path: Path) -> None:
    """No notebook defines anything, loops or catches: what it calls is tested elsewhere."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert [] == [
                type(node).__name__ for node in ast.walk(ast.parse(cell.source)) if isinstance(node, PROGRAMS)
            ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_a_run(path: Path) -> None:
    """No output, no count, no version of a kernel, and no figure in the prose: another run would make it wrong."""
    notebook = read(path)
    assert {"language_info": {"name": "python"}} == {
        name: value for name, value in notebook.metadata.items() if name != "kernelspec"
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert ([], None) == (cell.outputs, cell.execution_count)
        else:
            assert FIGURE.search(cell.source) is None


# Executes notebooks as a report does, in a process of its own, and tells what came of them.
EXECUTE = """
import json, os, sys
from pathlib import Path
import msgspec
from loadtests.ending import unwind_on_termination
from reports.notebooks import execute_all

unwind_on_termination()
run, sources, limit = sys.argv[1:]
say = lambda line: print("said " + line, flush=True)
found = execute_all(Path(run), "quick", say, sources=Path(sources), cell_limit_s=float(limit))
print("made " + msgspec.json.encode(found).decode())
"""


class Made(NamedTuple):
    """Notebooks that were executed: what was said, what came of each, and the folder where they are."""

    said: list[str]
    runs: dict[str, NotebookRun]
    folder: Path


def write_notebooks(folder: Path, codes: dict[str, tuple[str, ...]]) -> Path:
    """Notebooks of these cells, by name; the first is their parameters."""
    folder.mkdir()
    for name, code in codes.items():
        title = nbformat.v4.new_markdown_cell(f"# Is {name} well?")
        given = nbformat.v4.new_code_cell("folder = 'unset'\nprofile = 'unset'", metadata={"tags": ["parameters"]})
        cells = [title, given, *(nbformat.v4.new_code_cell(cell) for cell in code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder


def command(run: Path, sources: Path, limit_s: float = 30.0) -> list[str]:
    """What executes notebooks."""
    return [sys.executable, "-c", EXECUTE, str(run), str(sources), str(limit_s)]


def executed(run: Path, sources: Path, limit_s: float) -> Made:
    """Execute them."""
    finished = subprocess.run(
        command(run, sources, limit_s),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 0 == finished.returncode, finished.stderr
    assert "" == finished.stderr
    lines = finished.stdout.splitlines()
    runs = msgspec.json.decode(lines[-1].removeprefix("made "), type=list[NotebookRun])
    return Made([line.removeprefix("said ") for line in lines[:-1]], {one.name: one for one in runs}, run / "notebooks")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One notebook that is well, and one of each kind that is not."""
    folder = tmp_path_factory.mktemp("notebooks")
    told = "import os\nprint(folder, profile, os.getpid())"
    codes = {
        # What takes longest first, so that it hangs while the others are done.
        "1_heeds_nothing": (told, "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"),
        "2_hangs": (told, "import time\ntime.sleep(600)", "print('after')"),
        "3_dies": (told, "import sys\nprint('last words', file=sys.__stderr__)\nos.kill(os.getpid(), 9)"),
        "4_raises": (told, "1 / 0", "print('after')"),
        "5_well": (told, "print(__import__('reports').__file__)", "'<b>' + folder"),
    }
    return executed(folder / "run", write_notebooks(folder / "sources", codes), limit_s=3.0)


def outputs(made: Made, name: str) -> list[Any]:
    """What each code cell put out; the second is the one that sets the parameters of this run."""
    return [cell.outputs for cell in read(made.folder / f"{name}.ipynb").cells if cell.cell_type == "code"]


def test_one_that_fails_does_not_take_the_others_with_it(made: Made) -> None:
    """Each notebook ends by itself, with what ended it in its first line; one that is well has no error."""
    heads = {name: (one.error or "").partition("\n")[0] for name, one in made.runs.items()}
    assert {
        "1_heeds_nothing": "cell 4 of 4 took longer than 3 s and was ended",
        "2_hangs": "cell 4 of 5 took longer than 3 s and was ended",
        "3_dies": "cell 4 of 4: its kernel died",
        "4_raises": "cell 4 of 5: ZeroDivisionError: division by zero",
        "5_well": "",
    } == heads
    assert [(4, 3), (5, 3), (4, 3), (5, 3), (5, 5)] == [(one.cells, one.cells_run) for one in made.runs.values()]
    assert ["Is 5_well well?", "notebooks/5_well.ipynb"] == [made.runs["5_well"].question, made.runs["5_well"].file]


def test_the_traceback_says_where(made: Made) -> None:
    """Below the first line stands where it was: the line that raised, or that hung, or the kernel's last words."""
    assert "----> 1 1 / 0" in str(made.runs["4_raises"].error)
    assert "----> 2 time.sleep(600)" in str(made.runs["2_hangs"].error)
    assert "last words" in str(made.runs["3_dies"].error)
    assert "\x1b" not in "".join(str(one.error) for one in made.runs.values())


def test_what_was_put_out_before_is_kept(made: Made) -> None:
    """An executed notebook has its outputs as far as it got, with the parameters of its run, and so has its page."""
    for name in made.runs:
        assert outputs(made, name)[2][0].text.startswith(f"{made.folder.parent} quick ")
    assert [] == outputs(made, "4_raises")[4]
    assert "error" == outputs(made, "4_raises")[3][0].output_type
    assert {f"{name}{suffix}" for name in made.runs for suffix in (".ipynb", ".html")} | {"times.json"} == {
        path.name for path in made.folder.iterdir()
    }


def test_no_kernel_is_left(made: Made) -> None:
    """When all have been executed, every kernel is gone, also one that hung and heeded nothing."""
    for name in made.runs:
        with pytest.raises(ProcessLookupError):
            os.kill(int(outputs(made, name)[2][0].text.split()[-1]), 0)


def test_the_machine_is_not_named(made: Made) -> None:
    """Neither outputs nor errors name the folder of the project: who reads them has it elsewhere."""
    assert "reports/__init__.py" == outputs(made, "5_well")[3][0].text.strip()
    assert [] == [name for name, one in made.runs.items() if str(ROOT) in str(one.error)]
    assert "a/b.py, .venv/lib/c.py" == without_paths(f"{ROOT}/a/b.py, {sys.prefix}/lib/c.py")


def test_progress_is_said_cell_by_cell(made: Made) -> None:
    """Each cell is said when it begins, with its notebook's place and the time left, and each end with its reason."""
    assert [f"notebook 5 of 5, 5_well: cell {number} of 5" for number in range(1, 6)] == [
        line.partition(", time")[0].partition(", about")[0] for line in made.said if "5_well: cell" in line
    ]
    assert all(
        re.search(r", (about \d+ s left|time left not known yet)$", line) for line in made.said if ": cell" in line
    )
    ends = [line for line in made.said if ": cell" not in line]
    assert 5 == len(ends)
    assert any(line.startswith("notebook 5 of 5, 5_well: done after ") for line in ends)
    assert "notebook 3 of 5, 3_dies: ended early, cell 4 of 4: its kernel died" in ends


def test_the_last_run_tells_how_long_it_will_take(made: Made) -> None:
    """What the cells took is stored, for the time that is left the next time."""
    times = json.loads((made.folder / "times.json").read_text())
    assert {"5_well": 5, "4_raises": 3, "2_hangs": 3, "3_dies": 3, "1_heeds_nothing": 3} == {
        name: len(took) for name, took in times.items()
    }


def test_the_page_of_a_notebook_stands_alone(made: Made) -> None:
    """It says first what ended it, folds its code, escapes what it shows, and names no address of the network."""
    page = (made.folder / "4_raises.html").read_text()
    assert page.index("ended early: cell 4 of 5: ZeroDivisionError") < page.index("Is 4_raises well?</h1>")
    assert 5 == page.count("<details class")
    assert [] == re.findall(r"(?:src|href)=\"(?!data:,|\.\./report\.html|\d_\w+\.html)[^\"]*", page)
    assert [] == re.findall(r"<script|@import|url\(|https?://", page)
    assert "<b>" not in (made.folder / "5_well.html").read_text()
    assert "ended early" not in (made.folder / "5_well.html").read_text()


def test_a_kernel_that_does_not_start_is_said(tmp_path: Path) -> None:
    """Where no kernel starts each notebook says so, and is there as far as it goes: without outputs."""
    sources = write_notebooks(tmp_path / "sources", {"5_well": ("print(1)",)})
    (found,) = execute_all(tmp_path / "run", "quick", lambda _: None, sources=sources, kernel="nowhere")
    assert "its kernel did not start: NoSuchKernel: No such kernel named nowhere" == str(found.error).partition("\n")[0]
    assert 0 == found.cells_run
    assert (tmp_path / "run" / "notebooks" / "5_well.html").exists()


def test_a_kernel_that_ends_at_once_is_said_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a kernel ends before it answers, what it said stands in the error; no time is spent on waiting for it."""
    spec = tmp_path / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", "raise SystemExit('nothing is installed here')"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "broken", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    sources = write_notebooks(tmp_path / "sources", {"5_well": ("print(1)",)})
    (found,) = execute_all(tmp_path / "run", "quick", lambda _: None, sources=sources, kernel="broken")
    assert str(found.error).startswith("its kernel did not start: RuntimeError: Kernel died before")
    assert str(found.error).endswith("nothing is installed here")


def test_an_interruption_ends_all_of_it(tmp_path: Path) -> None:
    """A report that is ended takes the kernels with it, keeps what there was, and begins no further notebook."""
    run = tmp_path / "run"
    hangs = "import os, pathlib, time\npathlib.Path(folder, str(os.getpid())).touch()\ntime.sleep(600)"
    sources = write_notebooks(tmp_path / "sources", dict.fromkeys(("1", "2", "3"), (hangs,)))
    with subprocess.Popen(command(run, sources), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        kernels = wait_for(lambda: [int(path.name) for path in run.glob("*") if path.name.isdigit()], 2)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=DEADLINE_S)
    assert 128 + signal.SIGTERM == process.returncode
    assert b"notebook 3 of 3" not in said
    assert b"kernel died" not in said
    assert all(is_gone(kernel) for kernel in kernels)
    assert ["1.ipynb", "2.ipynb"] == sorted(path.name for path in (run / "notebooks").glob("*"))


def wait_for(what: Callable[[], list[int]], count: int) -> list[int]:
    """What there is, once there are so many."""
    deadline = time.monotonic() + DEADLINE_S
    while len(found := what()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def is_gone(pid: int) -> bool:
    """Whether a process ends before long."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_the_answer_is_below_the_question() -> None:
    """The page of a notebook that came to its end shows the answer first, below the question, and where it follows."""
    answer = Answer("PASS", ["All is well."])._repr_html_()
    output = nbformat.v4.new_output("execute_result", {"text/html": answer}, execution_count=1)
    last = nbformat.v4.new_code_cell("answer", outputs=[output], execution_count=1)
    cells = [nbformat.v4.new_markdown_cell("# Is it?\n\nWhy."), last]
    page = as_html(nbformat.v4.new_notebook(cells=cells), "1", ["1"])
    places = [page.index("Is it?</h1>"), page.index(answer), page.index("Why."), page.rindex(answer)]
    assert sorted(set(places)) == places


def test_the_page_can_be_made_again(made: Made) -> None:
    """The same executed notebook gives the same page."""
    again = as_html(read(made.folder / "4_raises.ipynb"), "4_raises", list(made.runs), made.runs["4_raises"].error)
    assert (made.folder / "4_raises.html").read_text() == again
