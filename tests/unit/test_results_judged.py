from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kairos_core.errors import ConfigurationError
from loadtests.checks import CHECKS
from loadtests.measure import FORMAT
from reports import tables
from reports.parts import load
from reports.results import DRAIN, DURABILITY, OPERATIONS, Judgement, Run
from reports.statistics import Estimate, Verdict
from tests.made_latencies import RUNS, TARGETS, Latencies, all_held, scaled, write_run

if TYPE_CHECKING:
    from pathlib import Path

# All that a run must have.
MEASURED = (*OPERATIONS, DRAIN, DURABILITY)


# What has targets, and what has some of its time in milliseconds.
JUDGED = {one["operation"] for kind in ("latency", "ratio", "rate") for one in TARGETS[kind]}


def test_a_drain_of_several_rounds(tmp_path: Path) -> None:
    """Rounds of one run are taken together: all their rows over all their seconds."""

    def change(number: int, found: Latencies) -> None:
        del number
        found[DRAIN]["kairos"] = [100_000_000, 300_000_000]

    assert np.allclose([20_000] * RUNS, Run(write_run(tmp_path / "run", change)).drain_rates("kairos"), rtol=1e-6)


def test_one_slow_run_is_a_doubt(tmp_path: Path) -> None:
    """Where one run of several is slow, the interval holds the limit and nothing is concluded."""

    def change(number: int, found: Latencies) -> None:
        if number == RUNS:
            for subject in found["delivery"]:
                scaled("delivery", subject, 40)(number, found)

    run = Run(write_run(tmp_path / "run", change))
    assert [] == run.problems
    assert Verdict.INCONCLUSIVE is run.verdict


@pytest.mark.parametrize("broken", range(len(CHECKS)))
def test_a_broken_check_fails(tmp_path: Path, broken: int) -> None:
    """A run that is fast and wrong cannot pass, whichever check broke."""
    checks = all_held()
    checks[broken] = msgspec.structs.replace(checks[broken], passed=False)
    run = Run(write_run(tmp_path / "run", checks=checks))
    assert [] == run.problems
    assert Verdict.FAIL is run.verdict


@pytest.mark.parametrize("missing", range(len(CHECKS)))
def test_a_missing_check_is_invalid(tmp_path: Path, missing: int) -> None:
    """A check without a result makes the run invalid, and is named."""
    checks = all_held()
    name = checks.pop(missing).name
    run = Run(write_run(tmp_path / "run", checks=checks))
    assert [f"check {name}: has no result"] == run.problems
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("operation", MEASURED)
@pytest.mark.parametrize("number", [1, RUNS])
def test_a_benchmark_that_is_missing_once(tmp_path: Path, operation: str, number: int) -> None:
    """A benchmark that raised in one of the runs makes the whole run invalid, however fast the others were."""

    def change(current: int, found: Latencies) -> None:
        if current == number:
            del found[operation]

    run = Run(write_run(tmp_path / "run", change))
    assert [f"{operation}: {RUNS - 1} of {RUNS} runs have a result of kairos"] == run.problems
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("operation", MEASURED)
def test_a_benchmark_that_is_missing(tmp_path: Path, operation: str) -> None:
    """A benchmark that never gave a result makes the run invalid; what else was measured is still judged."""
    run = Run(write_run(tmp_path / "run", lambda _, found: found.pop(operation)))
    assert [f"{operation}: 0 of {RUNS} runs have a result of kairos"] == run.problems
    assert Verdict.INVALID is run.verdict
    assert JUDGED - {operation} == {one.operation for one in run.judgements}


