"""AuditWriter: batches of the outbox become rows in PostgreSQL, each exactly once."""

from __future__ import annotations

import contextlib
import itertools
import logging
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg import sql

from kairos_core.audit import migrations
from kairos_core.audit.batch import Head, lines, older, plan, prepare
from kairos_core.audit.postgres import BY_INDEX, connect_postgres, lock_number
from kairos_core.audit.reading import check_schema, statement
from kairos_core.errors import ConfigurationError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from kairos_core.audit.batch import Batch, Ready, Version
    from kairos_core.audit.outbox import Entry, Unreadable
    from kairos_core.settings import Settings


_log = logging.getLogger("kairos.audit")


_COPY_EVENTS = statement("copy_events")
_LOCK_LANE = statement("lock_lane")
_FIND_HEADS = statement("find_heads")
_FIND_OPERATIONS = statement("find_operations")
_FIND_VERSIONS = statement("find_versions")
_BURY = statement("bury")

# SQLSTATE of a unique constraint that would be broken.
UNIQUE_VIOLATION = "23505"
# Months whose partitions are made before they begin.
MONTHS_AHEAD = 3
# SQLSTATE classes of what is wrong with a row: cardinality, data, integrity, limits (an id that no index holds). A lost
# connection, a full disk, a missing table are of others.
_OF_ROWS = ("21", "22", "23", "54")
# Rows that are handed to PostgreSQL at once; it works on them while the next ones are made.
_CHUNK = 50
# Who holds a lane's lock and is stopped (a machine that was suspended, a network that was cut) loses it in the end, and
# who waits for it goes on to other lanes meanwhile.
_PATIENCE = "SET lock_timeout = '5s'; SET statement_timeout = '50s'; SET idle_in_transaction_session_timeout = '20s'"


def ignore(_: str) -> None:
    """What is told of each step where nobody asks."""


def _reason(error: psycopg.Error) -> str:
    """Why PostgreSQL refused a row, in one line.

    Without where it was, which is the whole trigger, and without the row, which the dead letter has.
    """
    found = [error.diag.message_primary, error.diag.message_detail]
    told = [text for text in found if text and not text.startswith("Failing row contains")]
    return one_line(": ".join(told) or error)


