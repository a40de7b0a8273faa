"""RQ: the job that drains lanes, the queue it goes to, the worker that runs it. The only importer of rq.

RQ decides when and where a lane is drained, and may lose a job: the outbox keeps the records, and a lane whose lease
has run out is handed out again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Any

from redis import RedisError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq import Retry as JobRetry
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import ConfigurationError
from kairos_core.ground import one_line, store_client
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

# Seconds between the attempts of a job that failed.
RETRY_INTERVALS_S = [2, 4, 8, 16, 32]
JOB_TIMEOUT_S = 120
# RQ's own reads are repeatable; this is what redis-py does by default.
_RETRIES = 10
# Long enough to be seen; the outbox keeps the records, not the job.
FAILURE_TTL_S = 3600

_log = logging.getLogger("kairos.audit")


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


def drain(lanes: list[int], token: str) -> int:
    """The job: drain these lanes, except those whose lease has passed to another; return the entries moved."""
    outbox, writer = _connections()
    moved = 0
    try:
        for lane in lanes:
            moved += drain_lane(outbox, writer, lane, go_on=functools.partial(outbox.hold, lane, token))
            outbox.release(lane, token)
    except BaseException:
        # The next attempt starts with fresh connections; the records are still in the outbox.
        _connections.cache_clear()
        with contextlib.suppress(Exception):
            writer.close()
        outbox.close()
        raise
    return moved


@functools.cache
def _connections() -> tuple[Outbox, AuditWriter]:
    """This worker's connections: opened at its first job, kept for the next."""
    settings = Settings.from_env()
    writer = AuditWriter.connect(settings)
    return Outbox.connect(settings), writer


def run_worker(settings: Settings) -> None:
    """Run jobs in this process until SIGTERM or SIGINT; the job at hand is finished first."""
    connection = _client(settings, "kairos-worker", retry=Retry(ExponentialBackoff(), _RETRIES))
    _work(DrainWorker([queue_name(settings)], connection=connection, serializer=JSONSerializer))


def _work(worker: Any) -> None:
    # No scheduler: RQ would fork it with the worker's own socket, and a job could go to a dead worker's ghost.
    worker.work(logging_level="WARNING", with_scheduler=False)


class DrainWorker(SimpleWorker):
    """RQ's worker, which does not close the connection of its listener for commands under a listener that still reads.

    RQ unsubscribes, then tells the listener to stop: one that has seen the first and not the second waits for another
    subscription, and ends in an exception once its connection is closed.
    """

    def unsubscribe(self) -> None:
        """Stop the listener; its own end closes its connection."""
        pubsub: Any = self.pubsub
        listener: Any = self.pubsub_thread
        if listener is None:
            return
        listener.stop()
        with contextlib.suppress(RedisError, OSError):
            pubsub.unsubscribe()
        listener.join(timeout=1)


def run_scheduler(settings: Settings) -> None:
    """Put failed jobs back on the queue when their time has come, until SIGTERM or SIGINT."""
    connection = _client(settings, "kairos-scheduler", retry=Retry(ExponentialBackoff(), _RETRIES))
    scheduler = RQScheduler(
        [queue_name(settings)],
        connection=connection,
        interval=1,
        serializer=JSONSerializer,
        logging_level="WARNING",
    )
    scheduler.acquire_locks()
    scheduler.work()
