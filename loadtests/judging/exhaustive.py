"""An oracle for the checker: tries all orders of a small history of one session, and knows nothing else.

A register holds nothing or a state with incarnation, version and writer. Each record becomes a step that may be taken
where the register allows it, and only before the end of all that must still come. What is unknown may be taken or left.
`python -m loadtests.judging.exhaustive --histories 150000` compares it with the checker.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtests.history import Error, Kind, Outcome
from loadtests.judging.checker import Facts, Status, check
from loadtests.judging.small_histories import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.history import History

_FOREVER = float("inf")
_WRITES = (Kind.CREATE, Kind.UPDATE, Kind.MUTATE)


class Step(NamedTuple):
    """A record, as the oracle takes it."""

    kind: Kind
    # What it does or asks: write, remove, see, absent, present, told, told removed.
    does: str
    must: bool
    start: float
    end: float
    token: int
    writer: int
    expected: tuple[float, float]
    stamp: tuple[float, float]


class World(NamedTuple):
    """The register, and what happened to it.

    Attributes:
        held: incarnation, version and writer; None where there is nothing.
        refreshed: the earliest time of the last write or touch of it.
        now: the earliest time it can be.
        highest: the highest incarnation so far.
        made: all stamps that were made, with their writers.
        removed: all stamps of removals, with theirs.
    """

    held: tuple[float, float, int] | None
    refreshed: float
    now: float
    highest: float
    made: frozenset[tuple[float, float, int]]
    removed: frozenset[tuple[float, float, int]]


def steps_of(history: History) -> list[Step]:
    """What of a history can be taken."""
    return [step for record in history if (step := _step(record)) is not None]


def _step(record: Any) -> Step | None:
    kind, outcome, error = Kind(record["kind"]), Outcome(record["outcome"]), Error(record["error"])
    stamp = int(record["incarnation"]), int(record["version"])
    does = _does(kind, outcome, error, stamp)
    if does is None:
        return None
    is_open = outcome in {Outcome.UNKNOWN, Outcome.PENDING}
    is_told = kind in {Kind.TOLD, Kind.TOLD_REMOVED}
    return Step(
        kind=kind,
        does=does,
        must=not is_open,
        start=-_FOREVER if is_told else int(record["start_ns"]),
        end=_FOREVER if is_open else int(record["end_ns"]),
        token=int(record["token"]),
        writer=int(record["writer"]),
        expected=(int(record["expected_incarnation"]), int(record["expected_version"])),
        stamp=stamp,
    )


def _does(kind: Kind, outcome: Outcome, error: Error, stamp: tuple[int, int]) -> str | None:
    is_open = outcome in {Outcome.UNKNOWN, Outcome.PENDING}
    by_kind = {Kind.TOLD: "told", Kind.TOLD_REMOVED: "told removed", Kind.DELETE: "remove", Kind.DELETE_IF: "remove"}
    by_kind |= dict.fromkeys(_WRITES, "write")
    if is_open or kind in {Kind.TOLD, Kind.TOLD_REMOVED}:
        # A read without an answer says nothing, a touch without one does nothing that is needed.
        return by_kind.get(kind)
    if error == Error.NOT_FOUND:
        return "absent"
    if outcome == Outcome.REFUSED:
        return "see" if any(stamp) else "present" if error == Error.EXISTS else None
    by_kind |= {Kind.GET: "see" if any(stamp) else "absent", Kind.TOUCH: "present"}
    return by_kind[kind]


class Oracle:
    """Tries all orders.

    Args:
        steps: what is to be ordered.
        ttl_ns: after how long a state may end by itself; None: never.
    """

    def __init__(self, steps: list[Step], ttl_ns: int | None) -> None:
        self._steps, self._ttl_ns = steps, ttl_ns
        self._needed = sum(1 << place for place, step in enumerate(steps) if step.must)
        self._seen: set[tuple[int, World]] = set()
        self._incarnations = sorted({step.stamp[0] for step in steps if step.stamp[0]} | {s.expected[0] for s in steps})

    def is_valid(self) -> bool:
        """Whether any order explains all."""
        return self._go(0, World(None, 0, -_FOREVER, 0, frozenset(), frozenset()))

    def _go(self, done: int, world: World) -> bool:
        if done & self._needed == self._needed:
            return True
        if (done, world) in self._seen:
            return False
        self._seen.add((done, world))
        left = [(place, step) for place, step in enumerate(self._steps) if not done >> place & 1]
        until = min(step.end for _, step in left if step.must)
        for place, step in left:
            if step.start <= until:
                for then in self._take(step, world._replace(now=max(world.now, step.start))):
                    if self._go(done | 1 << place, then):
                        return True
        if world.held is not None and self._ttl_ns is not None and world.refreshed + self._ttl_ns <= until:
            then = world._replace(now=max(world.now, world.refreshed + self._ttl_ns))
            return self._go(done, self._remove(then, 0))
        return False

    def _take(self, step: Step, world: World) -> Iterator[World]:
        """What the world may be after a step; nothing where the step can't be taken."""
        held = world.held
        if step.does == "write":
            yield from self._write(step, world)
        elif step.does == "remove":
            if held is not None and (step.kind == Kind.DELETE or held[:2] == step.expected):
                yield self._remove(world, step.token)
        elif self._allows(step, world):
            yield world._replace(refreshed=world.now) if step.kind == Kind.TOUCH and held else world

    @staticmethod
    def _allows(step: Step, world: World) -> bool:
        """Whether what a step saw is so."""
        if step.does in {"absent", "present"}:
            return (world.held is None) == (step.does == "absent")
        held = set() if world.held is None else {world.held}
        events = {"see": held, "told": world.made, "told removed": world.removed}[step.does]
        return any(event[:2] == step.stamp and step.writer in {0, event[2]} for event in events)

    def _write(self, step: Step, world: World) -> Iterator[World]:
        held = world.held
        if step.kind != Kind.CREATE:
            stamp = step.expected[0], step.expected[1] + 1
            if held is not None and held[:2] == step.expected and (not step.must or step.stamp == stamp):
                yield self._make(world, stamp, step.token)
        elif held is None:
            for n in self._possible(step, world):
                yield self._make(world, (n, 1), step.token)

    def _possible(self, step: Step, world: World) -> Iterator[float]:
        """Incarnations that a creation may make: of one that is unknown any that was seen, or one that nobody saw."""
        if step.must:
            if step.stamp[1] == 1 and step.stamp[0] > world.highest:
                yield step.stamp[0]
            return
        above = [n for n in self._incarnations if n > world.highest]
        yield from above
        yield (world.highest + (above[0] if above else world.highest + 2)) / 2

    @staticmethod
    def _make(world: World, stamp: tuple[float, float], token: int) -> World:
        made = (*stamp, token)
        return world._replace(
            held=made, refreshed=world.now, highest=max(world.highest, stamp[0]), made=world.made | {made}
        )

    @staticmethod
    def _remove(world: World, token: int) -> World:
        if world.held is None:
            raise AssertionError("nothing can't be removed")
        n, v, _ = world.held
        return world._replace(held=None, removed=world.removed | {(n, v + 1, token)})


