"""Lives of a session: where each begins and ends, and what without a stamp has to find its place among them.

A read of an absent session, a deletion whose version nobody told, a touch: they say when a session was there and when
not, but not in which of its lives. With the lives' own bounds each of them has a few places where it may stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loadtests.history import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.judging.chain import Chain
    from loadtests.judging.gaps import Pool
    from loadtests.judging.table import Column, Table


class Life(NamedTuple):
    """What the stamped operations say of one incarnation; moments.

    Attributes:
        n: the incarnation.
        top: its last version.
        created: the latest start of all up to its creation.
        written: the latest start of all up to its last write.
        seen: the latest start of all up to the last that saw it there.
        gone: the earliest end of all from its removal on, of those that have a stamp.
        after: the earliest end of all that come behind its removal.
        removed: start and end of its removal; -1, -1 where nobody is known to have removed it.
        is_told: whether somebody was told of its end.
        first: its first place in the chain.
        last: the place in the chain behind its last, the removal not counted.
    """

    n: int
    top: int
    created: int
    written: int
    seen: int
    gone: int
    after: int
    removed: tuple[int, int]
    is_told: bool
    first: int
    last: int


class Loose(NamedTuple):
    """An operation without a stamp.

    Attributes:
        start: moment.
        end: moment.
        record: which one.
        of: of a deletion, the version that it was to remove, if only that.
    """

    start: int
    end: int
    record: int
    of: tuple[int, int] | None = None


class Lane(NamedTuple):
    """A session between two losses.

    Attributes:
        number: which lane.
        first_end: the earliest end of all that have a stamp.
        lives: incarnations that were seen, in order.
        deletions: acknowledged ones whose version is not known, by start.
        absences: reads of an absent session, by start.
        presences: what found it there, without saying in which version, by start; and whether it refreshed it.
        perhaps: unknown deletions, by start.
    """

    number: int
    first_end: int
    lives: list[Life]
    deletions: list[Loose]
    absences: list[Loose]
    presences: list[tuple[Loose, bool]]
    perhaps: list[Loose]


def lanes(table: Table, chain: Chain, pool: Pool, spoiled: Column) -> Iterator[Lane]:
    """The lanes of which more must be found out than the order of stamps."""
    count = len(table.sessions) * table.eras
    clear = table.lane >= 0
    loose_deletion = table.is_deleted & (table.removed_n == 0)
    groups = _groups(table, chain)
    parts = {
        "deletions": np.flatnonzero(loose_deletion & clear),
        "absences": np.flatnonzero(table.is_absent & clear),
        "presences": np.flatnonzero(table.is_present & clear),
    }
    needed = np.zeros(count, bool)
    for part in parts.values():
        needed[table.lane[part]] = True
    needed[groups["lane"][groups["is_open_end"]]] = True
    needed &= ~np.repeat(spoiled, table.eras)
    # One that a loss may have come between, or that was never answered, may have taken place in any lane it reaches.
    is_known = (table.removed_n != 0) & ~clear
    is_open = table.is_open & table.is_removal & (table.removed_n == 0)
    perhaps = np.flatnonzero((loose_deletion & ~clear) | is_open | is_known)
    of_lane = {name: _by_lane(table, part, needed) for name, part in parts.items()}
    possible = _perhaps(table, perhaps)
    wanted = np.flatnonzero(needed)
    lives = _lives(groups, needed)
    none: list[Loose] = []
    is_touch = table.kind == Kind.TOUCH
    for number in wanted.tolist():
        first_end, found = lives.get(number, (table.far, []))
        presences = of_lane["presences"].get(number, none)
        yield Lane(
            number,
            first_end,
            found,
            of_lane["deletions"].get(number, none),
            of_lane["absences"].get(number, none),
            [(one, bool(is_touch[one.record])) for one in presences],
            [
                raised
                for one in possible.get(number, none)
                if (raised := _raised(table, pool, number, found, one)) is not None
            ],
        )


def _groups(table: Table, chain: Chain) -> dict[str, Column]:
    """Columns of `Life`, one row for each incarnation of each lane."""
    first = chain.group_at
    size = len(chain.lane)
    if not size:
        return {"lane": np.zeros(0, np.int64), "is_open_end": np.zeros(0, bool)}
    end = np.append(first[1:], size)
    class_at = chain.class_at
    last_class = np.searchsorted(class_at, end) - 1
    removal_at = class_at[last_class]
    is_removed = chain.removal[removal_at]
    removal_at = np.where(is_removed, removal_at, end)
    last_write = class_at[np.maximum(np.where(is_removed, last_class - 1, last_class), 0)]
    lane = chain.lane[first]
    earliest = np.append(chain.earliest, table.far)
    lane_ends = np.append(np.append(chain.lane[1:] != chain.lane[:-1], True), True)

    def from_there(at: Column) -> Column:
        inside = ~lane_ends[at - 1]
        return np.where(inside, earliest[at], table.far)

    by_somebody = is_removed & (chain.phase[np.minimum(removal_at, size - 1)] == 0)
    at = np.minimum(removal_at, size - 1)
    more_follow = np.append(lane[1:] == lane[:-1], False)
    return {
        "lane": lane,
        "n": chain.n[first],
        "top": chain.v[last_write],
        "created": chain.latest[first],
        "written": chain.latest[last_write],
        "seen": chain.latest[removal_at - 1],
        "gone": from_there(removal_at),
        "after": from_there(end),
        "removed_start": np.where(by_somebody, chain.start[at], -1),
        "removed_end": np.where(by_somebody, chain.end[at], -1),
        "is_told": is_removed & ~by_somebody,
        "first": first,
        "last": removal_at,
        "first_end": chain.earliest[first],
        "is_open_end": ~by_somebody & (more_follow | is_removed),
    }


def _lives(groups: dict[str, Column], needed: Column) -> dict[int, tuple[int, list[Life]]]:
    found: dict[int, tuple[int, list[Life]]] = {}
    rows = np.flatnonzero(needed[groups["lane"]])
    if not len(rows):
        return found
    names = ("n", "top", "created", "written", "seen", "gone", "after", "is_told", "first", "last")
    columns: list[Any] = [groups[name][rows].tolist() for name in ("lane", "first_end", "removed_start", "removed_end")]
    columns += [groups[name][rows].tolist() for name in names]
    for lane, first_end, start, end, n, top, created, written, seen, gone, after, told, first, last in zip(
        *columns, strict=True
    ):
        life = Life(n, top, created, written, seen, gone, after, (start, end), told, first, last)
        if lane in found:
            found[lane][1].append(life)
        else:
            found[lane] = (first_end, [life])
    return found


def _by_lane(table: Table, part: Column, needed: Column) -> dict[int, list[Loose]]:
    part = part[needed[table.lane[part]]]
    part = part[np.lexsort((table.start[part], table.lane[part]))]
    lane = table.lane[part]
    rows = list(map(Loose, table.start[part].tolist(), table.end[part].tolist(), part.tolist()))
    begins = np.flatnonzero(np.diff(lane, prepend=-1))
    bounds = [*begins.tolist(), len(part)]
    return {
        number: rows[begin:end]
        for number, begin, end in zip(lane[begins].tolist(), bounds[:-1], bounds[1:], strict=True)
    }


def _perhaps(table: Table, perhaps: Column) -> dict[int, list[Loose]]:
    found: dict[int, list[Loose]] = {}
    perhaps = perhaps[np.argsort(table.start[perhaps], kind="stable")]
    for index in perhaps.tolist():
        if table.kind[index] == Kind.DELETE_IF and not table.expected_n[index]:
            continue
        first = int(table.session[index]) * table.eras
        of = None
        if table.removed_n[index]:
            of = int(table.removed_n[index]), int(table.removed_v[index]) - 1
        elif table.kind[index] == Kind.DELETE_IF:
            of = int(table.expected_n[index]), int(table.expected_v[index])
        one = Loose(int(table.start[index]), table.far, index, of)
        for era in range(int(table.first_era[index]), int(table.last_era[index]) + 1):
            found.setdefault(first + era, []).append(one)
    return found


def _raised(table: Table, pool: Pool, lane: int, lives: list[Life], one: Loose) -> Loose | None:
    """A deletion of a version that nobody saw: it is of the last that was seen, if unknown writes lead from there.

    Of a life that nobody saw, unknown writes must lead from its first version; None where they do not. One that was
    carried over a loss may have been of any.
    """
    top = next((life.top for life in lives if one.of and life.n == one.of[0]), None)
    if one.of is None or one.of[1] <= (top or 1) or (top is None and lane % table.eras):
        return one
    start = one.start
    for version in range((top or 1) + 1, one.of[1] + 1):
        index = pool.look(lane, one.of[0], version)
        if index is None:
            return one if top else None
        start = max(start, int(table.start[index]))
    return one._replace(start=start, of=(one.of[0], top) if top else one.of)
