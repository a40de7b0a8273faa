"""AuditWriter: batches of the outbox become rows in PostgreSQL, each exactly once."""

from __future__ import annotations

import logging
from importlib import resources
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql

from kairos_core.audit import migrations
from kairos_core.audit.outbox import Unreadable
from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError
from kairos_core.ground import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.audit.outbox import Entry
    from kairos_core.settings import Settings


_log = logging.getLogger("kairos.audit")


def _statement(name: str) -> bytes:
    return resources.files("kairos_core").joinpath("audit", "sql", f"{name}.sql").read_bytes()


_CREATE_BATCH = _statement("create_batch")
_COPY_BATCH = _statement("copy_batch")
_BURY = _statement("bury")
_MERGE = tuple(_statement(name) for name in ("insert_events", "upsert_sessions", "upsert_participants"))


class AuditWriter:
    """Writes audit rows over one connection; not to be shared between threads."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
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
        """Bring the schema up to date; return the names of the migrations that were applied now.

        Raises:
            ConfigurationError: the account may not, or an applied migration is not the one of this version.
        """
        try:
            return migrations.migrate(self._connection, self._schema)
        except psycopg.Error as error:
            raise ConfigurationError("KAIROS_POSTGRES_URL", f"schema {self._schema}: {one_line(error)}") from error

    def write(self, lane: int, entries: Sequence[Entry | Unreadable]) -> int:
        """Write a batch of a lane's entries; return how many of its events were new.

        Written again, wholly or in part, a batch changes nothing. A row that PostgreSQL refuses is found by halving the
        batch, and buried with its reason; the rest is written.

        Raises:
            psycopg.Error: the batch was not written, or not all of it (or, where the connection was lost during a
                commit, all of it may have been): write it again.
        """
        readable: list[Entry] = []
        for entry in entries:
            if isinstance(entry, Unreadable):
                self._bury(lane, entry, None, entry.reason)
            else:
                readable.append(entry)
        return self._write_or_halve(lane, readable) if readable else 0

    def _write_or_halve(self, lane: int, entries: Sequence[Entry]) -> int:
        try:
            return self._write_all(entries)
        except (psycopg.DataError, psycopg.IntegrityError, ValueError, OverflowError) as error:
            # Refused for what is in the batch; all else (a lost connection, a full disk, a missing table) concerns the
            # batch as a whole, and is raised.
            if len(entries) == 1:
                sqlstate = error.sqlstate if isinstance(error, psycopg.Error) else None
                self._bury(lane, entries[0], sqlstate, one_line(error))
                return 0
        middle = len(entries) // 2
        return self._write_or_halve(lane, entries[:middle]) + self._write_or_halve(lane, entries[middle:])

    def _write_all(self, entries: Sequence[Entry]) -> int:
        """Write a batch in one transaction: all of it, or nothing."""
        rows = [entry.row() for entry in entries]
        connection = self._connection
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_CREATE_BATCH)
            with cursor.copy(_COPY_BATCH) as copy:
                for row in rows:
                    copy.write_row(row)
            new = 0
            for number, statement in enumerate(_MERGE):
                cursor.execute(statement)
                if number == 0:
                    new = cursor.rowcount
        return new

    def _bury(self, lane: int, entry: Entry | Unreadable, sqlstate: str | None, reason: str) -> None:
        entry_id = entry.entry_id.decode()
        _log.error("lane %d: entry %s goes to the dead letters: %s %s", lane, entry_id, sqlstate or "", reason)
        with self._connection.transaction():
            self._connection.execute(_BURY, [lane, entry_id, sqlstate, reason, entry.payload])
