"""Many watchers of one session in one process: `python -m loadtests.crowd kairos|wire` takes orders (see `orders.py`).

Each watcher has a connection of its own, so that the server sees as many as it would with as many processes. What they
do not have is a processor each: the last of a process waits for what the process does for those before it. `wire` does
next to nothing for them (a raw socket each), and so shows what of the wait is the server's.
"""

from __future__ import annotations

import asyncio
import os
import resource
import select
import selectors
import sys
import threading
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import msgspec

from kairos_core import AsyncRedisStateManager, Settings
from kairos_core.layout import Layout
from kairos_core.settings import child_environment
from loadtests.orders import Helper, serve
from loadtests.subjects.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kairos_core.watches import AsyncSessionWatch

_END_TIMEOUT_S = 10.0
_POLL_S = 0.05


class UpdateMissedError(RuntimeError):
    """A watcher was not told of an update; the message says which one of what."""


class Crowd:
    """A handle to a process of watchers."""

    def __init__(self, settings: Settings, how: str, mutant: str | None = None) -> None:
        arguments = [mutant] if mutant else []
        self._helper = Helper("loadtests.crowd", how, *arguments, environment=child_environment(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.close(_END_TIMEOUT_S)

    def watch(self, session_id: str, count: int, version: int) -> None:
        """Let so many watchers subscribe to a session, of which this version is stored; all have when this returns."""
        self._helper.ask("watch", session_id=session_id, count=count, version=version)

    def leave(self) -> None:
        """End all watchers."""
        self._helper.ask("leave")

    def arrivals_ns(self, timeout_s: float) -> list[int]:
        """When each watcher was told of the next update (`time.monotonic_ns`).

        Raises:
            UpdateMissedError: they were not all told in time, or not of the next one.
        """
        # One answer at a time is on its way, so that nothing can wait in the pipe's buffer meanwhile.
        assert self._helper.process.stdout is not None  # noqa: S101 - a Helper opens it
        ready, _, _ = select.select([self._helper.process.stdout], [], [], timeout_s)
        answer = self._helper.answer() if ready else self._helper.ask("missing")
        if "arrivals_ns" not in answer:
            raise UpdateMissedError(f"{answer['told']}, not within {timeout_s:g} s" if not ready else answer["told"])
        found: list[int] = answer["arrivals_ns"]
        return found


class _Tally:
    """Who was told of the next version, and when; says so in a line once all were."""

    def __init__(self, count: int, version: int) -> None:
        self._count, self._version = count, version
        self._arrivals_ns: dict[int, int] = {}

    def note(self, number: int, version: int, arrival_ns: int) -> None:
        """Note that a watcher was told of a version."""
        if version != self._version + 1:
            _say({"told": f"watcher {number} was told of version {version} after {self._version}"})
            return
        self._arrivals_ns[number] = arrival_ns
        if len(self._arrivals_ns) == self._count:
            arrivals_ns, self._arrivals_ns = list(self._arrivals_ns.values()), {}
            self._version += 1
            _say({"arrivals_ns": arrivals_ns})

    def missing(self) -> str:
        """Who was not told, in a sentence."""
        missing = [number for number in range(self._count) if number not in self._arrivals_ns]
        return f"version {self._version + 1} did not come to {len(missing)} of {self._count} watchers"


def _say(answer: dict[str, Any]) -> None:
    os.write(1, msgspec.json.encode(answer) + b"\n")


class _Actor:
    """What such a process can do; each public method is an order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tally = _Tally(0, 0)

    def missing(self) -> dict[str, Any]:
        """Who was not told of the next version."""
        return {"told": self._tally.missing()}


class _Watchers(_Actor):
    """Watchers through Kairos: tasks on one loop, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._manager: AsyncRedisStateManager = self._run(self._connect())
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def _connect(self) -> AsyncRedisStateManager:
        return await AsyncRedisStateManager.connect(self._settings)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def watch(self, session_id: str, count: int, version: int) -> dict[str, Any]:
        """See `Crowd`."""
        self._tally = _Tally(count, version)
        self._run(self._open(session_id, count))
        return {"watching": count}

    async def _open(self, session_id: str, count: int) -> None:
        for number in range(count):
            watch = await self._stack.enter_async_context(self._manager.watch_session(session_id))
            self._tasks.append(asyncio.create_task(self._note(number, watch)))

    async def _note(self, number: int, watch: AsyncSessionWatch) -> None:
        async for update in watch:
            self._tally.note(number, update.version, time.monotonic_ns())

    def leave(self) -> dict[str, Any]:
        """See `Crowd`."""
        self._run(self._close())
        return {"watching": 0}

    async def _close(self) -> None:
        await self._stack.aclose()
        await asyncio.gather(*self._tasks)
        self._tasks.clear()


class _Sockets(_Actor):
    """Watchers on raw sockets, which all are looked at by one thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._wires: list[Wire] = []
        self._thread: threading.Thread | None = None
        self._is_leaving = False

    def watch(self, session_id: str, count: int, version: int) -> dict[str, Any]:
        """See `Crowd`."""
        self._tally = _Tally(count, version)
        channel = Layout(self._settings.namespace, self._settings.lanes).keys_of(session_id).session_channel
        selector = selectors.DefaultSelector()
        for number in range(count):
            wire = Wire(self._settings.redis_url)
            wire.ask("SUBSCRIBE", channel)
            selector.register(wire, selectors.EVENT_READ, number)
            self._wires.append(wire)
        self._is_leaving = False
        self._thread = threading.Thread(target=self._note, args=(selector,), daemon=True)
        self._thread.start()
        return {"watching": count}

    def _note(self, selector: selectors.BaseSelector) -> None:
        while not self._is_leaving:
            for key, _ in selector.select(_POLL_S):
                wire: Wire = key.fileobj  # type: ignore[assignment]  # only wires were registered
                data = wire.receive()
                arrival_ns = time.monotonic_ns()
                if not data:
                    # Its connection has ended: it is missed when the next update is.
                    selector.unregister(wire)
                    continue
                for message in (wire.parse(data), *wire.parse_rest()):
                    self._tally.note(key.data, msgspec.json.decode(message[2])["v"], arrival_ns)
        selector.close()

    def leave(self) -> dict[str, Any]:
        """See `Crowd`."""
        self._is_leaving = True
        if self._thread is not None:
            self._thread.join()
        for wire in self._wires:
            wire.close()
        self._wires.clear()
        return {"watching": 0}


def main() -> None:
    """Serve orders until standard input closes."""
    if len(sys.argv) > 2:
        from loadtests import mutants  # noqa: PLC0415 - only a broken watcher needs them

        mutants.apply(sys.argv[2])
    # Each watcher takes a file descriptor, and many systems give a process a thousand if it does not ask for more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    settings = Settings.from_env()
    serve({"kairos": _Watchers, "wire": _Sockets}[sys.argv[1]](settings))


if __name__ == "__main__":
    main()
