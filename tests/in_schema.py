"""Looks into a test's schema, and changes there what the trail refuses to have changed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings


@contextmanager
def in_schema(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection of somebody who may do anything, in the schema; what was done is committed at the end."""
    with psycopg.connect(settings.postgres_url) as connection:
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(settings.namespace)))
        yield connection


def rows(settings: Settings, query: str) -> list[Any]:
    """The rows of a query."""
    with in_schema(settings) as connection:
        return connection.execute(query.encode()).fetchall()


def change(settings: Settings, *statements: str) -> None:
    """Do what the trail refuses; each statement has to change something."""
    with in_schema(settings) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement.encode()).rowcount
