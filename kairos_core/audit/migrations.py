"""Numbered migrations: each applied once, in order, under an advisory lock, and never changed afterwards."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    import psycopg

# "kairos" as a number: processes that migrate at once wait for each other, whatever their schema.
_LOCK = 0x6B6169726F73


class Migration(NamedTuple):
    """One step of the schema.

    Attributes:
        number: its place in the order, from 1.
        name: its file's name.
        text: its statements.
        checksum: SHA-256 of the text, in hexadecimal digits.
    """

    number: int
    name: str
    text: str
    checksum: str


def migrations() -> list[Migration]:
    """All migrations, in order."""
    found = []
    for file in resources.files("kairos_core").joinpath("audit", "sql", "migrations").iterdir():
        if file.name.endswith(".sql"):
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(file.name[:4]), file.name, text, hashlib.sha256(text.encode()).hexdigest()))
    return sorted(found)


def migrate(connection: psycopg.Connection, schema: str) -> list[str]:
    """Bring a schema up to date, all or nothing; return the names of what was applied now.

    Raises:
        ConfigurationError: an applied migration is not the one that this version has.
    """
    applied_now = []
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        # The temporary schema last, where it is first by default: functions that run with their owner's rights keep
        # this path, and must not take somebody's temporary table for one of ours.
        connection.execute(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(schema)))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        rows = connection.execute("SELECT number, checksum FROM schema_migrations").fetchall()
        checksums: dict[int, str] = dict(rows)
        for migration in migrations():
            if migration.number not in checksums:
                connection.execute(migration.text.encode())
                connection.execute(
                    "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                    [migration.number, migration.name, migration.checksum],
                )
                applied_now.append(migration.name)
            elif checksums[migration.number] != migration.checksum:
                raise ConfigurationError(
                    "KAIROS_POSTGRES_URL",
                    f"schema {schema}: the applied migration {migration.name} differs from this version's",
                )
    return applied_now


def drop_schema(connection: psycopg.Connection, schema: str) -> None:
    """Remove a schema with all that is in it: for runs that made one of their own."""
    with connection.transaction():
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
