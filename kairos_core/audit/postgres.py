"""Connections to PostgreSQL, and what is checked of it before anything is written (G14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import psycopg.conninfo

from kairos_core.errors import ConfigurationError
from kairos_core.ground import one_line

if TYPE_CHECKING:
    from kairos_core.settings import Settings

OLDEST_POSTGRES = 140_000


def connect_postgres(settings: Settings) -> psycopg.Connection:
    """Open a connection to PostgreSQL and check its version.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    try:
        psycopg.conninfo.conninfo_to_dict(settings.postgres_url)
    except psycopg.Error:
        # libpq quotes what it cannot read, and that may be part of a password.
        raise ConfigurationError("KAIROS_POSTGRES_URL", "is not an address that libpq can read") from None
    try:
        connection = psycopg.connect(
            settings.postgres_url,
            connect_timeout=max(2, round(settings.timeout_s)),
            application_name="kairos",
        )
    except psycopg.Error as error:
        raise ConfigurationError("KAIROS_POSTGRES_URL", one_line(error)) from error
    try:
        check_postgres_version(connection.info.server_version)
    except BaseException:
        connection.close()
        raise
    return connection


def check_postgres_version(number: int) -> None:
    """Raise ConfigurationError where the server is older than 14; `number` is its server_version_num."""
    if number < OLDEST_POSTGRES:
        raise ConfigurationError(
            "KAIROS_POSTGRES_URL", f"the server is version {number // 10_000}; 14 is the oldest that works"
        )
