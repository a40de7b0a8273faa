"""AuditReader: what the audit trail holds of a session, for services, tools and notebooks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psycopg

from kairos_core import session
from kairos_core.audit import chain
from kairos_core.audit.reading import connect_to_read, statement
from kairos_core.errors import ConfigurationError, CorruptState, InvalidState, Stamp, StoreUnavailable, one_line
from kairos_core.messages import ENDS
from kairos_core.session import MAX_INTEGER, SyncState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core.settings import Settings

# Events of a page at most: each has a whole state.
_MOST = 10_000
_NOTHING, _EVERYTHING = Stamp(0, 0), Stamp(MAX_INTEGER, MAX_INTEGER)
_READ_EVENTS, _READ_LAST = statement("read_events"), statement("read_last_event")


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded write.

    Attributes:
        session_id: the session.
        incarnation: which life of the session id.
        version: the version that the write made.
        position: its place in the session's hash chain, which is the order of recording.
        operation_id: the write's id, 32 hexadecimal digits.
        kind: create, update, delete or expire.
        event_type: what the writer named it.
        occurred_at: when it happened, by the store's clock.
        recorded_at: when it was recorded.
        chain_hash: its hash in the chain.
        state: the full state as written; of a delete or an expiry, the state that ended.
    """

    session_id: str
    incarnation: int
    version: int
    position: int
    operation_id: str
    kind: str
    event_type: str
    occurred_at: datetime
    recorded_at: datetime
    chain_hash: bytes
    state: SyncState

    @property
    def stamp(self) -> Stamp:
        """Its incarnation and version: the place from which a next page goes on."""
        return Stamp(self.incarnation, self.version)

    @property
    def ends(self) -> bool:
        """Whether the session ended with it."""
        return self.kind in ENDS


class AuditReader:
    """Reads the audit trail over one connection that can write nothing; not to be shared between threads."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect to PostgreSQL.

        Raises:
            ConfigurationError: the server cannot be reached, the schema is not there, or is of another version.
        """
        connection = connect_to_read(settings)
        # Each call sees what is recorded then, and leaves no transaction behind that would keep old rows alive.
        connection.autocommit = True
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def events(  # noqa: PLR0913 - the options are given by name
        self,
        session_id: str,
        *,
        incarnation: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: Stamp | None = None,
        limit: int = 1_000,
    ) -> list[AuditEvent]:
        """A page of a session's events, in the order of (incarnation, version).

        Args:
            session_id: the session.
            incarnation: only those of this life of it.
            since: only those that occurred then or later.
            until: only those that occurred before.
            after: only those behind this one: `stamp` of the last event of the page before.
            limit: at most so many, 1 to 10,000; a shorter page is the last one.

        Raises:
            InvalidState: an argument is out of bounds.
            CorruptState: a recorded state does not decode.
            StoreUnavailable: PostgreSQL could not be asked, or refused.
        """
        if not 1 <= limit <= _MOST:
            raise InvalidState(f"limit: 1 to {_MOST} is needed")
        behind = after or _NOTHING
        return self._read(
            _READ_EVENTS,
            session_id=session.check_session_id(session_id),
            after_incarnation=behind[0],
            after_version=behind[1],
            first=0 if incarnation is None else incarnation,
            last=MAX_INTEGER if incarnation is None else incarnation,
            since=_moment("since", since, "-infinity"),
            until=_moment("until", until, "infinity"),
            limit=limit,
        )

    def state_at(self, session_id: str, at: Stamp | datetime) -> SyncState | None:
        """A session's state at a version or at a time.

        Args:
            session_id: the session.
            at: an (incarnation, version), such as `state.stamp`, or an aware time.

        Returns:
            The state; None where the session had not begun, had been deleted or had expired, or where that version is
            not recorded.

        Raises:
            InvalidState: the id is none, or the time has no zone.
            CorruptState: the recorded state does not decode.
            StoreUnavailable: PostgreSQL could not be asked, or refused.
        """
        by_time = isinstance(at, datetime)
        stamp = _EVERYTHING if isinstance(at, datetime) else at
        found = self._read(
            _READ_LAST,
            session_id=session.check_session_id(session_id),
            incarnation=stamp[0],
            version=stamp[1],
            until=_moment("at", at, "") if isinstance(at, datetime) else "infinity",
        )
        if not found or found[0].ends or not (by_time or found[0].stamp == stamp):
            return None
        return found[0].state

    def frame(self, session_id: str, **restrictions: Any) -> Any:
        """All of a session's events as a pandas DataFrame, a row each; the state's fields are columns, too.

        Args:
            session_id: the session.
            restrictions: `incarnation`, `since`, `until` and `after`, as for `events`.

        Raises:
            ConfigurationError: pandas is not installed.
            InvalidState, CorruptState, StoreUnavailable: as of `events`.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - for notebooks; nobody else needs it
        except ImportError as error:
            raise ConfigurationError("pandas", "is not installed, and a frame needs it") from error
        rows = [_flat(event) for event in self._all(session_id, restrictions)]
        return pd.DataFrame(rows, columns=_COLUMNS)

    def _all(self, session_id: str, restrictions: dict[str, Any]) -> Iterator[AuditEvent]:
        after = restrictions.pop("after", None)
        while page := self.events(session_id, after=after, limit=_MOST, **restrictions):
            yield from page
            after = page[-1].stamp

    def _read(self, query: bytes, **values: object) -> list[AuditEvent]:
        try:
            rows = self._connection.execute(query, values).fetchall()
        except psycopg.Error as error:
            raise StoreUnavailable("the audit trail", one_line(error)) from error
        return [_event(*row) for row in rows]


_EVENT_FIELDS = tuple(name for name in AuditEvent.__struct_fields__ if name != "state")
_STATE_FIELDS = tuple(name for name in SyncState.__struct_fields__ if name not in _EVENT_FIELDS)
_COLUMNS = [*_EVENT_FIELDS, *_STATE_FIELDS]


def _flat(event: AuditEvent) -> dict[str, Any]:
    """An event's fields beside those of its state."""
    own = {name: getattr(event, name) for name in _EVENT_FIELDS}
    return own | {
        name: msgspec.to_builtins(getattr(event.state, name), builtin_types=(datetime,)) for name in _STATE_FIELDS
    }


def _event(session_id: str, incarnation: int, version: int, *more: Any) -> AuditEvent:
    position, operation_id, kind, event_type, occurred_at, recorded_at, chain_hash, snapshot = more
    return AuditEvent(
        session_id=session_id,
        incarnation=incarnation,
        version=version,
        position=position,
        operation_id=operation_id.hex,
        kind=kind,
        event_type=event_type,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        chain_hash=chain_hash,
        state=_state(session_id, Stamp(incarnation, version), snapshot, occurred_at),
    )


def _state(session_id: str, stamp: Stamp, snapshot: str, occurred_at: datetime) -> SyncState:
    try:
        created_at = msgspec.json.decode(snapshot, type=_Created).created_at
        return session.decode(snapshot.encode(), stamp, chain.microseconds(created_at), chain.microseconds(occurred_at))
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise CorruptState(f"session {session_id}, {stamp}", session.explain(error)) from error


class _Created(msgspec.Struct):
    created_at: session.Moment


def _moment(name: str, value: datetime | None, default: str) -> datetime | str:
    if value is None:
        return default
    if value.tzinfo is None:
        raise InvalidState(f"{name}: an aware time is needed")
    return value
