"""One run of the harness: `python -m loadtests.measure FOLDER [--profile quick|full]`.

Measures latency in several fresh processes, runs the checks between instances, and writes what was seen as files. What
it means is decided elsewhere, from the files. With `--benchmarks`, only the benchmarks, of all operations or of some.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import redis

from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError
from kairos_core.lifeline import end_with_parent
from kairos_core.settings import LocalSettings, child_environment, servers_given
from loadtests import ROOT, checks
from loadtests.benchmarks import GATED, IN_REPORT, REPORT, SUITE, node_id
from loadtests.ending import unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.interleave import WARMUP_ROUNDS
from loadtests.servers.levels import VARIABLE as LEVELS
from loadtests.servers.levels import file_system, level_servers
from loadtests.servers.worker import worker_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kairos_core import Settings

# 1: manifest.json, checks.json and latency/run-NN.json as pytest-benchmark writes it, with samples_ns in extra_info.
# 2: the drain among the benchmarks; exit_statuses in the manifest.
# 3: durability among the benchmarks.
# 4: the drain of live sessions beside that of others, and several rounds of both.
# 5: latency/run-NN.npz beside run-NN.json has the samples, by "operation/subject"; extra_info has statistics of them.
#    `bare` is the same command through redis-py, of updates, too; operations in the manifest.
FORMAT = 5
# Rounds of the drain in each process: each takes a second, where one of a call takes a millisecond.
DRAIN_ROUNDS = 3

_RUN_TIMEOUT_S = 600
# Of a benchmark process that failed; the rest is in its own rerun.
_TAIL_LINES = 15


class Profile(NamedTuple):
    """How much is measured.

    Attributes:
        runs: fresh processes, the unit of replication.
        rounds: timed calls of each operation in each of them.
        warmup_rounds: calls of each before them.
    """

    runs: int
    rounds: int
    warmup_rounds: int = WARMUP_ROUNDS


PROFILES = {"quick": Profile(runs=10, rounds=300), "full": Profile(runs=30, rounds=900)}
# Of the benchmarks alone, which are many.
BENCHMARK_PROFILES = {
    # To try the harness itself: too few to say anything of what it measures.
    "tiny": Profile(runs=6, rounds=20, warmup_rounds=5),
    "quick": Profile(runs=10, rounds=100, warmup_rounds=20),
    "full": Profile(runs=20, rounds=1_000),
}


def measure(folder: Path, profile_name: str) -> None:
    """Run everything and write it to `folder`; the manifest comes last, so a folder that has one is complete.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    if profile_name not in PROFILES:
        raise ConfigurationError("--profile", f"{profile_name} is of the benchmarks alone (--benchmarks)")
    profile = PROFILES[profile_name]
    started = datetime.now(UTC)
    _make_folder(folder / "latency")
    with _environment("run") as settings, worker_pool(settings), level_servers() as levels:
        facts = {"machine": machine_facts(), "servers": server_facts(settings)}
        environment = child_environment(settings) | {LEVELS: json.dumps(levels), SUITE: REPORT}
        statuses = _latency_runs(environment, folder / "latency", profile, IN_REPORT)
        results = []
        for check in checks.CHECKS:
            result = checks.run(check, settings)
            results.append(result)
            print(
                f"check     {result.name}: {'held' if result.passed else 'BROKEN'} ({result.evidence})",
                flush=True,
            )
    (folder / "checks.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    _write_manifest(folder, profile_name, profile, IN_REPORT, statuses, started, facts)


def measure_benchmarks(folder: Path, profile_name: str, operations: Sequence[str] = GATED) -> None:
    """Run the benchmarks of these operations alone, in the same form.

    Raises:
        ConfigurationError: as of `measure`; or there is no such operation.
    """
    unknown = sorted(set(operations) - set(GATED))
    if unknown:
        raise ConfigurationError("--operations", f"there is no {unknown[0]}; there are {', '.join(GATED)}")
    profile = BENCHMARK_PROFILES[profile_name]
    started = datetime.now(UTC)
    _make_folder(folder / "latency")
    with _environment("bench") as settings:
        facts = {"machine": machine_facts(), "servers": server_facts(settings)}
        statuses = _latency_runs(child_environment(settings), folder / "latency", profile, operations)
    _write_manifest(folder, profile_name, profile, operations, statuses, started, facts)


@contextmanager
def _environment(purpose: str) -> Iterator[Settings]:
    print("starting servers ..." if not servers_given() else "using the given servers ...", flush=True)
    with harness(new_namespace(purpose)) as settings:
        yield settings


def _write_manifest(  # noqa: PLR0913, PLR0917 - a run's facts
    folder: Path,
    profile_name: str,
    profile: Profile,
    operations: Sequence[str],
    statuses: list[int],
    started: datetime,
    facts: dict[str, Any],
) -> None:
    manifest = {
        "format": FORMAT,
        "profile": profile_name,
        "runs": profile.runs,
        "rounds": profile.rounds,
        "operations": list(operations),
        "exit_statuses": statuses,
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "servers_given": servers_given(),
        **facts,
        "load_average_after": list(os.getloadavg()),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Of a run that was interrupted; mixed with this one's they would be neither.
        for left in folder.glob("run-*.*"):
            left.unlink()
    except OSError as error:
        raise ConfigurationError("--runs", f"{folder}: {error.strerror}") from error


def _latency_runs(
    environment: Mapping[str, str], folder: Path, profile: Profile, operations: Sequence[str]
) -> list[int]:
    """As many fresh processes as the profile says; return their exit statuses."""
    statuses: list[int] = []
    much = {
        "KAIROS_BENCHMARK_ROUNDS": str(profile.rounds),
        "KAIROS_BENCHMARK_WARMUP_ROUNDS": str(profile.warmup_rounds),
    }
    for number in range(1, profile.runs + 1):
        begun = time.monotonic()
        statuses.append(_latency_run({**environment, **much}, folder / f"run-{number:02d}.json", operations))
        print(f"latency   run {number:2d} of {profile.runs}   {time.monotonic() - begun:.1f} s", flush=True)
    return statuses


def _latency_run(environment: Mapping[str, str], result: Path, operations: Sequence[str]) -> int:
    """One fresh process that times these operations; return its exit status."""
    command = [
        sys.executable, "-m", "pytest", *map(node_id, operations), "-q", "--no-header", "-p", "no:cacheprovider",
        # What a run does not need, and takes its time to import in each of its processes.
        "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:xdist",
        "-o", "addopts=", "--import-mode=importlib", "--benchmark-only", "--benchmark-json", str(result),
    ]  # fmt: skip
    finished = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_RUN_TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        # What did run is in the JSON; what did not is missed by the judge, who has the list.
        said = (finished.stdout + finished.stderr).splitlines()
        print("\n".join(said[-_TAIL_LINES:]), file=sys.stderr, flush=True)
    return finished.returncode


def machine_facts() -> dict[str, Any]:
    """What the numbers depend on, as far as this process can see."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {
            name: metadata.version(name) for name in ("kairos", "redis", "hiredis", "rq", "psycopg", "msgspec")
        },
        "commit": _commit(),
        "load_average_before": list(os.getloadavg()),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return "unknown"
    found = subprocess.run(
        [git, "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def server_facts(settings: Settings) -> dict[str, str]:
    """Versions and what else of the servers' configuration bears on the numbers."""
    with redis.Redis.from_url(settings.redis_url) as client:
        info = client.info()
    with connect_postgres(settings) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()
    version, fsync, synchronous = row or ("?", "?", "?")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return {
        "store": f"{name} {info.get('valkey_version', info['redis_version'])}",
        "store persistence": f"AOF {'on' if info.get('aof_enabled') else 'off'}",
        "store eviction": str(info.get("maxmemory_policy", "?")),
        "audit": f"PostgreSQL {version}",
        "audit durability": f"fsync {fsync}, synchronous_commit {synchronous}",
        "file system of the fsync level": file_system(LocalSettings.from_env().folder),
    }


def main() -> int:
    """Run from the command line; status 2 where it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.measure", description=measure.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--profile", choices=sorted({*PROFILES, *BENCHMARK_PROFILES}), default="quick")
    parser.add_argument("--benchmarks", action="store_true", help="the benchmarks alone, of all operations")
    parser.add_argument("--operations", nargs="+", default=GATED, help="with --benchmarks: of these alone")
    parser.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    options = parser.parse_args()
    unwind_on_termination()
    if options.end_with_stdin:
        end_with_parent()
    try:
        if options.benchmarks:
            measure_benchmarks(options.folder, options.profile, options.operations)
        else:
            measure(options.folder, options.profile)
    except (ConfigurationError, OSError) as error:
        # Of the system's errors, above all that a disk is full.
        print(f"kairos: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
