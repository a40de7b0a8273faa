"""Latency with many sessions beside that with few; `python -m reports.scale` measures and judges.

Three plain servers stand side by side: one with 100 sessions, one with many, and another with 100, which shows whether
the comparison is fair. Several fresh processes, each `python -m loadtests.scale`, call all three in the same rounds and
print their samples as JSON.

No call meets a session that was just touched: sessions are drawn at random, and an update is derived from what was
answered when the session was written, not from a read that would have brought it into the processor's cache.
"""

from __future__ import annotations

import json
import mmap
import random
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from kairos_core import RedisStateManager, Settings, session
from kairos_core.commands import CREATE, Commands
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from kairos_core.settings import LocalSettings
from loadtests import ROOT
from loadtests.servers.valkey_helper import LaunchError
from loadtests.servers.valkeys import valkeys
from loadtests.states import sample_state
from loadtests.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kairos_core import SyncState
    from loadtests.servers.valkeys import Node

FEW = 100
SUBJECTS = ("few", "many", "again")
OPERATIONS = ("get_session", "update_session")
WARMUP_ROUNDS = 50
# Of creations that are sent before their replies are read.
_BATCH = 500
# What one session takes at most, all indexes included; only to refuse what certainly does not fit.
_BYTES_A_SESSION = 4_000
_RUN_TIMEOUT_S = 600.0
_STEPS = 10
_WORD = 8

# Nanoseconds by operation and subject, of one process.
Samples = dict[str, dict[str, list[int]]]


class Store(NamedTuple):
    """A server with so many sessions.

    Attributes:
        settings: how it is reached.
        stamps: a file with incarnation and version of each session, as 8-byte integers of this machine.
        sessions: how many there are.
        bytes_each: what one of them takes in the server's memory.
    """

    settings: Settings
    stamps: Path
    sessions: int
    bytes_each: float


class Measured(NamedTuple):
    """What was measured.

    Attributes:
        sessions: how many the big server has.
        bytes_each: what one of them takes in its memory.
        state_bytes: what one state takes as JSON.
        server: its name and version.
        runs: the samples of each process.
    """

    sessions: int
    bytes_each: float
    state_bytes: int
    server: str
    runs: list[Samples]


def measure(sessions: int, runs: int, rounds: int, say: Callable[[str], object]) -> Measured:
    """Start the servers, fill them, and time both operations in several fresh processes.

    Raises:
        ConfigurationError: names the argument or setting and the cause in one line.
    """
    counts = {subject: sessions if subject == "many" else FEW for subject in SUBJECTS}
    with filled(counts, say, "--sessions") as stores:
        found = list(compare(stores, runs, rounds, say))
        with redis.Redis.from_url(stores["many"].settings.redis_url) as client:
            version = str(client.info("server")["valkey_version"])
        many = stores["many"]
    body, _ = session.encode(sample_state(_name(0)))
    return Measured(sessions, many.bytes_each, len(body), f"Valkey {version}", found)


