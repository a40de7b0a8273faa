from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from loadtests import measure
from loadtests.checks import CHECKS
from reports import results, tables
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
TINY = measure.Profile(runs=2, rounds=20)
# Of a run that meets its targets.
RUNS = 10
ROWS = 400
DEADLINE_S = 50.0
# A real run does not fit into the time that a test has otherwise.
pytestmark = pytest.mark.timeout(180)


# Nanoseconds of one process, by "operation/subject".
Samples = dict[str, Any]


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


def edit(folder: Path, change: Callable[[Samples], None], names: str = "run-*") -> None:
    """Change the samples of the run's files."""
    for file in (folder / "latency").glob(f"{names}.npz"):
        with np.load(file) as arrays:
            samples = dict(arrays)
        change(samples)
        np.savez_compressed(file, **samples)


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
