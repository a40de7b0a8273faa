"""What each level of durability costs: how long an update takes, and how many are made, by one process and by several.

Each level has a server of its own (see `loadtests.servers.levels`), and they take turns: a second of one, then of the
next, in the same processes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import redis

from kairos_core import Settings
from kairos_core.layout import Layout
from kairos_core.settings import LocalSettings, child_environment
from loadtests.environment import new_namespace
from loadtests.orders import Helper
from loadtests.servers.levels import file_system, level_servers
from loadtests.studies.study import Bench, Point, Study, percentiles_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Nothing drains these outboxes, and none is to be full.
_OUTBOX_LIMIT = 10_000_000
_END_TIMEOUT_S = 10.0
# All processes begin by then.
_AHEAD_S = 0.2
# Where one begins later than this share of the time, or this, the others were measured alone for too long.
_LATE_SHARE, _LATE_S = 0.1, 0.1
# On a machine that is busy, it is tried again.
_ATTEMPTS = 5


class StartedLateError(RuntimeError):
    """Processes that were to write at the same time did not."""


def measure(bench: Bench) -> list[Point]:
    """Time the updates at each level."""
    repetitions, seconds = (3, 1.0) if bench.is_quick else (10, 5.0)
    kind = file_system(LocalSettings.from_env().folder)
    bench.note(f"The file of the fsync level is on {kind}; the replica of the replicated level is on this machine.")
    if kind == "tmpfs":
        bench.note("On tmpfs, no disk is waited for: fsync costs more where there is one.")
    with level_servers() as stores:
        return points(bench, stores, (1, 4), repetitions, seconds)


def points(
    bench: Bench, stores: Mapping[str, str], counts: Sequence[int], repetitions: int, seconds: float
) -> list[Point]:
    """Let so many processes write, each for so long to each of the stores; fresh ones in each repetition."""
    found = []
    for repetition in range(1, repetitions + 1):
        settings = Settings(namespace=new_namespace("durability"), outbox_limit=_OUTBOX_LIMIT)
        with ExitStack() as stack:
            # When the processes are gone, so are their traces.
            stack.callback(_remove_outboxes, settings, stores)
            helpers = [updating(settings, stack) for _ in range(max(counts))]
            for number, helper in enumerate(helpers):
                helper.tell("connect", stores=dict(stores), session_id=f"process-{number}")
            for helper in helpers:
                helper.answer()
            # The first in one repetition is the last in the next.
            places = [(level, count) for count in counts for level in stores][:: 1 if repetition % 2 else -1]
            for level, count in places:
                samples_ns = at_once(helpers[:count], level, seconds)
                bench.keep(f"{level}/{count}/{repetition}/update", samples_ns)
                values = percentiles_ms(samples_ns) | {"updates_per_s": len(samples_ns) / seconds}
                found.append(Point(subject=level, x=count, repetition=repetition, values=values))
                bench.say(
                    f"durability {level}, {count} processes: p50 {values['p50_ms']:.3f} ms,"
                    f" {values['updates_per_s']:.0f} updates/s"
                )
    return found


def updating(settings: Settings, stack: ExitStack) -> Helper:
    """A fresh process that updates (see `loadtests.updating`), which ends with the stack."""
    helper = Helper("loadtests.updating", environment=child_environment(settings))
    stack.callback(helper.close, _END_TIMEOUT_S)
    return helper


def at_once(helpers: Sequence[Helper], level: str, seconds: float) -> list[int]:
    """How long each update of these processes took, while all of them wrote.

    Raises:
        StartedLateError: not all began in time.
        OrderError: an update failed, or was not as safe as the level says.
    """
    latest_s = 0.0
    for _ in range(_ATTEMPTS):
        start_at = time.monotonic() + _AHEAD_S
        for helper in helpers:
            helper.tell("update", level=level, start_at=start_at, seconds=seconds)
        answers = [helper.answer() for helper in helpers]
        latest_s = max(answer["late_s"] for answer in answers)
        if latest_s <= max(_LATE_S, _LATE_SHARE * seconds):
            return [sample for answer in answers for sample in answer["samples_ns"]]
    raise StartedLateError(f"{level}: a process of {len(helpers)} began {latest_s:.2f} s late, {_ATTEMPTS} times")


def _remove_outboxes(settings: Settings, stores: Mapping[str, str]) -> None:
    """They have a copy of every state that was written; the sessions are few, and end by themselves."""
    outboxes = Layout(settings.namespace, settings.lanes).outboxes
    for url in stores.values():
        with closing(redis.Redis.from_url(url)) as client:
            client.unlink(*outboxes)


DURABILITY = Study(
    name="durability",
    question="What does it cost to have an update on disk, or on a replica, before it is acknowledged?",
    axis="processes that write",
    measure=measure,
)
