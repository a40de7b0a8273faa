from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loadtests.measure import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

END_S = 40.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for embedded servers that nobody else uses, with a path short enough for a socket."""
    found = Path(f"/tmp/ki-{os.getpid()}-{time.monotonic_ns() % 10**6}")  # noqa: S108 - a socket's path must be short
    found.mkdir(mode=0o711)
    (tmp_path / "runs").mkdir()
    return found


@pytest.fixture
def report(folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A report that is being made, in a process group of its own, with embedded servers in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    environment["KAIROS_LOCAL_FOLDER"] = str(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "reports", "--runs", str(tmp_path / "runs")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


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
            seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in seen and int(process.name) != os.getpid():
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def wait_until_nothing_is_left(folder: Path) -> None:
    """Wait until neither a process nor a file of the folder's is left."""
    deadline = time.monotonic() + END_S
    while left(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [] == left(folder)
    folder.rmdir()


@pytest.mark.parametrize(
    ("number", "word", "status"),
    [
        (signal.SIGINT, "run  1 of", 130),
        # In the middle of the first run.
        (signal.SIGTERM, "starting servers", 143),
        (signal.SIGKILL, "starting servers", -9),
    ],
)
def test_an_interrupted_report_leaves_nothing(
    number: signal.Signals, word: str, status: int, report: subprocess.Popen[str], folder: Path, tmp_path: Path
) -> None:
    """A report that is interrupted, ended or killed leaves no process, no server, no file behind."""
    wait_for(report, word)
    assert left(folder)
    if number == signal.SIGINT:
        # as a terminal does: to all of the group at once
        os.killpg(report.pid, number)
    else:
        report.send_signal(number)
    assert report.stdout is not None
    said = report.stdout.read() if number != signal.SIGKILL else ""
    assert status == report.wait(END_S)
    wait_until_nothing_is_left(folder)
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert [] == list((tmp_path / "runs").iterdir())
