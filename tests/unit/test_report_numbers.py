"""The numbers of `report.json`, computed again from what was stored, by other code than ours."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from scipy import stats

from reports.evidence import Evidence
from reports.findings import NAME, read_report, write_report
from reports.judging import judged
from tests.made_run import made_run
from tests.made_studies import FINISHED, STARTED

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 10
MADE_AT = "2026-01-02T00:00:00+00:00"
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report; its floor drifts, and a round found something."""
    found = made_run(tmp_path_factory.mktemp("numbers") / "run", drift=1.5, has_violation=True)
    report = judged(Evidence(found), profile="quick", command="make report", made_at=MADE_AT)
    write_report(found, report)
    assert report == read_report(found)
    return found


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """What a program reads."""
    found: dict[str, Any] = json.loads((folder / NAME).read_text())
    return found


@pytest.fixture(scope="module")
def samples(folder: Path) -> list[dict[str, Any]]:
    """Milliseconds of each process, by `operation/subject`."""
    found = []
    for number in range(1, RUNS + 1):
        with np.load(folder / "latency" / f"run-{number:02d}.npz") as arrays:
            found.append({name: arrays[name] / 1e6 for name in arrays.files})
    return found


def stored(folder: Path, name: str) -> Any:
    """A file as JSON."""
    return json.loads((folder / name).read_text())


def rank(values: Any, share: float) -> float:
    """The smallest value that so large a share of all are not above."""
    return float(sorted(values)[math.ceil(share * len(values)) - 1])


def bounds(values: list[float]) -> tuple[float, float, float]:
    """The mean, and the one-sided 95 % bounds by Student's t."""
    mean, error = np.mean(values), stats.sem(values)
    low, high = stats.t.interval(0.90, len(values) - 1, loc=mean, scale=error)
    return float(mean), float(low), float(high)


def close(found: dict[str, Any], expected: tuple[float, float, float]) -> bool:
    """Whether a target has these values."""
    return np.allclose([found["value"], found["lower"], found["upper"]], expected, rtol=1e-9)


def named(report: dict[str, Any]) -> Rows:
    """The targets by their names."""
    found = {one["what"]: one for one in report["targets"]}
    assert len(found) == len(report["targets"])
    return found


@pytest.mark.parametrize("operation", ["get_session", "update_session"])
def test_percentiles(report: dict[str, Any], samples: list[dict[str, Any]], operation: str) -> None:
    """p95 is that of each process, then the mean of them; the calls over the limit are those of all processes."""
    found = named(report)[f"{operation} p95"]
    ours = [one[f"{operation}/kairos"] for one in samples]
    assert close(found, bounds([rank(one, 0.95) for one in ours]))
    calls = np.concatenate(ours)
    assert (len(calls), int((calls >= found["limit"]).sum())) == (found["calls"], found["over"])
    # No more than this may be over it, that so few are by chance less often than once in 20.
    at_most = found["allowed"]
    assert stats.binom.cdf(at_most, len(calls), 0.05) <= 0.05 < stats.binom.cdf(at_most + 1, len(calls), 0.05)


@pytest.mark.parametrize("operation", ["get_session", "update_session", "create_session", "delete_session", "delivery"])
def test_means(report: dict[str, Any], samples: list[dict[str, Any]], operation: str) -> None:
    """A mean is that of each process, then of them."""
    expected = bounds([float(one[f"{operation}/kairos"].mean()) for one in samples])
    assert close(named(report)[f"{operation} mean"], expected)


