"""What each level of durability costs: how long an update takes, and how many are made, by one process and by several.

Each level has a server of its own (see `loadtests.servers.levels`), and they take turns: a second of one, then of the
next, in the same processes.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import redis

from kairos_core import Settings
from kairos_core.layout import Layout
from kairos_core.settings import LocalSettings
from loadtests.at_once import helpers_of
from loadtests.environment import new_namespace
from loadtests.servers.levels import file_system, level_servers
from loadtests.studies.study import OUTBOX_LIMIT, Bench, Point, Study, percentiles_ms
from loadtests.updating import UPDATING, updates_ns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
        settings = Settings(namespace=new_namespace("durability"), outbox_limit=OUTBOX_LIMIT)
        with ExitStack() as stack:
            # When the processes are gone, so are their traces.
            stack.callback(_remove_outboxes, settings, stores)
            helpers = helpers_of(UPDATING, max(counts), settings, stack)
            for number, helper in enumerate(helpers):
                helper.tell("connect", stores=dict(stores), session_id=f"process-{number}")
            for helper in helpers:
                helper.answer()
            # The first in one repetition is the last in the next.
            places = [(level, count) for count in counts for level in stores][:: 1 if repetition % 2 else -1]
            for level, count in places:
                samples_ns = updates_ns(helpers[:count], level, seconds)
                bench.keep(f"{level}/{count}/{repetition}/update", samples_ns)
                values = percentiles_ms(samples_ns) | {"updates_per_s": len(samples_ns) / seconds}
                found.append(Point(subject=level, x=count, repetition=repetition, values=values))
                bench.say(
                    f"durability {level}, {count} processes: p50 {values['p50_ms']:.3f} ms,"
                    f" {values['updates_per_s']:.0f} updates/s"
                )
    return found


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
