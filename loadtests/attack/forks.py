"""Processes of an attack that are forks of one: each mutant needs some of its own, and Python takes long to start.

`python -m loadtests.attack.forks SOCKET` takes orders over a socket that it inherits: an environment, and the ends of
two pipes, which become the standard input and output of a fork that serves orders as `loadtests.attack.attacker` does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    from kairos_core import Settings

_LONGEST_ORDER = 65_536


class Fork:
    """A handle to a fork, with what is used of `subprocess.Popen`.

    Attributes:
        pid: its process id.
        stdin, stdout: as text.
    """

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self.stdin = os.fdopen(stdin, "w")
        self.stdout = os.fdopen(stdout)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its status is not known, and is 0.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if self._handle >= 0:
            poller = select.poll()
            poller.register(self._handle, select.POLLIN)
            if not poller.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
            os.close(self._handle)
            self._handle = -1
        return 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._handle >= 0:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)


class Forks:
    """Makes forks; all of them end with it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.attack.forks", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.wait()

    def start(self, settings: Settings, log: Path | None) -> Fork:
        """A fork with these settings; see `attacker.Start`."""
        their_input, stdin = os.pipe()
        stdout, their_output = os.pipe()
        order = {"environment": settings.to_env(), "log": str(log) if log else None}
        socket.send_fds(self._line, [json.dumps(order).encode()], [their_input, their_output])
        for end in (their_input, their_output):
            os.close(end)
        answer = self._line.recv(_LONGEST_ORDER)
        if not answer:
            for end in (stdin, stdout):
                os.close(end)
            raise RuntimeError("the process that forks has ended")
        return Fork(int(answer), stdin, stdout)


def main(line: socket.socket) -> None:
    """Fork as often as is asked for."""
    # What they need, so that none has to look for it.
    from loadtests import mutants  # noqa: F401, PLC0415
    from loadtests.attack import attacker  # noqa: F401, PLC0415
    from loadtests.subjects import registry  # noqa: F401, PLC0415

    # Who started this waits for them, and asks for no status.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, ends, _, _ = socket.recv_fds(line, _LONGEST_ORDER, 2)
        if not order:
            return
        child = os.fork()
        if child == 0:
            line.close()
            _serve(json.loads(order), *ends)
        for end in ends:
            os.close(end)
        line.send(str(child).encode())


def _serve(order: dict[str, dict[str, str]], stdin: int, stdout: int) -> None:
    """Be a process of an attack, and end."""
    from loadtests.attack import attacker  # noqa: PLC0415 - there already

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(order["environment"])
        if order["log"]:
            log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
        sys.stdin, sys.stdout = os.fdopen(stdin), os.fdopen(stdout, "w")
        attacker.main()
    except BaseException:  # noqa: BLE001 - this process must not fork
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