def test_a_process_that_left_no_file(tmp_path: Path) -> None:
    """A process that ended without a file is missed in each operation."""
    folder = write_run(tmp_path / "run")
    for file in (folder / "latency").glob("run-03.*"):
        file.unlink()
    run = Run(folder)
    assert len(MEASURED) == len(run.problems)
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("status", [1, 2, -9])
def test_a_process_that_ended_with_an_error(tmp_path: Path, status: int) -> None:
    """A process that ended with an error makes the run invalid, though all its files are there."""
    run = Run(write_run(tmp_path / "run", exit_statuses=[0] * (RUNS - 1) + [status]))
    assert [f"1 of {RUNS} benchmark processes ended with an error"] == run.problems
    assert Verdict.INVALID is run.verdict


def test_no_process_left_a_file(tmp_path: Path) -> None:
    """A run without any benchmark is invalid, and has nothing to judge."""
    folder = write_run(tmp_path / "run")
    for file in (folder / "latency").iterdir():
        file.unlink()
    run = Run(folder)
    assert [] == run.judgements
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("factor", [1.11, 1 / 1.11, 1.035, 1 / 1.035])
def test_an_unfair_run_is_invalid(tmp_path: Path, operation: str, factor: float) -> None:
    """A run in which an operation differs from itself, either way, is not to be trusted."""
    run = Run(write_run(tmp_path / "run", scaled(operation, "again", factor)))
    own = run.compare(operation, "again")
    assert math.isclose(1 / factor, own.ratio, rel_tol=1e-3)
    assert [f"{operation}: compared with itself it came out at {own} times"] == run.problems
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("factor", [1.02, 1 / 1.02])
def test_a_little_unfairness_is_noise(tmp_path: Path, factor: float) -> None:
    """Within 2.5 % an operation may differ from itself."""
    assert [] == Run(write_run(tmp_path / "run", scaled("get_session", "again", factor))).problems


@pytest.mark.parametrize(("spread", "problems"), [(0.01, 1), (0.08, 0)])
def test_what_runs_disagree_on_is_noise(tmp_path: Path, spread: float, problems: int) -> None:
    """By 4 % an operation may differ from itself where the runs do not agree on it; where they do, it may not."""

    def change(number: int, found: Latencies) -> None:
        scaled("get_session", "again", 1.04 + spread * (-1) ** number)(number, found)

    assert problems == len(Run(write_run(tmp_path / "run", change)).problems)


def test_invalid_comes_before_failed(tmp_path: Path) -> None:
    """A run that cannot be trusted is invalid even where what it has would fail."""
    checks = [msgspec.structs.replace(check, passed=False) for check in all_held()]
    run = Run(write_run(tmp_path / "run", scaled("get_session", "again", 2), checks))
    assert Verdict.INVALID is run.verdict


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1, str(FORMAT), None])
def test_another_format_is_refused(tmp_path: Path, number: Any) -> None:
    """A run that another version wrote is refused, with both formats; its other files are not even opened."""
    folder = write_run(tmp_path / "run", format=number)
    (folder / "checks.json").write_bytes(b"another format altogether")
    with pytest.raises(ConfigurationError, match=f"format {number}, this version reads {FORMAT}"):
        Run(folder)
    # Nor is anything measured in it.
    with pytest.raises(ConfigurationError, match=f"format {number}, this version reads {FORMAT}"):
        load(folder)


@pytest.mark.parametrize(
    ("value", "limit", "expected"),
    [
        (1.0, 3.0, "3.0 times below"),
        (2.0, 3.0, "1.5 times below"),
        (6.0, 3.0, "2.0 times above"),
    ],
)
def test_margin(value: float, limit: float, expected: str) -> None:
    """A margin says how far from the limit the measured value is, and on which side."""
    measured = Estimate(value, value, value, value, value, 3)
    assert expected == Judgement("get_session", "mean", "ms", measured, limit, Verdict.PASS).margin


def test_an_invalid_run_can_be_shown(tmp_path: Path) -> None:
    """A run in which an operation has fewer results than can be judged is reported as invalid, not as a crash."""

    def change(number: int, found: Latencies) -> None:
        if number > 1:
            del found["delivery"]

    run = Run(write_run(tmp_path / "run", change))
    assert Verdict.INVALID is run.verdict
    assert tables.targets(run).rows


