from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from loadtests.benchmarks import BENCHMARKS, DRAIN, DURABILITY, GATED, IN_REPORT, node_id
from loadtests.measure import FORMAT
from reports.gate import Baseline, Batch, changes, elsewhere, judge, read_baseline, slower, visible
from reports.gate_tables import busy, times, told, visibility
from reports.statistics import Verdict

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 10
ROUNDS = 60
# Microseconds in an idle machine: Kairos lies between the floor and redis-py.
IDLE_US = {"kairos": 90.0, "floor": 65.0, "bare": 102.0}
OPERATIONS = ("get_session", "update_session", "health")


def write_batch(
    folder: Path,
    slowed: dict[str, float] | None = None,
    *,
    awake_us: float = 0.0,
    seed: int = 1,
    change: Any = None,
    operations: tuple[str, ...] = OPERATIONS,
    **manifest: Any,
) -> Batch:
    """A batch's files, as a measuring process leaves them.

    Args:
        folder: where they go.
        slowed: by how many times Kairos is slower, by operation.
        awake_us: how much sooner all are woken than on an idle machine.
        seed: of the noise, 1 % of a run and 5 % of a call.
        change: given each run's arrays before they are written.
        operations: which were measured.
        manifest: fields of the manifest that differ.
    """
    (folder / "latency").mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(1, RUNS + 1):
        arrays: dict[str, Any] = {}
        for operation in operations:
            for subject in ("kairos", *BENCHMARKS[operation].all_companions):
                own = subject in {"kairos", "again", "slowed"}
                middle = (IDLE_US["kairos"] if own else IDLE_US.get(subject, 200.0)) - awake_us
                factor = ((slowed or {}).get(operation, 1.0) if own else 1.0) * (1.05 if subject == "slowed" else 1.0)
                noise = random.normal(0, 0.01) + random.normal(0, 0.05, ROUNDS)
                arrays[f"{operation}/{subject}"] = np.round(middle * factor * 1e3 * np.exp(noise)).astype(np.int64)
        if change is not None:
            change(number, arrays)
        np.savez(folder / "latency" / f"run-{number:02d}.npz", **arrays)
        benchmarks = [
            {"name": f"test_{operation}", "extra_info": {"slowed_ns": 4_500} if operation != "health" else {}}
            for operation in operations
        ]
        (folder / "latency" / f"run-{number:02d}.json").write_text(json.dumps({"benchmarks": benchmarks}))
    facts = {
        "format": FORMAT,
        "profile": "quick",
        "runs": RUNS,
        "rounds": ROUNDS,
        "operations": list(operations),
        "exit_statuses": [0] * RUNS,
        "finished_at": "2026-01-01T00:00:00+00:00",
        "machine": {"cpu": "one", "cores": 2, "python": "CPython 3.12", "commit": "abc", "load_average_before": [1.0]},
        "servers": {"store": "Valkey 9"},
    } | manifest
    (folder / "manifest.json").write_text(json.dumps(facts))
    return Batch(folder)


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    """Ratios of an idle machine."""
    return write_batch(tmp_path / "baseline", seed=100).baseline()


@pytest.mark.parametrize("seed", range(2))
def test_an_unchanged_core_passes(tmp_path: Path, baseline: Baseline, seed: int) -> None:
    """The same core, measured again, is not slower."""
    judged = judge(write_batch(tmp_path / "run", seed=seed), None, baseline)
    assert (Verdict.PASS, []) == judged


def test_an_unchanged_core_passes_with_every_seed(tmp_path: Path, baseline: Baseline) -> None:
    """Of many measurements of the same core none fails, and hardly any asks for a second batch."""
    batches = [write_batch(tmp_path / str(seed), seed=seed, operations=("update_session",)) for seed in range(40)]
    asked = [judge(batch, None, baseline).verdict for batch in batches]
    assert Verdict.FAIL not in asked
    assert 38 <= asked.count(Verdict.PASS)


