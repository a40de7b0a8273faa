"""The audit of a round, as a history: one record per row, in the order of each session's chain."""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
from psycopg import sql

from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError, KairosError
from kairos_core.session import SyncState
from loadtests.attack.rounds import AuditFacts
from loadtests.history import Kind, Recorder, Seen
from loadtests.subjects.register import NOBODY, seen_of, session_number, token_of
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from kairos_core import Settings

_POLL_S = 0.05
_AT_ONCE = 2_000
_ROWS = sql.SQL(
    "SELECT session_id, incarnation, version, kind, event_type, position, state_snapshot::text FROM {}.sync_events"
    " WHERE starts_with(session_id, %s) ORDER BY session_id, position, incarnation, version"
)
_LETTERS = sql.SQL("SELECT count(*) FROM {}.audit_dead_letters WHERE settled_at IS NULL")
_REMOVALS = ("delete", "expire")


def wait_until_drained(settings: Settings, timeout_s: float, stalled_s: float = math.inf) -> bool:
    """Whether the outbox is empty by then; a store that does not answer yet does not say so.

    Args:
        settings: of an account that may look at it.
        timeout_s: how long that is waited for.
        stalled_s: how long, at the most, while nothing leaves it: then nobody drains it.
    """
    least, deadline = math.inf, math.inf

    def is_over() -> bool:
        nonlocal least, deadline
        try:
            waiting = sum(outbox.depths())
        except KairosError:
            return False
        if waiting < least:
            least, deadline = waiting, time.monotonic() + stalled_s
        return not waiting or time.monotonic() > deadline

    with closing(Outbox.connect(settings)) as outbox:
        wait_until(is_over, timeout_s)
    return least == 0


def export(settings: Settings, prefix: str, path: Path, *, is_drained: bool, timeout_s: float) -> AuditFacts:
    """Write what the audit has of the sessions whose ids begin so into a history, of process 0.

    Raises:
        ConfigurationError: PostgreSQL cannot be reached, for so long.
    """
    count = 0
    with _connected(settings, timeout_s) as connection, Recorder(path, 0) as recorder:
        schema = sql.Identifier(settings.namespace)
        found = connection.execute(_LETTERS.format(schema)).fetchone()
        with connection.cursor(name="rows") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(_ROWS.format(schema), [f"{prefix}-"])
            for row in cursor:
                count += _record(recorder, prefix, *row)
    return AuditFacts(rows=count, dead_letters=int(found[0]) if found else 0, is_drained=is_drained)


def _connected(settings: Settings, timeout_s: float) -> psycopg.Connection[Any]:
    """A connection to PostgreSQL, which may just be starting again."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return connect_postgres(settings)
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _record(  # noqa: PLR0913, PLR0917 - the columns of a row
    recorder: Recorder,
    prefix: str,
    session_id: str,
    incarnation: int,
    version: int,
    kind: str,
    event_type: str,
    position: int,
    snapshot: str,
) -> bool:
    session = session_number(prefix, session_id)
    if session is None:
        return False
    stamp = (incarnation, version)
    if kind in _REMOVALS:
        seen = Seen(stamp, 0 if kind == "expire" else token_of(event_type))
        recorder.saw(Kind.RECORDED_REMOVED, session, seen, position, position)
    else:
        recorder.saw(Kind.RECORDED, session, _written(stamp, event_type, snapshot), position, position)
    return True


def _written(stamp: tuple[int, int], event_type: str, snapshot: str) -> Seen:
    """What a row records; its state and its event type must name the same writer."""
    try:
        state: Any = msgspec.json.decode(snapshot, type=SyncState)
    except msgspec.MsgspecError:
        return Seen(stamp, NOBODY)
    seen = seen_of(state)
    return Seen(stamp, seen.writer if seen.writer == token_of(event_type) else NOBODY, seen.digest)
