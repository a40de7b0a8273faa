"""Connections that only read the audit trail, and the check that it is of this version."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from kairos_core.audit.migrations import migrations
from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError, one_line

if TYPE_CHECKING:
    from kairos_core.settings import Settings

_SETTING = "KAIROS_POSTGRES_URL"
# How values are written is each server's own choice, and what is read here is compared byte by byte.
_AS_READ = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'"


def statement(name: str) -> bytes:
    """A statement of this package."""
    return resources.files("kairos_core").joinpath("audit", "sql", f"{name}.sql").read_bytes()


def connect_to_read(settings: Settings) -> psycopg.Connection:
    """Open a connection that can write nothing, to a schema that is checked.

    Raises:
        ConfigurationError: the server cannot be reached, the schema is not there, or is of another version.
    """
    connection = connect_postgres(settings)
    try:
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(settings.namespace)))
        connection.execute(_AS_READ)
        connection.commit()
        connection.execute("SET default_transaction_read_only = on")
        check_schema(connection, settings.namespace)
        connection.commit()
    except psycopg.Error as error:
        connection.close()
        raise ConfigurationError(_SETTING, f"schema {settings.namespace}: {one_line(error)}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def check_schema(connection: psycopg.Connection, schema: str) -> None:
    """Raise ConfigurationError where the schema is not what this version's migrations lead to."""
    try:
        found = connection.execute("SELECT number, checksum FROM schema_migrations ORDER BY number").fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise ConfigurationError(_SETTING, f"schema {schema} is not there: `kairos migrate` makes it") from error
    expected = [(migration.number, migration.checksum) for migration in migrations()]
    if found == expected:
        return
    if found == expected[: len(found)]:
        raise ConfigurationError(
            _SETTING, f"schema {schema} is of an older version: `kairos migrate` brings it up to date"
        )
    raise ConfigurationError(_SETTING, f"schema {schema} is of another version of Kairos")