@pytest.mark.parametrize("seed", range(2))
def test_a_slower_core_fails(tmp_path: Path, baseline: Baseline, seed: int) -> None:
    """An update that takes a sixth longer in both batches fails, and only it is named."""
    slowed = {"update_session": 1.17}
    first = write_batch(tmp_path / "run", slowed, seed=seed)
    assert ["update_session"] == slower(changes(first, baseline))
    second = write_batch(tmp_path / "second", slowed, seed=seed + 50, operations=("update_session",))
    judged = judge(first, second, baseline)
    assert Verdict.FAIL is judged.verdict
    assert 1 == len(judged.reasons)
    assert judged.reasons[0].startswith("update_session: over floor ")
    assert "; over bare " in judged.reasons[0]


def test_an_operation_with_one_ratio_is_shown(tmp_path: Path, baseline: Baseline) -> None:
    """What has no floor is shown to have changed and fails nothing: the machine's state alone may change one ratio."""
    batch = write_batch(tmp_path / "run", {"health": 1.17})
    assert ["health"] == [one.operation for one in changes(batch, baseline) if one.reason]
    assert (Verdict.PASS, []) == judge(batch, None, baseline)


def test_what_does_not_show_again_passes(tmp_path: Path, baseline: Baseline) -> None:
    """Slower once is noise where the next batch does not show it; it is said."""
    first = write_batch(tmp_path / "run", {"get_session": 1.17})
    judged = judge(first, write_batch(tmp_path / "second", seed=2, operations=("get_session",)), baseline)
    assert (Verdict.PASS, ["get_session: slower in one batch, and not in the next"]) == judged


def test_slower_once_without_a_second_batch_is_no_verdict(tmp_path: Path, baseline: Baseline) -> None:
    """Without a second batch, or with one of other operations, nothing is concluded."""
    first = write_batch(tmp_path / "run", {"get_session": 1.17})
    assert Verdict.INVALID is judge(first, None, baseline).verdict
    other = write_batch(tmp_path / "second", operations=("health",))
    assert Verdict.INVALID is judge(first, other, baseline).verdict


@pytest.mark.parametrize("awake_us", [-40.0, 40.0])
def test_another_state_of_the_machine_is_no_regression(tmp_path: Path, baseline: Baseline, awake_us: float) -> None:
    """On a machine that sleeps more or less deeply between packets both ratios change, and the core is the same."""
    batch = write_batch(tmp_path / "run", awake_us=awake_us, operations=("get_session", "update_session"))
    assert any(one.reason for one in changes(batch, baseline))
    assert Verdict.PASS is judge(batch, None, baseline).verdict


def test_a_batch_unlike_itself_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """Where an operation differs from itself nothing else is believed, not even that it is slower."""

    def unlike(number: int, arrays: dict[str, Any]) -> None:
        del number
        arrays["get_session/again"] = np.round(arrays["get_session/kairos"] * 1.07)

    batch = write_batch(tmp_path / "run", {"get_session": 1.2}, change=unlike)
    judged = judge(batch, batch, baseline)
    assert Verdict.INVALID is judged.verdict
    assert judged.reasons[0].startswith("get_session: beside itself it came out at 0.93")


def test_a_missing_benchmark_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """A benchmark that raised in one process is missed, and named."""

    def raised(number: int, arrays: dict[str, Any]) -> None:
        if number == 3:
            for key in [key for key in arrays if key.startswith("update_session/")]:
                del arrays[key]

    judged = judge(write_batch(tmp_path / "run", change=raised), None, baseline)
    assert (Verdict.INVALID, ["update_session: 9 of 10 runs have a result of kairos"]) == judged


def test_a_process_that_failed_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """A process that ended with an error is no result, though its files are there."""
    judged = judge(write_batch(tmp_path / "run", exit_statuses=[0] * 9 + [1]), None, baseline)
    assert (Verdict.INVALID, ["1 of 10 benchmark processes ended with an error"]) == judged


