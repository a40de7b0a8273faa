"""The faults by their names, and which of them befall an arena in what order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from loadtests.faults.connections import WAY, AnyRepliesDropped, ConnectionsCut, Delayed, RepliesDropped
from loadtests.faults.failover import FAILOVER
from loadtests.faults.processes import PROCESSES, InstanceKilled, InstanceStopped
from loadtests.faults.store import STORE
from loadtests.subjects.registry import OF_KAIROS

if TYPE_CHECKING:
    from loadtests.faults.fault import Fault

FAULTS: dict[str, type[Fault]] = {fault.name: fault for fault in (*STORE, *PROCESSES, *WAY, *FAILOVER)}

# What is to befall an arena of a kind in any case.
FIRST = {
    "fsync": "Valkey killed",
    "memory": "Valkey killed",
    "everysec": "Valkey killed",
    "sentinel": "failover",
    "replicated": "failover",
    "cluster": "failover in the cluster",
}


def fitting(kind: str) -> list[type[Fault]]:
    """The faults that fit an arena of this kind."""
    return [fault for fault in FAULTS.values() if kind in fault.kinds]


def fault(name: str, seed: int, kind: str) -> Fault:
    """One fault, its parameters chosen by the seed."""
    return FAULTS[name](_chance(seed, kind, name), kind)


def faults_on(subject: str, seed: int, kind: str) -> list[Fault]:
    """The faults that need no knowledge of a subject: one of each, its parameters chosen by the seed."""
    replies = RepliesDropped if subject in OF_KAIROS else AnyRepliesDropped
    chosen = (ConnectionsCut, Delayed, replies, InstanceKilled, InstanceStopped)
    return [one(_chance(seed, kind, one.name), kind) for one in chosen]


def schedule(seed: int, kind: str, rounds: int) -> list[Fault]:
    """A fault for each round: all that fit before one comes again, each time in another order.

    What an arena is there for comes first: what its servers lose, or how one takes over from another.

    The same for the same seed, and the first rounds of a longer one are those of a shorter one.
    """
    order = _chance(seed, kind, "order")
    found: list[Fault] = []
    while len(found) < rounds:
        turn = fitting(kind)
        order.shuffle(turn)
        turn.sort(key=lambda one: one.name != FIRST.get(kind))
        found += [one(_chance(seed, kind, f"{len(found) + place}"), kind) for place, one in enumerate(turn)]
    return found[:rounds]


def _chance(seed: int, kind: str, purpose: str) -> random.Random:
    return random.Random(f"{seed} {kind} {purpose}")  # noqa: S311 - not a secret
