"""Whether anything that is kept grows while the load stays the same. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.load.findings import Line, Speed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.load.facts import Load, Memory

# Growth of less is that of a few pages and of what is only made once; it says nothing of what is kept.
LEAST_KB = 1_024
# A median of fewer moments is hardly one.
FEWEST_MOMENTS = 5
# Which shares of the time are compared: the very first still fills what is kept in any case.
_FIRST, _LAST = (0.1, 0.2), (0.9, 1.0)
# PostgreSQL itself starts and ends processes as it likes; all others are there from the beginning to the end.
_HELPERS = "postgres "


def growth(found: Load) -> list[Line]:
    """What the memory of each process, the outboxes and the keys say; nothing where that is not looked at."""
    at_most = found.scenario.max_growth
    if at_most is None:
        return []
    lasting = [one for one in found.memories if not _came_or_went(found, one)]
    return [*(_of_memory(found, one, at_most) for one in lasting), *_of_moments(found)]


def _came_or_went(found: Load, memory: Memory) -> bool:
    """Whether it is a helper of PostgreSQL's that was there for a part of the time only, as many are."""
    is_helper = memory.name.startswith(_HELPERS)
    return is_helper and not (_within(found, memory, *_FIRST) and _within(found, memory, *_LAST))


def _of_memory(found: Load, memory: Memory, at_most: float) -> Line:
    """The median of the last tenth of the time, against that of the tenth right behind the first one."""
    what = f"memory of {memory.name}"
    first = _within(found, memory, *_FIRST)
    last = _within(found, memory, *_LAST)
    if min(len(first), len(last)) < FEWEST_MOMENTS:
        sentence = f"too few: it was looked at {len(first)} times near the beginning and {len(last)} near the end"
        return Line(
            what=what, measured=0.0, limit=at_most * 100, unit="%", verdict=Speed.INCONCLUSIVE, sentence=sentence
        )
    before_kb, after_kb = float(np.median(first)), float(np.median(last))
    grown_kb = after_kb - before_kb
    measured = grown_kb / max(before_kb, 1.0)
    is_over = measured > at_most and grown_kb >= LEAST_KB
    sentence = f"{before_kb / 1024:,.1f} MB, then {after_kb / 1024:,.1f} MB"
    if measured > at_most and not is_over:
        sentence += "; less than 1 MB more is not counted"
    verdict = Speed.FAIL if is_over else Speed.PASS
    return Line(what=what, measured=measured * 100, limit=at_most * 100, unit="%", verdict=verdict, sentence=sentence)


def _within(found: Load, memory: Memory, begins: float, ends: float) -> list[int]:
    length_s = found.scenario.duration_s
    # What does not fit is a reason that the run is none (see `validity`).
    pairs = zip(memory.at_s, memory.kb, strict=False)
    return [kb for at_s, kb in pairs if begins * length_s <= at_s <= ends * length_s]


def _of_moments(found: Load) -> Iterator[Line]:
    """Of the outboxes nothing may be left, and of the keys only what was there before and what still lives."""
    if len(found.moments) < 2:
        return
    first, last = found.moments[0], found.moments[-1]
    yield _at_most("entries left in the outboxes", last.waiting, 0, "", "")
    may_be = first.keys + found.left + found.lane_keys
    sentence = f"{first.keys:,} before, {found.left:,} sessions left, at most {found.lane_keys:,} of the lanes"
    yield _at_most("keys left in the store", last.keys, may_be, "", sentence)


def _at_most(what: str, measured: int, limit: int, unit: str, sentence: str) -> Line:
    verdict = Speed.FAIL if measured > limit else Speed.PASS
    return Line(what=what, measured=measured, limit=limit, unit=unit, verdict=verdict, sentence=sentence)
