"""How fast the audit is written: rows a second of 770-byte states, beside a bare COPY of the same rows.

Not part of the suite (`--benchmark-skip`); `make report` runs it in several fresh processes.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit.drain import BATCH, drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from kairos_core.commands import Commands
from kairos_core.layout import Layout
from loadtests.interleave import interleave
from loadtests.measure import DRAIN_ROUNDS
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import SyncState
    from loadtests.interleave import Fixture, Operation

ROWS = int(os.environ.get("KAIROS_BENCHMARK_ROWS", "4000"))
# Sessions that are written in turn, where they are not all different.
LIVE = min(200, ROWS)
TABLES = ("sync_events", "sync_sessions", "sync_participants")

pytestmark = pytest.mark.timeout(300)


class Drain:
    """Outbox to rows: read, write, commit, delete. Each row is of another session, the hardest case."""

    def __init__(self, settings: Settings, name: str = "drain") -> None:
        # One lane, and a namespace beside the run's, whose worker would drain it otherwise.
        own = Settings(
            redis_url=settings.redis_url,
            postgres_url=settings.postgres_url,
            namespace=f"{settings.namespace}_{name}",
            lanes=1,
        )
        self.settings = own
        self._commands = Commands(own, Layout(own.namespace, own.lanes))
        self._client = redis.Redis.from_url(own.redis_url)
        self.outbox = Outbox.connect(own)
        self._writer = AuditWriter.connect(own)
        self._writer.migrate()
        with RedisStateManager.connect(own) as manager:
            # An update each, so that the server knows both scripts.
            self._live = [
                manager.update_session(manager.create_session(sample_state(f"live-{os.getpid()}-{number}")))
                for number in range(LIVE)
            ]
        drain_lane(self.outbox, self._writer, 0)
        self._filled = 0
        self._trail = connect_postgres(own)
        self._recorded = self._rows()

    def fill(self) -> None:
        """Put entries into the outbox: as many sessions."""
        self._send([self._commands.create(state, "created").words for state in self._new()])

    def _new(self) -> list[SyncState]:
        self._filled += ROWS
        return [sample_state(f"{os.getpid()}-{number}") for number in range(self._filled - ROWS, self._filled)]

    def _send(self, commands: list[Any]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)
        pipeline.execute()

    def prepare(self) -> Callable[[], int]:
        """The drain to time, of an outbox that was filled."""
        self.fill()
        return lambda: drain_lane(self.outbox, self._writer, 0)

    def finish(self, result: object) -> None:
        """Check that everything was moved, and is recorded: to lose it, or to bury it, takes less time."""
        assert (ROWS, [0]) == (result, self.outbox.depths())
        events, dead_letters = self._recorded
        self._recorded = self._rows()
        assert (events + ROWS, dead_letters) == self._recorded

    def _rows(self) -> tuple[int, int]:
        """Events and dead letters."""
        with self._trail.transaction():
            query = sql.SQL("SELECT (SELECT count(*) FROM {}), (SELECT count(*) FROM {})")
            names = (sql.Identifier(self.settings.namespace, name) for name in ("sync_events", "audit_dead_letters"))
            ((events, dead_letters),) = self._trail.execute(query.format(*names)).fetchall()
        return events, dead_letters

    def close(self) -> None:
        """Close the connections."""
        self._trail.close()
        self._writer.close()
        self.outbox.close()
        self._client.close()


class DrainOfLive(Drain):
    """The same of 200 sessions that are written in turn, 20 times each."""

    def fill(self) -> None:
        """Put entries into the outbox: updates of the same sessions."""
        commands = []
        for _ in range(ROWS // LIVE):
            commands += [self._commands.update(state, "updated").words for state in self._live]
            self._live = [msgspec.structs.replace(state, version=state.version + 1) for state in self._live]
        self._send(commands)


class BareCopy:
    """COPY of the rows that a drain wrote, into tables with the same columns, keys and checks, a commit per batch.

    What PostgreSQL takes of these rows from one connection of psycopg, which makes text of their values meanwhile (rows
    that are text already take five sixths of the time): nothing is read, looked up, chained or merged.
    """

    def __init__(self, drain: Drain) -> None:
        drain.finish(drain.prepare()())
        self._connection = connect_postgres(drain.settings)
        self._schema = drain.settings.namespace
        self._rows = {table: self._last_rows(table) for table in TABLES}
        for table in TABLES:
            self._connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(self._copy_of(table), self._table(table))
            )
        self._connection.commit()

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)

    def _copy_of(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, f"copy_{os.getpid()}_{name}")

    def _last_rows(self, table: str) -> list[tuple[Any, ...]]:
        """The rows that the last drain wrote, of this table; of the latest of each session, all that are there."""
        order = sql.Identifier("recorded_at" if table == "sync_events" else "incarnation")
        query = sql.SQL("SELECT * FROM {} ORDER BY {} DESC LIMIT %s").format(self._table(table), order)
        cursor = self._connection.execute(query, [2 * ROWS if table == "sync_participants" else ROWS])
        # A jsonb value comes as an object and goes as a text.
        return [tuple(_text(value) if isinstance(value, dict) else value for value in row) for row in cursor]

    def prepare(self) -> Callable[[], int]:
        """The COPY to time, with its commits, into empty tables."""
        for table in TABLES:
            self._connection.execute(sql.SQL("TRUNCATE {}").format(self._copy_of(table)))
        self._connection.commit()
        return self._copy

    def _copy(self) -> int:
        copied = 0
        batches = max(1, ROWS // BATCH)
        for batch in range(batches):
            with self._connection.transaction(), self._connection.cursor() as cursor:
                for table, rows in self._rows.items():
                    share = len(rows) // batches
                    with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(self._copy_of(table))) as copy:
                        for row in rows[batch * share : (batch + 1) * share]:
                            copy.write_row(row)
                    copied += cursor.rowcount if table == "sync_events" else 0
        return copied

    def finish(self, result: object) -> None:
        """Check that everything was copied, into each table."""
        assert ROWS == result
        with self._connection.transaction():
            for table, rows in self._rows.items():
                query = sql.SQL("SELECT count(*) FROM {}").format(self._copy_of(table))
                assert [(len(rows),)] == self._connection.execute(query).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _text(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def test_drain(benchmark: Fixture, settings: Settings) -> None:
    """The seconds that a drain of 4,000 rows takes, of as many sessions and of 200; and those of bare COPYs."""
    with (
        closing(Drain(settings)) as drain,
        closing(BareCopy(drain)) as copy,
        closing(DrainOfLive(settings, "live")) as live,
        closing(BareCopy(live)) as live_copy,
    ):
        companions: dict[str, Operation] = {"copy": copy, "live": live, "live_copy": live_copy}
        interleave(benchmark, drain, companions, rounds=DRAIN_ROUNDS, warmup_rounds=0)
    benchmark.extra_info["rows"] = ROWS
