"""A PostgreSQL of one's own that can be killed and started again on the same data: for tests of faults.

It is started by a helper, `python -m loadtests.postgres FOLDER`, which reads an order per line and answers each with a
line of JSON. When its standard input closes, because the process that asked is done or was killed, it ends the server
and removes its folder, as the supervisor of `kairos_core.local` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.local import _Postgres
from loadtests.faults.stopping import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
# Backends of a postmaster that was killed end by themselves, and hold its memory until they have.
_START_TIMEOUT_S = 20.0


class Postgres:
    """A handle to the server. Made by `own_postgres`.

    Attributes:
        url: its address, the same over every restart; the account may do anything.
        pid: process id of the postmaster; a restart changes it.
    """

    def __init__(self, helper: subprocess.Popen[str]) -> None:
        self._helper = helper
        self.url = ""
        self.pid = 0
        self._stopped: Stopped | None = None
        self.start()

    def start(self) -> None:
        """Start it, with what it had recorded; it is ready when this returns.

        Raises:
            ConfigurationError: it did not start.
        """
        answer = self._ask("start")
        self.url, self.pid = answer["url"], int(answer["pid"])

    def kill(self) -> None:
        """End it with SIGKILL, whatever it is doing; the postmaster has ended when this returns."""
        # Its backends, which end by themselves where it has ended, cannot while they are stopped.
        self.resume()
        self._ask("kill")

    def pause(self) -> None:
        """Stop all its processes with SIGSTOP: its connections stay open and nothing is answered."""
        self.resume()
        self._stopped = Stopped([self.pid], with_children=True)

    def resume(self) -> None:
        """Let it go on; nothing happens where it does already."""
        if self._stopped is not None:
            self._stopped.resume()
            self._stopped = None

    def _ask(self, order: str) -> dict[str, str]:
        assert self._helper.stdin is not None  # noqa: S101 - opened by `own_postgres`
        assert self._helper.stdout is not None  # noqa: S101
        print(order, file=self._helper.stdin, flush=True)
        line = self._helper.stdout.readline()
        answer: dict[str, str] = json.loads(line) if line else {"cause": "the helper ended early"}
        if "cause" in answer:
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", answer["cause"])
        return answer


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A server that ends, and whose files are removed, at the end."""
    helper = subprocess.Popen(
        [sys.executable, "-m", "loadtests.postgres", tempfile.gettempdir()],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert helper.stdin is not None  # noqa: S101 - opened above
    assert helper.stdout is not None  # noqa: S101
    postgres: Postgres | None = None
    try:
        postgres = Postgres(helper)
        yield postgres
    finally:
        if postgres is not None:
            # A server that is stopped would not hear that it is to end.
            postgres.resume()
        with contextlib.suppress(BrokenPipeError):
            helper.stdin.close()
        helper.wait()
        helper.stdout.close()


class _Server:
    """The server, in the helper."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._postgres = _Postgres(folder)
        self._preparing: tuple[subprocess.Popen[bytes], IO[str]] = stack.enter_context(self._postgres.prepare())
        self._pid = 0
        self._stack = stack

    def start(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            # What is looked for is what this start says.
            self._preparing[1].truncate(0)
            try:
                self._pid = self._postgres.start(self._preparing, self._stack)
            except ConfigurationError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def answer(self, order: str) -> dict[str, str]:
        try:
            if order == "start":
                self.start()
            else:
                self._kill()
        except ConfigurationError as error:
            return {"cause": error.cause}
        return {"url": self._postgres.url, "pid": str(self._pid)}

    def _kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        # The next one asks whether there is still a process of that id.
        os.waitpid(self._pid, 0)


def main() -> None:
    """Serve orders until standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kairos-", dir=Path(sys.argv[1]).resolve()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # PostgreSQL's account must be able to pass through; the folders inside are closed to others.
        folder.chmod(0o711)
        server = _Server(folder, stack)
        for line in sys.stdin:
            print(json.dumps(server.answer(line.strip())), flush=True)


if __name__ == "__main__":
    main()
