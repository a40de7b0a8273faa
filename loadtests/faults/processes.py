"""Faults of processes: PostgreSQL, a worker of the audit, an instance; killed, or stopped for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import redis

from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from loadtests.faults.arenas import KINDS
from loadtests.faults.fault import Fault, Window, with_given
from loadtests.history import Kind, Outcome
from loadtests.servers.stopping import Stopped, is_running, is_there
from loadtests.servers.worker import members
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from loadtests.faults.arenas import Arena, InstanceLike
    from loadtests.history import History

# How long a worker is looked for that is at work: it gets a job five times a second, where there is work.
_BUSY_S = 2.0


class _Postgres(Fault):
    """The audit has nowhere to go; writes go on, and their records wait in the outbox."""

    def before(self, arena: Arena) -> None:
        """Note since when the server runs."""
        self.evidence["started"] = _started(arena)
        self.evidence["waiting"] = 0

    def _count_waiting(self, arena: Arena) -> None:
        with closing(Outbox.connect(arena.worker_settings)) as outbox:
            self.evidence["waiting"] = sum(outbox.depths())

    def after(self, arena: Arena) -> None:
        """Wait until it answers."""
        self.evidence["started again"] = _started(arena)

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Records waited that would have been taken."""
        del arena, history
        waiting = int(self.evidence["waiting"])
        return waiting > 0 and window.acknowledged > 0, f"{waiting} records waited"


