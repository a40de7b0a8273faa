"""The pool's eye on PostgreSQL: has what was away come back, has anything been buried, do the months have partitions?

While jobs wait for their next attempt, it asks PostgreSQL once a second. Once it answers again, they are tried at once:
a backlog does not wait for an interval that grew while nobody was there. Where an alert is set, dead letters are one,
too, at most one a minute.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from psycopg import sql
from redis import RedisError

from kairos_core.audit import alerts
from kairos_core.audit.outage import Outage
from kairos_core.audit.postgres import connect_postgres
from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import KairosError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kairos_core.audit.jobs import DrainQueue
    from kairos_core.settings import Settings

PROBE_S = 1.0
# After PostgreSQL has come back, an attempt may still fail that had begun before.
GRACE_S = 3.0
BURIED_EACH_S = 60.0
PARTITIONS_EACH_S = 3600.0
_CONNECT_TIMEOUT_S = 3.0

_BURIED = """
SELECT clock_timestamp(), count(*), array_agg(DISTINCT lane ORDER BY lane), array_agg(DISTINCT sqlstate),
    extract(epoch FROM clock_timestamp() - min(buried_at))::float
FROM {} WHERE buried_at > %s
"""


class Watch:
    """Looks once a second, in a thread of its own: PostgreSQL may take seconds to say nothing."""

    def __init__(self, settings: Settings, queue: DrainQueue) -> None:
        # Not the callers' patience: only what a job waits for, too.
        self._settings = msgspec.structs.replace(settings, timeout_s=min(settings.timeout_s, _CONNECT_TIMEOUT_S))
        self._queue = queue
        self._outage = Outage("watch")
        self._is_away = False
        self._hurry_until = 0.0
        self._seen: datetime | None = None
        self._look_at = 0.0
        # The pool has made those of the months to come when it started.
        self._partitions_at = time.monotonic() + PARTITIONS_EACH_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()
        self._queue.close()

    def _run(self) -> None:
        while not self._stop.wait(PROBE_S):
            try:
                self.look(time.monotonic())
            except (RedisError, psycopg.Error, KairosError) as error:
                self._outage.begin(error)
            else:
                if not self._is_away:
                    self._outage.end()

    def look(self, now: float) -> None:
        """Look at the retries, each minute at the dead letters, each hour at the partitions; `now` is in seconds."""
        retries = self._queue.retries()
        # An attempt that is being made is no retry, and PostgreSQL is as far away as before.
        if retries or self._is_away:
            self._see_to(retries, now)
        if self._settings.alert is not None and now >= self._look_at and not self._is_away:
            self._look_at = now + BURIED_EACH_S
            self._ask(self._tell_of_the_buried)
        if now >= self._partitions_at and not self._is_away:
            self._partitions_at = now + PARTITIONS_EACH_S
            self._ask(lambda connection: AuditWriter(connection, self._settings.namespace).make_partitions())

    def _see_to(self, retries: list[bytes], now: float) -> None:
        """Have the retries tried at once where PostgreSQL has come back.

        Only then: what fails while it is there, for a lock or a full disk, waits as long as it is to.
        """
        try:
            self._ask(lambda connection: connection.execute("SELECT 1"))
        except (psycopg.Error, KairosError) as error:
            self._is_away = True
            self._outage.begin(error, "PostgreSQL is away")
            return
        if self._is_away:
            self._is_away = False
            self._hurry_until = now + GRACE_S
        if retries and now < self._hurry_until:
            self._queue.hurry(retries)

    def _tell_of_the_buried(self, connection: psycopg.Connection) -> None:
        query = sql.SQL(_BURIED).format(sql.Identifier(self._settings.namespace, "audit_dead_letters"))
        # At first there is nothing to tell: what was buried before this process began has been told by another.
        ((seen, count, lanes, states, oldest_s),) = connection.execute(query, [self._seen or "infinity"]).fetchall()
        self._seen = seen
        if count:
            alert = alerts.Alert(
                namespace=self._settings.namespace,
                lanes=tuple(lanes),
                entries=count,
                oldest_s=oldest_s,
                # Not PostgreSQL's words, which may quote the state.
                cause=f"buried as dead letters ({', '.join(state or 'unreadable' for state in states)})",
                attempts=1,
            )
            alerts.send(self._settings.alert, alert)

    def _ask(self, do: Callable[[psycopg.Connection], Any]) -> None:
        """Do something over a connection of its own.

        Raises:
            ConfigurationError, psycopg.Error: it could not be done.
        """
        with contextlib.closing(connect_postgres(self._settings)) as connection:
            connection.autocommit = True
            do(connection)
