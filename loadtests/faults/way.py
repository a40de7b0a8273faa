"""The way to a server that can be disturbed: a proxy in a process of its own.

`python -m loadtests.faults.way` takes orders (see `orders.py`): the first is to listen, and each of the others is
answered with what has been disturbed since then. In a process of its own, because its threads would wait for the
interpreter lock of whoever measures, and the other way.
"""

from __future__ import annotations

import random
import re
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtests.orders import Helper, serve
from loadtests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    def __init__(self, helper: Helper, url: str) -> None:
        self._helper = helper
        # Not as an argument of the command: it has a password.
        self.url: str = helper.ask("listen", url=url)["url"]

    def pass_all(self) -> Disturbed:
        """Disturb nothing from now on."""
        return self._ask("pass_all")

    def cut(self) -> Disturbed:
        """Close every connection; new ones are accepted."""
        return self._ask("cut")

    def delay(self, delay_ms: float) -> Disturbed:
        """From now on, let every piece wait before it passes, in both directions."""
        return self._ask("delay", delay_ms=delay_ms)

    def drop_replies(self, share: float, seed: int, *, silently: bool, only_applied: bool = True) -> Disturbed:
        """From now on, keep back a share of the replies.

        Args:
            share: of them, 0 to 1.
            seed: of the choice.
            silently: whether the connection stays open, so that who waits hears nothing; else it is closed.
            only_applied: whether only of those to writes of the core that were applied.
        """
        return self._ask("drop_replies", share=share, seed=seed, silently=silently, only_applied=only_applied)

    def disturbed(self) -> Disturbed:
        """What has been done so far."""
        return self._ask("disturbed")

    def _ask(self, do: str, **arguments: Any) -> Disturbed:
        return Disturbed(**self._helper.ask(do, **arguments))


@contextmanager
def way_to(url: str) -> Iterator[Way]:
    """A way to a server, from when it can be taken to when the context is left."""
    helper = Helper("loadtests.faults.way", is_apart=True)
    try:
        yield Way(helper, url)
    finally:
        helper.close()


class _Disturber:
    """What the process can do; each public method is an order."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        # The threads that forward the replies of connections on which one was kept back. The next one would be taken
        # for it, so that nothing may ever pass there again.
        self._silent: set[threading.Thread] = set()
        self._cut = self._dropped = self._delayed = 0

    def listen(self, url: str) -> dict[str, str]:
        self._proxy = self._stack.enter_context(Proxy(url))
        return {"url": self._proxy.url}

    def pass_all(self) -> dict[str, int]:
        self._proxy.on_request = lambda data: data
        self._proxy.on_reply = self._unless_silent
        return self.disturbed()

    def cut(self) -> dict[str, int]:
        self._cut += self._proxy.cut()
        return self.disturbed()

    def delay(self, delay_ms: float) -> dict[str, int]:
        def wait(data: bytes) -> bytes:
            with self._lock:
                self._delayed += 1
            # In the thread of one direction of one connection: the others go on.
            time.sleep(delay_ms / 1000)
            return data

        self._proxy.on_request = self._proxy.on_reply = wait
        return self.disturbed()

    def _unless_silent(self, data: bytes) -> bytes:
        return b"" if threading.current_thread() in self._silent else data

    def drop_replies(self, share: float, seed: int, *, silently: bool, only_applied: bool) -> dict[str, int]:
        chance = random.Random(seed)  # noqa: S311 - not a secret

        def drop(data: bytes) -> bytes | None:
            if only_applied and not _is_applied(data):
                return self._unless_silent(data)
            with self._lock:
                if chance.random() >= share:
                    return self._unless_silent(data)
                self._dropped += 1
                if silently:
                    self._silent.add(threading.current_thread())
            return b"" if silently else None

        self._proxy.on_reply = drop
        return self.disturbed()

    def disturbed(self) -> dict[str, int]:
        with self._lock:
            self._silent = {thread for thread in self._silent if thread.is_alive()}
            return Disturbed(self._cut, self._dropped, self._delayed, len(self._silent))._asdict()


if __name__ == "__main__":
    with ExitStack() as _stack:
        serve(_Disturber(_stack))