@pytest.mark.parametrize("value", [0, -5, math.nan, math.inf, 90_000])
@pytest.mark.parametrize("subject", ["kairos", "floor", "bare", "watch_multi"])
def test_samples_that_are_no_times_are_invalid(tmp_path: Path, baseline: Baseline, subject: str, value: float) -> None:
    """What is zero, negative, no number or always the same was not measured, and hides no slowdown."""

    def spoilt(number: int, arrays: dict[str, Any]) -> None:
        if number == 4:
            arrays[f"update_session/{subject}"] = np.full(ROUNDS, value, dtype=np.float64)

    batch = write_batch(tmp_path / "run", {"update_session": 2.0}, change=spoilt)
    judged = judge(batch, None, baseline)
    assert (Verdict.INVALID, [f"update_session: 9 of 10 runs have a result of {subject}"]) == judged
    times(batch).text()


@pytest.mark.parametrize("size", [0, 500])
def test_a_file_that_was_cut_short_is_invalid(tmp_path: Path, baseline: Baseline, size: int) -> None:
    """Of a full disk: samples that cannot be read are missed, and nothing is raised."""
    batch = write_batch(tmp_path / "run")
    file = batch.folder / "latency" / "run-03.npz"
    file.write_bytes(file.read_bytes()[:size])
    judged = judge(Batch(batch.folder), None, baseline)
    assert Verdict.INVALID is judged.verdict
    assert "update_session: 9 of 10 runs have a result of kairos" in judged.reasons


def test_the_same_process_twice_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """Copies of a run are no other runs: they would make any interval narrow."""
    batch = write_batch(tmp_path / "run")
    shutil.copy(batch.folder / "latency" / "run-01.npz", batch.folder / "latency" / "run-02.npz")
    judged = judge(Batch(batch.folder), None, baseline)
    assert Verdict.INVALID is judged.verdict
    assert "get_session: two runs have the very same samples of kairos: one is a copy" in judged.reasons


@pytest.mark.parametrize("runs", [1, 5])
def test_too_few_runs_are_invalid(tmp_path: Path, baseline: Baseline, runs: int) -> None:
    """Of fewer than 6 runs there is no interval, so nothing could ever fail: not even what takes twice as long."""
    batch = write_batch(tmp_path / "run", {"update_session": 2.0}, runs=runs, exit_statuses=[0] * runs)
    for number in range(runs + 1, RUNS + 1):
        for ending in ("npz", "json"):
            (batch.folder / "latency" / f"run-{number:02d}.{ending}").unlink()
    judged = judge(Batch(batch.folder), None, baseline)
    assert (Verdict.INVALID, [f"{runs} runs; 6 are the fewest that can be compared"]) == judged


@pytest.mark.parametrize("operations", [[], ["nonsense"], [DRAIN]])
def test_a_run_of_other_things_is_refused(tmp_path: Path, operations: list[str]) -> None:
    """Nothing measured, something unknown, and a report's run: none of them passes."""
    with pytest.raises(ConfigurationError, match="holds no run of the benchmarks"):
        Batch(rewritten(write_batch(tmp_path / "run").folder, operations=operations))


