"""A job per write, with RQ, as an audit: what is paid for it where the write is made.

`python -m loadtests.subjects.jobs` is the worker: RQ's SimpleWorker, which does not fork for each job and is its
fastest, with a connection to PostgreSQL that stays.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from psycopg import sql
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from kairos_core import Settings
from kairos_core.audit.postgres import connect_postgres
from kairos_core.lifeline import end_with_parent
from kairos_core.session import to_json
from kairos_core.settings import child_environment
from loadtests.orders import Helper
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = "rows_of_jobs"
_END_TIMEOUT_S = 10.0
# RQ keeps a finished job for 500 s by itself: this is long enough for it, and leaves nothing.
_RESULT_TTL_S = 1
_connections: dict[int, psycopg.Connection[Any]] = {}


def make_table(settings: Settings) -> None:
    """Make the table that jobs write to, in the namespace's schema, which is there."""
    with connect_postgres(settings) as connection:
        connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (session_id text, version bigint, recorded_at timestamptz,"
                " state jsonb, PRIMARY KEY (session_id, version))"
            ).format(sql.Identifier(settings.namespace, TABLE))
        )


def write_row(session_id: str, version: int, state: str) -> None:
    """The job: one row, committed."""
    settings = Settings.from_env()
    connection = _connections.get(os.getpid())
    if connection is None:
        connection = _connections[os.getpid()] = connect_postgres(settings)
    with connection.transaction():
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, %s, now(), %s)").format(sql.Identifier(settings.namespace, TABLE)),
            [session_id, version, state],
        )


def _queue(settings: Settings, client: redis.Redis) -> Queue:
    return Queue(f"{settings.namespace}-jobs", connection=client, serializer=JSONSerializer)


class Enqueue:
    """`Queue.enqueue` of a job that writes a row, with the state in it, encoding included."""

    def __init__(self, settings: Settings, session_id: str = "job") -> None:
        self._client = redis.Redis.from_url(settings.queue_url or settings.redis_url)
        self._queue = _queue(settings, self._client)
        self._state, self._version = sample_state(session_id), 0

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._version += 1
        return self._call

    def _call(self) -> Any:
        text = to_json(self._state).decode()
        arguments = (self._state.session_id, self._version, text)
        return self._queue.enqueue(write_row, args=arguments, result_ttl=_RESULT_TTL_S)

    def finish(self, result: Any) -> None:
        """Check that there is a job."""
        if not result.id:
            raise AssertionError("enqueue: no job")

    def close(self) -> None:
        """Empty the queue, and close the connection."""
        self._queue.empty()
        self._client.close()


@contextmanager
def job_worker(settings: Settings) -> Iterator[None]:
    """A worker in a process of its own, from when it is ready to when the context is left."""
    helper = Helper("loadtests.subjects.jobs", environment=child_environment(settings))
    try:
        helper.line()
        yield
    finally:
        helper.close(_END_TIMEOUT_S)


def main() -> None:
    """Print `ready`, then work until standard input closes."""
    settings = Settings.from_env()
    end_with_parent()
    with redis.Redis.from_url(settings.queue_url or settings.redis_url) as client:
        queue = _queue(settings, client)
        worker = SimpleWorker([queue], connection=client, serializer=JSONSerializer)
        os.write(1, b"ready\n")
        worker.work(logging_level="ERROR")


if __name__ == "__main__":
    main()
