"""Numbered migrations: each applied once, in order, under an advisory lock, and never changed afterwards."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

# "kairos" as a number: processes that migrate at once wait for each other, whatever their schema.
_LOCK = 0x6B6169726F73

# Tables that have grown take their time, and somebody else's migration is waited for.
WITHOUT_HASTE = b"SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"


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


class Applied(NamedTuple):
    """A migration, and whether a schema has it.

    Attributes:
        migration: the migration.
        at: when it was applied; None: not yet.
    """

    migration: Migration
    at: datetime | None


def status(connection: psycopg.Connection, schema: str) -> list[Applied]:
    """Every migration, and when it was applied to a schema. Only reads.

    Raises:
        ConfigurationError: an applied migration is not the one that this version has, or this version has none of it.
    """
    table = sql.Identifier(schema, "schema_migrations")
    found: dict[int, tuple[str, str, datetime]] = {}
    with connection.transaction():
        name = table.as_string(connection)
        if connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,):
            query = sql.SQL("SELECT number, name, checksum, applied_at FROM {}").format(table)
            found = {number: (name, checksum, at) for number, name, checksum, at in connection.execute(query)}
    known = {migration.number: migration for migration in migrations()}
    for number, (name, checksum, _) in found.items():
        if number not in known:
            raise ConfigurationError("KAIROS_POSTGRES_URL", f"schema {schema}: {name} is of a later version than this")
        if known[number].checksum != checksum:
            raise ConfigurationError(
                "KAIROS_POSTGRES_URL",
                f"schema {schema}: the applied migration {known[number].name} differs from this version's",
            )
    return [Applied(one, found[one.number][2] if one.number in found else None) for one in known.values()]


def migrate(connection: psycopg.Connection, schema: str) -> list[str]:
    """Bring a schema up to date, all or nothing; return the names of what was applied now.

    Where nothing is to be applied, it only reads: an account that may not make tables can call it, too.

    Raises:
        ConfigurationError: an applied migration is not the one that this version has.
    """
    if not _pending(connection, schema):
        return []
    with connection.transaction():
        connection.execute(WITHOUT_HASTE)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        # The temporary schema last, where it is first by default: functions that run with their owner's rights keep
        # this path, and must not take somebody's temporary table for one of ours.
        connection.execute(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(schema)))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        # Asked again: another may have been here first.
        pending = _pending(connection, schema)
        for migration in pending:
            connection.execute(migration.text.encode())
            connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum) VALUES (%s, %s, %s)",
                [migration.number, migration.name, migration.checksum],
            )
    return [migration.name for migration in pending]


def _pending(connection: psycopg.Connection, schema: str) -> list[Migration]:
    return [applied.migration for applied in status(connection, schema) if applied.at is None]


def grant_worker(connection: psycopg.Connection, schema: str, role: str) -> None:
    """Give a role what draining needs on a schema, and no more.

    Raises:
        ConfigurationError: there is no such role, or the account may not grant.
    """
    check_role(connection, role)
    file = resources.files("kairos_core").joinpath("audit", "sql", "grant_worker.sql")
    statements = sql.SQL(file.read_text(encoding="utf-8"))
    with connection.transaction():
        connection.execute(statements.format(schema=sql.Identifier(schema), role=sql.Identifier(role)))
    # An account that owns nothing here is warned, and told nothing else.
    owner = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = %s::regclass"
    table = sql.Identifier(schema, "sync_events").as_string(connection)
    if connection.execute(owner, [table]).fetchone() != (True,):
        raise ConfigurationError("KAIROS_POSTGRES_URL", f"its account does not own schema {schema}, and cannot grant")


def check_role(connection: psycopg.Connection, role: str) -> None:
    """Raise ConfigurationError where the server has no such role."""
    with connection.transaction():
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchall():
            raise ConfigurationError("--grant-worker", f"there is no role {role!r} on the server")


def drop_schema(connection: psycopg.Connection, schema: str) -> None:
    """Remove a schema with all that is in it: for runs that made one of their own."""
    with connection.transaction():
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
