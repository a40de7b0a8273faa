"""Connections to PostgreSQL, and what is checked of it before anything is written (G14)."""

from __future__ import annotations

import contextlib
import zlib
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.conninfo

from kairos_core import addresses
from kairos_core.errors import ConfigurationError, one_line
from kairos_core.ground import with_default

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kairos_core.settings import Settings

OLDEST_POSTGRES = 140_000
# Options whose values are told: who could not go where. (Of a port, where it is one.)
_SHOWN = frozenset(["host", "hostaddr", "user", "dbname", "sslrootcert", "sslcert", "sslkey"])


# For queries that go from a few ids to their rows in large tables. Statistics of a table that has just been made would
# have them read whole tables.
BY_INDEX = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"


def connect_postgres(settings: Settings) -> psycopg.Connection:
    """Open a connection to PostgreSQL and check its version.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    options: dict[str, Any] = {}
    with contextlib.suppress(psycopg.Error):
        options = psycopg.conninfo.conninfo_to_dict(settings.postgres_url)
    # Raised after psycopg's errors were handled, not while: they quote what they cannot read, which may be part of a
    # password, and keep the whole address, and would be kept in turn as the context of ours.
    if not options:
        raise ConfigurationError("KAIROS_POSTGRES_URL", "is not an address that libpq can read")
    connection: psycopg.Connection | None = None
    cause = ""
    try:
        connection = psycopg.connect(
            settings.postgres_url,
            connect_timeout=max(2, round(settings.timeout_s)),
            application_name="kairos",
        )
    except psycopg.Error as error:
        cause = _without_values(one_line(error), options)
    if connection is None:
        is_default = settings.postgres_url == addresses.DEFAULT_TRAIL
        cause = with_default(cause, "KAIROS_POSTGRES_URL", is_default=is_default)
        raise ConfigurationError("KAIROS_POSTGRES_URL", cause)
    try:
        check_postgres_version(connection.info.server_version)
        _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


# What a server, a database or a role may have otherwise by default. What is committed is to be on the disk before it
# leaves the outbox; how strongly, where it is, is the server's choice.
_SETTINGS = """
SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET timezone = 'UTC'; SET bytea_output = 'hex';
SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
"""
_TO_DISK = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"


def _set_up(connection: psycopg.Connection) -> None:
    """Settle how values are written, and what a commit means, whatever is the default here."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError("KAIROS_POSTGRES_URL", f"the database's encoding is {encoding}; UTF8 is needed")
    connection.execute(_SETTINGS)
    connection.execute(_TO_DISK)
    connection.commit()


def _without_values(text: str, options: Mapping[str, Any]) -> str:
    """An error of libpq's, without the values of options that it quotes where it cannot read them."""
    for name, value in options.items():
        for part in (str(value), *str(value).split(",")):
            if part and name not in _SHOWN and not (name == "port" and part.isdecimal()):
                # As libpq quotes, and as psycopg does where it tries several hosts.
                text = text.replace(f'"{part}"', '"…"').replace(f"'{part}'", "'…'")
    return text


def check_postgres_version(number: int) -> None:
    """Raise ConfigurationError where the server is older than 14; `number` is its server_version_num."""
    if number < OLDEST_POSTGRES:
        raise ConfigurationError(
            "KAIROS_POSTGRES_URL", f"the server is version {number // 10_000}; 14 is the oldest that works"
        )


def lock_number(schema: str) -> int:
    """The first of the two numbers of a lane's advisory lock, whose second is the lane."""
    number = zlib.crc32(schema.encode())
    # PostgreSQL's integer has 32 bits with a sign.
    return number - 2**32 if number >= 2**31 else number