@contextmanager
def filled(counts: Mapping[str, int], say: Callable[[str], object], setting: str) -> Iterator[dict[str, Store]]:
    """Plain servers side by side, each with so many sessions, by the names given; they end with the context.

    Args:
        counts: how many sessions each has.
        say: is told of progress.
        setting: what asked for so many, for errors.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    _check_memory(sum(counts.values()), setting)
    local = LocalSettings.from_env().folder
    with ExitStack() as stack:
        try:
            launcher = stack.enter_context(valkeys(local))
            folder = stack.enter_context(temporary_folder("scale", local))
            # All are there before one is filled, so that none has a younger process than another by that.
            nodes = {name: launcher.start() for name in counts}
            stores = {name: fill(node, counts[name], folder / name, say) for name, node in nodes.items()}
        except (LaunchError, OSError) as error:
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", str(error)) from error
        yield stores


def fill(node: Node, sessions: int, stamps: Path, say: Callable[[str], object]) -> Store:
    """Create the sessions of a server through the script that creates all sessions.

    What they leave besides, records in the outbox and receipts, is gone when this returns.
    """
    own = Settings(redis_url=node.url, namespace="scale", session_ttl_s=86_400)
    layout = Layout(own.namespace, own.lanes)
    commands = Commands(own, layout)
    begun = time.monotonic()
    with node.client(socket_timeout=60.0) as client, stamps.open("wb") as file:
        client.script_load(CREATE.text)
        before = client.info("memory")["used_memory"]
        for first in range(0, sessions, _BATCH):
            pipeline = client.pipeline(transaction=False)
            numbers = range(first, min(first + _BATCH, sessions))
            creations = [commands.create(sample_state(_name(number)), "created").words for number in numbers]
            for words in creations:
                pipeline.execute_command(*words)
            # The second key of each. They would end by themselves, but not all for a long time: the server stops
            # looking for what has expired where it is less than a tenth.
            pipeline.unlink(*(words[4] for words in creations))
            for outbox in layout.outboxes:
                pipeline.xtrim(outbox, maxlen=0, approximate=False)
            for status, incarnation, version, *_ in pipeline.execute()[: len(numbers)]:
                if status != 0:
                    raise AssertionError(f"a session was not created: {status}")
                file.write(incarnation.to_bytes(_WORD, sys.byteorder) + version.to_bytes(_WORD, sys.byteorder))
            done = numbers.stop
            if done * _STEPS // sessions > first * _STEPS // sessions and sessions > FEW:
                say(f"sessions  {done:,} of {sessions:,}   {time.monotonic() - begun:.1f} s")
        # Each lane keeps an outbox, an index of deadlines and a latest incarnation.
        if client.dbsize() > sessions + 3 * layout.lanes:
            raise AssertionError(f"{client.dbsize()} keys of {sessions} sessions: something else is counted, too")
        taken = client.info("memory")["used_memory"] - before
    return Store(own, stamps, sessions, taken / sessions)


def compare(stores: dict[str, Store], runs: int, rounds: int, say: Callable[[str], object]) -> Iterator[Samples]:
    """The samples of so many fresh processes, each of which times so many rounds."""
    orders = {
        subject: (store.settings.to_env(), str(store.stamps), store.sessions) for subject, store in stores.items()
    }
    for number in range(1, runs + 1):
        begun = time.monotonic()
        finished = subprocess.run(
            [sys.executable, "-m", "loadtests.scale"],
            cwd=ROOT,
            input=json.dumps({"rounds": rounds, "stores": orders}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=_RUN_TIMEOUT_S,
            check=True,
        )
        say(f"latency   run {number:2d} of {runs}   {time.monotonic() - begun:.1f} s")
        samples: Samples = json.loads(finished.stdout)
        yield samples


class _Subject:
    """One store, in the process that times it."""

    def __init__(self, manager: RedisStateManager, stamps: memoryview, sessions: int) -> None:
        self._manager = manager
        self._stamps = stamps
        self._sessions = sessions
        self._number = 0

    def get_session(self) -> Callable[[], SyncState | None]:
        """A read to time, of any session."""
        self._number = random.randrange(self._sessions)  # noqa: S311 - not a secret
        return partial(self._manager.get_session, _name(self._number))

    def update_session(self) -> Callable[[], SyncState | None]:
        """An update to time, of any session."""
        self._number = random.randrange(self._sessions)  # noqa: S311
        incarnation, version = self._stamps[2 * self._number], self._stamps[2 * self._number + 1]
        state = sample_state(_name(self._number)).replace(incarnation=incarnation, version=version)
        return partial(self._manager.update_session, state)

    def finish(self, state: SyncState | None, more: int) -> None:
        """Check the version, which is `more` on, and keep it for whoever draws this session next."""
        incarnation, version = self._stamps[2 * self._number], self._stamps[2 * self._number + 1]
        if state is None or (incarnation, version + more) != state.stamp:
            raise AssertionError(f"session {self._number}: {state and state.stamp}, not {version} + {more}")
        self._stamps[2 * self._number + 1] = state.version


def _time(subjects: dict[str, _Subject], operation: str, rounds: int) -> dict[str, list[int]]:
    samples: dict[str, list[int]] = {name: [] for name in subjects}
    order = deque(subjects)
    for _ in range(WARMUP_ROUNDS + rounds):
        order.rotate(1)
        # There and back, so that none gains by a drift: first and sixth, second and fifth, third and fourth.
        for name in (*order, *reversed(order)):
            call = getattr(subjects[name], operation)()
            start = time.perf_counter_ns()
            state = call()
            samples[name].append(time.perf_counter_ns() - start)
            subjects[name].finish(state, int(operation == "update_session"))
    return {name: values[2 * WARMUP_ROUNDS :] for name, values in samples.items()}


def _name(number: int) -> str:
    # All of the same length, so that all states take the same.
    return f"session-{number:09d}"


def _check_memory(sessions: int, setting: str) -> None:
    """Raise ConfigurationError where so many sessions certainly do not fit into this machine's free memory."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if free is not None and sessions * _BYTES_A_SESSION > free:
        needed = sessions * _BYTES_A_SESSION / 1e9
        raise ConfigurationError(
            setting,
            f"{sessions:,} sessions may take {needed:,.1f} GB of memory, of which {free / 1e9:,.1f} GB are free",
        )


def main() -> None:
    """Time the stores that standard input names, and print the samples."""
    orders: dict[str, Any] = json.load(sys.stdin)
    with ExitStack() as stack:
        subjects = {}
        for name, (environment, stamps, sessions) in orders["stores"].items():
            manager = stack.enter_context(RedisStateManager.connect(Settings.from_env(environment)))
            file = stack.enter_context(Path(stamps).open("r+b"))
            mapped = stack.enter_context(mmap.mmap(file.fileno(), 0))
            view = stack.enter_context(memoryview(mapped))
            subjects[name] = _Subject(manager, stack.enter_context(view.cast("Q")), sessions)
        samples = {operation: _time(subjects, operation, orders["rounds"]) for operation in OPERATIONS}
    print(json.dumps(samples))


if __name__ == "__main__":
    main()
