from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
import numpy as np
import pytest

from loadtests import measure
from loadtests.checks import CHECKS
from reports import results, tables
from reports.statistics import EXIT_STATUS, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
TINY = measure.Profile(runs=3, rounds=20)
# Of a run that meets its targets.
RUNS = 10
ROWS = 400
DEADLINE_S = 50.0
# A real run does not fit into the time that a test has otherwise.
pytestmark = pytest.mark.timeout(180)


# Nanoseconds of one process, by "operation/subject".
Samples = dict[str, Any]


class Page(HTMLParser):
    """What a browser would make of a page.

    Attributes:
        rows: the cells' texts of each row of a table.
        loads: addresses that it would load, or that lead elsewhere.
        tags: the elements' names.
        body: the text of the body, in pieces.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.body: list[str] = []
        self._inside = False
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.add(tag)
        self._inside = self._inside or tag == "body"
        self.loads += [
            value
            for name, value in attrs
            if name in {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
            and value
            and not value.startswith(("#", "data:"))
        ]
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a cell."""
        if tag in {"td", "th"}:
            self._cell = False

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._inside and data.strip():
            self.body.append(data.strip())
        if self._cell:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a small but real run; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("report") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(measure.PROFILES, "tiny", TINY)
        # The harness sets it; so that other tests have their own again afterwards.
        patch.setenv("RQ_KEY_PREFIX", os.environ["RQ_KEY_PREFIX"])
        # As small as the rest: a whole drain takes longer than all else that a process measures here.
        patch.setenv("KAIROS_BENCHMARK_ROWS", str(ROWS))
        # What a run does not need, and takes its time to import in each of its processes.
        patch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:hypothesispytest")
        measure.measure(folder, "tiny")
    yield folder
    shutil.rmtree(folder)


class Built(NamedTuple):
    """A run with its page.

    Attributes:
        run: the run.
        page: the page's text.
        verdict: the verdict that report.json has.
        said: what was said meanwhile.
    """

    run: results.Run
    page: str
    verdict: Verdict
    said: list[str]


@pytest.fixture(scope="module")
def built(reported: Callable[[str], Reported]) -> Built:
    """The page of the run as it was measured."""
    folder, finished = reported("as measured")
    verdict = Verdict(verdict_of(folder))
    assert EXIT_STATUS[verdict] == finished.returncode, finished.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    return Built(results.Run(folder), page, verdict, finished.stdout.splitlines())


@pytest.fixture
def run_copy(measured: Path, tmp_path: Path) -> Path:
    """A copy of the run that is certain to be met, but for what a test changes in it."""
    return certain(measured, tmp_path / "run")


def certain(measured: Path, folder: Path) -> Path:
    """A copy of the run, in this folder, in which every call took a millisecond, and every one of others took ten.

    So small a run may well differ from itself by more than a run may, and ten runs are the fewest that meet a target.
    """
    shutil.copytree(measured, folder)
    for number in range(TINY.runs + 1, RUNS + 1):
        copy_run(folder, 1, number)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "runs": RUNS, "exit_statuses": [0] * RUNS}))

    files = itertools.count()

    def equal(samples: Samples) -> None:
        # No two processes have the very same samples.
        file = next(files)
        for key in samples:
            took_ns = 1_000_000 if key.rpartition("/")[2] in {"kairos", "again"} else 10_000_000
            samples[key] = took_ns + file + np.arange(len(samples[key]))

    edit(folder, equal)
    return folder


def copy_run(folder: Path, number: int, other: int) -> None:
    """Copy what one process left to where another's would be."""
    for ending in ("json", "npz"):
        shutil.copyfile(
            folder / "latency" / f"run-{number:02d}.{ending}", folder / "latency" / f"run-{other:02d}.{ending}"
        )


