"""What goes on beside a load test that `make load` started: its processes' memory, and PostgreSQL that is away."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from kairos_core.audit.outbox import Outbox
from loadtests.attack.rounds import FaultFacts
from loadtests.load.facts import Memory, Outage
from loadtests.load.machine import own_memory_kb
from loadtests.servers.stopping import children
from loadtests.servers.worker import members

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.faults.arenas import Arena
    from loadtests.scenarios import Scenario

_POLL_S = 0.05
_SAMPLE_S = 1.0
STOPPED = "PostgreSQL stopped"


class Attendant:
    """A thread beside a load test, from when the context is entered to when it is left.

    Args:
        arena: its servers.
        scenario: what is asked for.
        locust_pid: of Locust's process, whose children are the instances.
        begun: the file that says when the run began.

    Attributes:
        memories: what it saw of the processes.
        outage: likewise of PostgreSQL's absence; None: there was none.
        fault: the same as a fault of a round.
    """

    def __init__(self, arena: Arena, scenario: Scenario, locust_pid: int, begun: Path) -> None:
        self.outage: Outage | None = None
        self.fault: FaultFacts | None = None
        self._arena = arena
        self._scenario = scenario
        self._locust_pid = locust_pid
        self._begun = begun
        self._memories: dict[int, Memory] = {}
        self._is_leaving = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._attend)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_leaving.set()
        self._thread.join()
        if self._arena.postgres is not None:
            self._arena.postgres.resume()
        if self._error is not None:
            raise self._error

    @property
    def memories(self) -> list[Memory]:
        """What it saw of each process that it saw more than once."""
        return [memory for memory in self._memories.values() if len(memory.kb) > 1]

    def _attend(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised where the context is left
            self._error = error

    def _work(self) -> None:
        begin_ns = 0
        while not begin_ns and not self._is_leaving.wait(_POLL_S):
            text = self._begun.read_text() if self._begun.exists() else ""
            begin_ns = int(text or 0)
        away = self._scenario.audit_away
        sampled_s = 0.0
        while not self._is_leaving.wait(_POLL_S):
            at_s = (time.monotonic_ns() - begin_ns) / 1e9
            if at_s >= sampled_s:
                self._sample(at_s)
                sampled_s = at_s + _SAMPLE_S
            if away is not None and self.outage is None and at_s >= away[0] * self._scenario.duration_s:
                self._take_away(begin_ns, away[1] * self._scenario.duration_s)

    def _sample(self, at_s: float) -> None:
        for name, pid in self._processes():
            kb = own_memory_kb(pid)
            if kb:
                memory = self._memories.setdefault(pid, Memory(name=name, pid=pid))
                memory.at_s.append(round(at_s, 2))
                memory.kb.append(kb)

    def _processes(self) -> Iterator[tuple[str, int]]:
        arena = self._arena
        for node in arena.nodes():
            yield "valkey", node.pid
        if arena.postgres is not None:
            yield "postgres", arena.postgres.pid
            for number, pid in enumerate(children(arena.postgres.pid), 1):
                yield f"postgres {number}", pid
        if arena.pool is not None:
            yield "worker pool", arena.pool.pid
            for number, pid in enumerate(members(arena.pool), 1):
                yield f"worker {number}", pid
        for number, pid in enumerate(children(self._locust_pid), 1):
            yield f"instance {number}", pid

    def _take_away(self, begin_ns: int, for_s: float) -> None:
        """Stop PostgreSQL for so long, and see what that does to the outbox."""
        postgres = self._arena.postgres
        assert postgres is not None  # noqa: S101 - looked at before the run
        waiting, lag_s = 0, 0.0
        outbox = Outbox.connect(self._arena.worker_settings)
        away_ns = time.monotonic_ns()
        postgres.pause()
        try:
            while time.monotonic_ns() < away_ns + for_s * 1e9 and not self._is_leaving.wait(_SAMPLE_S / 4):
                now, oldest_s = outbox.waiting(range(self._arena.settings.lanes))
                waiting, lag_s = max(waiting, now), max(lag_s, oldest_s or 0.0)
                self._sample((time.monotonic_ns() - begin_ns) / 1e9)
        finally:
            postgres.resume()
            outbox.close()
        back_ns = time.monotonic_ns()
        self.outage = Outage(
            from_s=(away_ns - begin_ns) / 1e9,
            until_s=(back_ns - begin_ns) / 1e9,
            most_waiting=waiting,
            longest_lag_s=lag_s,
        )
        self.fault = FaultFacts(
            name=STOPPED,
            parameters={"seconds": for_s},
            begin_ns=away_ns,
            healed_ns=back_ns,
            exercised=waiting > 0 and lag_s > for_s / 2,
            proof=f"{waiting} entries waited, the oldest for {lag_s:.1f} s",
        )
