"""A history as columns: every record with its session's lane and with times that sort well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loadtests.history import NEVER, Error, Kind, Outcome

if TYPE_CHECKING:
    from loadtests.history import History
    from loadtests.judging.verdict import Facts

Column: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

# Of a segmented scan, so that a lane's number and a time fit one integer.
_BITS = 62


class Table:
    """Columns of all records, and what they are about.

    A lane is one session between two losses: it is judged on its own. Without losses, lanes are sessions. Moments count
    from 1 on; 0 is before everything, `far` is never.

    Attributes:
        lane: each record's; -1 where it may belong to the one before a loss or to the one behind it.
        start: moment; of what a watcher was told 0: it may have happened long before.
        end: moment; `far` for what may be applied yet.
        wrote_n: the incarnation that a write made, once it is known; 0: not known.
        wrote_v: likewise, the version.
        removed_n: the incarnation that a deletion ended, once it is known.
        removed_v: likewise, the version that the removal itself is.
    """

    def __init__(self, history: History, facts: Facts) -> None:
        self.records = history
        self.facts = facts
        for name in ("token", "writer", "incarnation", "version", "digest", "process", "kind", "outcome", "error"):
            setattr(self, name, np.ascontiguousarray(history[name]))
        self.expected_n: Column = np.ascontiguousarray(history["expected_incarnation"])
        self.expected_v: Column = np.ascontiguousarray(history["expected_version"])
        self._classify()
        self._take_times(history)
        self._take_lanes(history)
        self._take_stamps()

    # Set by name above.
    token: Column
    writer: Column
    incarnation: Column
    version: Column
    digest: Column
    process: Column
    kind: Column
    outcome: Column
    error: Column

    def _classify(self) -> None:
        kind, outcome = self.kind, self.outcome
        self.is_attempt: Column = kind < Kind.TOLD
        self.is_note: Column = (kind >= Kind.TOLD) & (kind < Kind.RECORDED)
        self.is_row: Column = kind >= Kind.RECORDED
        ok = outcome == Outcome.OK
        refused = outcome == Outcome.REFUSED
        self.is_open: Column = self.is_attempt & ~ok & ~refused
        self.is_write: Column = (kind == Kind.CREATE) | (kind == Kind.UPDATE) | (kind == Kind.MUTATE)
        self.is_removal: Column = (kind == Kind.DELETE) | (kind == Kind.DELETE_IF)
        stamped = self.incarnation != 0
        no_session = self.error == Error.NOT_FOUND
        self.is_acknowledged: Column = self.is_write & ok
        self.is_deleted: Column = self.is_removal & ok & ~no_session
        # The content that a refused write names is that which it was to write, not what it was refused for.
        self.digest = np.where(self.is_write & refused, 0, self.digest)
        told_of = refused & (stamped & ~no_session)
        self.is_read: Column = self.is_attempt & (((kind == Kind.GET) & ok & stamped) | told_of)
        self.is_absent: Column = self.is_attempt & (
            ((kind == Kind.GET) & ok & ~stamped) | (no_session & (ok | refused) & (kind != Kind.CREATE))
        )
        self.is_present: Column = ((kind == Kind.TOUCH) & ok & ~no_session & ~stamped) | (
            refused & ~stamped & (self.error == Error.EXISTS)
        )

    def _take_times(self, history: History) -> None:
        start = np.ascontiguousarray(history["start_ns"])
        end = np.ascontiguousarray(history["end_ns"])
        end[self.is_open] = NEVER
        timed = ~self.is_row
        lasting = timed & (end != NEVER)
        self.origin_ns = int(start[timed].min()) if timed.any() else 0
        latest = max(int(end[lasting].max(initial=0)), int(start[timed].max(initial=0)))
        self.far = latest - self.origin_ns + 3
        self.start: Column = np.where(self.is_attempt, start - self.origin_ns + 1, 0)
        self.end: Column = np.where(lasting, end - self.origin_ns + 1, self.far)
        self.start_ns: Column = start
        self.end_ns: Column = end

    def _take_lanes(self, history: History) -> None:
        self.sessions, place = np.unique(np.ascontiguousarray(history["session"]), return_inverse=True)
        self.session: Column = place.astype(np.int64)
        losses = self.facts.losses
        self.eras = len(losses) + 1
        if not losses:
            self.first_era: Column = np.zeros(len(place), np.int64)
            self.last_era: Column = self.first_era
            self.lane: Column = self.session
            return
        back = np.array([loss.back_ns for loss in losses])
        at = np.array([loss.at_ns for loss in losses])
        self.first_era = np.searchsorted(back, self.start_ns, side="right")
        self.last_era = np.searchsorted(at, self.end_ns, side="left")
        lane = self.session * self.eras + self.first_era
        self.lane = np.where((self.first_era == self.last_era) & self.is_attempt, lane, -1)

    def _take_stamps(self) -> None:
        acknowledged, by_version = self.is_acknowledged, self.is_deleted & (self.kind == Kind.DELETE_IF)
        self.wrote_n: Column = np.where(acknowledged, self.incarnation, 0)
        self.wrote_v: Column = np.where(acknowledged, self.version, 0)
        # The version that a deletion is, where its answer or its condition says so.
        self.removed_n: Column = np.where(self.is_deleted, self.incarnation, 0)
        self.removed_v: Column = np.where(self.is_deleted, self.version, 0)
        by_version &= self.removed_n == 0
        self.removed_n[by_version] = self.expected_n[by_version]
        self.removed_v[by_version] = self.expected_v[by_version] + 1

    def moment(self, at_ns: int) -> int:
        """A time as a moment, within what there is."""
        return min(max(at_ns - self.origin_ns + 1, 0), self.far - 1)

    def time_of(self, moment: int) -> int:
        """A moment as a time."""
        return NEVER if moment >= self.far else int(moment) - 1 + self.origin_ns


def running_max(values: Column, lanes: Column, far: int) -> Column:
    """For each place the largest value so far in its lane. Lanes rise, values are below `far`."""
    if not len(values):
        return values
    bits = int(far).bit_length()
    first, last = int(lanes[0]), int(lanes[-1])
    if last > first and (last - first).bit_length() + bits > _BITS:
        half = int(np.searchsorted(lanes, (first + last) // 2 + 1))
        parts = (running_max(values[:half], lanes[:half], far), running_max(values[half:], lanes[half:], far))
        return np.concatenate(parts)
    offset = (lanes - first) << bits
    raised = values + offset
    found: Column = np.maximum.accumulate(raised, out=raised)
    found -= offset
    return found


def running_min_from_behind(values: Column, lanes: Column, far: int) -> Column:
    """For each place the smallest value from there on in its lane."""
    backwards = running_max(far - values[::-1], int(lanes[-1]) - lanes[::-1] if len(lanes) else lanes, far + 1)
    found: Column = far - backwards[::-1]
    return found
