from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from reports import tables
from reports.results import COMPANIONS, DRAIN, OPERATIONS, Run, words
from reports.statistics import Verdict
from tests.made_latencies import ROUNDS, RUNS, TARGETS, Latencies, latencies, scaled, write_run

if TYPE_CHECKING:
    from pathlib import Path

TIMED = sorted({one["operation"] for one in TARGETS["latency"]})


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
