"""What the store, PostgreSQL and the queue say of the audit, at the moment of a scrape."""

from __future__ import annotations

import time
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from kairos_core.audit.jobs import DrainQueue
from kairos_core.audit.outage import Outage
from kairos_core.audit.status import ages, dead_letters, traffic
from kairos_core.blocking import BlockingTransport
from kairos_core.errors import StoreUnavailable
from kairos_core.metrics.library import prometheus, version
from kairos_core.metrics.probe import Probe
from kairos_core.operations import Operations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from kairos_core.commands import Traffic
    from kairos_core.settings import Settings

T = TypeVar("T")
# A scrape that takes longer than 10 seconds is given up by Prometheus.
DEADLINE_S = 3.0
# Several may fetch the same within a second.
KEEP_S = 1.0
# What one call to a server may take of the deadline.
_TIMEOUT_S = 2.0


class Outboxes(NamedTuple):
    """What the store says.

    Attributes:
        traffic: each lane's entries: those that wait, and all that ever were.
        lag_s: the age of the oldest that waits, in seconds; 0 where none does.
    """

    traffic: list[Traffic]
    lag_s: float


class Jobs(NamedTuple):
    """What the queue says.

    Attributes:
        failed: jobs that were given up.
        workers: processes that wait for jobs, or have one.
    """

    failed: int
    workers: int


class AuditCollector:
    """A collector of prometheus-client's: asks the three servers at each scrape, all at once.

    One that does not answer in `DEADLINE_S` is down in the answer, and what it would have said is left out: no number
    is better than an old one. What is counted is counted where it is kept, in the store, so it is right however many
    processes drain.
    """

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigurationError: an address cannot be used, or prometheus-client is not installed.
        """
        hasty = msgspec.structs.replace(settings, timeout_s=min(settings.timeout_s, _TIMEOUT_S))
        self._metrics = prometheus().metrics_core
        self._settings = hasty
        self._operations = Operations(hasty, BlockingTransport)
        self._queue = DrainQueue(hasty)
        self._outboxes = Probe(self._ask_store, KEEP_S)
        self._jobs = Probe(self._ask_queue, KEEP_S)
        self._dead = Probe(self._ask_postgres, KEEP_S)
        self._outages = {name: Outage("metrics") for name in ("store", "queue", "postgres")}

    def close(self) -> None:
        """Close the connections."""
        self._operations.link.close()
        self._queue.close()

    def _ask_store(self) -> Outboxes:
        lanes = self._settings.lanes
        lag_s = max((age for age in ages(self._operations, lanes) if age is not None), default=0.0)
        return Outboxes(traffic(self._operations, lanes), lag_s)

    def _ask_queue(self) -> Jobs:
        return Jobs(self._queue.failed(), self._queue.workers())

    def _ask_postgres(self) -> int:
        found, problem = dead_letters(self._settings)
        if found is None:
            raise StoreUnavailable("PostgreSQL", problem or "it does not say")
        return sum(found.values())

    def collect(self) -> Iterator[Any]:
        """The families of metrics, as prometheus-client wants them."""
        until = time.monotonic() + DEADLINE_S
        asked = self._outboxes.begin(), self._jobs.begin(), self._dead.begin()
        outboxes = self._answered("store", asked[0], until)
        jobs = self._answered("queue", asked[1], until)
        dead = self._answered("postgres", asked[2], until)
        yield from self.families(outboxes, jobs, dead)

    def families(self, outboxes: Outboxes | None, jobs: Jobs | None, dead: int | None) -> Iterator[Any]:
        """What is told where the servers answered this; None: one did not."""
        yield self._info()
        yield self._gauge("kairos_store_up", "Whether the store answered this scrape", float(outboxes is not None))
        yield self._gauge("kairos_queue_up", "Whether the queue's server did", float(jobs is not None))
        yield self._gauge("kairos_postgres_up", "Whether PostgreSQL did", float(dead is not None))
        limit = float(self._settings.outbox_limit)
        yield self._gauge("kairos_outbox_limit_entries", "Entries of a lane at which writes are refused", limit)
        if outboxes is not None:
            yield from self._of_outboxes(outboxes)
        if jobs is not None:
            failed = "Jobs of the audit that were given up within the last hour"
            yield self._gauge("kairos_audit_jobs_failed", failed, jobs.failed)
            yield self._gauge("kairos_worker_processes", "Worker processes of all pools that are alive", jobs.workers)
        if dead is not None:
            yield self._gauge("kairos_dead_letters", "Records that PostgreSQL refused and nobody has settled", dead)

    def _of_outboxes(self, found: Outboxes) -> Iterator[Any]:
        waiting = self._metrics.GaugeMetricFamily(
            "kairos_outbox_entries", "Writes that wait for the audit", labels=["lane"]
        )
        for lane, one in enumerate(found.traffic):
            waiting.add_metric([str(lane)], one.length)
        yield waiting
        yield self._gauge(
            "kairos_audit_lag_seconds", "Age of the oldest write that waits; 0 where none does", found.lag_s
        )
        added, left = sum(one.added for one in found.traffic), sum(one.length for one in found.traffic)
        yield self._counter("kairos_written_entries_total", "Writes that came into the outboxes", added)
        yield self._counter("kairos_drained_entries_total", "Writes that went from there to PostgreSQL", added - left)

    def _answered(self, name: str, asked: Future[T], until: float) -> T | None:
        """The answer; None, with a line in the log for each outage, where there is none."""
        try:
            found = asked.result(max(0.0, until - time.monotonic()))
        except NotYet:
            self._outages[name].begin(f"no answer in {DEADLINE_S:.0f} s", f"the {name} does not answer")
        except Exception as error:  # noqa: BLE001 - whatever it is, the scrape is answered
            self._outages[name].begin(error, f"the {name} cannot be asked")
        else:
            self._outages[name].end()
            return found
        return None

    def _info(self) -> Any:
        family = self._metrics.GaugeMetricFamily(
            "kairos_build_info", "1; the version is a label", labels=["part", "version"]
        )
        family.add_metric(["worker", version()], 1)
        return family

    def _gauge(self, name: str, text: str, value: float) -> Any:
        return self._metrics.GaugeMetricFamily(name, text, value=value)

    def _counter(self, name: str, text: str, value: float) -> Any:
        return self._metrics.CounterMetricFamily(name, text, value=value)
