from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pytest

from kairos_core.settings import child_environment
from loadtests import measure
from reports.gate import SECOND, Baseline, Batch, read_baseline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
# Beyond what so small a batch says of anything on a busy machine.
FAR = 100
pytestmark = pytest.mark.timeout(180)

# Each call takes 3 ms more: so much that nothing else matters, on the busiest machine. And what is not to be called
# raises.
PLUGIN = """
import os, time
from kairos_core import RedisStateManager

touch = RedisStateManager.touch_session

def slow(self, session_id):
    until = time.perf_counter() + float(os.environ["TEST_DELAY_S"])
    while time.perf_counter() < until:
        pass
    return touch(self, session_id)

def broken(self, *_):
    raise RuntimeError("the operation failed")

RedisStateManager.touch_session = slow
RedisStateManager.broadcast_to_session = broken
"""


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process whose core is slowed and broken by a plugin."""
    (folder / "plugin_of_test.py").write_text(PLUGIN)
    # Without what takes its time to import in each process, and has nothing to do there.
    plugins = "-p plugin_of_test -p no:randomly -p no:hypothesispytest"
    return {"PYTHONPATH": str(folder), "PYTEST_ADDOPTS": plugins, "TEST_DELAY_S": "0.003"}


class Measured(NamedTuple):
    """A small but real batch, and the baseline that was made of it."""

    folder: Path
    baseline: Baseline


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks from the command line."""
    return subprocess.run(
        [sys.executable, "-m", "reports.bench", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """A batch of one operation."""
    folder = tmp_path_factory.mktemp("bench")
    baseline = folder / "baseline.json"
    # So small a batch may differ from itself, and is not trusted then: as rare as that is on a busy machine.
    for runs in (folder / "first", folder / "second", folder / "third"):
        finished = bench(
            *("--profile", "tiny", "--operations", "touch_session", "--runs", str(runs)),
            *("--baseline", str(baseline), "--write-baseline"),
            **{**child_environment(servers), **environment(folder)},
        )
        if finished.returncode == 0:
            break
    assert 0 == finished.returncode, finished.stdout + finished.stderr
    (run,) = runs.iterdir()
    yield Measured(run, read_baseline(baseline))
    shutil.rmtree(folder)


def judged(measured: Measured, tmp_path: Path, factor: float, *, twice: bool) -> tuple[int, str, str]:
    """Judge the batch with a baseline that is so many times as large; the status, the verdict and what was said."""
    run = shutil.copytree(measured.folder, tmp_path / "run")
    if twice:
        shutil.copytree(measured.folder, run / SECOND)
    ratios = {
        name: {subject: [value * factor for value in values] for subject, values in found.items()}
        for name, found in measured.baseline.ratios.items()
    }
    file = tmp_path / "baseline.json"
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(measured.baseline, ratios=ratios)))
    finished = bench("--run", str(run), "--baseline", str(file))
    return finished.returncode, json.loads((run / "bench.json").read_text())["verdict"], finished.stdout


def test_a_batch_is_complete(measured: Measured) -> None:
    """A batch leaves each process's samples, compressed, and a result of pytest-benchmark's without them."""
    batch = Batch(measured.folder)
    profile = measure.BENCHMARK_PROFILES["tiny"]
    assert [] == batch.problems
    for runs in batch.samples["touch_session"].values():
        assert [profile.rounds] * profile.runs == [len(samples) for samples in runs]
    report = json.loads((measured.folder / "latency" / "run-01.json").read_text())
    assert report["machine_info"]["servers"]["store"].startswith(("Valkey", "Redis"))
    (found,) = report["benchmarks"]
    assert 1 == found["stats"]["iterations"]
    assert "data" not in found["stats"]
    assert {"percentiles_ms", "p50_ratios"} == set(found["extra_info"])
    assert {"p50", "p95"} == set(found["extra_info"]["percentiles_ms"]["floor"])
    assert 5 < found["extra_info"]["p50_ratios"]["floor"]


def test_the_same_again_passes(measured: Measured, tmp_path: Path) -> None:
    """What is as fast as the baseline: exit status 0, or 2 where so small a batch would see little; all is shown."""
    status, verdict, said = judged(measured, tmp_path, 1.0, twice=False)
    assert (status, verdict) in {(0, "PASS"), (2, "INCONCLUSIVE")}
    assert ("would not have been seen" in said) == (verdict == "INCONCLUSIVE")
    for word in ("again", "floor", "bare", "check_then_set", "beside itself", "smallest visible", "now over baseline"):
        assert word in said
    assert ("\nNothing became slower, as far as could be seen here: " in said) == (verdict == "PASS")
    assert said.split() == (tmp_path / "run" / "bench.txt").read_text().split()


def test_slower_twice_fails(measured: Measured, tmp_path: Path) -> None:
    """What is far slower than the baseline in two batches: exit status 1, and the operation is named."""
    status, verdict, said = judged(measured, tmp_path, 1 / FAR, twice=True)
    assert (1, "FAIL") == (status, verdict)
    assert "touch_session: over floor" in said
    assert "\nThese became slower than in the baseline." in said


def test_slower_once_is_no_verdict(measured: Measured, tmp_path: Path) -> None:
    """A stored batch that is slower and has no second one: exit status 2."""
    assert (2, "INVALID") == judged(measured, tmp_path, 1 / FAR, twice=False)[:2]


def test_a_baseline_loses_no_operation(measured: Measured, tmp_path: Path) -> None:
    """A run of some operations does not replace a baseline of more: that stays as it is, and the status is 2."""
    file = tmp_path / "baseline.json"
    run = shutil.copytree(measured.folder, tmp_path / "run")
    ratios = measured.baseline.ratios | {"get_session": measured.baseline.ratios["touch_session"]}
    content = msgspec.json.encode(msgspec.structs.replace(measured.baseline, ratios=ratios))
    file.write_bytes(content)
    finished = bench("--run", str(run), "--baseline", str(file), "--write-baseline")
    assert 2 == finished.returncode
    assert "it would lose get_session" in finished.stderr
    assert content == file.read_bytes()


def test_a_baseline_is_written_whole_or_not_at_all(measured: Measured, tmp_path: Path) -> None:
    """Where it cannot be written, one line says so, and nothing is left beside it."""
    run = shutil.copytree(measured.folder, tmp_path / "run")
    finished = bench("--run", str(run), "--baseline", str(tmp_path / "none" / "baseline.json"), "--write-baseline")
    assert 2 == finished.returncode
    assert 1 == len(finished.stderr.splitlines())
    assert not (tmp_path / "none").exists()


def test_no_baseline_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    """Without a baseline: one line and exit status 2, at once."""
    finished = bench("--baseline", str(tmp_path / "none.json"), "--runs", str(tmp_path / "runs"))
    assert 2 == finished.returncode
    assert 1 == len(finished.stderr.splitlines())
    assert not (tmp_path / "runs").exists()


def test_a_benchmark_that_raises_is_missing(servers: Settings, tmp_path: Path) -> None:
    """pytest-benchmark says nothing of a benchmark that raised; its samples are not there, and the status tells."""
    variables = {**child_environment(servers), **environment(tmp_path), "KAIROS_BENCHMARK_ROUNDS": "3"}
    result = tmp_path / "run-01.json"
    assert 1 == measure._latency_run(variables, result, ("touch_session", "broadcast"))
    with np.load(result.with_suffix(".npz")) as arrays:
        assert {"touch_session"} == {key.partition("/")[0] for key in arrays}
