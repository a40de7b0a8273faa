"""The worker pool: its processes, the sweep that hands out the lanes, and the one that ends sessions.

The sweep asks every lane for its depth five times a second, in one round trip, and enqueues a job for those that have
entries and no lease. So the write path has no part in waking the drain, a lost job costs the length of a lease, and any
number of pools may run: the lease decides who hands a lane out.
"""

from __future__ import annotations

import functools
import logging
import secrets
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import psycopg
import redis

from kairos_core.audit import member
from kairos_core.audit.drain import BATCH, drain_lane
from kairos_core.audit.jobs import DrainQueue
from kairos_core.audit.outage import Outage
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.watch import Watch
from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import KairosError
from kairos_core.expiry import Expiry
from kairos_core.settings import Settings, child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

SWEEP_S = 0.2
STOP_TIMEOUT_S = 30.0
# A process that dies at once is not started again more often than this.
RESTART_PAUSE_S = 1.0

_log = logging.getLogger("kairos.audit")

# What a process of the pool does.
Role: TypeAlias = Literal["worker", "scheduler"]


class _Member(NamedTuple):
    role: Role
    process: subprocess.Popen[bytes]
    started: float


class Pool:
    """Worker processes and one scheduler process; dead ones are replaced."""

    def __init__(self, settings: Settings, workers: int, log: str = "text") -> None:
        self._settings = settings
        self._log_style = log
        roles: list[Role] = ["scheduler"]
        roles += ["worker"] * workers
        self._members = [self._start(role) for role in roles]

    def _start(self, role: Role) -> _Member:
        process = subprocess.Popen(
            [sys.executable, *self._command(role)],
            # The member ends when this pipe closes, so none outlives the pool, not even one that was killed.
            stdin=subprocess.PIPE,
            env=child_environment(self._settings),
            # Ctrl-C reaches the pool alone, which then stops its members in order.
            start_new_session=True,
        )
        return _Member(role, process, time.monotonic())

    def _command(self, role: Role) -> list[str]:
        return member.command(role, self._log_style)

    def replace_dead(self) -> None:
        """Start a new member for each that has ended."""
        for index, one in enumerate(self._members):
            status = one.process.poll()
            if status is not None and time.monotonic() - one.started > RESTART_PAUSE_S:
                facts = {"role": one.role, "pid": one.process.pid, "status": status}
                extra = {"event": "member_ended", **facts}
                _log.error("the %s with pid %d ended with status %d", *facts.values(), extra=extra)
                _close_pipe(one)
                self._members[index] = self._start(one.role)

    def stop(self) -> None:
        """Let every member finish its job and end; kill those that do not."""
        for one in self._members:
            _close_pipe(one)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for one in self._members:
            try:
                one.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


def _close_pipe(one: _Member) -> None:
    if one.process.stdin is not None:
        one.process.stdin.close()


def sweep(outbox: Outbox, queue: DrainQueue, workers: int) -> int:
    """Hand out every lane that has entries and no lease; return how many.

    Short lanes share one job, since a job costs more than their rows do; long ones are spread over the workers. Where
    as many jobs wait as there are workers, or lanes, nothing is handed out: a lane whose job waits there would get a
    second one, and a third, for as long as nobody takes them.
    """
    depths = outbox.depths()
    waiting = [(depth, lane) for lane, depth in enumerate(depths) if depth]
    most = min(workers, len(depths))
    if not waiting or (free := most - queue.waiting(most)) <= 0:
        return 0
    token = secrets.token_hex(8)
    taken = [(depth, lane) for depth, lane in sorted(waiting, reverse=True) if outbox.hold(lane, token)]
    for lanes in share_out(taken, free):
        queue.enqueue(lanes, token)
    return len(taken)


def share_out(lanes: Sequence[tuple[int, int]], workers: int) -> list[list[int]]:
    """Divide lanes, given as (depth, lane), into jobs: at most one a worker; of several, none with less than a batch.

    >>> share_out([(5000, 3), (4000, 1), (10, 2)], workers=2)
    [[3], [1, 2]]
    >>> share_out([(5, 1), (3, 2)], workers=2)
    [[1, 2]]
    """
    for count in range(min(workers, len(lanes)), 0, -1):
        jobs: list[list[int]] = [[] for _ in range(count)]
        loads = [0] * count
        for depth, lane in sorted(lanes, reverse=True):
            lightest = loads.index(min(loads))
            jobs[lightest].append(lane)
            loads[lightest] += depth
        if count == 1 or min(loads) >= BATCH:
            return jobs
    return []


def _drain_here(outbox: Outbox, settings: Settings, outage: Outage) -> None:
    """Drain every lane in this process, without lease or queue, which is harmless where a worker does the same."""
    try:
        with AuditWriter.connect(settings) as writer:
            for lane, depth in enumerate(outbox.depths()):
                if depth:
                    drain_lane(outbox, writer, lane)
    except (redis.RedisError, psycopg.Error, KairosError) as error:
        outage.begin(error, "draining here")


class _Rounds:
    """What the pool does five times a second."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._outbox, self._queue, self._expiry = (
            Outbox.connect(settings),
            DrainQueue(settings),
            Expiry.connect(settings),
        )
        self._work: tuple[Callable[[], object], ...] = (
            self._expiry.sweep,
            functools.partial(sweep, self._outbox, self._queue, workers),
        )
        self._outage = Outage("sweep")

    def close(self) -> None:
        """Close the connections."""
        for connected in (self._expiry, self._queue, self._outbox):
            connected.close()

    def go(self) -> None:
        """End what is due, and hand out what waits."""
        failures = []
        for work in self._work:
            # One that fails must not keep the other from its work.
            try:
                work()
            except (redis.RedisError, KairosError) as error:
                failures.append(error)
                if isinstance(error, redis.OutOfMemoryError) or getattr(error, "code", None) == "OOM":
                    # Neither a lease nor a job can be written, but reading and deleting go on: that makes room.
                    self._outage.begin(error, "the store's memory is full, draining here")
                    _drain_here(self._outbox, self._settings, self._outage)
                else:
                    # The records wait in the outbox, and what is due stays due; the next round tries again.
                    self._outage.begin(error)
        if not failures:
            self._outage.end()


def run_pool(settings: Settings, workers: int, stop: Event, log: str = "text") -> None:
    """Run the pool, the sweeps and the watch until `stop` is set; its processes write their log in this style."""
    rounds, watch = _Rounds(settings, workers), Watch(settings, DrainQueue(settings))
    pool = Pool(settings, workers, log)
    watch.start()
    try:
        while not stop.wait(SWEEP_S):
            pool.replace_dead()
            rounds.go()
    finally:
        pool.stop()
        watch.stop()
        rounds.close()
