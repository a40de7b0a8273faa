"""A steady load of writes, and watches beside it: for tests in which servers fail, move or are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from kairos_core import AsyncRedisStateManager, DurabilityNotReached, KairosError, RedisStateManager
from kairos_core.updates import RESYNCHRONISED
from loadtests.states import sample_state
from loadtests.waiting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kairos_core import Settings, StateUpdate, SyncState
    from kairos_core.watches import SessionWatch

_PAUSE_S = 0.002


def receive_until(watch: SessionWatch, is_enough: Callable[[list[StateUpdate]], bool]) -> list[StateUpdate]:
    """The next updates, until they are enough or the deadline comes."""
    found: list[StateUpdate] = []
    deadline = time.monotonic() + DEADLINE_S
    while not is_enough(found) and time.monotonic() < deadline:
        update = watch.receive(0.1)
        if update is not None:
            found.append(update)
    return found


def turn(state: SyncState, writer: str) -> SyncState:
    """The state with one more turn of this writer."""
    return state.replace(metadata={**state.metadata, writer: state.metadata.get(writer, 0) + 1})


class Writers:
    """A blocking and an asyncio manager that mutate sessions without end, and what became of their writes.

    Attributes:
        acknowledged: by writer and session, the writes that were acknowledged.
        unsure: those that may have been applied.
        failures: what else was raised, by writer.
        longest_s: the longest call.

    Args:
        settings: where the sessions are, which are made first.
        names: their ids.
        durability: of every write.
    """

    def __init__(self, settings: Settings, names: Sequence[str], durability: str = "memory") -> None:
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.unsure: Counter[tuple[str, str]] = Counter()
        self.failures: list[tuple[str, KairosError]] = []
        self.longest_s = 0.0
        self._settings = settings
        self._names = names
        self._durability = durability
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write), threading.Thread(target=self._write_awaiting)]

    def __enter__(self) -> Self:
        with RedisStateManager.connect(self._settings) as manager:
            for name in self._names:
                manager.create_session(sample_state(name))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let each finish the write that it is at, and wait for that."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def _noting(self, writer: str, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
            self.acknowledged[writer, name] += 1
        except DurabilityNotReached:
            self.unsure[writer, name] += 1
        except KairosError as error:
            self.failures.append((writer, error))
        self.longest_s = max(self.longest_s, time.monotonic() - start)

    def _write(self) -> None:
        with RedisStateManager.connect(self._settings) as manager:
            for name in itertools.cycle(self._names):
                if self._stop.wait(_PAUSE_S):
                    return
                with self._noting("blocking", name):
                    manager.mutate_session(name, lambda state: turn(state, "blocking"), durability=self._durability)

    def _write_awaiting(self) -> None:
        async def one(manager: AsyncRedisStateManager, name: str) -> None:
            while not self._stop.is_set():
                await asyncio.sleep(_PAUSE_S)
                with self._noting("awaiting", name):
                    await manager.mutate_session(
                        name, lambda state: turn(state, "awaiting"), durability=self._durability
                    )

        async def steps() -> None:
            async with AsyncRedisStateManager.connect(self._settings) as manager:
                await asyncio.gather(*(one(manager, name) for name in self._names))

        asyncio.run(steps())

    def go_on(self, count: int = 10) -> bool:
        """Whether, from now on, each of the writers acknowledged so many writes to each session."""
        before = self.acknowledged.copy()
        keys = [(writer, name) for writer in ("blocking", "awaiting") for name in self._names]
        return wait_until(lambda: all(self.acknowledged[key] >= before[key] + count for key in keys))

    def miscounted(self, finals: dict[str, SyncState | None]) -> list[str]:
        """What is wrong with the sessions' final states: a write that was acknowledged counts, and once."""
        wrong = []
        for name in self._names:
            state = finals[name]
            metadata = {} if state is None else state.metadata
            for writer in ("blocking", "awaiting"):
                count, most = self.acknowledged[writer, name], self.unsure[writer, name]
                if not count <= metadata.get(writer, 0) <= count + most:
                    wrong.append(f"{writer} {name}: {count} acknowledged, {most} more perhaps, {metadata} counted")
            # A test may have taken a turn itself.
            turns = sum(metadata.get(writer, 0) for writer in ("blocking", "awaiting", "test"))
            if state is None or state.version != 1 + turns:
                wrong.append(f"{name}: {state and state.version} versions, {metadata} counted")
        return wrong


class Watchers:
    """A blocking and an asyncio watch of all sessions.

    Attributes:
        last: by watch, the last state that it heard of each session.
        steps_back: where a watch gave a version that was not newer than the one before, and did not say why: what a
            failover lost before a replica had it, which no writer was told is safe, comes as `resynchronised`.
        reconnects: by watch.
    """

    def __init__(self, settings: Settings) -> None:
        self.last: dict[str, dict[str, SyncState | None]] = {"blocking": {}, "awaiting": {}}
        self.steps_back: list[tuple[str, str]] = []
        self.reconnects: dict[str, int] = {}
        self._settings = settings
        self._stop = threading.Event()
        self._open = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._watch), threading.Thread(target=self._watch_awaiting)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            if not self._open.acquire(timeout=DEADLINE_S):
                self.__exit__()
                raise TimeoutError("a watch did not begin")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _note(self, watcher: str, update: StateUpdate | None) -> None:
        if update is None:
            return
        known = self.last[watcher].get(update.session_id)
        is_newer = known is None or update.state is None or update.state.stamp > known.stamp
        if not is_newer and update.event_type != RESYNCHRONISED:
            self.steps_back.append((watcher, update.session_id))
        self.last[watcher][update.session_id] = update.state

    def _watch(self) -> None:
        with RedisStateManager.connect(self._settings) as manager, manager.watch_sessions() as updates:
            self._open.release()
            while not self._stop.is_set():
                self._note("blocking", updates.receive(0.05))
                self.reconnects["blocking"] = updates.reconnects

    def _watch_awaiting(self) -> None:
        async def steps() -> None:
            async with AsyncRedisStateManager.connect(self._settings) as manager, manager.watch_sessions() as updates:
                self._open.release()
                while not self._stop.is_set():
                    self._note("awaiting", await updates.receive(0.05))
                    self.reconnects["awaiting"] = updates.reconnects

        asyncio.run(steps())

    def come_to(self, finals: dict[str, SyncState | None]) -> bool:
        """Whether both come to these states."""
        return wait_until(lambda: all(last == finals for last in self.last.values()))

    def come_past(self, state: SyncState | None) -> bool:
        """Whether both come to this version of a session, or to a later one."""

        def is_past(last: SyncState | None) -> bool:
            return state is not None and last is not None and last.stamp >= state.stamp

        return wait_until(
            lambda: state is not None and all(is_past(last.get(state.session_id)) for last in self.last.values())
        )


@contextlib.contextmanager
def bad_ports(kind: str, count: int) -> Iterator[list[int]]:
    """Ports at which nobody listens, or somebody who says nothing."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for number, listener in enumerate(sockets):
            listener.bind(("127.0.0.1", 0))
            if kind == "silent" or (kind == "both" and number % 2):
                listener.listen()
        yield [listener.getsockname()[1] for listener in sockets]
