"""Rows as COPY sends them, in text: read fast, since a verification reads all there are."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from kairos_core.audit import chain
from kairos_core.audit.trail import Anchor, Known, Latest, Row

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg

# What COPY writes for a control character, behind a backslash (PostgreSQL documentation, COPY, "Text Format").
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_replace_escapes = re.compile(rb"\\(.)", re.DOTALL).sub
_NULL = rb"\N"
# No time of a store: before 1970, so that a time that Python has not fits no hash.
_NO_TIME = -1


def lines(connection: psycopg.Connection, query: bytes, values: object = None) -> Generator[bytes, None, None]:
    """The lines of a COPY, each with its end."""
    parameters: dict[str, object] | list[object] | None = values if isinstance(values, dict) else None
    if parameters is None and values is not None:
        parameters = [values]
    with connection.cursor() as cursor, cursor.copy(query, parameters) as copy:
        for line in copy:
            yield bytes(line)


def read_event(line: bytes) -> tuple[str, Row]:
    """A line of `verify_events.sql`: a row with its session's id."""
    fields = line[:-1].split(b"\t")
    if b"\\" in line:
        fields = [_unescaped(field) for field in fields]
    session_id, incarnation, version, position, operation, kind, event_type, occurred, recorded, chain_hash, state = (
        fields
    )
    return session_id.decode(), Row(
        int(incarnation),
        int(version),
        int(position),
        operation.decode().replace("-", ""),
        kind.decode(),
        event_type.decode(),
        _microseconds(occurred),
        _microseconds(recorded),
        bytes.fromhex(chain_hash.decode()),
        state,
    )


def read_known(line: bytes) -> Known:
    """A line of `verify_known.sql`."""
    session_id, *fields = [None if field == _NULL else _unescaped(field) for field in line[:-1].split(b"\t")]
    latest, anchor = fields[:10], fields[10:]
    return Known((session_id or b"").decode(), _latest(latest), _anchor(anchor))


def _latest(fields: list[bytes | None]) -> Latest | None:
    if fields[0] is None:
        return None
    words = [field or b"" for field in fields]
    return Latest(
        int(words[0]),
        int(words[1]),
        words[2].decode(),
        words[3].decode(),
        _microseconds(words[4]),
        _microseconds(words[5]),
        None if fields[6] is None else _microseconds(words[6]),
        int(words[7]),
        bytes.fromhex(words[8].decode()),
        words[9],
    )


def _anchor(fields: list[bytes | None]) -> Anchor | None:
    position, incarnation, version, chain_hash = fields
    if position is None or incarnation is None or version is None or chain_hash is None:
        return None
    return Anchor(int(position), int(incarnation), int(version), bytes.fromhex(chain_hash.decode()))


def _microseconds(text: bytes) -> int:
    try:
        return chain.microseconds(datetime.fromisoformat(text.decode()))
    except ValueError:
        return _NO_TIME


def _unescaped(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return _replace_escapes(lambda found: _ESCAPES.get(found[1], found[1]), field)
