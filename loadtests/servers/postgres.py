"""A PostgreSQL of one's own that can be killed and started again on the same data: for tests of faults.

It is started by a helper, `python -m loadtests.servers.postgres FOLDER` (see `loadtests/orders.py`), which in its own
end ends the server and removes its folder, as the supervisor of `kairos_core.local` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.local import _Postgres
from loadtests.orders import Helper, OrderError, serve
from loadtests.servers.stopping import Stopped

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

# Backends of a postmaster that was killed end by themselves, and hold its memory until they have.
_START_TIMEOUT_S = 20.0


class Postgres:
    """A handle to the server. Made by `own_postgres`.

    Attributes:
        url: its address, the same over every restart; the account may do anything.
        pid: process id of the postmaster; a restart changes it.
    """

    def __init__(self, helper: Helper) -> None:
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
        try:
            answer = self._helper.ask("start")
        except OrderError as error:
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", str(error)) from error
        self.url, self.pid = answer["url"], answer["pid"]

    def kill(self) -> None:
        """End it with SIGKILL, whatever it is doing; the postmaster has ended when this returns."""
        # Its backends, which end by themselves where it has ended, cannot while they are stopped.
        self.resume()
        self._helper.ask("kill")

    def pause(self) -> None:
        """Stop all its processes with SIGSTOP: its connections stay open and nothing is answered."""
        self.resume()
        self._stopped = Stopped([self.pid], with_children=True)

    def resume(self) -> None:
        """Let it go on; nothing happens where it does already."""
        if self._stopped is not None:
            self._stopped.resume()
            self._stopped = None


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A server that ends, and whose files are removed, at the end."""
    helper = Helper("loadtests.servers.postgres", tempfile.gettempdir(), is_apart=True)
    postgres: Postgres | None = None
    try:
        postgres = Postgres(helper)
        yield postgres
    finally:
        if postgres is not None:
            # A server that is stopped would not hear that it is to end.
            postgres.resume()
        helper.close()


class _Server:
    """The server, in the helper; each public method is an order."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._postgres = _Postgres(folder)
        self._preparing: tuple[subprocess.Popen[bytes] | None, IO[str]] = stack.enter_context(self._postgres.prepare())
        self._pid = 0
        self._stack = stack

    def start(self) -> dict[str, str | int]:
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
                return {"url": self._postgres.url, "pid": self._pid}

    def kill(self) -> dict[str, str | int]:
        os.kill(self._pid, signal.SIGKILL)
        # The next one asks whether there is still a process of that id.
        os.waitpid(self._pid, 0)
        return {}


def main() -> None:
    """Serve orders until standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kairos-", dir=Path(sys.argv[1]).resolve()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # PostgreSQL's account must be able to pass through; the folders inside are closed to others.
        folder.chmod(0o711)
        serve(_Server(folder, stack), ConfigurationError)


if __name__ == "__main__":
    main()
