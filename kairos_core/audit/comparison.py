"""What the store and the trail say of the same session, and whether that can be. No I/O.

Both are on the move while they are looked at. A record is in the outbox in the same step in which its write is in the
store, and in PostgreSQL before it leaves the outbox. So what the store says first must be in what is read of the outbox
next, or in what is read of PostgreSQL after that; and what the store says last must be no older than these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kairos_core.audit.findings import Finding, Kind
from kairos_core.errors import Stamp
from kairos_core.messages import ENDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kairos_core.audit.findings import Letter

NOWHERE = Stamp(0, 0)
# What is stored under a session's key is none.
UNREADABLE = Stamp(-1, -1)
# Of versions that are missing, so many are looked for one by one.
_MOST = 100_000


class Recorded(NamedTuple):
    """How far a session is recorded in PostgreSQL.

    Attributes:
        stamp: its latest version.
        has_ended: whether it was deleted or expired then.
        updated_us: when that was.
    """

    stamp: Stamp
    has_ended: bool
    updated_us: int


class Waiting(NamedTuple):
    """A write that waits in an outbox: its kind, and when it happened."""

    kind: str
    updated_us: int


class Look(NamedTuple):
    """A session as it was found in four places, read in this order.

    Attributes:
        looked_us: when that was, by the store's clock.
        before: its version in the store; None where there is none.
        waiting: the writes that wait in the outbox.
        recorded: how far it is recorded; None where it is not.
        letters: its versions that are dead letters.
        after: its version in the store again.
    """

    looked_us: int
    before: Stamp | None
    waiting: Mapping[Stamp, Waiting]
    recorded: Recorded | None
    letters: Mapping[Stamp, Letter]
    after: Stamp | None


def compare(session_id: str, look: Look, passed_us: int) -> Finding | None:
    """What cannot be, or None.

    Args:
        session_id: the session.
        look: where it was found.
        passed_us: what was last written before this may have expired.
    """
    if UNREADABLE in (look.before, look.after):
        return Finding(Kind.UNREADABLE, session_id, "what the store has under its key is no session")
    recorded = look.recorded.stamp if look.recorded else NOWHERE
    if look.before is not None and look.before > recorded:
        missing = _missing(look.before, recorded, look.waiting)
        if lost := [stamp for stamp in missing if stamp not in look.letters]:
            also = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
            text = f"{lost[0]}{also} is neither recorded nor in the outbox; the store holds {look.before}"
            return Finding(Kind.UNRECORDED, session_id, text, len(lost))
        if missing:
            return Finding(Kind.BURIED, session_id, str(look.letters[missing[0]]), len(missing))
    latest = max([recorded, *look.waiting])
    if look.after is None:
        return _absent(session_id, look, latest, passed_us)
    if look.after < latest:
        return Finding(Kind.BEHIND, session_id, f"{latest} is recorded, and the store is back at {look.after}")
    return None


def _missing(stored: Stamp, recorded: Stamp, waiting: Mapping[Stamp, Waiting]) -> list[Stamp]:
    """The versions up to what the store has that are neither recorded nor waiting."""
    first = recorded.version + 1 if recorded.incarnation == stored.incarnation else 1
    versions = range(max(first, stored.version - _MOST), stored.version + 1)
    stamps = (Stamp(stored.incarnation, version) for version in versions)
    return [stamp for stamp in stamps if stamp not in waiting]


def _absent(session_id: str, look: Look, latest: Stamp, passed_us: int) -> Finding | None:
    """What it means that the store does not have a session, now."""
    if look.before is not None:
        # It ended in between, and the record of that may have come behind what was read.
        return None
    if behind := [stamp for stamp in look.letters if stamp > latest]:
        return Finding(Kind.BURIED, session_id, str(look.letters[min(behind)]), len(behind))
    if latest == NOWHERE:
        return Finding(Kind.UNRECORDED, session_id, "the store's index has it, and nothing of it is recorded")
    if latest in look.waiting:
        last = look.waiting[latest]
        has_ended, updated_us = last.kind in ENDS, last.updated_us
    elif look.recorded is not None:
        has_ended, updated_us = look.recorded.has_ended, look.recorded.updated_us
    else:
        raise AssertionError("unreachable: the latest version waits or is recorded")
    if has_ended or updated_us >= look.looked_us:
        # What was written since the store was first looked at may have ended since, too.
        return None
    if updated_us < passed_us:
        return Finding(Kind.EXPIRED, session_id, f"its time has passed, and its end behind {latest} is not recorded")
    return Finding(Kind.LOST, session_id, f"it lives at {latest} as recorded, and the store does not have it")