@pytest.mark.parametrize(
    ("operation", "subject"),
    [("get_session", "again"), ("get_session", "bare"), (DURABILITY, "fsync"), (DURABILITY, "replicated")],
)
def test_a_missing_companion_is_invalid(tmp_path: Path, operation: str, subject: str) -> None:
    """A run that lacks what a ratio needs is invalid, and says so."""
    run = Run(write_run(tmp_path / "run", lambda _, found: found[operation].pop(subject)))
    assert [f"{operation}: 0 of {RUNS} runs have a result of {subject}"] == run.problems
    assert Verdict.INVALID is run.verdict


def test_what_durability_costs(tmp_path: Path) -> None:
    """Each level has a row with its own percentiles and its ratio to memory with its bounds; it is not judged."""
    run = Run(write_run(tmp_path / "run", scaled(DURABILITY, "fsync", 10)))
    assert np.allclose([40.0] * 5, run.cost("fsync")[:5], rtol=1e-2)
    assert Verdict.PASS is run.verdict
    rows = {row[0]: row[2:] for row in tables.durability(run).rows}
    assert ["memory", "fsync", "replicated:1"] == list(rows)
    assert "–" == rows["memory"][2]
    assert ["0.201 ms", "8.044 ms", "0.302 ms"] == [row[0].partition(" (")[0] for row in rows.values()]
    assert "1.50 (1.50 to 1.50)" == rows["replicated:1"][2]


@pytest.mark.parametrize("subject", ["kairos", "fsync", "replicated"])
@pytest.mark.parametrize("number", [1, RUNS])
def test_what_durability_costs_where_it_is_incomplete(tmp_path: Path, subject: str, number: int) -> None:
    """A table of a run that lacks a level, wholly or once, shows what there is and compares nothing with it."""

    def change(current: int, found: Latencies) -> None:
        if current <= number:
            del found[DURABILITY][subject]

    run = Run(write_run(tmp_path / "run", change))
    rows = {row[0]: row[4] for row in tables.durability(run).rows}
    levels = {"kairos": "memory", "fsync": "fsync", "replicated": "replicated:1"}
    assert set(levels.values()) - (set() if number == 1 else {levels[subject]}) == set(rows)
    incomparable = set(rows) if subject == "kairos" else {"memory", levels[subject]} & set(rows)
    assert incomparable == {level for level, ratio in rows.items() if ratio == "–"}


def test_files_of_another_run_are_invalid(tmp_path: Path) -> None:
    """A folder that holds more runs than its manifest says holds those of another one, too."""
    assert Verdict.INVALID is Run(write_run(tmp_path / "run", runs=RUNS - 1)).verdict


def test_a_run_that_was_cut_short_is_invalid(tmp_path: Path) -> None:
    """A run of fewer calls than the manifest says is not taken for a whole one."""

    def change(number: int, found: Latencies) -> None:
        if number == 1:
            found["get_session"] = {name: values[:3] for name, values in found["get_session"].items()}

    assert Verdict.INVALID is Run(write_run(tmp_path / "run", change)).verdict


@pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf"), 200_000])
@pytest.mark.parametrize(
    ("operation", "subject"), [("get_session", "floor"), ("get_session", "kairos"), ("drain", "copy")]
)
def test_samples_that_are_no_times_are_invalid(tmp_path: Path, operation: str, subject: str, value: float) -> None:
    """What is zero, negative, no number or always the same was not measured; it is missed wherever it stands."""
    if (operation, value) == ("drain", 200_000):
        pytest.skip("three rounds may take the same time")

    def change(number: int, found: Latencies) -> None:
        if number == 4:
            found[operation][subject] = [value] * len(found[operation][subject])  # type: ignore[list-item]  # no integer

    run = Run(write_run(tmp_path / "run", change))
    assert (Verdict.INVALID, [f"{operation}: 9 of 10 runs have a result of {subject}"]) == (run.verdict, run.problems)
    tables.targets(run).text()


