"""Processes that are stopped for a while, and go on whatever becomes of who stopped them.

A process that is stopped when the harness is killed would stay so for ever: it does not even hear that its pipe closed.
So a guard, a shell that waits for its standard input to close, lets them go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# `kill` goes on with the next where one has ended.
_GUARD = 'read _; kill -CONT "$@" 2>/dev/null'


class Stopped:
    """Processes of the harness's own that were stopped with SIGSTOP, until `resume`.

    Args:
        pids: which; a parent stands before its children, so that it makes no more of them.
        with_children: whether the children of the first are stopped, too, as they are then.
    """

    def __init__(self, pids: Sequence[int], *, with_children: bool = False) -> None:
        self.pids = list(pids)
        self._guards: list[subprocess.Popen[bytes]] = []
        try:
            self._stop(self.pids)
            if with_children:
                self._stop(children(self.pids[0]))
        except BaseException:
            self.resume()
            raise

    def _stop(self, pids: Sequence[int]) -> None:
        if not pids:
            return
        command = ["/bin/sh", "-c", _GUARD, "sh", *map(str, pids)]
        # In a session of its own: Ctrl-C on a terminal must not end it before its work is done.
        self._guards.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        self.pids += [pid for pid in pids if pid not in self.pids]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on; nothing happens where they do already."""
        for pid in reversed(self.pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        while self._guards:
            guard = self._guards.pop()
            # It says the same once more.
            guard.communicate()


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    there = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return sorted(one for one in there if _stat(one)[1:2] == [str(pid)])


def is_stopped(pid: int) -> bool:
    """Whether a process is there and stopped."""
    return _stat(pid)[:1] == ["T"]


def is_running(pid: int) -> bool:
    """Whether a process is at work on a processor, or waits for one."""
    return _stat(pid)[:1] == ["R"]


def is_there(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody has waited for has."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def _stat(pid: int) -> list[str]:
    """What the system says of a process from its state on; nothing, where there is none."""
    try:
        # The name before it may have spaces and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