class AuditWriter:
    """Writes audit rows over one connection; not to be shared between threads."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._schema_number = lock_number(schema)
        self._months: set[str] = set()
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        connection.execute(f"{BY_INDEX}; {_PATIENCE}".encode())
        connection.commit()

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect to PostgreSQL.

        Raises:
            ConfigurationError: the server cannot be reached or is too old.
        """
        return cls(connect_postgres(settings), settings.namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def migrate(self) -> list[str]:
        """Bring the schema up to date, and make the partitions of the months to come; return what was applied now.

        An account that may not make tables can call it where nothing is to be applied.

        Raises:
            ConfigurationError: the account may not, or an applied migration is not the one of this version.
        """
        with self._configuration_errors():
            applied = migrations.migrate(self._connection, self._schema)
            self.make_partitions()
        return applied

    def migrations(self) -> list[migrations.Applied]:
        """Every migration, and when it was applied. Only reads.

        Raises:
            ConfigurationError: an applied migration is not the one of this version.
        """
        with self._configuration_errors():
            return migrations.status(self._connection, self._schema)

    def check_role(self, role: str) -> None:
        """Raise ConfigurationError where the server has no such role."""
        with self._configuration_errors():
            migrations.check_role(self._connection, role)

    def grant_worker(self, role: str) -> None:
        """Give a role of the server what a worker needs, and no more.

        Raises:
            ConfigurationError: there is no such role, or the account may not grant.
        """
        with self._configuration_errors():
            migrations.grant_worker(self._connection, self._schema, role)

    @contextlib.contextmanager
    def _configuration_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise ConfigurationError("KAIROS_POSTGRES_URL", f"schema {self._schema}: {one_line(error)}") from error

    def make_partitions(self, months_ahead: int = MONTHS_AHEAD) -> int:
        """Make the partitions of this month and those to come that are missing; return how many.

        To be called now and then: a partition is made when nobody waits for it, and not at the first write of a month.

        Raises:
            psycopg.Error: they could not be made.
        """
        with self._connection.transaction():
            cursor = self._connection.execute(
                "SELECT sync_make_partitions(now(), now() + make_interval(months => %s))", [months_ahead]
            )
            ((made,),) = cursor.fetchall()
        return int(made)

    def detach_partitions(self, before: datetime) -> list[str]:
        """Take the partitions out of the events that end before a moment; return their names.

        They stay in the schema as tables of their own, to be archived and dropped.

        Raises:
            ConfigurationError: the account may not.
        """
        with self._configuration_errors(), self._connection.transaction():
            # Drains queue behind a detach that waits for a reader, so it does not wait for long.
            self._connection.execute("SET LOCAL statement_timeout = 0")
            check_schema(self._connection, self._schema)
            return [name for (name,) in self._connection.execute("SELECT sync_detach_partitions(%s)", [before])]

    def write(self, lane: int, entries: Sequence[Entry | Unreadable]) -> int:
        """Write a batch of a lane's entries; return how many of its events were new.

        Written again, wholly or in part, a batch changes nothing. What contradicts a row that is recorded, and what
        PostgreSQL refuses (found by halving the batch), is buried with its reason; the rest is written.

        Raises:
            psycopg.Error: the batch was not written, or not all of it (or, where the connection was lost during a
                commit, all of it may have been): write it again.
        """
        return self.record(lane, prepare(entries))

    def record(self, lane: int, batch: Batch, reached: Callable[[str], None] = ignore) -> int:
        """Write a batch that was made ready, as `write` does.

        Args:
            lane: the lane.
            batch: the entries.
            reached: told of each step: `sent` (all rows are handed to PostgreSQL, which has not taken them yet),
                `copied`, `committed`.
        """
        for entry in batch.unreadable:
            self._bury(lane, entry, None, entry.reason)
        return self._record_or_halve(lane, batch, reached) if batch.ready else 0

    def _record_or_halve(self, lane: int, batch: Batch, reached: Callable[[str], None]) -> int:
        try:
            return self._record(lane, batch.ready, reached)
        except psycopg.Error as error:
            # Refused for what is in the batch; all else concerns the batch as a whole, and is raised.
            # A value that the driver itself does not send is a DataError without a code.
            if not (isinstance(error, psycopg.DataError) or (error.sqlstate or "").startswith(_OF_ROWS)):
                raise
            if len(batch.ready) == 1:
                self._bury(lane, batch.ready[0].entry, error.sqlstate, _reason(error))
                return 0
        return sum(self._record_or_halve(lane, half, reached) for half in batch.halves())

    def _record(self, lane: int, ready: Sequence[Ready], reached: Callable[[str], None]) -> int:
        """Record a batch, at the second time where the partition of a month that was there has been detached."""
        try:
            return self._record_all(lane, ready, reached)
        except psycopg.errors.CheckViolation as error:
            # A check that a row breaks is named; that no partition takes it is none.
            if error.diag.constraint_name is not None:
                raise
        self._months.clear()
        return self._record_all(lane, ready, reached)

    def _record_all(self, lane: int, ready: Sequence[Ready], reached: Callable[[str], None]) -> int:
        """Record a batch in one transaction: all of it, or nothing."""
        self._make_partitions(ready)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_LOCK_LANE, [self._schema_number, lane])
            ((recorded_at,),) = cursor.fetchall()
            heads = self._heads(cursor, ready)
            found = plan(ready, self._operations(cursor, ready), self._versions(cursor, older(ready, heads)))
            for entry, reason in found.refused:
                self._bury(lane, entry, UNIQUE_VIOLATION, reason)
            with cursor.copy(_COPY_EVENTS) as copy:
                rows = lines(found.record, heads, recorded_at)
                while chunk := b"".join(itertools.islice(rows, _CHUNK)):
                    copy.write(chunk)
                reached("sent")
            reached("copied")
        reached("committed")
        return len(found.record)

    @staticmethod
    def _heads(cursor: psycopg.Cursor[Any], ready: Sequence[Ready]) -> dict[str, Head]:
        """How far the sessions of these entries are recorded."""
        cursor.execute(_FIND_HEADS, [list({one.entry.message.session_id for one in ready})])
        return {session_id: Head(*head) for session_id, *head in cursor}

    @staticmethod
    def _operations(cursor: psycopg.Cursor[Any], ready: Sequence[Ready]) -> dict[str, tuple[Version, datetime]]:
        """Which operations of these entries are recorded, as what."""
        # As a text that PostgreSQL reads as an array: to adapt a thousand values one by one takes three times as long.
        operations = f"{{{','.join([one.entry.message.operation_id for one in ready])}}}"
        moments = [one.occurred_at for one in ready]
        cursor.execute(_FIND_OPERATIONS, [operations, min(moments), max(moments)])
        return {operation.hex: (tuple(version), at) for operation, *version, at in cursor}

    @staticmethod
    def _versions(cursor: psycopg.Cursor[Any], asked: Sequence[Version]) -> dict[Version, UUID]:
        """Which of these versions are recorded, for which operation."""
        if not asked:
            return {}
        cursor.execute(_FIND_VERSIONS, [list(column) for column in zip(*asked, strict=True)])
        return {asked[place - 1]: operation for place, operation in cursor}

    def _make_partitions(self, ready: Sequence[Ready]) -> None:
        """Make the months' partitions that the rows need: those of other times than the present, as a rule none."""
        months = {one.occurred_at[:7]: one.occurred_at for one in ready}
        if months.keys() <= self._months:
            return
        with self._connection.transaction():
            for moment in months.values():
                self._connection.execute("SELECT sync_make_partitions(%s, %s)", [moment, moment])
        self._months |= months.keys()

    def _bury(self, lane: int, entry: Entry | Unreadable, sqlstate: str | None, reason: str) -> None:
        entry_id = entry.entry_id.decode()
        extra = {"event": "dead_letter", "lane": lane, "entry_id": entry_id, "sqlstate": sqlstate, "cause": reason}
        told = lane, entry_id, sqlstate or "", reason
        _log.error("lane %d: entry %s goes to the dead letters: %s %s", *told, extra=extra)
        with self._connection.transaction():
            self._connection.execute(_BURY, [lane, entry_id, sqlstate, reason, entry.payload])