@pytest.mark.parametrize("size", [0, 500])
def test_a_file_that_was_cut_short_is_missed(tmp_path: Path, size: int) -> None:
    """Of a full disk: samples that cannot be read are missed, and nothing is raised."""
    folder = write_run(tmp_path / "run")
    file = folder / "latency" / "run-03.npz"
    file.write_bytes(file.read_bytes()[:size])
    run = Run(folder)
    assert Verdict.INVALID is run.verdict
    assert "get_session: 9 of 10 runs have a result of kairos" in run.problems


def test_the_same_process_twice_is_invalid(tmp_path: Path) -> None:
    """A copy of a run is no other run."""
    folder = write_run(tmp_path / "run")
    (folder / "latency" / "run-02.npz").write_bytes((folder / "latency" / "run-01.npz").read_bytes())
    run = Run(folder)
    assert Verdict.INVALID is run.verdict
    assert "get_session: two runs have the very same samples of kairos: one is a copy" in run.problems


@pytest.mark.parametrize("runs", [1, 2])
def test_a_run_of_which_nothing_can_be_judged_is_invalid(tmp_path: Path, runs: int) -> None:
    """So few processes that no target is judged pass nothing."""
    folder = write_run(tmp_path / "run", runs=runs, exit_statuses=[0] * runs)
    for number in range(runs + 1, RUNS + 1):
        for ending in ("npz", "json"):
            (folder / "latency" / f"run-{number:02d}.{ending}").unlink()
    run = Run(folder)
    wanted = sum(
        "profile" not in target for kind in ("latency", "ratio", "difference", "rate") for target in TARGETS[kind]
    )
    assert (Verdict.INVALID, [f"0 of {wanted} targets could be judged"]) == (run.verdict, run.problems)


def test_a_profile_that_nobody_knows_is_invalid(tmp_path: Path) -> None:
    """Targets of a profile are not got round by another name of it."""
    run = Run(write_run(tmp_path / "run", profile="ful"))
    assert (Verdict.INVALID, ["there is no profile ful"]) == (run.verdict, run.problems)


def test_a_process_without_an_exit_status_is_invalid(tmp_path: Path) -> None:
    """Each process has to say how it ended."""
    run = Run(write_run(tmp_path / "run", exit_statuses=[0] * 9))
    assert (Verdict.INVALID, ["9 of 10 benchmark processes have an exit status"]) == (run.verdict, run.problems)


def test_a_result_that_is_missing_or_cannot_be_read_is_invalid(tmp_path: Path) -> None:
    """Samples without pytest-benchmark's own result are half of a run; without any, there is no rate to judge."""
    folder = write_run(tmp_path / "run")
    (folder / "latency" / "run-07.json").write_text('{"benchmarks": [')
    run = Run(folder)
    assert ["9 of 10 benchmark processes left a result that can be read"] == run.problems
    for file in (folder / "latency").glob("run-*.json"):
        file.unlink()
    run = Run(folder)
    assert ["drain: the runs do not say how many rows they drained"] == run.problems
    assert Verdict.FAIL not in [one.verdict for one in run.judgements]


@pytest.mark.parametrize("field", [{"runs": 0}, {"rounds": "40"}, {"exit_statuses": None}])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, field: dict[str, Any]) -> None:
    """A manifest in which something is wrong is named."""
    with pytest.raises(ConfigurationError, match="its manifest is none"):
        Run(write_run(tmp_path / "run", **field))


def test_checks_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """A file that was cut short is named."""
    folder = write_run(tmp_path / "run")
    (folder / "checks.json").write_text('[{"name"')
    with pytest.raises(ConfigurationError, match=r"checks\.json cannot be read"):
        Run(folder)