def rewritten(folder: Path, **fields: Any) -> Path:
    """The folder, with other fields in its manifest."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


@pytest.mark.parametrize("keep", [1, 5])
def test_a_baseline_of_too_few_runs_is_invalid(tmp_path: Path, baseline: Baseline, keep: int) -> None:
    """A baseline without an interval is none: nothing could ever be shown to be slower than it."""
    ratios = {
        name: {subject: values[:keep] for subject, values in found.items()} for name, found in baseline.ratios.items()
    }
    batch = write_batch(tmp_path / "run", {"update_session": 2.0})
    judged = judge(batch, None, msgspec.structs.replace(baseline, ratios=ratios))
    assert Verdict.INVALID is judged.verdict
    assert "update_session: the baseline has no ratio to bare; write it anew (--write-baseline)" in judged.reasons


def test_what_was_put_in_has_to_be_there(tmp_path: Path, baseline: Baseline) -> None:
    """Where an operation that is slowed on purpose takes no longer, the harness would see no other slowdown either."""

    def unslowed(number: int, arrays: dict[str, Any]) -> None:
        del number
        arrays["get_session/slowed"] = arrays["get_session/again"]

    judged = judge(write_batch(tmp_path / "run", change=unslowed), None, baseline)
    assert Verdict.INVALID is judged.verdict
    assert judged.reasons[0].startswith("get_session: slowed on purpose, and hardly any of it was measured: 1.05")


def test_a_slowdown_of_unknown_size_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """Where no run says how much was put in, nothing shows that it was."""
    batch = write_batch(tmp_path / "run")
    for file in (batch.folder / "latency").glob("run-*.json"):
        file.write_text(file.read_text().replace("slowed_ns", "lost"))
    judged = judge(Batch(batch.folder), None, baseline)
    assert "get_session: it was to be slowed on purpose, and no run says by how much" in judged.reasons


@pytest.mark.parametrize(
    "field",
    [{"machine": {"cpu": "one", "cores": 2, "python": "CPython 3.12", "commit": "def"}}, {"profile": "tiny"}],
)
def test_a_second_batch_of_something_else_is_invalid(tmp_path: Path, baseline: Baseline, field: dict[str, Any]) -> None:
    """Two batches show something twice only if they are of the same code, measured alike."""
    slowed = {"update_session": 1.3}
    first = write_batch(tmp_path / "run", slowed)
    second = write_batch(tmp_path / "second", slowed, seed=2, operations=("update_session",), **field)
    judged = judge(first, second, baseline)
    assert Verdict.INVALID is judged.verdict
    assert judged.reasons[0].endswith(" in the first")


def test_a_second_batch_that_is_too_noisy_clears_nothing(tmp_path: Path, baseline: Baseline) -> None:
    """What measures a suspect as slower, too, and cannot show it for noise, is no reason to pass."""

    def noisy(number: int, arrays: dict[str, Any]) -> None:
        arrays["update_session/again"] = arrays["update_session/again"] * (1.35 if number % 2 else 1 / 1.35)

    first = write_batch(tmp_path / "run", {"update_session": 1.3})
    second = write_batch(
        tmp_path / "second", {"update_session": 1.3}, seed=2, operations=("update_session",), change=noisy
    )
    assert [] == slower(changes(second, baseline))
    judged = judge(first, second, baseline)
    assert Verdict.INCONCLUSIVE is judged.verdict
    assert judged.reasons[0].endswith("too noisy to show it")


def test_what_is_smallest_visible_in_another_state_of_the_machine(tmp_path: Path, baseline: Baseline) -> None:
    """Where a ratio lies below the baseline's, a regression has to make up for it first; so much is said."""

    def batch(name: str, factor: float) -> Batch:
        return write_batch(tmp_path / name, {"get_session": factor}, awake_us=40.0, operations=("get_session",))

    seen = visible(changes(batch("unchanged", 1.0), baseline))["get_session"]
    assert 1.10 < seen < 1.25
    for name, factor, found in (("less", 0.95 * seen, []), ("more", 1.05 * seen, ["get_session"])):
        assert found == slower(changes(batch(name, factor), baseline))


def test_a_run_that_would_see_nothing_does_not_pass(tmp_path: Path, baseline: Baseline) -> None:
    """Where twice as long would not have been seen, it is not said that nothing became slower."""
    ratios = {name: {subject: list(values) for subject, values in one.items()} for name, one in baseline.ratios.items()}
    ratios["get_session"]["bare"] = [2.2 * value for value in ratios["get_session"]["bare"]]
    judged = judge(write_batch(tmp_path / "run"), None, msgspec.structs.replace(baseline, ratios=ratios))
    assert Verdict.INCONCLUSIVE is judged.verdict
    assert ["get_session"] == [reason.partition(":")[0] for reason in judged.reasons]


def test_what_the_baseline_has_not_is_invalid(tmp_path: Path, baseline: Baseline) -> None:
    """A new operation does not pass for want of something to compare it with."""
    ratios = {name: found for name, found in baseline.ratios.items() if name != "health"}
    judged = judge(write_batch(tmp_path / "run"), None, msgspec.structs.replace(baseline, ratios=ratios))
    assert Verdict.INVALID is judged.verdict
    assert judged.reasons == ["health: the baseline has no ratio to bare; write it anew (--write-baseline)"]


