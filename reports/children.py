"""Processes that measure: each ends with the one that started it, and cleans up after itself."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What removing servers and traces may take on a busy machine.
_CLEAN_UP_S = 30.0
# How soon what it says is said again.
_POLL_S = 0.1


class MeasuringFailed(Exception):  # noqa: N818 - a fact, and the process that failed has said why
    """The measuring process ended without a result.

    Attributes:
        status: its exit status.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"measuring ended with status {status}; its own message says why")


def run_to_its_end(command: list[str]) -> int:
    """Run a process that cleans up after itself, and give it the time to do so where this one is interrupted."""
    with _child(command) as process:
        return process.wait()


def run_and_tell(command: list[str], said: Path, tell: Callable[[str], object]) -> int:
    """Run such a process, keep all that it says in a file, and tell it line by line as it comes.

    In a file and not in a pipe: the end of a pipe comes only once everybody who inherited it is gone, too.
    """
    with said.open("w", encoding="utf-8") as out, said.open(encoding="utf-8", errors="replace") as back:
        with _child(command, stdout=out, stderr=subprocess.STDOUT) as process:
            rest = ""
            status = None
            while status is None:
                try:
                    status = process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    status = None
                *lines, rest = (rest + back.read()).split("\n")
                for line in lines:
                    tell(line)
        if rest:
            tell(rest)
        return status


@contextmanager
def _child(command: list[str], **more: object) -> Iterator[subprocess.Popen[bytes]]:
    # It ends when the pipe closes, so it does not outlive this process, not even one that was killed.
    process: subprocess.Popen[bytes] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, **more)  # type: ignore[call-overload]
    try:
        yield process
    except BaseException:
        # Ctrl-C has reached it, too; a second signal of another kind does not disturb what that began.
        process.terminate()
        try:
            process.wait(_CLEAN_UP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        if process.stdin is not None:
            process.stdin.close()
