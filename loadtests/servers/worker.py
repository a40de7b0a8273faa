"""The audit's worker pool as a process of the harness."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kairos_core.settings import child_environment
from loadtests.servers.stopping import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings


@contextmanager
def worker_pool(
    settings: Settings, workers: int = 1, log: Path | None = None, mutant: str | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `kairos worker`, from when it is ready to when the context is left.

    Args:
        settings: of the pool.
        workers: how many.
        log: where the log of all its processes goes; None: to this process's standard error.
        mutant: what all its processes are broken with, or None.
    """
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("a")) if log else None
        yield stack.enter_context(_pool(settings, workers, errors, mutant))


def members(pool: subprocess.Popen[str], role: str = "worker") -> list[int]:
    """The process ids of a pool's members that run."""
    found = []
    for pid in children(pool.pid):
        # One may end in between.
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(f"\0{role}\0".encode()):
                found.append(pid)
    return found


@contextmanager
def _pool(
    settings: Settings, workers: int, errors: IO[str] | None, mutant: str | None
) -> Iterator[subprocess.Popen[str]]:
    command = ["loadtests.mutants.worker", mutant] if mutant else ["kairos_core.cli"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "worker", "--end-with-stdin", "--workers", str(workers)],
        # The pool ends when this pipe closes, so it does not outlive this process, not even one that was killed.
        stdin=subprocess.PIPE,
        # Without what only the benchmarks read, of which the command would warn.
        env={name: text for name, text in child_environment(settings).items() if "KAIROS_BENCHMARK_" not in name},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"kairos worker ended with status {process.wait()}")
        yield process
    finally:
        process.terminate()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
