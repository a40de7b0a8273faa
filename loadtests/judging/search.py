"""All ways in which a session can be explained, where the usual one does not fit: only what none explains is accused.

What is open is who removed which life, and whether there were lives that nobody saw: an unknown creation and a removal
behind it. Everything else is given by stamps. The number of ways is small, as all that is known narrows it; where it is
not, the search gives up and the session stays undecided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.judging.settling import Lifetime, Removal, earliest_of_one
from loadtests.judging.standing import Bounds, Expiries, stand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.judging.chain import Chain
    from loadtests.judging.lives import Lane, Loose
    from loadtests.judging.table import Table

# After how many steps a session is left undecided.
STEPS = 20_000


class Piece(NamedTuple):
    """A life by itself, not counting what is before and behind it; moments.

    Attributes:
        stamp: incarnation and last version; 0, 0 where nobody saw it.
        created: start and end of its creation.
        is_chosen: whether another unknown creation would do as well.
        seen: the latest start and the earliest end of all others up to its removal.
        written: the latest start of those up to the last write.
        removed: start and end of its removal; None where it is open who removed it.
        told_by: when somebody had been told of its end; far: nobody.
        is_told: whether it has ended.
        number: which of the lane's lives; -1: none.
    """

    stamp: tuple[int, int]
    created: tuple[int, int]
    is_chosen: bool
    seen: tuple[int, int]
    written: int
    removed: Removal | None
    told_by: int
    is_told: bool
    number: int


class _OutOfStepsError(Exception):
    """The search gave up."""


def explain(  # noqa: PLR0913 - what was decided before, and where
    table: Table, chain: Chain, lane: Lane, creations: list[int], chosen: set[int], *, may_begin: bool
) -> bool | None:
    """Whether any way explains a session; None: given up.

    Args:
        table: the records.
        chain: the order of stamps.
        lane: the session.
        creations: unknown creations that are not used.
        chosen: those that are used, but need not be.
        may_begin: whether the state that it seems to have begun with may have been created in it.
    """
    pieces = [_piece(table, chain, lane, number, chosen) for number in range(len(lane.lives))]
    used = [int(chain.index[life.first]) for life in lane.lives]
    pool = sorted(int(table.start[one]) for one in [*creations, *(set(used) & chosen)])
    starts_open = bool(lane.number % table.eras) and not _has_base(chain, lane)
    variants = [(pieces, _has_base(chain, lane))]
    if may_begin:
        variants.append((pieces, False))
    if starts_open:
        carried = Piece((0, 0), (0, table.far), False, (0, table.far), 0, None, table.far, False, -1)
        variants.append(([carried, *pieces], True))
    try:
        return any(_Search(table, lane, found, pool, has_base=has_base).run() for found, has_base in variants)
    except _OutOfStepsError:
        return None


def _has_base(chain: Chain, lane: Lane) -> bool:
    return bool(lane.lives) and int(chain.index[lane.lives[0].first]) < 0


def _piece(table: Table, chain: Chain, lane: Lane, number: int, chosen: set[int]) -> Piece:
    life = lane.lives[number]
    first, last = life.first, life.last
    writes = np.flatnonzero(chain.phase[first:last] == 0)
    last_write = first + int(writes[-1])
    until = lane.lives[number + 1].first if number + 1 < len(lane.lives) else len(chain.lane)
    ends = chain.end[last:until][(chain.lane[last:until] == lane.number) & chain.removal[last:until]]
    return Piece(
        stamp=(life.n, life.top),
        created=(int(chain.start[first]), int(chain.end[first])),
        is_chosen=int(chain.index[first]) in chosen,
        seen=(
            int(chain.start[first + 1 : last].max(initial=0)),
            int(chain.end[first + 1 : last].min(initial=table.far)),
        ),
        written=int(chain.start[first + 1 : last_write + 1].max(initial=0)),
        removed=Removal(*life.removed) if life.removed[0] >= 0 else None,
        told_by=int(ends.min(initial=table.far)),
        is_told=life.is_told,
        number=number,
    )


class _Way(NamedTuple):
    """A way so far: lives with their removals, and what is used up."""

    lives: tuple[tuple[Piece, Removal | None], ...]
    latest: int
    creations: int
    deletions: frozenset[int]
    perhaps: int


class _Search:
    """Goes through all ways of one session."""

    def __init__(self, table: Table, lane: Lane, pieces: list[Piece], pool: list[int], *, has_base: bool) -> None:
        self._lane, self._pieces, self._pool = lane, pieces, pool
        self._far, self._has_base = table.far, has_base
        self._lifetime = Lifetime(table, lane)
        self._perhaps = [one.start for one in lane.perhaps if one.of is None]
        self._bound = earliest_of_one(lane)
        seen = {life.n for life in lane.lives}
        self._of_unseen = sorted(start for (n, _), start in self._bound.items() if n not in seen)
        self._steps = 0

    def run(self) -> bool:
        """Whether there is one that fits."""
        return self._go(0, _Way((), 0, 0, frozenset(), 0))

    def _go(self, number: int, way: _Way) -> bool:
        """Try what may come next: the next life that was seen, one that nobody saw, or nothing any more."""
        self._steps += 1
        if self._steps > STEPS:
            raise _OutOfStepsError
        if number == len(self._pieces) and self._fits(way):
            return True
        if way.lives and way.lives[-1][1] is None:
            return False
        if number < len(self._pieces) and self._live(number + 1, self._pieces[number], way, can_last=False):
            return True
        is_carried = self._has_base and not way.lives
        left = len(self._pool) - way.creations - sum(piece.is_chosen for piece in self._pieces[number:])
        # A life that nobody saw explains nothing, unless there is something that has no place otherwise.
        if is_carried or left <= 0 or not (self._lane.deletions or self._lane.presences):
            return False
        unseen = Piece((0, 0), (0, self._far), True, (0, self._far), 0, None, self._far, False, -1)
        return self._live(number, unseen, way, can_last=number == len(self._pieces))

    def _live(self, number: int, piece: Piece, way: _Way, *, can_last: bool) -> bool:
        """Try all removals of a life; `number` is that of the life that is seen next."""
        start = piece.created[0]
        creations = way.creations
        if piece.is_chosen:
            start, creations = self._pool[way.creations], way.creations + 1
            piece = piece._replace(created=(start, self._far))
        if piece.created[1] < way.latest:
            return False
        created = max(way.latest, start)
        if piece.seen[1] < created:
            return False
        latest, written = max(created, piece.seen[0]), max(created, piece.written)
        begun = way._replace(creations=creations)
        can_last = can_last or (number == len(self._pieces) and not piece.is_told)
        if can_last and piece.removed is None and self._go(number, self._with(begun, piece, None, latest)):
            return True
        for removal, after in self._who(piece, begun, written, self._next_created(number, begun)):
            if removal.end >= latest and removal.start <= piece.told_by:
                then = self._with(after, piece, removal, max(latest, removal.start))
                if self._go(number, then):
                    return True
        return False

    @staticmethod
    def _with(way: _Way, piece: Piece, removal: Removal | None, latest: int) -> _Way:
        return way._replace(lives=(*way.lives, (piece, removal)), latest=latest)

    def _next_created(self, number: int, way: _Way) -> int:
        """When the next life can have begun at the earliest: one that nobody saw at any time."""
        if len(self._pool) - way.creations > sum(piece.is_chosen for piece in self._pieces[number:]):
            return 0
        if number == len(self._pieces):
            return self._far
        return 0 if self._pieces[number].is_chosen else self._pieces[number].created[0]

    def _who(self, piece: Piece, way: _Way, written: int, next_created: int) -> Iterator[tuple[Removal, _Way]]:
        """All who may have removed a life."""
        if piece.removed is not None:
            yield piece.removed, way
            return
        for place, one in enumerate(self._lane.deletions):
            if place not in way.deletions:
                yield Removal(one.start, one.end), way._replace(deletions=way.deletions | {place})
        for expiry in self._lifetime.all(written, next_created):
            yield expiry, way
        if piece.stamp in self._bound:
            yield Removal(self._bound[piece.stamp], self._far), way
        if piece.number < 0 and self._of_unseen:
            yield Removal(self._of_unseen[0], self._far), way
        if way.perhaps < len(self._perhaps):
            yield Removal(self._perhaps[way.perhaps], self._far), way._replace(perhaps=way.perhaps + 1)

    def _fits(self, way: _Way) -> bool:
        """Whether a whole way explains all there is."""
        if len(way.deletions) < len(self._lane.deletions):
            return False
        bounds = _bounds(way, self._far, has_base=self._has_base)
        if bounds is None:
            return False
        absences: list[Loose] = self._lane.absences
        ends_open = bool(way.lives) and way.lives[-1][1] is None
        if ends_open:
            bounds.gap_from[-1] = self._far + 1
        expiries = Expiries()
        for number, (_, removal) in enumerate(way.lives):
            if removal is not None and removal.after is not None:
                expiries.add(number, removal.after)
        fallen, _ = stand(bounds, absences, self._lane.presences, expiries)
        return fallen is None


def _bounds(way: _Way, far: int, *, has_base: bool) -> Bounds | None:
    """The bounds of all positions; None where a removal comes too late for what is behind it."""
    gap_from, life_from, latest = [0], [], 0
    for piece, removal in way.lives:
        latest = max(latest, piece.created[0])
        life_from.append(latest)
        latest = max(latest, piece.seen[0], removal.start if removal else 0)
        gap_from.append(latest)
    gap_to, life_to, earliest = [], [], far
    for piece, removal in reversed(way.lives):
        gap_to.append(earliest)
        if removal and removal.start > earliest:
            return None
        earliest = min(earliest, removal.end if removal else far, piece.told_by)
        life_to.append(earliest)
        if piece.seen[0] > earliest:
            return None
        earliest = min(earliest, piece.seen[1])
        if piece.created[0] > earliest:
            return None
        earliest = min(earliest, piece.created[1])
    gap_to.append(-1 if has_base else earliest)
    return Bounds(gap_from, gap_to[::-1], life_from, life_to[::-1])
