"""RQ: the job that drains lanes, the queue it goes to, the worker that runs it. The only importer of rq.

RQ decides when and where a lane is drained, and may lose a job: the outbox keeps the records, and a lane whose lease
has run out is handed out again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from redis import RedisError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker, get_current_job
from rq import Retry as JobRetry
from rq.exceptions import StopRequested
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.scheduler import SCHEDULER_KEY_TEMPLATE, RQScheduler
from rq.scripts import release_lock
from rq.serializers import JSONSerializer
from rq.utils import now, utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from kairos_core.audit.outage import Hush, Outage, is_store_away
from kairos_core.audit.work import RETRY_INTERVALS_S, DrainFailed, Process, this_process, work
from kairos_core.errors import ConfigurationError, one_line
from kairos_core.ground import store_client

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from kairos_core.settings import Settings

# Three times what a job works by itself: only one that hangs, with PostgreSQL, comes to it.
JOB_TIMEOUT_S = 60
# RQ's own reads are repeatable; this is what redis-py does by default.
_RETRIES = 10
# Long enough to be seen; the outbox keeps the records, not the job.
FAILURE_TTL_S = 3600
# After this, a store that was away is looked for again.
RECONNECT_S = 1.0
# A scheduler has a heartbeat each second. One without for so long is dead, whatever is left of its lock.
DEAD_AFTER_S = 10.0


def queue_name(settings: Settings) -> str:
    """The name of the namespace's queue."""
    return f"{settings.namespace}-audit"


def _client(settings: Settings, name: str, **options: Any) -> redis.Redis:
    if settings.queue_url is None:
        if settings.is_cluster:
            raise ConfigurationError(
                "KAIROS_QUEUE_URL", "must be set where the store is a cluster: RQ takes one server, or a Sentinel pair"
            )
        return store_client(settings.redis_url, client_name=name, **options)
    return store_client(settings.queue_url, setting="KAIROS_QUEUE_URL", client_name=name, **options)


def check_queue(settings: Settings) -> None:
    """Raise ConfigurationError where the queue's Redis cannot be reached."""
    client = _client(settings, "kairos-queue", socket_timeout=settings.timeout_s)
    try:
        client.ping()
    except (RedisError, OSError) as error:
        setting = "KAIROS_QUEUE_URL" if settings.queue_url else "KAIROS_REDIS_URL"
        raise ConfigurationError(setting, one_line(error)) from error
    finally:
        client.close()


class DrainQueue:
    """Hands lanes to whichever worker is free."""

    def __init__(self, settings: Settings) -> None:
        self._client = _client(settings, "kairos-queue", socket_timeout=settings.timeout_s)
        self._queue = Queue(queue_name(settings), connection=self._client, serializer=JSONSerializer)
        self._retries = ScheduledJobRegistry(queue=self._queue)
        self._failed = FailedJobRegistry(queue=self._queue)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def enqueue(self, lanes: Sequence[int], token: str) -> None:
        """Enqueue one job that drains these lanes, whose leases `token` holds."""
        self._queue.enqueue(
            drain,
            list(lanes),
            token,
            job_timeout=JOB_TIMEOUT_S,
            # With 0, a job that is run again after its worker was killed fails once it has succeeded.
            result_ttl=1,
            failure_ttl=FAILURE_TTL_S,
            retry=JobRetry(max=len(RETRY_INTERVALS_S), interval=RETRY_INTERVALS_S),
        )

    def waiting(self, most: int) -> int:
        """How many jobs wait for a worker; where there are more than `most`, that many."""
        return len(self._queue.get_job_ids(0, most))

    def retries(self) -> list[bytes]:
        """The jobs that failed and are to be tried again later."""
        found: Any = self._client.zrangebyscore(self._retries.key, f"({time.time()}", "+inf")
        return list(found)

    def failed(self) -> int:
        """How many jobs were tried as often as they are, and failed, within `FAILURE_TTL_S`."""
        found: Any = self._client.zrangebyscore(self._failed.key, f"({time.time()}", "+inf")
        return len(found)

    def workers(self) -> int:
        """How many worker processes of any pool are alive: one that was killed counts for as long as its key lives."""
        found: Any = self._client.smembers(WORKERS_BY_QUEUE_KEY % self._queue.name)
        names = [name.decode() if isinstance(name, bytes) else name for name in found]
        # One by one: a cluster of one, or an account, may know no other way.
        return sum(bool(self._client.exists(name)) for name in names)

    def hurry(self, jobs: Sequence[bytes]) -> None:
        """Have these jobs tried again at once, those of them that still wait for it."""
        self._client.zadd(self._retries.key, dict.fromkeys(jobs, int(time.time())), xx=True)


