"""AuditWriter: batches of the outbox become rows in PostgreSQL, each exactly once."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql

from kairos_core.audit import migrations
from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError
from kairos_core.ground import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.audit.outbox import Entry
    from kairos_core.settings import Settings


def _statement(name: str) -> bytes:
    return resources.files("kairos_core").joinpath("audit", "sql", f"{name}.sql").read_bytes()


_CREATE_BATCH = _statement("create_batch")
_COPY_BATCH = _statement("copy_batch")
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

    def write(self, entries: Sequence[Entry]) -> int:
        """Write a batch in one transaction; return how many of its events were new.

        Written again, wholly or in part, a batch changes nothing.

        Raises:
            psycopg.Error: nothing of the batch was written (or, where the connection was lost during the commit, all
                of it may have been: write it again).
        """
        connection = self._connection
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_CREATE_BATCH)
            with cursor.copy(_COPY_BATCH) as copy:
                for entry in entries:
                    copy.write_row(entry.row())
            new = 0
            for number, statement in enumerate(_MERGE):
                cursor.execute(statement)
                if number == 0:
                    new = cursor.rowcount
        return new