class Comparison(NamedTuple):
    """What came of one history."""

    expected: Status
    found: Status
    history: History
    facts: Facts
    is_perturbed: bool


def compare(random: Random) -> Comparison:
    """Draw a history and judge it in both ways."""
    history, facts, is_perturbed = draw(random)
    ttl_ns = None if facts.session_ttl_ms is None else facts.session_ttl_ms * 1_000_000
    is_valid = Oracle(steps_of(history), ttl_ns).is_valid()
    found = check(history, facts).status
    return Comparison(Status.VALID if is_valid else Status.VIOLATION, found, history, facts, is_perturbed)


def main() -> int:
    """Compare many, and tell how many agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    given = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    start = time.monotonic()
    for number in range(given.histories):
        one = compare(Random(f"{given.seed} {number}"))  # noqa: S311 - not for secrets
        counts[one.expected, one.found] += 1
        if one.found not in {one.expected, Status.UNDECIDED}:
            print(f"seed '{given.seed} {number}': oracle {one.expected}, checker {one.found}")
    print(f"seed {given.seed}, {given.histories:,} histories in {time.monotonic() - start:.0f} s")
    for (expected, found), count in sorted(counts.items()):
        print(f"oracle {expected}, checker {found}: {count:,}")
    return int(any(found not in {expected, Status.UNDECIDED} for expected, found in counts))


if __name__ == "__main__":
    sys.exit(main())