def test_ratios(report: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """A ratio is taken within a process, and their geometric mean is told."""
    for against, words in (("bare", "bare redis-py"), ("watch_multi", "WATCH/MULTI"), ("lock", "Lock")):
        logs = [
            math.log(rank(one["update_session/kairos"], 0.5) / rank(one[f"update_session/{against}"], 0.5))
            for one in samples
        ]
        value, low, high = (math.exp(log) for log in bounds(logs))
        assert close(named(report)[f"update_session p50 over {words}"], (value, low, high))


def test_the_drain(folder: Path, report: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """Rows a second are the rows of all drains of a process over their time."""
    (rows,) = {
        one["extra_info"]["rows"]
        for number in range(1, RUNS + 1)
        for one in stored(folder, f"latency/run-{number:02d}.json")["benchmarks"]
        if "rows" in one["extra_info"]
    }
    rates = [rows * len(one["drain/kairos"]) / one["drain/kairos"].sum() * 1e3 for one in samples]
    found = named(report)["drain rate"]
    assert close(found, bounds(rates))
    assert ("rows/s", False) == (found["unit"], found["is_below"])


def test_the_rivals(report: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """Each subject's percentiles are medians over the processes; the ratio lies in its interval."""
    assert {(one["operation"], one["subject"]) for one in report["latencies"]} == {
        tuple(name.split("/")) for name in samples[0] if not name.startswith("drain/")
    }
    for row in report["latencies"]:
        theirs = [one[f"{row['operation']}/{row['subject']}"] for one in samples]
        p50 = [rank(one, 0.5) for one in theirs]
        expected = [np.median(p50), np.median([rank(one, 0.95) for one in theirs]), min(p50), max(p50)]
        assert np.allclose(expected, [row["p50"], row["p95"], row["p50_smallest"], row["p50_largest"]], rtol=1e-9)
        if row["subject"] == "kairos":
            assert row["ratio"] is None
            continue
        ours = [rank(one[f"{row['operation']}/kairos"], 0.5) for one in samples]
        ratios = [our / their for our, their in zip(ours, p50, strict=True)]
        middle = float(np.median(ratios))
        # The median of log ratios: of an even number, the geometric mean of the two in the middle.
        assert math.isclose(middle, row["ratio"], rel_tol=1e-3)
        assert min(ratios) <= row["ratio_lower"] <= row["ratio"] <= row["ratio_upper"] <= max(ratios)


def test_the_drift(report: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """The floor of the later half of the processes over that of the earlier one."""
    floors = [rank(one["get_session/floor"], 0.5) for one in samples]
    (row,) = (one for one in report["validity"] if one["what"] == "drift of the floor")
    half = len(floors) // 2
    assert row["seen"].startswith(f"{np.median(floors[half:]) / np.median(floors[:half]):.2f} times")


def attempts_of(folder: Path, needs: str) -> int:
    """Attempts in all valid histories of Kairos in which there was any of something."""
    validation = stored(folder, "validation/validation.json")
    counts = [
        one["counts"]
        for one in (*validation["rounds"], *validation["subjects"])
        if one["status"] == "VALID" and one["subject"].startswith("kairos")
    ]
    counts += [stored(folder, f"load/{name}/verdict.json")["counts"] for name in ("audit_outage", "capacity")]
    return sum(one["attempted"] for one in counts if one.get(needs, 0) > 0)


def test_the_guarantees(folder: Path, report: dict[str, Any]) -> None:
    """Attempts are those of the valid histories that bear on it; mutants and checks are those of the validation."""
    found = {one["number"]: one for one in report["guarantees"]}
    for number, needs in (
        ("G1", "refused"),
        ("G2", "reads"),
        ("G6", "unknown"),
        ("G7", "audit rows"),
        ("G8", "notifications"),
    ):
        assert attempts_of(folder, needs) == found[number]["operations"] > 0
    mutants = stored(folder, "validation/validation.json")["mutants"]
    for number, one in found.items():
        own = [mutant for mutant in mutants if mutant["guarantee"] == number]
        caught = sum(mutant["result"] == "caught" for mutant in own)
        assert (len(own), caught) == (one["mutants"], one["mutants_caught"])
    # The round that found three of them.
    assert [("G1", 3), ("G11", 3)] == [
        (one["number"], one["violations"]) for one in report["guarantees"] if one["violations"]
    ]
    assert len(mutants) == len(report["mutants"])
    assert all(one["is_well"] for one in report["mutants"])


def test_the_faults(folder: Path, report: dict[str, Any]) -> None:
    """Rows of faults are sums of their rounds."""
    rounds = stored(folder, "validation/validation.json")["rounds"]
    for row in report["faults"]:
        if row["file"].startswith("load/"):
            continue
        own = [one for one in rounds if (one["fault"], one["arena"]) == (row["fault"], row["arena"])]
        assert len(own) == row["rounds"]
        assert sum(one["counts"]["attempted"] for one in own) == row["operations"]
        losses = sum(one["counts"]["lost (expected)"] for one in own if one["losses_allowed"])
        assert losses == row["expected_losses"]
        assert max(one["recovery_s"] for one in own) == row["recovery_s"]


@pytest.mark.parametrize("name", ["audit_outage", "capacity"])
def test_the_load_tests(folder: Path, report: dict[str, Any], name: str) -> None:
    """Percentiles of turns are those of all histograms of the seconds that are judged; counts are of all seconds."""
    (row,) = (one for one in report["loads"] if one["name"] == name)
    load, verdict = (stored(folder, f"load/{name}/{file}.json") for file in ("load", "load_verdict"))
    begins, ends = verdict["judged_s"]
    whole = HdrHistogram(1, 600_000_000, 3)
    for second in load["seconds"][begins:ends]:
        if "turn/ok/latency" in second:
            # How many were beyond the longest, and then an HdrHistogram as its own library encodes it.
            beyond, _, encoded = second["turn/ok/latency"].partition(":")
            assert "0" == beyond
            whole.decode_and_add(base64.b64decode(encoded))
    for share, field in ((50, "p50_ms"), (95, "p95_ms"), (99, "p99_ms"), (99.9, "p999_ms"), (100, "longest_ms")):
        assert math.isclose(whole.get_value_at_percentile(share) / 1e3, row[field], rel_tol=2e-3)
    assert sum(part["planned"] for part in load["parts"]) == row["steps"]
    assert len(load["parts"]) == row["instances"]
    assert max(max(part["cpu"]) for part in load["parts"]) == pytest.approx(row["busiest"])
    if name == "audit_outage":
        assert load["outage"]["until_s"] - load["outage"]["from_s"] == pytest.approx(row["outage_s"])
        assert load["outage"]["most_waiting"] == row["most_waiting"]


def test_the_studies(folder: Path, report: dict[str, Any]) -> None:
    """A bar is the geometric mean of the ratios within each repetition."""
    points = stored(folder, "studies/contention.json")["points"]
    useful = {(one["subject"], one["repetition"]): one["values"]["useful_per_s"] for one in points if one["x"] == 8}
    logs = [math.log(useful["kairos", number] / useful["watch_multi", number]) for number in (1, 2, 3)]
    found = named(report)["contention: useful writes a second over WATCH/MULTI, writers: 8"]
    assert math.isclose(math.exp(np.mean(logs)), found["value"], rel_tol=1e-9)
    assert {"kairos", "kairos_changed", "bare"} == {one["subject"] for one in report["laws"]}
    assert all(one["one_per_s"][1] <= one["one_per_s"][0] <= one["one_per_s"][2] for one in report["laws"])


def test_the_counterexample(folder: Path, report: dict[str, Any]) -> None:
    """It is the first violation that the judge found in what is wrong on purpose, and its files are there."""
    found = report["counterexample"]
    verdict = stored(folder, found["file"])
    assert verdict["violations"][0]["sentence"] == found["sentence"]
    counts = verdict["counts"]
    assert found["violations"] == sum(number for name, number in counts.items() if name.startswith("violations: "))
    assert (folder / found["picture"]).read_text().startswith("<svg")
    assert found["lost"] > 0


def test_when_and_where(report: dict[str, Any]) -> None:
    """The report says when it was measured and made, of which tree, and how to do so again."""
    assert (STARTED, MADE_AT, "abc1234", "make report") == tuple(
        report[name] for name in ("started_at", "made_at", "commit", "command")
    )
    assert report["finished_at"] > FINISHED
    assert ("store", "Valkey 9.1.2") in [tuple(one) for one in report["environment"]]


def test_every_number_has_its_file(folder: Path, report: dict[str, Any]) -> None:
    """What a row was read from is in the run's folder."""
    kinds = ("targets", "guarantees", "validity", "latencies", "faults", "loads", "laws")
    files = {one["file"] for kind in kinds for one in report[kind]}
    assert len(files) > 10
    assert [] == [file for file in sorted(files) if not (folder / file).exists()]
