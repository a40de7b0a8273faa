"""Commands without their start: `python -m tests.at_hand SOCKET [MODULE ...]` has all of the core read, and forks.

A start takes a third of a second and more, most of it imports, and tests have dozens of them. What is typed as `kairos`
is then a few lines that hand over words, folder, environment and three files, and end with the status that comes back.
`kairos --program FILE` runs a Python program in the same way, `kairos --module NAME` what `python -m NAME` does.
"""

from __future__ import annotations

import importlib
import marshal
import os
import pkgutil
import runpy
import signal
import socket
import stat
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import kairos_core
from kairos_core.cli import main as kairos
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "--program"
MODULE = "--module"
_LENGTH_BYTES = 4
_BROKEN = 70
# Neither the environment nor site-packages: it starts in a hundredth of a second.
_CLIENT = """\
#!{python} -IS
import marshal, os, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect({address!r})
body = marshal.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(there, [len(body).to_bytes({length}, "big")], [0, 1, 2])
there.sendall(body)
said = there.recv(1)
sys.exit(said[0] if said else {broken})
"""


@contextmanager
def at_hand(folder: Path, *modules: str) -> Iterator[Path]:
    """A program that is `kairos`, for as long as this lasts.

    Args:
        folder: is made, and is for its socket.
        modules: what is read besides the core.
    """
    address, program = folder / "socket", folder / "kairos"
    folder.mkdir()
    program.write_text(
        _CLIENT.format(python=sys.executable, address=str(address), length=_LENGTH_BYTES, broken=_BROKEN),
        encoding="utf-8",
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    # What is read when a module is imported is a stranger's, too: RQ's prefix is one of these.
    variables = {"LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.at_hand", str(address), *modules]
    with subprocess.Popen(command, cwd=ROOT, env=variables) as server:
        try:
            wait_for("kairos at hand", address.exists, 30)
            yield program
        finally:
            server.kill()


def _serve(address: str, *modules: str) -> None:
    for name in modules:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(kairos_core.__path__, "kairos_core."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen()
        Path(f"{address}.new").rename(address)
        while True:
            there, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(there)
            there.close()


def _answer(there: socket.socket) -> None:
    status = _BROKEN
    try:
        length, files, _, _ = socket.recv_fds(there, _LENGTH_BYTES, 3)
        body = b""
        while len(body) < int.from_bytes(length, "big"):
            body += there.recv(65_536)
        arguments, folder, environment = marshal.loads(body)  # noqa: S302 - of this test's own
        for place, file in enumerate(files):
            os.dup2(file, place)
        # Those that were there know of other files whether these can be sought in.
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["kairos", *arguments]
        status = _status(arguments)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        there.send(bytes([status]))
        os._exit(status)


def _status(arguments: list[str]) -> int:
    try:
        if arguments[:1] == [PROGRAM]:
            runpy.run_path(arguments[1], run_name="__main__")
            return 0
        if arguments[:1] == [MODULE]:
            # What it imports is read; it itself is run, and not for the second time.
            for name in (f"{arguments[1]}.__main__", arguments[1]):
                if sys.modules.pop(name, None):
                    break
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            return 0
        return kairos(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:  # noqa: BLE001 - it ends with what a program ends with
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    _serve(*sys.argv[1:])
