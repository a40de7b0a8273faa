"""The account of benchmarks, what they share, and where their samples go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from loadtests.interleave import WARMUP_ROUNDS, Much
from loadtests.measure import server_facts
from loadtests.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings

# Of the servers that the benchmarks had: known while they are there, and written when all is over.
_server_facts: dict[str, str] = {}


@pytest.fixture(scope="session")
def much() -> Much:
    """How many calls of each operation are timed."""
    return Much(
        int(os.environ.get("KAIROS_BENCHMARK_ROUNDS", "500")),
        int(os.environ.get("KAIROS_BENCHMARK_WARMUP_ROUNDS", str(WARMUP_ROUNDS))),
    )


@pytest.fixture
def settings(settings: Settings, servers: Settings) -> Settings:
    """The test's settings, with the account that the servers were given or started with.

    What is compared must be asked by the same one, and bare redis-py needs more than the core.
    """
    found = msgspec.structs.replace(settings, redis_url=servers.redis_url)
    if not _server_facts:
        _server_facts.update(server_facts(found))
    return found


@pytest.fixture
def bench(settings: Settings) -> Iterator[Workbench]:
    """What the benchmarks share."""
    with Workbench(settings) as found:
        yield found


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add the servers' versions to what the numbers depend on."""
    machine_info["servers"] = dict(_server_facts)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Take the samples out of the result, and write them beside it, compressed: a name.npz for a name.json.

    Its arrays are nanoseconds by "operation/subject", in the order of the rounds. pytest-benchmark's own data are
    those of the subject `kairos`.
    """
    samples: dict[str, Any] = {}
    for benchmark in output_json["benchmarks"]:
        operation = benchmark["name"].removeprefix("test_")
        for subject, values in benchmark["extra_info"].pop("samples_ns", {}).items():
            samples[f"{operation}/{subject}"] = np.asarray(values, dtype=np.int64)
        benchmark["stats"].pop("data", None)
    file: str | None = config.getoption("benchmark_json")
    if file:
        # numpy's own keywords, not ours: typed as flags.
        np.savez_compressed(Path(file).with_suffix(".npz"), **samples)
