"""The drain: outbox to rows, safe to kill at any point.

Read, write, commit, and only then delete from the outbox. Killed before the commit, nothing has happened; killed
after it, the same batch is written again, and each row knows its operation id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.audit.outbox import Outbox
    from kairos_core.audit.writer import AuditWriter

BATCH = 1_000


def drain_lane(
    outbox: Outbox,
    writer: AuditWriter,
    lane: int,
    *,
    batch: int = BATCH,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Move a lane's entries to PostgreSQL until the lane is empty; return how many were moved.

    Args:
        outbox: where the entries are.
        writer: where they go.
        lane: the lane.
        batch: entries per transaction.
        go_on: asked before each batch.
    """
    moved = 0
    while go_on():
        entries = outbox.read(lane, batch)
        if not entries:
            break
        writer.write(lane, entries)
        outbox.remove_through(lane, entries[-1].entry_id)
        moved += len(entries)
        if len(entries) < batch:
            break
    return moved
