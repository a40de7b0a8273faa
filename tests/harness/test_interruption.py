from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

END_S = 40.0
# Three reports are begun at once.
pytestmark = pytest.mark.timeout(180)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Read what the process says until a line has the word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"it ended without saying {word}")


def left(folder: Path) -> list[str]:
    """The command lines of the processes that have to do with the folder, and what is in it."""
    found = [str(path) for path in folder.iterdir()] if folder.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            seen = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in seen and int(process.name) != os.getpid():
            found.append(command.decode(errors="replace").replace("\0", " "))
    return found


def left_at_last(folder: Path) -> list[str]:
    """What is left of the folder's processes and files when they had the time to end."""
    deadline = time.monotonic() + END_S
    while (found := left(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


class Interrupted(NamedTuple):
    """A report that was interrupted.

    Attributes:
        status: its exit status.
        said: what it said from then on, unless it was killed.
        left: processes and files that were left.
        runs: what was left of the run's own folder.
    """

    status: int
    said: str
    left: list[str]
    runs: list[Path]


def interrupt(number: signal.Signals, moment: Callable[[subprocess.Popen[str], Path], None]) -> Interrupted:
    """Make a report, in a process group of its own, with embedded servers in a folder of its own; interrupt it."""
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="ki-") as base:
        Path(base).chmod(0o711)
        folder, runs = Path(base, "s"), Path(base, "runs")
        folder.mkdir(mode=0o711)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
        # The moment is what counts, not what is measured until then.
        environment |= {
            "KAIROS_LOCAL_FOLDER": str(folder),
            "KAIROS_BENCHMARK_ROWS": "400",
            "PYTEST_ADDOPTS": "-p no:randomly -p no:hypothesispytest",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "reports", "--runs", str(runs), "--end-with-stdin"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                moment(process, folder)
                if number == signal.SIGINT:
                    # as a terminal does: to all of the group at once
                    os.killpg(process.pid, number)
                elif number == signal.SIGTERM:
                    # Which it sends itself when whoever started it is gone.
                    assert process.stdin is not None
                    process.stdin.close()
                else:
                    process.send_signal(number)
                assert process.stdout is not None
                said = process.stdout.read() if number != signal.SIGKILL else ""
                status = process.wait(END_S)
            finally:
                process.kill()
        return Interrupted(status, said, left_at_last(folder), list(runs.iterdir()))


def while_servers_start(process: subprocess.Popen[str], _: Path) -> None:
    """The moment at which the first server is started."""
    wait_for(process, "starting servers")


def in_the_first_run(process: subprocess.Popen[str], folder: Path) -> None:
    """The moment at which the first of the processes that measure is there."""
    wait_for(process, "starting servers")
    deadline = time.monotonic() + END_S
    while not any("benchmark-only" in found for found in left(folder)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def after_the_first_run(process: subprocess.Popen[str], _: Path) -> None:
    """The moment at which the first of them has ended."""
    wait_for(process, "run  1 of")


MOMENTS = {
    signal.SIGINT: after_the_first_run,
    signal.SIGTERM: in_the_first_run,
    signal.SIGKILL: while_servers_start,
}


@pytest.fixture(scope="module")
def interrupted() -> Iterator[Callable[[signal.Signals], Interrupted]]:
    """The reports by the signal that interrupted them, each in a moment of its own; made side by side."""
    with ThreadPoolExecutor(len(MOMENTS)) as pool:
        found = {number: pool.submit(interrupt, number, moment) for number, moment in MOMENTS.items()}
        yield lambda number: found[number].result()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_report_leaves_nothing(
    number: signal.Signals, status: int, interrupted: Callable[[signal.Signals], Interrupted]
) -> None:
    """A report that is interrupted, ended or killed leaves no process, no server, no file behind."""
    found = interrupted(number)
    assert (status, []) == (found.status, found.left)
    assert "Traceback" not in found.said
    if number != signal.SIGKILL:
        assert [] == found.runs
        assert "kairos: interrupted; " in found.said
