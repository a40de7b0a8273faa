"""Where reads without a stamp stand: absent ones between two lives, present ones within one.

Positions alternate: 0 is before the first life, 1 within it, 2 behind its removal, and so on. An operation can stand
where all that must come before it has not started after its end, and all that must come behind it has not ended before
its start. Each is given the lowest position that the second condition allows, and no lower one than those that ended
before it started. No assignment has any of them lower, so the first condition, which is the easier the lower one
stands, fails only where all assignments fail.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.judging.lives import Loose


class Bounds(NamedTuple):
    """What lives ask of who stands between or within them.

    Attributes:
        gap_from: for each gap the latest start of all before it.
        gap_to: for each gap the earliest end of all behind it; rising; -1 where there is no such gap.
        life_from: for each life the latest start of all up to its creation.
        life_to: for each life the earliest end of all from its removal on; rising.
    """

    gap_from: list[int]
    gap_to: list[int]
    life_from: list[int]
    life_to: list[int]


class Fallen(NamedTuple):
    """One that can't stand anywhere.

    Attributes:
        one: which operation.
        position: the lowest that comes into question, where what is before it started too late.
    """

    one: Loose
    position: int


class Expiries:
    """Lives that ended by themselves: what started too late to be before that must stand behind it.

    An end by itself has a time that it can't come before: the lifetime behind the last write or touch. What refreshed
    the life, or stands before its creation, was not later than that: so all of a later start has a lowest position.
    """

    def __init__(self) -> None:
        self._after: list[int] = []
        self._lives: list[int] = []

    def add(self, life: int, after: int) -> None:
        """A life ended by itself, counted from this moment. Lives rise."""
        # The moments of later lives are later, but for those that were carried over a loss.
        self._after.append(max(after, self._after[-1] if self._after else 0))
        self._lives.append(life)

    def lowest(self, one: Loose, role: int) -> int:
        """The lowest position of an operation."""
        number = bisect_left(self._after, one.start) - 1
        return 2 * self._lives[number] + role if number >= 0 else 0


# Where an operation must stand if it can't be before the end of a life, from the life's own position on.
WITHIN, BEHIND, BEYOND = 1, 2, 3


def stand(
    bounds: Bounds, absences: Sequence[Loose], presences: Sequence[tuple[Loose, bool]], expiries: Expiries | None = None
) -> tuple[Fallen | None, list[tuple[Loose, int]]]:
    """Give each a position; the first that can't have one, and who stands where.

    Args:
        bounds: of the positions.
        absences: reads of an absent session.
        presences: what found it there, and whether it refreshed it.
        expiries: lives that ended by themselves.
    """
    if not presences and expiries is None:
        return _absent_only(bounds, absences)
    tagged = sorted([(one, BEHIND) for one in absences] + [(one, BEYOND if new else WITHIN) for one, new in presences])
    by_end = sorted(range(len(tagged)), key=lambda place: tagged[place][0].end)
    placed: list[tuple[Loose, int]] = []
    floor = ended = 0
    for one, role in tagged:
        while tagged[by_end[ended]][0].end < one.start:
            floor = max(floor, placed[by_end[ended]][1])
            ended += 1
        lowest = max(floor, expiries.lowest(one, role) if expiries else 0)
        if role == BEHIND:
            position = max(2 * bisect_left(bounds.gap_to, one.start), lowest + lowest % 2)
            of, number = bounds.gap_from, position // 2
        else:
            position = max(2 * bisect_left(bounds.life_to, one.start) + 1, lowest + 1 - lowest % 2)
            of, number = bounds.life_from, position // 2
        if number >= len(of) or of[number] > one.end:
            return Fallen(one, position), placed
        placed.append((one, position))
    return None, placed


def _absent_only(bounds: Bounds, absences: Sequence[Loose]) -> tuple[Fallen | None, list[tuple[Loose, int]]]:
    placed: list[tuple[Loose, int]] = []
    gap_from, gap_to = bounds.gap_from, bounds.gap_to
    for one in absences:
        gap = bisect_left(gap_to, one.start)
        if gap >= len(gap_from) or gap_from[gap] > one.end:
            return Fallen(one, 2 * gap), placed
        placed.append((one, 2 * gap))
    return None, placed
