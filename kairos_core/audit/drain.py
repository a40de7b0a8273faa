"""The drain: outbox to rows, safe to kill at any point.

Read, write, commit, and only then delete from the outbox. Killed before the commit, nothing has happened; killed
after it, the same batch is written again, and each row knows its operation id.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from kairos_core.audit.batch import Batch
from kairos_core.audit.writer import ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.audit.outbox import Outbox
    from kairos_core.audit.writer import AuditWriter

BATCH = 1_000
# What a drain tells of itself, in this order, for every batch.
STEPS = ("read", "copied", "committed", "removed")
# Entries that are made ready before the other thread gets a chance, and how long that is: waking up takes no longer.
_SLICE = 25
_CHANCE_S = 1e-5


class _Read(NamedTuple):
    """What was read of an outbox at once."""

    entry_ids: list[bytes]
    has_more: bool
    batch: Batch


def drain_lane(  # noqa: PLR0913 - the options are given by name
    outbox: Outbox,
    writer: AuditWriter,
    lane: int,
    *,
    batch: int = BATCH,
    go_on: Callable[[], bool] = lambda: True,
    reached: Callable[[str], None] = ignore,
) -> int:
    """Move a lane's entries to PostgreSQL until the lane is empty; return how many were moved.

    Args:
        outbox: where the entries are.
        writer: where they go.
        lane: the lane.
        batch: entries per transaction.
        go_on: asked before each batch.
        reached: told of each of `STEPS` once it is done.
    """

    def read(after: bytes | None) -> _Read:
        entries, has_more = outbox.read_batch(lane, batch, after)
        found = _Read([entry.entry_id for entry in entries], has_more, Batch([], []))
        waiting = iter(entries)
        while some := list(itertools.islice(waiting, _SLICE)):
            found.batch.add(some)
            if after is not None:
                # Python lets a thread that has something to compute go on for 5 ms before another gets its turn, which
                # is here the one that keeps PostgreSQL at work.
                time.sleep(_CHANCE_S)
        return found

    if not go_on():
        return 0
    moved = 0
    now = read(None)
    # While PostgreSQL works on a batch, the next one is read and made ready.
    with ThreadPoolExecutor(1, "kairos-drain") as reader:
        while now.entry_ids:
            reached("read")
            following = reader.submit(read, now.entry_ids[-1]) if now.has_more else None
            writer.record(lane, now.batch, reached)
            outbox.remove(lane, now.entry_ids)
            reached("removed")
            moved += len(now.entry_ids)
            if following is None or not go_on():
                break
            now = following.result()
    return moved
