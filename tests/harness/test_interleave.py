from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from loadtests.interleave import WARMUP_ROUNDS

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 60
COMPANIONS = ("double", "same", "half")

# Operations that do nothing but count: `double` counts twice as far as `kairos`. Each call returns a number of its own.
BENCHMARKS = """
import itertools, json, os
import pytest
from loadtests.interleave import interleave

LOG = []
NUMBERS = itertools.count()
STEPS = {"double": 8_000, "kairos": 4_000, "same": 4_000, "half": 2_000}


class Counting:
    def __init__(self, name, fails=None):
        self._name, self._fails = name, fails

    def prepare(self):
        LOG.append(("prepare", self._name, None))
        return self._call

    def _call(self):
        for _ in range(STEPS[self._name]):
            pass
        if self._fails == "call":
            raise RuntimeError("the operation failed")
        number = next(NUMBERS)
        LOG.append(("call", self._name, number))
        return number

    def finish(self, result):
        LOG.append(("finish", self._name, result))
        if self._fails == "finish":
            raise AssertionError("the result is wrong")


def test_counting(benchmark):
    companions = {name: Counting(name) for name in STEPS if name != "kairos"}
    interleave(benchmark, Counting("kairos"), companions, rounds=int(os.environ["TEST_ROUNDS"]))
    with open(os.environ["TEST_LOG"], "w") as file:
        json.dump(LOG, file)


@pytest.mark.parametrize("fails", ["call", "finish"])
@pytest.mark.parametrize("who", ["kairos", "same"])
def test_failing(benchmark, who, fails):
    companion = Counting("same", fails if who == "same" else None)
    interleave(benchmark, Counting("kairos", fails if who == "kairos" else None), {"same": companion}, rounds=3)
"""


class Benchmarked(NamedTuple):
    """What a run of the benchmarks left.

    Attributes:
        status: pytest's exit status.
        failed: names of the benchmarks that failed.
        passed: names of those that did not.
        samples: nanoseconds by subject, of `test_counting`.
        log: what was asked of the operations there, in order.
        named: the benchmarks of the JSON.
    """

    status: int
    failed: set[str]
    passed: set[str]
    samples: dict[str, list[int]]
    log: list[tuple[str, str, int | None]]
    named: set[str]