def drain(lanes: list[int], token: str) -> int:
    """The job: drain these lanes, except those whose lease has passed to another; return the entries moved."""
    job = get_current_job()
    return work(this_process(), lanes, token, (job.retries_left or 0) if job else 0)


def run_worker(settings: Settings) -> None:
    """Run jobs in this process until SIGTERM or SIGINT; the batch at hand is finished first."""
    connection = _client(settings, "kairos-worker", retry=Retry(ExponentialBackoff(), _RETRIES))
    process = this_process()
    _hush(process.outage)
    while not process.stopping.is_set():
        # RQ's worker ends where it meets an error of the store outside of its wait for a job.
        with contextlib.suppress(StopRequested), _noting(process.outage):
            worker = DrainWorker([queue_name(settings)], connection=connection, serializer=JSONSerializer)
            worker.serve(process)
            if not process.stopping.is_set():
                time.sleep(RECONNECT_S)


def _hush(outage: Outage) -> None:
    for handler in logging.getLogger().handlers:
        handler.addFilter(Hush(outage))


@contextlib.contextmanager
def _noting(outage: Outage) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        outage.begin(error)
        time.sleep(RECONNECT_S)


class DrainWorker(SimpleWorker):
    """RQ's worker, which keeps calm where the store goes away, and tells its process of what it is told."""

    # RQ's minute would be the audit's lag after an outage.
    max_connection_wait_time = RECONNECT_S
    _for: Process | None = None
    _has_told_listener = False

    def serve(self, process: Process) -> None:
        """Run jobs until the process is told to end, or the store goes away."""
        self._for = process
        # No scheduler: RQ would fork it with the worker's own socket, and a job could go to a dead worker's ghost.
        self.work(logging_level="WARNING", with_scheduler=False)

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()
        # The signal may have come to a worker before this one, which is gone.
        self._stop_requested = self._for is not None and self._for.stopping.is_set()

    def handle_warm_shutdown_request(self) -> None:
        """Let the job at hand end with its batch."""
        if self._for is not None:
            self._for.stopping.set()
        super().handle_warm_shutdown_request()

    def set_shutdown_requested_date(self) -> None:
        """Write down that the worker is ending: for whoever looks, and not worth an exception in the midst of a job."""
        with contextlib.suppress(RedisError):
            super().set_shutdown_requested_date()

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell that the worker is alive, and notice that the store is there."""
        super().heartbeat(timeout, pipeline)
        if self._for is not None and pipeline is None:
            self._for.outage.end()

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """Log what a job raised, unless it has said so itself."""
        error = exc_info[1]
        if isinstance(error, DrainFailed):
            return
        if self._for is not None and is_store_away(error):
            self._for.outage.begin(error)
            return
        super().handle_exception(job, *exc_info)

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        # What it meets then is its end, such as a connection that is closed under it where it may not unsubscribe.
        if self._has_told_listener:
            return
        # RQ's own lets the listener end in a traceback where the server says no, or nothing.
        if self._for is None or not isinstance(exc, RedisError):
            super()._pubsub_exception_handler(exc, pubsub, pubsub_thread)
            return
        self._for.outage.begin(exc)
        time.sleep(RECONNECT_S)

    def bootstrap(self, *args: Any, **options: Any) -> None:
        """Begin; a worker that the store does not let begin leaves no listener behind."""
        self._has_told_listener = False
        try:
            super().bootstrap(*args, **options)
        except BaseException:
            self.unsubscribe()
            raise

    def teardown(self) -> None:
        """End; where the store does not let it write that down, without a listener, too."""
        try:
            super().teardown()
        finally:
            self.unsubscribe()

    def unsubscribe(self) -> None:
        """Stop the listener; its own end closes its connection.

        RQ unsubscribes, then tells the listener to stop: one that has seen the first and not the second waits for
        another subscription, and ends in an exception once its connection is closed.
        """
        pubsub: Any = self.pubsub
        listener: Any = self.pubsub_thread
        if listener is None or self._has_told_listener:
            return
        self._has_told_listener = True
        listener.stop()
        with contextlib.suppress(RedisError, OSError):
            pubsub.unsubscribe()
        listener.join(timeout=1)


def run_scheduler(settings: Settings) -> None:
    """Put failed jobs back on the queue when their time has come, until SIGTERM or SIGINT."""
    connection = _client(settings, "kairos-scheduler", retry=Retry(ExponentialBackoff(), _RETRIES))
    outage, stopping = Outage("scheduler"), threading.Event()
    _hush(outage)
    while not stopping.is_set():
        with _noting(outage):
            scheduler = DrainScheduler(queue_name(settings), connection, outage, stopping)
            scheduler.acquire_locks()
            scheduler.work()


class DrainScheduler(RQScheduler):
    """RQ's scheduler, which takes over from one that died.

    RQ's waits until the dead one's lock has run out, and then up to ten minutes until it looks again.
    """

    def __init__(self, queue: str, connection: redis.Redis, outage: Outage, stopping: threading.Event) -> None:
        super().__init__(
            [queue],
            connection=connection,
            interval=1,
            serializer=JSONSerializer,
            logging_level="WARNING",
            # The same after an outage: then the lock is its own.
            name=f"{socket.gethostname()}-{os.getpid()}",
        )
        self._outage = outage
        self._stopping = stopping

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()
        # The signal may have come to a scheduler before this one, which is gone.
        self._stop_requested = self._stopping.is_set()

    def request_stop(self, signum: Any = None, frame: Any = None) -> None:
        """End after this round."""
        self._stopping.set()
        super().request_stop(signum, frame)

    def work(self) -> None:
        """Do as RQ's scheduler does, and end when it is told to: RQ's sleeps its second to the end."""
        self._install_signal_handlers()
        self.register_birth()
        while not self._stopping.is_set():
            if self.should_reacquire_locks:
                self.acquire_locks()
            self.heartbeat()
            self.enqueue_scheduled_jobs()
            self._stopping.wait(self.interval)
        self.stop()

    @property
    def should_reacquire_locks(self) -> bool:
        """Whether another has the lock: it may be dead, or end at any time."""
        return bool(self._queue_names != self.acquired_locks)

    def acquire_locks(self, auto_start: bool = False) -> Any:
        """Take the lock if it is free, or its holder dead."""
        for queue in self._queue_names:
            key = self.get_locking_key(queue)
            holder = self.connection.get(key)
            if holder is not None and self._is_dead(holder.decode()):
                release_lock(self.connection, key, holder.decode())
        return super().acquire_locks(auto_start)

    def _is_dead(self, name: str) -> bool:
        beat = self.connection.hgetall(SCHEDULER_KEY_TEMPLATE % name).get(b"last_heartbeat")
        # One that starts takes the lock first, and has its first heartbeat then.
        return beat is not None and now() - utcparse(beat.decode()) > timedelta(seconds=DEAD_AFTER_S)

    def heartbeat(self) -> None:
        """Tell that the scheduler is alive, and notice that the store is there."""
        super().heartbeat()
        self._outage.end()
