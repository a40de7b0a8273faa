"""What is recorded of sessions, for those who lost them: the latest rows, and what contradicts these."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self

from psycopg import sql

from kairos_core.audit import chain
from kairos_core.audit.postgres import BY_INDEX, connect_postgres, lock_number
from kairos_core.audit.reading import check_schema, statement
from kairos_core.errors import Stamp
from kairos_core.messages import ENDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    import psycopg

    from kairos_core.settings import Settings

_FIND_LIVING, _FIND_RECORDED, _FIND_BURIED = map(statement, ("find_living", "find_recorded", "find_buried"))
_match_letter = re.compile(r'\{"i":"([^"]+)","k":"(\w+)","e":"[^"]*","o":"\w*","n":(\d+),"v":(\d+)').match

OUT_OF_ORDER = "an older life was recorded after its latest: the clock was put back, or a dead letter was replayed"
BURIED = "a later write is among the dead letters: replay it, or discard it"
END_DISCARDED = "its end was among the dead letters, and was discarded"


class Living(NamedTuple):
    """A session that lives as far as is recorded.

    Attributes:
        session_id: the session.
        stamp: its latest incarnation and version.
        size: about how many bytes its state takes.
    """

    session_id: str
    stamp: Stamp
    size: int


class Recorded(NamedTuple):
    """What is recorded of a session last.

    Attributes:
        session_id: the session.
        stamp: its latest incarnation and version.
        updated_us: when that was written, in microseconds since 1970.
        is_ended: whether it was deleted or expired then.
        snapshot: its state, as JSON.
        doubt: why that may not be its last state after all; empty where it is.
    """

    session_id: str
    stamp: Stamp
    updated_us: int
    is_ended: bool
    snapshot: str
    doubt: str = ""


class Records:
    """Reads the latest rows over one connection; not to be shared between threads."""

    def __init__(self, connection: psycopg.Connection, schema: str, timeout_s: float) -> None:
        self._connection = connection
        self._number = lock_number(schema)
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        connection.execute(BY_INDEX)
        connection.execute(sql.SQL("SET lock_timeout = {}").format(max(1, round(timeout_s * 1000))))
        connection.commit()
        connection.autocommit = True

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect to PostgreSQL.

        Raises:
            ConfigurationError: the server cannot be reached, the schema is not there, or is of another version.
        """
        connection = connect_postgres(settings)
        try:
            found = cls(connection, settings.namespace, settings.timeout_s)
            check_schema(connection, settings.namespace)
        except BaseException:
            connection.close()
            raise
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def living(self, page: int) -> Iterator[list[Living]]:
        """The sessions that live as far as is recorded, in pages of so many: no transaction stays open meanwhile."""
        after = ""
        while found := self._connection.execute(_FIND_LIVING, [after, page]).fetchall():
            yield [Living(session_id, Stamp(*stamp), size) for session_id, *stamp, size in found]
            after = found[-1][0]

    def read(self, lane: int, session_ids: Collection[str]) -> dict[str, Recorded]:
        """What is recorded of sessions of one lane, once all who are recording that lane now are done."""
        asked = list(session_ids)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", [self._number, lane])
            # The dead letters first: one that is replayed in between is found in the rows.
            letters = cursor.execute(_FIND_BURIED, [lane, asked]).fetchall()
            found = {row[0]: _recorded(*row) for row in cursor.execute(_FIND_RECORDED, [asked])}
        for head, is_discarded in letters:
            letter = read_letter(head)
            if letter is not None and (recorded := found.get(letter.session_id)):
                found[letter.session_id] = recorded._replace(doubt=weigh(recorded, letter, is_discarded))
        return found


def _recorded(  # noqa: PLR0913, PLR0917 - a row
    session_id: str,
    incarnation: int,
    version: int,
    updated_at: datetime,
    is_ended: bool,
    snapshot: str,
    is_out_of_order: bool,
) -> Recorded:
    stamp, doubt = Stamp(incarnation, version), OUT_OF_ORDER if is_out_of_order else ""
    return Recorded(session_id, stamp, chain.microseconds(updated_at), is_ended, snapshot, doubt)


class Letter(NamedTuple):
    """What a dead letter is about."""

    session_id: str
    kind: str
    stamp: Stamp


def read_letter(head: str) -> Letter | None:
    """What a dead letter with this beginning is about; None where that cannot be read."""
    found = _match_letter(head)
    return Letter(found[1], found[2], Stamp(int(found[3]), int(found[4]))) if found else None


def weigh(recorded: Recorded, letter: Letter, is_discarded: bool) -> str:
    """What is in doubt of a session, given one of its dead letters besides."""
    if letter.stamp <= recorded.stamp or recorded.is_ended:
        return recorded.doubt
    if not is_discarded:
        return BURIED
    return recorded.doubt or (END_DISCARDED if letter.kind in ENDS else "")
