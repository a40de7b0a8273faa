"""A process that updates a session of its own as fast as it can: `python -m loadtests.updating` takes orders.

It connects to each of several stores, so that the same process can measure one after the other.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import RedisStateManager, Settings
from loadtests.orders import serve
from loadtests.subjects.kairos import Update

if TYPE_CHECKING:
    from collections.abc import Mapping

WARMUP = 20


class _Actor:
    """What such a process can do; each public method is an order."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._updates: dict[str, Update] = {}

    def connect(self, stores: Mapping[str, str], session_id: str) -> dict[str, Any]:
        """Connect to stores, given by the durability that each is asked for, and make a session in each."""
        for level, url in stores.items():
            settings = msgspec.structs.replace(Settings.from_env(), redis_url=url, durability=level)
            manager = self._stack.enter_context(RedisStateManager.connect(settings))
            operation = self._updates[level] = Update(manager, session_id)
            for _ in range(WARMUP):
                operation.finish(operation.prepare()())
        return {"connected": list(stores)}

    def update(self, level: str, start_at: float, seconds: float) -> dict[str, Any]:
        """Update for so long from then on (`time.monotonic`); how long each call took, in nanoseconds."""
        operation = self._updates[level]
        time.sleep(max(0.0, start_at - time.monotonic()))
        late_s = time.monotonic() - start_at
        samples: list[int] = []
        while time.monotonic() < start_at + seconds:
            call = operation.prepare()
            start = time.monotonic_ns()
            result = call()
            samples.append(time.monotonic_ns() - start)
            operation.finish(result)
            if result.durability.level != level:
                raise AssertionError(f"an update is {result.durability.level}, not {level}")
        return {"samples_ns": samples, "late_s": late_s}


def main() -> None:
    """Serve orders until standard input closes."""
    with ExitStack() as stack:
        serve(_Actor(stack))


if __name__ == "__main__":
    main()