def test_another_place_is_said(tmp_path: Path, baseline: Baseline) -> None:
    """What is other than where the baseline was measured is said; it alone decides nothing."""
    batch = write_batch(tmp_path / "run", servers={"store": "Redis 8"})
    assert ["store: Redis 8 here, Valkey 9 of the baseline"] == elsewhere(batch, baseline)
    assert Verdict.PASS is judge(batch, None, baseline).verdict


def test_a_baseline_can_be_stored(tmp_path: Path, baseline: Baseline) -> None:
    """What is written is what is read; of another format it is refused, and so is none at all."""
    file = tmp_path / "baseline.json"
    file.write_bytes(msgspec.json.encode(baseline))
    assert baseline == read_baseline(file)
    for content in (msgspec.json.encode(msgspec.structs.replace(baseline, measured=FORMAT - 1)), b"{}", b""):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError):
            read_baseline(file)
    with pytest.raises(ConfigurationError):
        read_baseline(tmp_path / "none.json")


def test_the_tables_show_every_row(tmp_path: Path) -> None:
    """Each subject has a row; each operation says how it was beside itself, and what became of the slowed one."""
    batch = write_batch(tmp_path / "run")
    subjects = [row[1] for row in times(batch).rows]
    assert [name for one in OPERATIONS for name in ("kairos", *BENCHMARKS[one].all_companions)] == subjects
    rows = {row[0]: row for row in visibility(batch).rows}
    assert list(OPERATIONS) == list(rows)
    assert rows["get_session"][4].endswith("measured: seen")
    assert rows["get_session"][4].startswith("1.050 put in, 1.0")
    assert "" == rows["health"][4]


def test_a_pass_says_what_it_would_have_seen(tmp_path: Path, baseline: Baseline) -> None:
    """The smallest and the largest regression that would have been seen are told, of what can fail, not of health."""
    batch = write_batch(tmp_path / "run")
    found = changes(batch, baseline)
    (said,) = told(judge(batch, None, baseline), batch, found)
    assert said.startswith("Nothing became slower, as far as could be seen here: 1.0")
    assert "health" not in said
    assert said.endswith("2 of 2 that were slowed on purpose were.")


def test_a_busy_machine_is_said(tmp_path: Path) -> None:
    """What else the machine did is the likeliest reason for what cannot be told; what a batch itself does is none."""
    batch = write_batch(tmp_path / "run")
    assert [] == busy(batch)
    batch.manifest["machine"]["load_average_before"] = [18.2, 9.0, 4.0]
    assert ["The machine was busy when this began: a load average of 18.2 with 2 cores."] == busy(batch)


def test_an_invalid_run_says_what_to_do(tmp_path: Path, baseline: Baseline) -> None:
    """Of a run that nothing can be said of, nothing is said of what is slower."""
    batch = write_batch(tmp_path / "run", {"get_session": 1.17})
    (said,) = told(judge(batch, None, baseline), batch, changes(batch, baseline))
    assert said.startswith("It could not be told")


def test_the_stored_baseline_has_every_operation() -> None:
    """The repository's baseline has each ratio that is judged."""
    found = read_baseline(ROOT / "reports" / "baseline.json")
    wanted = {
        operation: {one for one in BENCHMARKS[operation].all_companions if one in {"floor", "bare"}}
        for operation in GATED
    }
    assert wanted == {operation: set(ratios) for operation, ratios in found.ratios.items()}


def test_every_benchmark_is_expected() -> None:
    """The list of what has to be there is the list of what pytest finds, so none can be missing unnoticed."""
    finished = subprocess.run(
        [
            sys.executable, "-m", "pytest", "tests/benchmarks", "-q", "--collect-only", "-p", "no:cacheprovider",
            "-o", "addopts=", "--import-mode=importlib", "-p", "no:randomly",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = {line for line in finished.stdout.splitlines() if "::" in line}
    assert {node_id(operation) for operation in BENCHMARKS} == found
    assert set(BENCHMARKS) == {*GATED, DRAIN, DURABILITY}
    assert set(IN_REPORT) <= set(BENCHMARKS)
