"""The way to a server that can be disturbed: a proxy in a process of its own.

`python -m loadtests.faults.way` reads the server's address from its first line and says where it listens, then reads a
JSON object per line and answers each with what has been disturbed since it began. It ends when its standard input
closes. In a process of its own, because its threads would wait for the interpreter lock of whoever measures, and the
other way.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
# What a script of the core answers where a write was applied: an array that begins with 0.
_is_applied = re.compile(rb"\A\*\d+\r\n:0\r\n").match


class Disturbed(NamedTuple):
    """What has been done on the way so far.

    Attributes:
        cut: connections that were closed.
        dropped: replies to applied writes that were kept back.
        delayed: pieces that were delayed.
        silent: connections that are open, and on which nothing passes any more since a reply was kept back.
    """

    cut: int
    dropped: int
    delayed: int
    silent: int


class Way:
    """A handle to the proxy. Made by `way_to`.

    Attributes:
        url: its address, with the login of the server's.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self.url: str = self._answer()["url"]

    def pass_all(self) -> Disturbed:
        """Disturb nothing from now on."""
        return self._ask(do="pass_all")

    def cut(self) -> Disturbed:
        """Close every connection; new ones are accepted."""
        return self._ask(do="cut")

    def delay(self, delay_ms: float) -> Disturbed:
        """From now on, let every piece wait before it passes, in both directions."""
        return self._ask(do="delay", delay_ms=delay_ms)

    def drop_replies(self, share: float, seed: int, *, silently: bool) -> Disturbed:
        """From now on, keep back a share of the replies to writes that were applied.

        Args:
            share: of them, 0 to 1.
            seed: of the choice.
            silently: whether the connection stays open, so that who waits hears nothing; else it is closed.
        """
        return self._ask(do="drop_replies", share=share, seed=seed, silently=silently)

    def disturbed(self) -> Disturbed:
        """What has been done so far."""
        return self._ask(do="disturbed")

    def _ask(self, **order: Any) -> Disturbed:
        assert self._process.stdin is not None  # noqa: S101 - opened by `way_to`
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return Disturbed(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the proxy ended with status {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def way_to(url: str) -> Iterator[Way]:
    """A way to a server, from when it can be taken to when the context is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.faults.way"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for whoever started it, who may have something to heal first.
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        # Not as an argument: it has a password.
        print(json.dumps({"url": url}), file=process.stdin, flush=True)
        yield Way(process)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


class _Disturber:
    """What the process can do; each public method is an order."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._lock = threading.Lock()
        # The threads that forward the replies of connections on which one was kept back. The next one would be taken
        # for it, so that nothing may ever pass there again.
        self._silent: set[threading.Thread] = set()
        self._cut = self._dropped = self._delayed = 0

    def pass_all(self) -> None:
        self._proxy.on_request = lambda data: data
        self._proxy.on_reply = self._unless_silent

    def cut(self) -> None:
        self._cut += self._proxy.cut()

    def delay(self, delay_ms: float) -> None:
        def wait(data: bytes) -> bytes:
            with self._lock:
                self._delayed += 1
            # In the thread of one direction of one connection: the others go on.
            time.sleep(delay_ms / 1000)
            return data

        self._proxy.on_request = self._proxy.on_reply = wait

    def _unless_silent(self, data: bytes) -> bytes:
        return b"" if threading.current_thread() in self._silent else data

    def drop_replies(self, share: float, seed: int, *, silently: bool) -> None:
        chance = random.Random(seed)  # noqa: S311 - not a secret

        def drop(data: bytes) -> bytes | None:
            if not _is_applied(data):
                return self._unless_silent(data)
            with self._lock:
                if chance.random() >= share:
                    return self._unless_silent(data)
                self._dropped += 1
                if silently:
                    self._silent.add(threading.current_thread())
            return b"" if silently else None

        self._proxy.on_reply = drop

    def disturbed(self) -> Disturbed:
        with self._lock:
            self._silent = {thread for thread in self._silent if thread.is_alive()}
            return Disturbed(self._cut, self._dropped, self._delayed, len(self._silent))


def main() -> None:
    """Serve orders until standard input closes."""
    with Proxy(json.loads(sys.stdin.readline())["url"]) as proxy:
        disturber = _Disturber(proxy)
        print(json.dumps({"url": proxy.url}), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            do = order.pop("do")
            getattr(disturber, do)(**order)
            print(json.dumps(disturber.disturbed()._asdict()), flush=True)


if __name__ == "__main__":
    main()
