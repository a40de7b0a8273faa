"""A process that updates sessions of its own as fast as it can: `python -m loadtests.updating` takes orders.

It connects to each of several stores, so that the same process can measure one after the other, or all in turn.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import RedisStateManager, Settings
from loadtests.at_once import at_once, wait_until_then
from loadtests.orders import serve
from loadtests.subjects.connections import CONNECTIONS
from loadtests.subjects.kairos import Get, OnSessions, Update
from loadtests.turns import WARMUP_ROUNDS, take_turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loadtests.interleave import Operation
    from loadtests.orders import Helper

# This module, as those who start such processes name it.
UPDATING = "loadtests.updating"
WARMUP = 20


def updates_ns(helpers: Sequence[Helper], store: str, seconds: float) -> list[int]:
    """How long each update of one store by these processes took, while all of them wrote, in nanoseconds.

    Raises:
        StartedLateError: not all began in time.
        OrderError: an update failed, or was not as safe as it was to be.
    """
    answers, _ = at_once(helpers, "update", seconds, lambda _: {"store": store})
    return [sample for answer in answers for sample in answer["samples_ns"]]


class _Actor:
    """What such a process can do; each public method is an order."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._settings: dict[str, Settings] = {}
        self._operations: dict[str, dict[str, Operation]] = {}

    def connect(
        self, stores: Mapping[str, str], session_id: str, durability: str | None = None, sessions: int = 1
    ) -> dict[str, Any]:
        """Connect to stores, and make sessions in each.

        Args:
            stores: their addresses by name.
            session_id: of the session, or what the names of several begin with.
            durability: what each is asked for; None: what its name says.
            sessions: how many are read and updated in turn.
        """
        for name, url in stores.items():
            settings = msgspec.structs.replace(Settings.from_env(), redis_url=url, durability=durability or name)
            manager = self._stack.enter_context(RedisStateManager.connect(settings))
            ids = [session_id, *(f"{session_id}-{number}" for number in range(1, sessions))]
            self._settings[name] = settings
            self._operations[name] = {
                "get": OnSessions([Get(manager, f"{one}-get") for one in ids]),
                "update": OnSessions([Update(manager, one) for one in ids]),
                **{kind: make(settings) for kind, make in CONNECTIONS.items()},
            }
            operation = self._operations[name]["update"]
            for _ in range(WARMUP):
                operation.finish(operation.prepare()())
        return {"connected": list(stores)}

    def take(self, what: Sequence[str], rounds: int, seed: int, warmup_rounds: int = WARMUP_ROUNDS) -> dict[str, Any]:
        """Do each of these in all stores in turn; how long each call took, in nanoseconds, by `STORE/WHAT`."""
        operations = {f"{name}/{one}": found[one] for name, found in self._operations.items() for one in what}
        # Which of the orders is drawn is nobody's secret.
        generator = random.Random(seed)  # noqa: S311
        return take_turns(operations, rounds, generator, time.perf_counter, warmup_rounds)

    def update(self, store: str, start_at: float, seconds: float) -> dict[str, Any]:
        """Update one store for so long from then on (`time.monotonic`); how long each call took, in nanoseconds."""
        operation, durability = self._operations[store]["update"], self._settings[store].durability
        late_s = wait_until_then(start_at)
        samples: list[int] = []
        while time.monotonic() < start_at + seconds:
            call = operation.prepare()
            start = time.monotonic_ns()
            result = call()
            samples.append(time.monotonic_ns() - start)
            operation.finish(result)
            if result.durability.level != durability:
                raise AssertionError(f"an update is {result.durability.level}, not {durability}")
        return {"samples_ns": samples, "late_s": late_s}


def main() -> None:
    """Serve orders until standard input closes."""
    with ExitStack() as stack:
        serve(_Actor(stack))


if __name__ == "__main__":
    main()
