"""Judges an audit trail: is each session's history there once, without gap or fork, and is its chain whole?

By rules of its own: `kairos audit verify` is of the core, and may be wrong in the same way as what it verifies.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import sql

from kairos_core.audit import chain
from kairos_core.audit.postgres import connect_postgres

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from kairos_core import Settings


class Row(NamedTuple):
    """A row of `sync_events`, as it is judged."""

    session_id: str
    incarnation: int
    version: int
    position: int
    operation_id: UUID
    kind: str
    event_type: str
    occurred_at: datetime
    recorded_at: datetime
    snapshot: str
    chain_hash: bytes


_COLUMNS = sql.SQL(
    "session_id, incarnation, version, position, operation_id, kind, event_type, occurred_at, recorded_at,"
    " state_snapshot::text, chain_hash"
)


def read_trail(settings: Settings) -> list[Row]:
    """All events of the namespace, each session's in the order of its chain."""
    table = sql.Identifier(settings.namespace, "sync_events")
    query = sql.SQL("SELECT {} FROM {} ORDER BY session_id, position").format(_COLUMNS, table)
    with closing(connect_postgres(settings)) as connection:
        return [Row(*row) for row in connection.execute(query)]


def wrong_with(rows: Iterable[Row], versions: Mapping[str, int]) -> list[str]:
    """What is wrong with a trail; nothing, where it is what it should be.

    Args:
        rows: as `read_trail` gives them. Sessions have one incarnation each.
        versions: the last version of each session, as the store has it.
    """
    found: list[str] = []
    by_session: dict[str, list[Row]] = {session_id: [] for session_id in versions}
    operations: set[Any] = set()
    for row in rows:
        by_session.setdefault(row.session_id, []).append(row)
        if row.operation_id in operations:
            found.append(f"{row.session_id}: operation {row.operation_id} is recorded twice")
        operations.add(row.operation_id)
    for session_id, events in by_session.items():
        last = versions.get(session_id, 0)
        if [row.version for row in events] != list(range(1, last + 1)):
            found.append(f"{session_id}: {len(events)} rows for versions 1 to {last}, or in another order")
        found += _wrong_with_chain(session_id, events)
    return found


def _wrong_with_chain(session_id: str, events: list[Row]) -> list[str]:
    chain_hash = chain.NO_HASH
    for place, row in enumerate(events, 1):
        write = (row.operation_id.hex, row.session_id, row.incarnation, row.version, row.kind)
        digest = chain.digest(write, chain.microseconds(row.occurred_at), row.snapshot, row.event_type)
        chain_hash = chain.following(chain_hash, digest, chain.microseconds(row.recorded_at))
        if (row.position, bytes(row.chain_hash)) != (place, chain_hash):
            return [f"{session_id}: the chain breaks at version {row.version}, place {place}"]
    return []
