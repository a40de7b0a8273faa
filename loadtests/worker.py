"""The audit's worker pool as a process of the harness."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kairos_core.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings


@contextmanager
def worker_pool(settings: Settings, workers: int = 1) -> Iterator[subprocess.Popen[str]]:
    """Run `kairos worker`, from when it is ready to when the context is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kairos_core.cli", "worker", "--end-with-stdin", "--workers", str(workers)],
        # The pool ends when this pipe closes, so it does not outlive this process, not even one that was killed.
        stdin=subprocess.PIPE,
        # Without what only the benchmarks read, of which the command would warn.
        env={name: text for name, text in child_environment(settings).items() if "KAIROS_BENCHMARK_" not in name},
        stdout=subprocess.PIPE,
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
