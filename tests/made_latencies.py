from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from loadtests import ROOT
from loadtests.checks import CHECKS, CheckResult
from loadtests.measure import DRAIN_ROUNDS, FORMAT
from reports.results import COMPANIONS, DRAIN, DURABILITY, OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


RUNS = 10
ROUNDS = 40
ROWS = 4_000
# The rivals' are longer.
MEDIANS_NS = {"kairos": 200_000, "floor": 100_000, "bare": 400_000, "again": 200_000, "slowed": 210_000}


# Samples in nanoseconds by operation and subject, of one run.
Latencies = dict[str, dict[str, list[int]]]
TARGETS = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))


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
