"""Which versions of which sessions are dead letters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import messages, session
from kairos_core.audit.findings import Letter
from kairos_core.audit.reading import statement
from kairos_core.errors import InvalidState, Stamp

if TYPE_CHECKING:
    from collections.abc import Collection

    import psycopg

_VERIFY_LETTERS = statement("verify_letters")


class Letters(NamedTuple):
    """The dead letters that are not recorded as events.

    Attributes:
        by_session: those that can be read.
        waiting: how many nobody has settled, those among them that cannot be read.
    """

    by_session: dict[str, dict[Stamp, Letter]]
    waiting: int


def read_letters(connection: psycopg.Connection, session_ids: Collection[str] | None = None) -> Letters:
    """Read them, of all sessions or of some; of each no more than where it is and why."""
    found: dict[str, dict[Stamp, Letter]] = {}
    waiting = 0
    with connection.transaction(), connection.cursor("letters") as cursor:
        for lane, entry_id, settlement, reason, payload in cursor.execute(_VERIFY_LETTERS):
            waiting += settlement is None
            with contextlib.suppress(ValueError, InvalidState):
                message = messages.decode(payload)
                # No row has an id that is none, and PostgreSQL is not asked for one.
                session.check_session_id(message.session_id)
                if session_ids is None or message.session_id in session_ids:
                    stamp = Stamp(message.incarnation, message.version)
                    letter = Letter(stamp, lane, entry_id, settlement, reason)
                    found.setdefault(message.session_id, {})[stamp] = letter
    return Letters(found, waiting)
