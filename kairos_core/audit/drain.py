"""The drain: outbox to rows, safe to kill at any point.

Read, write, commit, and only then delete from the outbox. Killed before the commit, nothing has happened; killed
after it, the same batch is written again, and each row knows its operation id.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from kairos_core.audit.batch import Batch
from kairos_core.audit.writer import ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kairos_core.audit.outbox import Entry, Outbox, Unreadable
    from kairos_core.audit.writer import AuditWriter

BATCH = 1_000
# Entries that are made ready between two pieces of a batch that PostgreSQL takes.
_SLICE = 100
# What a drain tells of itself, in this order, for every batch; `copying` several times.
STEPS = ("read", "copying", "copied", "committed", "removed")


class _Reading:
    """A batch as it is read and made ready, step by step."""

    def __init__(self, outbox: Outbox, lane: int, count: int, after: bytes | None) -> None:
        self.count = 0
        self.last: bytes | None = None
        self.batch = Batch([], [])
        self._steps = self._work(functools.partial(outbox.read, lane, count, after))

    def step(self) -> None:
        """Do a part of the work, if any is left."""
        next(self._steps, None)

    def finish(self) -> None:
        """Do what is left."""
        for _ in self._steps:
            pass

    def _work(self, read: Callable[[], list[Entry | Unreadable]]) -> Iterator[None]:
        entries = read()
        if entries:
            self.count, self.last = len(entries), entries[-1].entry_id
        waiting = iter(entries)
        while some := list(itertools.islice(waiting, _SLICE)):
            yield
            self.batch.add(some)


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
    following: _Reading | None = None

    def look(step: str) -> None:
        # While PostgreSQL works on a batch, the next one is read and made ready.
        if step == "copying" and following is not None:
            following.step()
        reached(step)

    moved = 0
    now = _Reading(outbox, lane, batch, None)
    while go_on():
        now.finish()
        if now.last is None:
            break
        reached("read")
        following = _Reading(outbox, lane, batch, now.last) if now.count == batch else None
        writer.record(lane, now.batch, look)
        outbox.remove_through(lane, now.last)
        reached("removed")
        moved += now.count
        if following is None:
            break
        now = following
    return moved
