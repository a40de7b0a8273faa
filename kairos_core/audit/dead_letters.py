"""What could not be recorded: looked at, recorded after all, or given up; each stays a row, with what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kairos_core import messages
from kairos_core.audit.outbox import Entry
from kairos_core.audit.postgres import connect_postgres
from kairos_core.audit.reading import check_schema, statement
from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import KairosError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import psycopg

    from kairos_core.audit.outbox import Unreadable
    from kairos_core.settings import Settings

_LIST, _LIST_ALL, _FIND = map(statement, ("list_dead_letters", "list_all_dead_letters", "find_dead_letter"))
_SETTLE, _REFUSE = statement("settle_dead_letter"), statement("refuse_dead_letter")
_AT_ONCE = 500
_LAST_LANE = 2**31 - 1


class DeadLetter(NamedTuple):
    """A write that could not be recorded as an event.

    Attributes:
        lane: the lane of its outbox.
        entry_id: the id that it had there.
        buried_at: when it was refused.
        sqlstate: what PostgreSQL answered; None where the entry could not be read.
        reason: why, in words.
        payload: the entry as it was.
        settled_at: when it was settled; None while it waits.
        settlement: `replayed` or `discarded`; None while it waits.
    """

    lane: int
    entry_id: str
    buried_at: datetime
    sqlstate: str | None
    reason: str
    payload: bytes
    settled_at: datetime | None
    settlement: str | None


class NotWaiting(KairosError):  # noqa: N818 - a fact, like its siblings
    """There is no such dead letter, or it is settled.

    Attributes:
        lane: the lane that was asked for.
        entry_id: the entry.
    """

    def __init__(self, lane: int, entry_id: str, fact: str) -> None:
        self.lane = lane
        self.entry_id = entry_id
        super().__init__(f"dead letter {entry_id} of lane {lane} {fact}")


class _Replaying(AuditWriter):
    """A writer that notes why an entry is refused: it is a dead letter already."""

    refusal: tuple[str | None, str] | None = None

    def _bury(self, lane: int, entry: Entry | Unreadable, sqlstate: str | None, reason: str) -> None:
        del lane, entry
        self.refusal = sqlstate, reason

    def refused(self, lane: int, entry: Entry) -> tuple[str | None, str] | None:
        """Write one entry; None, or the SQLSTATE and the reason for which it was refused."""
        self.refusal = None
        self.write(lane, [entry])
        return self.refusal


class DeadLetters:
    """The dead letters of a namespace, over one connection; not to be shared between threads."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._writer = _Replaying(connection, schema)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect to PostgreSQL.

        Raises:
            ConfigurationError: it cannot be reached, or its schema is not there or of another version.
        """
        connection = connect_postgres(settings)
        try:
            found = cls(connection, settings.namespace)
            check_schema(connection, settings.namespace)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def letters(self, lane: int | None = None, *, settled: bool = False) -> Iterator[DeadLetter]:
        """Those that wait, in order; of one lane or of all, with those that are settled if they are wanted."""
        first, last = (0, _LAST_LANE) if lane is None else (lane, lane)
        place: tuple[int, str] = (-1, "")
        while True:
            values = {"first": first, "last": last, "lane": place[0], "entry_id": place[1], "limit": _AT_ONCE}
            page = self._rows(_LIST_ALL if settled else _LIST, values)
            yield from page
            if len(page) < _AT_ONCE:
                return
            place = page[-1].lane, page[-1].entry_id

    def find(self, lane: int, entry_id: str) -> DeadLetter:
        """One of them.

        Raises:
            NotWaiting: there is none.
        """
        found = self._rows(_FIND, [lane, entry_id])
        if not found:
            raise NotWaiting(lane, entry_id, "is not there")
        return found[0]

    def replay(self, lane: int, entry_id: str) -> str | None:
        """Record it as what it is after all; None, or why it was refused again, and waits.

        Killed in between, or done twice, it does no harm: what is recorded is known by its operation.

        Raises:
            NotWaiting: there is none, or it is settled.
            psycopg.Error: PostgreSQL could not be asked; it waits.
        """
        letter = self._waiting(lane, entry_id)
        try:
            entry = Entry(entry_id.encode(), messages.decode(letter.payload))
        except ValueError:
            # It is as unreadable as it was: the reason that it was buried for stays.
            return letter.reason
        refusal = self._writer.refused(lane, entry)
        if refusal is None:
            self._settle(letter, "replayed")
            return None
        with self._connection.transaction():
            self._connection.execute(_REFUSE, [*refusal, lane, entry_id])
        return refusal[1]

    def discard(self, lane: int, entry_id: str) -> None:
        """Give it up: it stays as a row, and is never recorded.

        Raises:
            NotWaiting: there is none, or it is settled.
        """
        self._settle(self._waiting(lane, entry_id), "discarded")

    def _waiting(self, lane: int, entry_id: str) -> DeadLetter:
        letter = self.find(lane, entry_id)
        if letter.settled_at is not None:
            raise NotWaiting(lane, entry_id, f"was {letter.settlement} at {letter.settled_at:%Y-%m-%d %H:%M:%S %Z}")
        return letter

    def _settle(self, letter: DeadLetter, settlement: str) -> None:
        with self._connection.transaction():
            if self._connection.execute(_SETTLE, [settlement, letter.lane, letter.entry_id]).rowcount == 0:
                raise NotWaiting(letter.lane, letter.entry_id, "was settled meanwhile")

    def _rows(self, query: bytes, values: Any) -> list[DeadLetter]:
        with self._connection.transaction():
            return [DeadLetter(*row) for row in self._connection.execute(query, values)]
