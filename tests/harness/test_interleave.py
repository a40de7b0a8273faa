from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from loadtests.interleave import PERCENTILES, SLOWED_BY, WARMUP_ROUNDS, Slowed, orders, percentiles_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 64
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


def test_each_subject_stands_in_each_place_equally_often(benchmarked: Benchmarked) -> None:
    """In the rounds that count, each subject, the operation too, is first, second, third and last equally often.

    Each round is followed by its mirror image, and within the rounds each subject follows each other equally often.
    """
    calls = [who for what, who, _ in benchmarked.log if what == "call"]
    width = len(COMPANIONS) + 1
    rounds = [tuple(calls[start : start + width]) for start in range(0, len(calls), width)][WARMUP_ROUNDS:]
    assert [] == biases(rounds)


def biases(rounds: Sequence[tuple[Any, ...]]) -> list[str]:
    """What is not balanced in the orders of some rounds."""
    found = []
    width = len(rounds[0])
    places = Counter((place, who) for order in rounds for place, who in enumerate(order))
    if set(places.values()) != {len(rounds) // width} or len(places) != width * width:
        found.append("places")
    followers = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    if len(set(followers.values())) > 1 or len(followers) != width * (width - 1):
        found.append("followers")
    if any(second != first[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=True)):
        found.append("mirrors")
    return found


@pytest.mark.parametrize("subjects", range(2, 11))
def test_orders_favour_nobody(subjects: int) -> None:
    """Of any number of subjects, whoever is drawn for which part: equal places, equal followers, mirrored pairs."""
    for _ in range(50):
        block = orders(subjects)
        assert 2 * subjects == len(block)
        assert [] == biases(block)


def test_orders_are_drawn_anew() -> None:
    """Two blocks are hardly ever the same: what came two calls before must not be the same for ever either."""
    assert 1 < len({tuple(orders(5)) for _ in range(20)})


@pytest.mark.parametrize(
    ("biased", "expected"),
    [
        # The operation always last, as it is where all companions are timed in the set-up.
        ([(0, 1, 2), (1, 0, 2)] * 3, ["places", "followers", "mirrors"]),
        # Rotated and mirrored: all places are equal, and yet 2 follows 1 more often than 0 follows 1.
        ([(0, 1, 2, 3), (3, 2, 1, 0), (1, 2, 3, 0), (0, 3, 2, 1)] * 2, ["places", "followers"]),
        ([(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)], ["mirrors"]),
    ],
)
def test_a_biased_order_is_seen(biased: list[tuple[int, ...]], expected: list[str]) -> None:
    """What looks for bias finds it: in who has a fixed place, in who follows whom, in a drift that is not met."""
    assert expected == biases(biased)


def test_percentiles() -> None:
    """Percentiles are values that were measured, and only those that so many calls can tell."""
    assert {"p50": 0.05, "p95": 0.095, "p99": 0.099} == percentiles_ms([number * 1_000 for number in range(1, 101)])
    assert [name for name, _, _ in PERCENTILES] == list(percentiles_ms(range(1, 1_001)))
    assert {"p50": 3e-6} == percentiles_ms([3])


class _Pause:
    """An operation that takes a known time."""

    def prepare(self) -> Callable[[], str]:
        return self._call

    def _call(self) -> str:
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return "done"

    def finish(self, result: str) -> None:
        assert "done" == result


def test_a_slowed_operation_is_slowed_by_a_known_part() -> None:
    """In the warm-up nothing is added and the median is learnt; from then on the share of it, to each call."""
    slowed = Slowed(_Pause(), share=0.5)
    for _ in range(5):
        slowed.finish(slowed.prepare()())
    assert 0 == slowed.delay_ns
    slowed.settle()
    assert 900_000 < slowed.delay_ns
    start_ns = time.perf_counter_ns()
    slowed.prepare()()
    assert 2_000_000 + slowed.delay_ns <= time.perf_counter_ns() - start_ns
    assert 0 < SLOWED_BY < 0.1


def test_an_operation_that_was_never_called_is_not_slowed() -> None:
    """Without a warm-up there is nothing to learn from, and nothing is added."""
    slowed = Slowed(_Pause())
    slowed.settle()
    assert 0 == slowed.delay_ns


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