class Reported(NamedTuple):
    """A run whose page was written from the command line.

    Attributes:
        run: the run's folder.
        finished: the process that wrote it.
    """

    run: Path
    finished: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def reported(
    measured: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Reported]]:
    """The reports of the run as it was measured and as it was changed, by the change; written side by side."""
    folder = tmp_path_factory.mktemp("reported")

    def write(name: str, change: Callable[[Path], Path | None] | None) -> Reported:
        run = folder / name.replace(" ", "-")
        if change is None:
            shutil.copytree(measured, run)
            return Reported(run, report(tree, run))
        return Reported(run, report(change(certain(measured, run)) or tree, run))

    changes: dict[str, Callable[[Path], Path | None] | None] = {
        "as measured": None,
        "met": lambda _: None,
        "slow": partial(edit, change=slow),
        "without one result": partial(remove, operation="update_session", names="run-02"),
        "of a broken notebook": lambda run: with_broken_notebook(tree, run.with_name("tree")),
        "no run": partial(overwrite_manifest, content="{}"),
        "half a run": partial(overwrite_manifest, content='{"format": 1,'),
        "of another format": with_another_format,
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = {name: pool.submit(write, name, change) for name, change in changes.items()}
        yield lambda name: reports[name].result()
        # Where only some were asked for.
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, so that the page of the newest run is written there and not into the repository."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("kairos_core", "loadtests", "reports", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("runs", "latest.html", "__pycache__"))
    return folder


def edit(folder: Path, change: Callable[[Samples], None], names: str = "run-*") -> None:
    """Change the samples of the run's files."""
    for file in (folder / "latency").glob(f"{names}.npz"):
        with np.load(file) as arrays:
            samples = dict(arrays)
        change(samples)
        np.savez_compressed(file, **samples)


def slow(samples: Samples) -> None:
    """Every call of an operation took a second longer, and as much longer when it ran against itself."""
    for key in samples:
        if key.endswith(("/kairos", "/again")):
            samples[key] = samples[key] + 1_000_000_000


def remove(folder: Path, operation: str, names: str) -> None:
    """Leave an operation out of the run's files, as a benchmark that raised is left out."""
    for file in (folder / "latency").glob(f"{names}.json"):
        content = json.loads(file.read_text())
        content["benchmarks"] = [found for found in content["benchmarks"] if found["name"] != f"test_{operation}"]
        file.write_text(json.dumps(content))

    def left_out(samples: Samples) -> None:
        for key in [key for key in samples if key.startswith(f"{operation}/")]:
            del samples[key]

    edit(folder, left_out, names)


def overwrite_manifest(folder: Path, content: str) -> None:
    """Give the run another manifest."""
    (folder / "manifest.json").write_text(content)


def with_another_format(folder: Path) -> None:
    """Let another version have written the run."""
    manifest = json.loads((folder / "manifest.json").read_text())
    overwrite_manifest(folder, json.dumps({**manifest, "format": 999}))


def with_broken_notebook(tree: Path, folder: Path) -> Path:
    """A copy of the code whose notebook raises in its last cell."""
    shutil.copytree(tree, folder)
    path = folder / "notebooks" / "01_latency.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("raise RuntimeError('the last cell failed')"))
    nbformat.write(notebook, path)
    return folder


def report(tree: Path, run: Path) -> subprocess.CompletedProcess[str]:
    """Write the page of a run that is there, from the command line."""
    return subprocess.run(
        [sys.executable, "-m", "reports", "--run", str(run)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def verdict_of(run: Path) -> str:
    """The verdict in a run's report.json."""
    verdict: str = json.loads((run / "report.json").read_text())["verdict"]
    return verdict


def test_a_run_is_complete(measured: Path) -> None:
    """A run leaves its manifest, one file for each process with a sample of each round, and all checks, which held."""
    run = results.Run(measured)
    assert (TINY.runs, TINY.rounds) == (run.manifest["runs"], run.manifest["rounds"])
    for operation in results.OPERATIONS:
        assert {"kairos", *results.COMPANIONS[operation]} == set(run.samples[operation])
        for runs in run.samples[operation].values():
            assert [TINY.rounds] * TINY.runs == [len(samples) for samples in runs]
    for subjects in run.samples.values():
        assert all((samples > 0).all() for runs in subjects.values() for samples in runs)
        assert {TINY.runs} == {len(runs) for runs in subjects.values()}
    assert [check.__name__ for check in CHECKS] == [check.name for check in run.checks]
    assert [] == [check.evidence for check in run.checks if not check.passed]


def test_the_page_begins_with_the_verdict(built: Built) -> None:
    """Who opens the page reads the verdict first, as a word and a sign, and then the reason."""
    run, body = built.run, Page(built.page).body
    assert tables.signed(built.verdict.value) == body[1]
    assert any(reason in body[2] for reason in [*run.problems, f"of {len(run.judgements)} targets met"])


def test_the_page_has_every_target_and_every_check(built: Built) -> None:
    """Each target is a row with its limit, its measured value and its verdict; each check is one with its evidence."""
    run, rows = built.run, Page(built.page).rows
    targets = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
    # The others are of `make scale` and of the studies, and some of a full run alone.
    for target in (target for kind in ("latency", "ratio", "rate") for target in targets[kind]):
        if "profile" in target:
            continue
        limits = [f"{value:,g}" for name, value in target.items() if name.startswith(("below", "above"))]
        found = [row[4].split()[1] for row in rows if row[1] == target["operation"] and len(row) > 4]
        assert limits
        assert set(limits) <= set(found)
    for judgement in run.judgements:
        measured = [tables.signed(judgement.verdict.value), judgement.operation, judgement.statistic]
        assert measured in [row[:3] for row in rows]
    for check in run.checks:
        guarantee = f"{check.guarantee} {tables.GUARANTEES[check.guarantee]}"
        assert [tables.signed("PASS"), guarantee, check.question, check.evidence] in rows


def test_the_page_has_what_durability_costs(built: Built) -> None:
    """Each level of durability is a row with its latency and, but for memory, its ratio to memory with bounds."""
    rows = {row[0]: row for row in Page(built.page).rows}
    for level in ("memory", "fsync", "replicated:1"):
        assert all(" ms (" in cell for cell in rows[level][2:4])
        assert (level == "memory") == (rows[level][4] == "–")


def test_the_page_loads_nothing(built: Built) -> None:
    """The page is one file: it loads nothing, runs nothing, and shows the same without a network."""
    found = Page(built.page)
    assert [] == found.loads
    assert set() == found.tags & {"script", "link", "iframe", "object", "embed", "base", "img"}
    assert "@import" not in built.page
    assert "url(http" not in built.page
    assert "svg" in found.tags


def test_the_summary_says_what_the_judgements_say(built: Built) -> None:
    """report.json holds the verdict, each target with its estimate, and each check, as judged."""
    run = built.run
    summary = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert run.verdict.value == summary["verdict"]
    assert run.problems == summary["problems"]
    assert run.manifest == summary["manifest"]
    assert [
        {
            "operation": found.operation,
            "statistic": found.statistic,
            "unit": found.unit,
            "limit": found.limit,
            "verdict": found.verdict.value,
            **found.measured._asdict(),
            **({} if found.counted is None else found.counted._asdict()),
        }
        for found in run.judgements
    ] == summary["targets"]
    assert [(check.name, check.passed) for check in run.checks] == [
        (check["name"], check["passed"]) for check in summary["checks"]
    ]


def test_progress_is_said(built: Built) -> None:
    """While the notebook is executed, each cell is said to be done; the executed notebook is kept with its outputs."""
    notebook = nbformat.read(built.run.folder / "01_latency.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = [line for line in built.said if line.startswith("notebook")]
    assert [f"cell {number} of {len(code)}" for number in range(1, len(code) + 1)] == [
        line.partition(": ")[2].partition("   ")[0] for line in said
    ]
    assert any(cell.outputs for cell in code)


def test_a_run_that_meets_its_targets_passes(tree: Path, reported: Callable[[str], Reported]) -> None:
    """A run in which every call took a millisecond: PASS and exit status 0; an old run's page is not the newest's."""
    run, finished = reported("met")
    assert 0 == finished.returncode, finished.stderr
    assert "PASS" == verdict_of(run)
    assert not (tree / "reports" / "latest.html").exists()


def test_a_slow_run_fails(reported: Callable[[str], Reported]) -> None:
    """A run whose calls took a second longer: FAIL, exit status 1, and the page says it first."""
    run, finished = reported("slow")
    assert 1 == finished.returncode
    assert "Traceback" not in finished.stderr
    assert "FAIL" == verdict_of(run)
    assert "✘ FAIL" == Page((run / "report.html").read_text(encoding="utf-8")).body[1]
    assert "✘ FAIL" in finished.stdout.splitlines()[-1]


def test_a_run_without_one_result_is_invalid(reported: Callable[[str], Reported]) -> None:
    """A run in which one process has no result of one operation: INVALID, exit status 2, and the page names it."""
    run, finished = reported("without one result")
    assert 2 == finished.returncode
    assert "Traceback" not in finished.stderr
    assert "INVALID" == verdict_of(run)
    body = Page((run / "report.html").read_text(encoding="utf-8")).body
    assert "! INVALID" == body[1]
    assert body[2].startswith(f"update_session: {RUNS - 1} of {RUNS} runs have a result")
    assert f"cannot be trusted: update_session: {RUNS - 1} of {RUNS}" in finished.stdout


def test_a_run_without_an_operation_is_invalid(run_copy: Path) -> None:
    """An operation without any result does not pass for want of a judgement."""
    remove(run_copy, "get_session", "run-*")
    run = results.Run(run_copy)
    assert Verdict.INVALID is run.verdict
    assert any(problem.startswith(f"get_session: 0 of {RUNS}") for problem in run.problems)
    assert "get_session" not in {judgement.operation for judgement in run.judgements}


def test_a_run_without_a_check_is_invalid(run_copy: Path) -> None:
    """A check that has no result does not pass for want of one."""
    checks = json.loads((run_copy / "checks.json").read_text())
    (run_copy / "checks.json").write_text(json.dumps(checks[1:]))
    run = results.Run(run_copy)
    assert Verdict.INVALID is run.verdict
    assert [f"check {checks[0]['name']}: has no result"] == run.problems


def test_a_broken_check_fails_a_fast_run(run_copy: Path) -> None:
    """A run that is fast and wrong fails."""
    assert Verdict.PASS is results.Run(run_copy).verdict
    checks = json.loads((run_copy / "checks.json").read_text())
    checks[4]["passed"] = False
    (run_copy / "checks.json").write_text(json.dumps(checks))
    assert Verdict.FAIL is results.Run(run_copy).verdict


def test_a_run_unlike_itself_is_invalid(run_copy: Path) -> None:
    """A run in which an operation differs from itself by a twentieth is not to be trusted."""

    def unlike(samples: Samples) -> None:
        for operation in results.OPERATIONS:
            samples[f"{operation}/again"] = np.round(samples[f"{operation}/kairos"] * 1.05)

    edit(run_copy, unlike)
    run = results.Run(run_copy)
    assert Verdict.INVALID is run.verdict
    assert len(results.OPERATIONS) == len(run.problems)


def test_a_run_with_too_few_results_is_invalid(run_copy: Path) -> None:
    """Where fewer processes have a result than can be judged, the run is INVALID, and its page can be written."""
    remove(run_copy, "update_session", "run-0[1-8]")
    run = results.Run(run_copy)
    assert Verdict.INVALID is run.verdict
    tables.targets(run)


def test_a_run_with_results_of_another_is_invalid(run_copy: Path) -> None:
    """Where more processes have a result than were measured, some are of another run."""
    copy_run(run_copy, 1, RUNS + 1)
    assert Verdict.INVALID is results.Run(run_copy).verdict


@pytest.mark.parametrize("which", ["no run", "half a run"])
def test_a_run_that_cannot_be_read_is_no_failure(reported: Callable[[str], Reported], which: str) -> None:
    """A folder that is no run, or only a part of one, is named in one line, with exit status 2."""
    _, finished = reported(which)
    assert 2 == finished.returncode
    assert 1 == len(finished.stderr.splitlines())


def test_a_run_of_another_format_is_refused(reported: Callable[[str], Reported]) -> None:
    """A run that another version wrote is not judged by this one's rules: one line, exit status 2."""
    run, finished = reported("of another format")
    assert 2 == finished.returncode
    assert [f"kairos: --run: {run}: format 999, this version reads {measure.FORMAT}"] == finished.stderr.splitlines()


def test_every_verdict_has_its_exit_status() -> None:
    """Only PASS ends with 0, and only FAIL with 1: a doubt is neither."""
    expected = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2, Verdict.INVALID: 2}
    assert expected == EXIT_STATUS


# Executes a notebook and says whether its kernel is there afterwards. In a process of its own, like a report.
EXECUTE = """
import json, os, sys
from pathlib import Path
import nbformat
from reports.notebooks import execute

folder = Path(sys.argv[1])
executed = execute(folder / "source.ipynb", folder / "target.ipynb", {"word": "before"}, folder, lambda _: None)
kernel = int(nbformat.read(executed.path, as_version=4).cells[2].outputs[0].text.split()[1])
try:
    os.kill(kernel, 0)
    ended = False
except ProcessLookupError:
    ended = True
print(json.dumps({"path": str(executed.path), "html": executed.html, "error": executed.error, "ended": ended}))
"""


class Failed(NamedTuple):
    """A notebook whose third cell raised.

    Attributes:
        path: where it is, with its outputs.
        html: its body as HTML.
        error: what is said of the error.
        ended: whether its kernel was gone.
    """

    path: str
    html: str
    error: str | None
    ended: bool


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Failed:
    """A notebook that was executed as far as it went."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = nbformat.v4.new_code_cell("word = 'unset'", metadata={"tags": ["parameters"]})
    code = ("import os\nprint(word, os.getpid())", "1 / 0", "print('after')")
    notebook = nbformat.v4.new_notebook(cells=[parameters, *(nbformat.v4.new_code_cell(cell) for cell in code)])
    nbformat.write(notebook, folder / "source.ipynb")
    finished = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 0 == finished.returncode, finished.stderr
    return Failed(**json.loads(finished.stdout))


def test_a_cell_that_raises_is_said_and_the_rest_is_kept(failed: Failed) -> None:
    """A notebook that fails says so in its HTML, and is kept, with its parameters, as far as it got."""
    assert failed.error is not None
    assert "division by zero" in failed.error
    assert "ZeroDivisionError" in failed.html
    assert failed.path.endswith("/target.ipynb")
    outputs = [cell.outputs for cell in nbformat.read(failed.path, as_version=4).cells]
    assert "before " == outputs[2][0].text[:7]
    assert "error" == outputs[3][0].output_type
    assert [] == outputs[4]


def test_the_source_of_a_notebook_stays_as_it_is(failed: Failed) -> None:
    """Executing a notebook changes nothing but the target, and leaves nothing else in the folder."""
    folder = Path(failed.path).parent
    source = nbformat.read(folder / "source.ipynb", as_version=4)
    assert [[]] * 4 == [cell.outputs for cell in source.cells]
    assert {"source.ipynb", "target.ipynb"} == {path.name for path in folder.iterdir()}


def test_the_error_of_a_notebook_is_plain(failed: Failed) -> None:
    """What a page shows of an error has no control characters of a terminal."""
    assert failed.error is not None
    assert "\x1b" not in failed.error


def test_the_kernel_of_a_notebook_has_ended(failed: Failed) -> None:
    """When a notebook has been executed, its kernel is gone, also where a cell raised."""
    assert failed.ended


def test_a_page_with_a_notebook_that_failed_is_invalid(reported: Callable[[str], Reported]) -> None:
    """Where a notebook fails, the page is written all the same, says so first, and the exit status is 2."""
    run, finished = reported("of a broken notebook")
    assert 2 == finished.returncode
    assert "INVALID" == verdict_of(run)
    found = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "! INVALID" == found.body[1]
    assert found.body[2].startswith("01_latency: ")
    assert "the last cell failed" in found.body[2]
    executed = nbformat.read(run / "01_latency.ipynb", as_version=4)
    assert "error" == executed.cells[-1].outputs[0].output_type
    assert any(cell.get("outputs") for cell in executed.cells[:-1])
