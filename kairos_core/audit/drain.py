"""The drain: outbox to rows, safe to kill at any point.

Read, write, commit, and only then delete from the outbox. Killed before the commit, nothing has happened; killed
after it, the same batch is written again, and each row knows its operation id.
"""

from __future__ import annotations

import functools
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from kairos_core.audit.batch import Batch
from kairos_core.audit.writer import ignore

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from kairos_core.audit.outbox import Outbox
    from kairos_core.audit.writer import AuditWriter

BATCH = 1_000
# What a drain tells of itself, in this order, for every batch.
STEPS = ("read", "sent", "copied", "committed", "removed")
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
    with ThreadPoolExecutor(1, "kairos-drain") as reader:
        while now.entry_ids:
            reached("read")
            following = _Following(reader, functools.partial(read, now.entry_ids[-1]), reached)
            writer.record(lane, now.batch, following.reached if now.has_more else reached)
            outbox.remove(lane, now.entry_ids)
            reached("removed")
            moved += len(now.entry_ids)
            if not (now.has_more and go_on()):
                break
            now = following.result()
    return moved


class _Following:
    """The batch behind the one that is recorded.

    It is read once all rows of that one are sent. PostgreSQL has enough to do then for as long as it takes to make the
    next ones ready, and is not kept waiting: up to there, its next row would have waited for its turn in Python, too.
    """

    def __init__(self, reader: ThreadPoolExecutor, read: Callable[[], _Read], reached: Callable[[str], None]) -> None:
        self._reader = reader
        self._read = read
        self._told = reached
        self._future: Future[_Read] | None = None

    def reached(self, step: str) -> None:
        """Begin when it is time to, and pass the step on."""
        if step == "sent" and self._future is None:
            self._future = self._reader.submit(self._read)
        self._told(step)

    def result(self) -> _Read:
        """What was read; of a batch of which no row was sent, only now."""
        return self._read() if self._future is None else self._future.result()
