from __future__ import annotations

import json
import math
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from loadtests.checks import CHECKS, CheckResult
from loadtests.measure import DRAIN_ROUNDS, FORMAT
from reports import tables
from reports.parts import load
from reports.results import COMPANIONS, DRAIN, DURABILITY, OPERATIONS, Judgement, Run, words
from reports.statistics import Estimate, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUNS = 10
ROUNDS = 40
ROWS = 4_000
# The rivals' are longer.
MEDIANS_NS = {"kairos": 200_000, "floor": 100_000, "bare": 400_000, "again": 200_000, "slowed": 210_000}
# All that a run must have.
MEASURED = (*OPERATIONS, DRAIN, DURABILITY)
# Samples in nanoseconds by operation and subject, of one run.
Latencies = dict[str, dict[str, list[int]]]
TARGETS = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
# What has targets, and what has some of its time in milliseconds.
JUDGED = {one["operation"] for kind in ("latency", "ratio", "rate") for one in TARGETS[kind]}
TIMED = sorted({one["operation"] for one in TARGETS["latency"]})


def samples(median_ns: int, number: int) -> list[int]:
    """Samples of one run, spread evenly around a median that differs a little from run to run."""
    shifted = median_ns + number * median_ns // 1_000
    return [shifted + (index - ROUNDS // 2 + 1) * median_ns // 100 for index in range(ROUNDS)]


def latencies(number: int) -> Latencies:
    """A run in which each target is met with room to spare."""
    found: Latencies = {}
    for operation in OPERATIONS:
        found[operation] = {
            subject: samples(MEDIANS_NS.get(subject, 2_000_000), number)
            for subject in ("kairos", *COMPANIONS[operation])
        }
    # 20,000 rows a second, and 25,000 of a bare COPY.
    drained, copied = [200_000_000 + number] * DRAIN_ROUNDS, [160_000_000 + number] * DRAIN_ROUNDS
    found[DRAIN] = {"kairos": drained, "copy": copied, "live": drained, "live_copy": copied}
    found[DURABILITY] = {
        "kairos": samples(200_000, number),
        "fsync": samples(800_000, number),
        "replicated": samples(300_000, number),
    }
    return found


def all_held() -> list[CheckResult]:
    """Every check, held."""
    return [
        CheckResult(name=check.__name__, guarantee="G1", question="Is it?", passed=True, evidence="it is")
        for check in CHECKS
    ]


def write_run(
    folder: Path,
    change: Callable[[int, Latencies], object] | None = None,
    checks: list[CheckResult] | None = None,
    **manifest: Any,
) -> Path:
    """A run's files, as a measuring process leaves them.

    Args:
        folder: where they go.
        change: given each run's number and latencies before they are written.
        checks: the checks' results; None: all held.
        manifest: fields of the manifest that differ.
    """
    (folder / "latency").mkdir(parents=True)
    for number in range(1, RUNS + 1):
        found = latencies(number)
        if change is not None:
            change(number, found)
        benchmarks = [
            {
                "name": f"test_{operation}",
                "fullname": f"tests/benchmarks/test_latency.py::test_{operation}",
                "stats": {},
                "extra_info": {"rows": ROWS} if operation == DRAIN else {},
            }
            for operation in found
        ]
        report = {"machine_info": {}, "commit_info": {}, "benchmarks": benchmarks, "version": "5.3.1"}
        (folder / "latency" / f"run-{number:02d}.json").write_text(json.dumps(report), encoding="utf-8")
        arrays = {
            f"{name}/{subject}": np.asarray(taken) for name, parts in found.items() for subject, taken in parts.items()
        }
        np.savez_compressed(folder / "latency" / f"run-{number:02d}.npz", **arrays)  # type: ignore[arg-type]  # numpy's own keywords are typed as flags
    results = all_held() if checks is None else checks
    (folder / "checks.json").write_bytes(msgspec.json.encode(results))
    facts = {
        "format": FORMAT,
        "profile": "quick",
        "runs": RUNS,
        "rounds": ROUNDS,
        "exit_statuses": [0] * RUNS,
    } | manifest
    (folder / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def scaled(operation: str, subject: str, factor: float) -> Callable[[int, Latencies], None]:
    """A change that makes one subject of an operation slower, in every run."""

    def change(number: int, found: Latencies) -> None:
        del number
        found[operation][subject] = [round(sample * factor) for sample in found[operation][subject]]

    return change


def test_a_good_run_passes(tmp_path: Path) -> None:
    """A run that is complete, fair, fast and correct passes."""
    run = Run(write_run(tmp_path / "run"))
    assert [] == run.problems
    assert {Verdict.PASS} == {judgement.verdict for judgement in run.judgements}
    assert Verdict.PASS is run.verdict


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_every_target_is_judged(tmp_path: Path, profile: str) -> None:
    """Each target of the file is judged once, with its own limit and in its own unit, where it is of the profile."""
    run = Run(write_run(tmp_path / "run", profile=profile))
    of = {kind: [one for one in found if one.get("profile", profile) == profile] for kind, found in TARGETS.items()}
    expected = [(one["operation"], one["statistic"], "ms", one["below_ms"]) for one in of["latency"]]
    expected += [
        (one["operation"], f"{one['statistic']} over {words(one['operation'], one['against'])}", "×", one["below"])
        for one in of["ratio"]
    ]
    expected += [
        (one["operation"], f"{one['statistic']} minus that of {one['minus']}", "ms", one["below_ms"])
        for one in of["difference"]
    ]
    expected += [(one["operation"], "rate", "rows/s", one["above"]) for one in of["rate"]]
    assert expected == [(one.operation, one.statistic, one.unit, one.limit) for one in run.judgements]


def test_every_target_is_of_something_measured() -> None:
    """A target names an operation that a run must have, so none is passed over for lack of data."""
    assert {one["operation"] for one in TARGETS["latency"]} <= set(OPERATIONS)
    assert all(one["against"] in COMPANIONS[one["operation"]] for one in TARGETS["ratio"])
    assert {one["operation"] for one in TARGETS["rate"]} <= {DRAIN}


def test_per_run(tmp_path: Path) -> None:
    """A statistic is taken of each run by itself, in milliseconds, in the order of the runs."""
    run = Run(write_run(tmp_path / "run"))
    files = [latencies(number)["get_session"]["floor"] for number in range(1, RUNS + 1)]
    assert np.allclose([np.mean(one) / 1e6 for one in files], run.per_run("get_session", "floor", "mean"), rtol=1e-12)
    assert [sorted(one)[ROUNDS // 2 - 1] / 1e6 for one in files] == run.per_run("get_session", "floor", "p50")
    assert [sorted(one)[ROUNDS * 95 // 100 - 1] / 1e6 for one in files] == run.per_run("get_session", "floor", "p95")


def test_per_run_of_what_was_not_measured(tmp_path: Path) -> None:
    """Asking for what was not measured is an error, never an empty answer."""
    run = Run(write_run(tmp_path / "run"))
    for operation, subject, statistic in (
        ("touch_session", "kairos", "p50"),
        ("get_session", "lock", "p50"),
        ("get_session", "kairos", "p90"),
    ):
        with pytest.raises(KeyError):
            run.per_run(operation, subject, statistic)


def test_ratio(tmp_path: Path) -> None:
    """A ratio compares the two subjects of the same run, and averages geometrically."""

    def change(number: int, found: Latencies) -> None:
        # From run to run the machine changes by half; the ratio does not.
        for subject, nanoseconds in (("kairos", 3_000_000), ("floor", 2_000_000)):
            middle = nanoseconds * (1 + number % 2)
            found["get_session"][subject] = [*[middle] * (ROUNDS - 1), middle + number]

    found = Run(write_run(tmp_path / "run", change)).ratio("get_session", "floor")
    assert np.allclose([1.5] * 5, found[:5], rtol=1e-12)
    assert RUNS == found.runs


def test_a_ratio_of_means(tmp_path: Path) -> None:
    """A ratio is of the statistic that is asked for."""

    def change(number: int, found: Latencies) -> None:
        del number
        found["get_session"]["kairos"] = [100] * (ROUNDS - 1) + [100 + 500 * ROUNDS]
        found["get_session"]["floor"] = [100] * (ROUNDS - 1) + [100 + 100 * ROUNDS]

    run = Run(write_run(tmp_path / "run", change))
    assert np.isclose(1.0, run.ratio("get_session", "floor").value)
    assert np.isclose(3.0, run.ratio("get_session", "floor", "mean").value)


@pytest.mark.parametrize("operation", TIMED)
def test_a_slow_operation_fails(tmp_path: Path, operation: str) -> None:
    """An operation that is slower than its target fails the run, though it is fair and all else is fast."""

    def change(number: int, found: Latencies) -> None:
        for subject in found[operation]:
            scaled(operation, subject, 100)(number, found)

    run = Run(write_run(tmp_path / "run", change))
    assert [] == run.problems
    failed = {(one.operation, one.unit) for one in run.judgements if one.verdict is Verdict.FAIL}
    assert {(operation, "ms")} == failed
    assert Verdict.FAIL is run.verdict


@pytest.mark.parametrize(
    "target", TARGETS["ratio"], ids=lambda one: f"{one['operation']}-{one['statistic']}-{one['against']}"
)
def test_a_ratio_above_its_limit_fails(tmp_path: Path, target: dict[str, Any]) -> None:
    """An operation that is too slow beside what it is compared with fails the run."""
    operation, against = target["operation"], target["against"]
    met = Run(write_run(tmp_path / "met")).ratio(operation, against, target["statistic"]).value
    factor = met / (1.05 * target["below"])
    profile = target.get("profile", "quick")
    run = Run(write_run(tmp_path / "run", scaled(operation, against, factor), profile=profile))
    assert [] == run.problems
    failed = {(one.operation, one.statistic) for one in run.judgements if one.verdict is Verdict.FAIL}
    assert (operation, f"{target['statistic']} over {words(operation, against)}") in failed
    assert {operation} == {name for name, _ in failed}
    assert Verdict.FAIL is run.verdict


def test_a_slow_drain_fails(tmp_path: Path) -> None:
    """A drain that moves fewer rows a second than its target fails the run."""

    def change(number: int, found: Latencies) -> None:
        for subject in ("kairos", "copy"):
            scaled(DRAIN, subject, 4)(number, found)

    run = Run(write_run(tmp_path / "run", change))
    assert [] == run.problems
    assert [(DRAIN, "rows/s")] == [(one.operation, one.unit) for one in run.judgements if one.verdict is Verdict.FAIL]
    assert Verdict.FAIL is run.verdict


def fewer(folder: Path, runs: int) -> Path:
    """A run of which only the first so many processes were measured."""
    for number in range(runs + 1, RUNS + 1):
        for file in (folder / "latency").glob(f"run-{number:02d}.*"):
            file.unlink()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"runs": runs, "exit_statuses": [0] * runs}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.mark.parametrize("runs", [3, RUNS - 1])
def test_too_few_runs_to_pass(tmp_path: Path, runs: int) -> None:
    """Fewer than ten runs meet no target, however far below it they are, and are no failure either."""
    run = Run(fewer(write_run(tmp_path / "run"), runs))
    assert [] == run.problems
    assert {Verdict.INCONCLUSIVE} == {judgement.verdict for judgement in run.judgements}
    assert Verdict.INCONCLUSIVE is run.verdict


def test_too_few_runs_can_fail(tmp_path: Path) -> None:
    """What is plainly above its target fails, with three runs, too."""

    def change(number: int, found: Latencies) -> None:
        for subject in found["delivery"]:
            scaled("delivery", subject, 100)(number, found)

    run = Run(fewer(write_run(tmp_path / "run", change), 3))
    assert [] == run.problems
    assert Verdict.FAIL is run.verdict


@pytest.mark.parametrize(("over", "verdict"), [(1, Verdict.PASS), (2, Verdict.INCONCLUSIVE)])
def test_calls_over_the_limit_are_counted(tmp_path: Path, over: int, verdict: Verdict) -> None:
    """A percentile below its limit in each run is met only where no more calls are over it than chance allows."""

    def change(number: int, found: Latencies) -> None:
        del number
        # Of 40 calls the 95th percentile is the 38th, so two may be over and it is still below.
        found["get_session"]["kairos"][-over:] = [6_000_000] * over

    run = Run(write_run(tmp_path / "run", change))
    (judged,) = (one for one in run.judgements if (one.operation, one.statistic) == ("get_session", "p95"))
    assert (over * RUNS, 12, ROUNDS * RUNS) == judged.counted
    assert judged.measured.upper < judged.limit
    assert verdict is judged.verdict
    (row,) = (row for row in tables.targets(run).rows if row[1:3] == ("get_session", "p95"))
    assert f"{over * RUNS} of 12 allowed in 400 calls" == row[-1]


def test_only_percentiles_are_counted(tmp_path: Path) -> None:
    """A mean, a ratio and a rate have no number of calls that may be over."""
    run = Run(write_run(tmp_path / "run"))
    counted = {(one.operation, one.statistic) for one in run.judgements if one.counted is not None}
    assert {(one["operation"], one["statistic"]) for one in TARGETS["latency"] if one["statistic"] != "mean"} == counted


@pytest.mark.parametrize(("limit", "verdict"), [(0.011, Verdict.PASS), (0.009, Verdict.FAIL)])
def test_a_difference(tmp_path: Path, limit: float, verdict: Verdict) -> None:
    """A target can be what one operation takes more than another, run by run."""
    run = Run(write_run(tmp_path / "run", scaled("update_session", "kairos", 1.05)))
    target = {"operation": "update_session", "minus": "get_session", "statistic": "p50", "below_ms": limit}
    judged = run._difference(target)
    assert judged is not None
    assert ("p50 minus that of get_session", "ms", verdict) == (judged.statistic, judged.unit, judged.verdict)
    assert math.isclose(0.01, judged.measured.value, rel_tol=0.02)
    assert run._difference(target | {"minus": "create_session", "operation": "create_session"}) is not None


@pytest.mark.parametrize(
    ("operation", "against", "expected"),
    [
        ("get_session", "bare", "bare redis-py"),
        ("async_get_session", "bare", "bare redis.asyncio"),
        ("update_session", "watch_multi", "WATCH/MULTI"),
        ("update_session", "check_then_set", "check then set"),
    ],
)
def test_words(operation: str, against: str, expected: str) -> None:
    """Whatever an operation is compared with has words for it."""
    assert expected == words(operation, against)


def test_drain_rates(tmp_path: Path) -> None:
    """A rate is the rows of a run over its seconds, of the drain and of the bare COPY."""
    run = Run(write_run(tmp_path / "run"))
    assert np.allclose([20_000] * RUNS, run.drain_rates("kairos"), rtol=1e-6)
    assert np.allclose([25_000] * RUNS, run.drain_rates("copy"), rtol=1e-6)


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
