"""How fast the audit is written: rows a second of 770-byte states, beside a bare COPY of the same rows.

Not part of the suite (`--benchmark-skip`); `make report` runs it in several fresh processes.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import redis
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.postgres import connect_postgres
from kairos_core.commands import Commands
from kairos_core.layout import Layout
from loadtests.interleave import interleave
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.interleave import Fixture

ROWS = int(os.environ.get("KAIROS_BENCHMARK_ROWS", "4000"))

pytestmark = pytest.mark.timeout(300)


class Drain:
    """Outbox to rows: read, write, commit, delete."""

    def __init__(self, settings: Settings) -> None:
        # One lane, and a namespace beside the run's, whose worker would drain it otherwise.
        own = Settings(
            redis_url=settings.redis_url,
            postgres_url=settings.postgres_url,
            namespace=f"{settings.namespace}_drain",
            lanes=1,
        )
        self.settings = own
        self._commands = Commands(own, Layout(own.namespace, own.lanes))
        self._client = redis.Redis.from_url(own.redis_url)
        self.outbox = Outbox.connect(own)
        self._writer = AuditWriter.connect(own)
        self._writer.migrate()
        with RedisStateManager.connect(own) as manager:
            manager.create_session(sample_state(f"warm-{os.getpid()}"))
        drain_lane(self.outbox, self._writer, 0)
        self._filled = 0

    def fill(self) -> None:
        """Put entries into the outbox: as many sessions, which is the hardest case for the sessions' rows."""
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(ROWS):
            self._filled += 1
            state = sample_state(f"{os.getpid()}-{self._filled}")
            pipeline.execute_command(*self._commands.create(state, "created").words)
        pipeline.execute()

    def prepare(self) -> Callable[[], int]:
        """The drain to time, of an outbox that was filled."""
        self.fill()
        return lambda: drain_lane(self.outbox, self._writer, 0)

    def finish(self, result: object) -> None:
        """Check that everything was moved."""
        assert (ROWS, [0]) == (result, self.outbox.depths())

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self.outbox.close()
        self._client.close()


class BareCopy:
    """COPY of the same rows into a table without index: what PostgreSQL can take at most, from one connection."""

    def __init__(self, drain: Drain) -> None:
        drain.fill()
        self._rows = [entry.row() for entry in drain.outbox.read(0, ROWS) if isinstance(entry, Entry)]
        drain.outbox.remove_through(0, drain.outbox.read(0, ROWS)[-1].entry_id)
        self._connection = connect_postgres(drain.settings)
        self._table = sql.Identifier(drain.settings.namespace, f"copy_{os.getpid()}")
        self._connection.execute(
            sql.SQL(
                "CREATE TABLE {} (o uuid, i text, n bigint, v bigint, k text, e text, t timestamptz, s jsonb)"
            ).format(self._table)
        )
        self._connection.commit()

    def prepare(self) -> Callable[[], int]:
        """The COPY to time, with its commit."""
        return self._copy

    def _copy(self) -> int:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(self._table)) as copy:
                for row in self._rows:
                    copy.write_row(row)
            return cursor.rowcount

    def finish(self, result: object) -> None:
        """Check that everything was copied."""
        assert ROWS == result

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def test_drain(benchmark: Fixture, settings: Settings) -> None:
    """The seconds that a drain of 4,000 rows takes, and those of a bare COPY."""
    with closing(Drain(settings)) as drain, closing(BareCopy(drain)) as copy:
        interleave(benchmark, drain, {"copy": copy}, rounds=1, warmup_rounds=0)
    benchmark.extra_info["rows"] = ROWS