def run_benchmarks(folder: Path, *options: str) -> Benchmarked:
    """Run the benchmarks with the real pytest-benchmark, in a process of their own."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_fakes.py").write_text(BENCHMARKS)
    # Not where coverage is measured: its tracing would be timed, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    finished = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
            "-c", str(folder / "pytest.ini"), f"--junit-xml={folder / 'junit.xml'}", *options,
            str(folder / "test_fakes.py"),
        ],
        cwd=ROOT,
        env={**environment, "TEST_ROUNDS": str(ROUNDS), "TEST_LOG": str(folder / "log.json"), "PYTEST_ADDOPTS": ""},
        stdout=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    failed: set[str] = set()
    passed: set[str] = set()
    # Written by the process above.
    for case in ET.parse(folder / "junit.xml").iter("testcase"):  # noqa: S314
        (passed if len(case) == 0 else failed).add(case.attrib["name"])
    results = folder / "results.json"
    benchmarks: list[dict[str, Any]] = json.loads(results.read_text())["benchmarks"] if results.exists() else []
    samples = {found["name"]: found["extra_info"].get("samples_ns", {}) for found in benchmarks}
    return Benchmarked(
        status=finished.returncode,
        failed=failed,
        passed=passed,
        samples=samples.get("test_counting", {}),
        log=[(what, who, number) for what, who, number in json.loads((folder / "log.json").read_text())],
        named=set(samples),
    )


@pytest.fixture(scope="module")
def benchmarked(tmp_path_factory: pytest.TempPathFactory) -> Benchmarked:
    """One run that several tests look at."""
    folder = tmp_path_factory.mktemp("interleave")
    return run_benchmarks(folder, "--benchmark-only", f"--benchmark-json={folder / 'results.json'}")


def test_every_round_has_one_sample_of_each(benchmarked: Benchmarked) -> None:
    """There is one sample for each round and subject, and none of a warm-up round."""
    expected = dict.fromkeys(("kairos", *COMPANIONS), ROUNDS)
    assert expected == {subject: len(samples) for subject, samples in benchmarked.samples.items()}
    calls = Counter(who for what, who, _ in benchmarked.log if what == "call")
    assert dict.fromkeys(expected, ROUNDS + WARMUP_ROUNDS) == calls


def test_samples_stand_under_the_right_name(benchmarked: Benchmarked) -> None:
    """What counts twice as far takes about twice as long, and what counts as far takes as long."""
    medians = {subject: statistics.median(samples) for subject, samples in benchmarked.samples.items()}
    ratios = {subject: median / medians["kairos"] for subject, median in medians.items()}
    assert 1.5 < ratios["double"] < 2.7
    assert 0.75 < ratios["same"] < 1.33
    assert 0.37 < ratios["half"] < 0.67


def test_every_companion_stands_in_each_place_equally_often(benchmarked: Benchmarked) -> None:
    """In the rounds that count, each companion is first, second and third equally often; the operation is last."""
    calls = [who for what, who, _ in benchmarked.log if what == "call"]
    width = len(COMPANIONS) + 1
    rounds = [tuple(calls[start : start + width]) for start in range(0, len(calls), width)][WARMUP_ROUNDS:]
    places = Counter((place, who) for found in rounds for place, who in enumerate(found))
    each = {(place, who): ROUNDS // len(COMPANIONS) for place in range(len(COMPANIONS)) for who in COMPANIONS}
    assert {**each, (len(COMPANIONS), "kairos"): ROUNDS} == places


def test_every_call_is_prepared_and_finished_with_its_result(benchmarked: Benchmarked) -> None:
    """Each call is prepared before it and finished after it, once, with what that call returned."""
    steps = [benchmarked.log[start : start + 3] for start in range(0, len(benchmarked.log), 3)]
    calls = [(who, number) for what, who, number in benchmarked.log if what == "call"]
    expected = [[("prepare", who, None), ("call", who, number), ("finish", who, number)] for who, number in calls]
    assert expected == steps
    assert len(calls) == len({number for _, number in calls})


def test_an_operation_that_raises_fails_its_benchmark(benchmarked: Benchmarked) -> None:
    """Where the operation or a companion raises, or finds its result wrong, the benchmark fails and has no result."""
    expected = {f"test_failing[{who}-{fails}]" for who in ("kairos", "same") for fails in ("call", "finish")}
    assert expected == benchmarked.failed
    assert {"test_counting"} == benchmarked.passed
    assert 1 == benchmarked.status
    assert {"test_counting"} == benchmarked.named


@pytest.fixture(scope="module")
def disabled(tmp_path_factory: pytest.TempPathFactory) -> Benchmarked:
    """One run with `--benchmark-disable`."""
    return run_benchmarks(tmp_path_factory.mktemp("disabled"), "--benchmark-disable", "-k", "counting")


def test_a_disabled_benchmark_runs_once(disabled: Benchmarked) -> None:
    """With `--benchmark-disable` each operation is called once, nothing is timed, and nothing fails for want of it."""
    found = disabled
    assert (0, {"test_counting"}, set[str]()) == (found.status, found.passed, found.failed)
    assert dict.fromkeys(("kairos", *COMPANIONS), 1) == Counter(who for what, who, _ in found.log if what == "call")


def test_a_disabled_benchmark_checks_its_result(disabled: Benchmarked) -> None:
    """With `--benchmark-disable`, too, the operation's result is checked."""
    assert 1 == sum((what, who) == ("finish", "kairos") for what, who, _ in disabled.log)


def test_a_profiled_call_is_no_sample(tmp_path: Path) -> None:
    """With `--benchmark-cprofile`, the extra call that is profiled is a sample of nobody."""
    found = run_benchmarks(
        tmp_path,
        "--benchmark-only",
        "--benchmark-cprofile=tottime",
        f"--benchmark-json={tmp_path / 'results.json'}",
        "-k",
        "counting",
    )
    expected = dict.fromkeys(("kairos", *COMPANIONS), ROUNDS)
    assert expected == {subject: len(samples) for subject, samples in found.samples.items()}
