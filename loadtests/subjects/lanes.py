"""What lanes cost: updates that are spread over them, drains and sweeps of all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from kairos_core import AuditWriter, RedisStateManager
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.commands import Commands
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from loadtests.states import sample_state
from loadtests.subjects.kairos import OnSessions, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from kairos_core import Settings
    from loadtests.interleave import Operation

# The same for every number of lanes, of which each has some.
SESSIONS = 256


class ExpirySweep:
    """A sweep of all lanes for sessions that are due, of which there are none."""

    def __init__(self, expiry: Expiry) -> None:
        self._sweep = expiry.sweep

    def prepare(self) -> Callable[[], int]:
        """The call to time."""
        return self._sweep

    def finish(self, result: int) -> None:
        """Check that nothing was to be done."""
        if result:
            raise AssertionError(f"a sweep of an idle store ended {result} sessions")


class Depths:
    """How many entries each lane's outbox has: what the sweep that hands out the lanes asks where all are empty."""

    def __init__(self, outbox: Outbox, lanes: int) -> None:
        self._depths, self._lanes = outbox.depths, lanes

    def prepare(self) -> Callable[[], Sequence[int]]:
        """The call to time."""
        return self._depths

    def finish(self, result: Sequence[int]) -> None:
        """Check that every lane was looked at; the updates beside it are in their outboxes."""
        if len(result) != self._lanes:
            raise AssertionError(f"{len(result)} depths of {self._lanes} lanes")


class DrainOfAll:
    """Outbox to rows, one lane after the other: read, write, commit, delete. Each row is of another session."""

    def __init__(self, settings: Settings, rows: int, stack: ExitStack) -> None:
        self._rows, self._lanes = rows, settings.lanes
        self._commands = Commands(settings, Layout(settings.namespace, settings.lanes))
        self._client = stack.enter_context(redis.Redis.from_url(settings.redis_url))
        with RedisStateManager.connect(settings) as manager:
            # So that the server knows the script.
            manager.create_session(sample_state("first"))
        self._outbox = Outbox.connect(settings)
        stack.callback(self._outbox.close)
        self._writer = stack.enter_context(AuditWriter.connect(settings))
        self._writer.migrate()
        self._drain()
        self._filled = 0

    def prepare(self) -> Callable[[], int]:
        """The drain to time, of outboxes that were filled."""
        with self._client.pipeline(transaction=False) as pipeline:
            for number in range(self._filled, self._filled + self._rows):
                pipeline.execute_command(*self._commands.create(sample_state(f"row-{number}"), "created").words)
            pipeline.execute()
        self._filled += self._rows
        return self._drain

    def _drain(self) -> int:
        return sum(drain_lane(self._outbox, self._writer, lane) for lane in range(self._lanes))

    def finish(self, result: int) -> None:
        """Check that everything was moved."""
        if (result, sum(self._outbox.depths())) != (self._rows, 0):
            raise AssertionError(f"{result} rows of {self._rows} entries, {sum(self._outbox.depths())} left")


def with_lanes(settings: Settings, lanes: int) -> Settings:
    """The same settings with so many lanes, in a namespace of its own."""
    return msgspec.structs.replace(settings, lanes=lanes, namespace=f"{settings.namespace}_{lanes}")


def operations(settings: Settings, _: Any, stack: ExitStack, *lanes: str) -> dict[str, Operation]:
    """`update/LANES`, `expiry_sweep/LANES` and `depths/LANES`, for each number of lanes; see `loadtests.turns`."""
    found: dict[str, Operation] = {}
    for count in map(int, lanes):
        own = with_lanes(settings, count)
        manager = stack.enter_context(RedisStateManager.connect(own))
        outbox, expiry = Outbox.connect(own), Expiry.connect(own)
        stack.callback(outbox.close)
        stack.callback(expiry.close)
        found[f"update/{count}"] = OnSessions([Update(manager, f"s{number}") for number in range(SESSIONS)])
        found[f"expiry_sweep/{count}"] = ExpirySweep(expiry)
        found[f"depths/{count}"] = Depths(outbox, count)
    return found


def drains(settings: Settings, _: Any, stack: ExitStack, rows: str, *lanes: str) -> dict[str, Operation]:
    """`drain/LANES` of so many rows, for each number of lanes; see `loadtests.turns`."""
    make = partial(DrainOfAll, rows=int(rows), stack=stack)
    return {f"drain/{count}": make(with_lanes(settings, int(count))) for count in lanes}
