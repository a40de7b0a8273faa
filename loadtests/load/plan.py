"""What is to be done when, by every process of a load test: of the scenario, the seed and the place alone. No I/O.

A session lives like a real one: it is created, started, its turns are switched with a time to think between them, and
it ends; then the next one begins in its place, so that as many live at any time. When something is to be done does not
depend on when anything before it was answered: a system that is slow gets no fewer requests (an open workload;
Schroeder, Wierman and Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006).
"""

from __future__ import annotations

import enum
import heapq
import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.scenarios import Scenario


class Operation(enum.StrEnum):
    """What is done with a session, in the words of the tables."""

    CREATE = "create"
    START = "start"
    TURN = "turn"
    MESSAGE = "message"
    END = "end"


class Step(NamedTuple):
    """Something that is to be done.

    Attributes:
        due_ns: when, in nanoseconds since the beginning.
        session: with which session, numbered from 1; unique in a run.
        operation: what.
        is_last: whether this process does nothing with the session after it.
    """

    due_ns: int
    session: int
    operation: Operation
    is_last: bool


def plan(scenario: Scenario, seed: int, place: int, places: int) -> Iterator[Step]:
    """What the process in this place of so many is to do, in the order of time.

    Args:
        scenario: what is to be done.
        seed: what everything random is drawn from.
        place: of the process, from 0.
        places: how many processes there are.
    """
    slots = range(scenario.sessions) if scenario.is_shared else range(place, scenario.sessions, places)
    lives = [_slot(scenario, seed, slot, place, places) for slot in slots]
    yield from heapq.merge(*lives)


class _Life(NamedTuple):
    """A session: when it is to begin and to end, and how long its players think."""

    session: int
    begins_s: float
    ends_s: float
    pace_s: float
    is_owner: bool


def _slot(scenario: Scenario, seed: int, slot: int, place: int, places: int) -> Iterator[Step]:
    """The sessions that live in a slot, one after the other, until the time is over."""
    rng = random.Random(f"{seed}/{slot}/life")  # noqa: S311 - not a secret
    # Of a session that all processes write, each draws its own turns, and the one that it falls to creates and ends it.
    own = random.Random(f"{seed}/{slot}/{place}/turns") if scenario.is_shared else rng  # noqa: S311 - likewise
    pace_s = scenario.think_s * (places if scenario.is_shared else 1)
    is_owner = not scenario.is_shared or slot % places == place
    begins_s = scenario.ramp_s * slot / scenario.sessions
    for number in itertools.count():
        if begins_s >= scenario.duration_s:
            return
        ends_s = begins_s + scenario.settle_s + scenario.think_s * scenario.life_turns * rng.uniform(0.5, 1.5)
        life = _Life(1 + slot + number * scenario.sessions, begins_s, ends_s, pace_s, is_owner)
        yield from _life(scenario, own, life)
        begins_s = ends_s + scenario.settle_s * rng.uniform(1.0, 2.0)


def _life(scenario: Scenario, rng: random.Random, life: _Life) -> Iterator[Step]:
    """What this process does with a session, in the order of time, until the time is over."""
    turns_s = life.begins_s + scenario.settle_s
    found = [(at_s, Operation.TURN) for at_s in _moments(scenario, rng, turns_s, life.ends_s, life.pace_s)]
    if life.is_owner:
        found.append((life.begins_s, Operation.CREATE))
        found.append((life.begins_s + scenario.settle_s / 2, Operation.START))
        # Of a session that all write, the others are done by then.
        found.append((life.ends_s + (scenario.settle_s / 2 if scenario.is_shared else 0.0), Operation.END))
        if scenario.message_s is not None:
            messages = _moments(scenario, rng, turns_s, life.ends_s, scenario.message_s)
            found += [(at_s, Operation.MESSAGE) for at_s in messages]
    within = sorted((at_s, operation) for at_s, operation in found if at_s < scenario.duration_s)
    for place, (at_s, operation) in enumerate(within, 1):
        yield Step(int(at_s * 1e9), life.session, operation, place == len(within))


def _moments(scenario: Scenario, rng: random.Random, from_s: float, until_s: float, pace_s: float) -> Iterator[float]:
    """Moments with times between them that are exponential, and the shorter, the higher the load is to be then.

    What is drawn is how long it is to the next at a factor of 1; in a stretch with another factor, that passes so many
    times as fast. So a load that changes does so at once, and not only when each session has had its next turn.
    """
    left_s = rng.expovariate(1 / pace_s)
    at_s = from_s
    for ends_s, factor in scenario.stretches():
        ends_s = min(ends_s, until_s)  # noqa: PLW2901 - the rest of it does not concern this session
        while at_s + left_s / factor < ends_s:
            at_s += left_s / factor
            yield at_s
            left_s = rng.expovariate(1 / pace_s)
        if at_s < ends_s:
            left_s = max(0.0, left_s - (ends_s - at_s) * factor)
            at_s = ends_s