class PostgresKilled(_Postgres):
    """SIGKILL of the postmaster, and a start on the same data."""

    name = "PostgreSQL killed"

    def strike(self, arena: Arena) -> None:
        """Kill it."""
        assert arena.postgres is not None  # noqa: S101 - checked
        arena.postgres.kill()

    def undo(self, arena: Arena) -> None:
        """Start it again."""
        assert arena.postgres is not None  # noqa: S101 - checked
        if not is_there(arena.postgres.pid):
            self._count_waiting(arena)
            arena.postgres.start()

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Besides, it says itself that it began anew."""
        has_waited, shown = super().shows(arena, history, window)
        is_new = self.evidence["started"] != self.evidence["started again"]
        return has_waited and is_new, f"{shown}; it runs since {self.evidence['started again']}"


class PostgresStopped(_Postgres):
    """SIGSTOP of all its processes, and SIGCONT."""

    name = "PostgreSQL stopped"

    def strike(self, arena: Arena) -> None:
        """Stop it."""
        assert arena.postgres is not None  # noqa: S101 - checked
        arena.postgres.pause()

    def undo(self, arena: Arena) -> None:
        """Let it go on."""
        assert arena.postgres is not None  # noqa: S101 - checked
        try:
            if not self.evidence["waiting"]:
                self._count_waiting(arena)
        finally:
            arena.postgres.resume()


class _Worker(Fault):
    """One worker of the pool, if possible one that is at work."""

    kinds = with_given(*KINDS)
    touches_servers = False

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["worker"] = chance.randrange(100)
        self._victim = 0

    def _choose(self, arena: Arena) -> int:
        """A worker that is at work; the one that was drawn, where none is for a while."""
        assert arena.pool is not None  # noqa: S101 - a pool is part of an arena with such a fault
        there = members(arena.pool)
        if not there:
            raise LookupError("the pool has no worker")
        deadline = time.monotonic() + _BUSY_S
        self.evidence["busy"] = False
        with arena.queue_client() as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    if busy := _busy(client, there):
                        self.evidence["busy"] = True
                        return busy[0]
        return there[int(self.parameters["worker"]) % len(there)]


class WorkerKilled(_Worker):
    """SIGKILL; the pool puts another in its place."""

    name = "worker killed"

    def strike(self, arena: Arena) -> None:
        """Kill it."""
        self._victim = self._choose(arena)
        os.kill(self._victim, signal.SIGKILL)

    def undo(self, arena: Arena) -> None:
        """The pool does that."""

    def after(self, arena: Arena) -> None:
        """Wait until the pool is whole again."""
        pool = arena.pool
        assert pool is not None  # noqa: S101 - as above
        wait_for(
            "a worker in the place of the killed one",
            lambda: len(there := members(pool)) == arena.workers and self._victim not in there,
        )

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """It was at work, and is gone."""
        del arena, history, window
        is_busy = bool(self.evidence["busy"])
        return is_busy, f"worker {self._victim} was {'at work' if is_busy else 'idle'}, and was replaced"


class WorkerStopped(_Worker):
    """SIGSTOP, also for longer than it has its lanes for; and SIGCONT."""

    name = "worker stopped"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        # A lane is a worker's for four seconds: after that, another does the same work.
        self.parameters["hold_s"] = round(chance.choice([chance.uniform(0.3, 3.0), chance.uniform(4.2, 5.0)]), 3)
        self._stopped: Stopped | None = None

    def strike(self, arena: Arena) -> None:
        """Stop it."""
        self._victim = self._choose(arena)
        self._stopped = Stopped([self._victim])

    def undo(self, arena: Arena) -> None:
        """Let it go on."""
        del arena
        if self._stopped is not None:
            self._stopped.resume()

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """It was at work."""
        del arena, history, window
        is_busy = bool(self.evidence["busy"])
        return (
            is_busy,
            f"worker {self._victim} was {'at work' if is_busy else 'idle'}, stopped for {self.lasted_s:.1f} s",
        )


class _Instance(Fault):
    """One instance."""

    kinds = with_given(*KINDS)
    touches_servers = False

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["instance"] = chance.randrange(100)

    def _choose(self, arena: Arena) -> InstanceLike:
        there = [instance for instance in arena.instances if is_there(instance.pid)]
        if not there:
            raise LookupError("the arena has no instance")
        chosen = there[int(self.parameters["instance"]) % len(there)]
        self.evidence["number"] = chosen.number
        return chosen

    def _own(self, history: History) -> History:
        number = int(self.evidence["number"])
        found: History = history[(history["process"] == number) & (history["kind"] < Kind.TOLD)]
        return found


class InstanceKilled(_Instance):
    """SIGKILL, in the midst of what it does."""

    name = "instance killed"
    _pid = 0

    def strike(self, arena: Arena) -> None:
        """Kill it."""
        victim = self._choose(arena)
        self._pid = victim.pid
        victim.kill()

    def undo(self, arena: Arena) -> None:
        """Nobody comes back from that; another may take its place."""

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """It attempted something before, and nothing since."""
        del arena, window
        own = self._own(history)
        before = int((own["start_ns"] < self.begin_ns).sum())
        # Until the signal has come, it goes on.
        after = int((own["start_ns"] > self.healed_ns).sum())
        has_hit = not is_there(self._pid) and before > 0 and not after
        return has_hit, f"instance {self.evidence['number']} ended after {before} attempts, {_pending(own)} unanswered"


class InstanceStopped(_Instance):
    """SIGSTOP, in the midst of what it does, and SIGCONT."""

    name = "instance stopped"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self._stopped: Stopped | None = None

    def strike(self, arena: Arena) -> None:
        """Stop it."""
        self._stopped = Stopped([self._choose(arena).pid])

    def undo(self, arena: Arena) -> None:
        """Let it go on."""
        del arena
        if self._stopped is not None:
            self._stopped.resume()

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """It began nothing for as long as it was stopped, but attempted something before and after."""
        del arena, window
        starts = np.sort(self._own(history)["start_ns"])
        around = starts[(starts > self.begin_ns - 60_000_000_000)]
        gap_s = float(np.diff(around).max()) / 1e9 if len(around) > 1 else 0.0
        has_hit = bool(
            (starts < self.begin_ns).any() and (starts > self.healing_ns).any() and gap_s > 0.9 * self.lasted_s
        )
        return has_hit, f"instance {self.evidence['number']} began nothing for {gap_s:.2f} s"


PROCESSES: tuple[type[Fault], ...] = (
    PostgresKilled,
    PostgresStopped,
    WorkerKilled,
    WorkerStopped,
    InstanceKilled,
    InstanceStopped,
)


def _started(arena: Arena) -> str:
    with closing(connect_postgres(arena.worker_settings)) as connection:
        row = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()
    return str(row[0]) if row else ""


def _busy(client: redis.Redis, there: list[int]) -> list[int]:
    """Which of these workers have a job by RQ's account, or are running where a store that lost all knows none."""
    prefix = os.environ.get("RQ_KEY_PREFIX", "rq")
    states = {}
    for key in client.smembers(f"{prefix}:workers"):
        # Not the two fields alone: a worker's account may read its queue's hashes only whole.
        worker = client.hgetall(key)
        if "pid" in worker:
            states[int(worker["pid"])] = worker.get("state")
    return [pid for pid in there if (states[pid] == "busy" if pid in states else is_running(pid))]


def _pending(own: History) -> int:
    return int((own["outcome"] == Outcome.PENDING).sum())
