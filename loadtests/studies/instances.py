"""How many updates a second several instances make, each of a session of its own, as Kairos and as bare redis-py.

All run on the same cores as the server, so from a number of instances on there is nothing left to share out: what each
of them spends on a call then decides how many calls there are. The server's own ceiling, from a client that spends next
to nothing on each, is measured beside them.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from kairos_core.layout import Layout
from loadtests.at_once import at_once, connect, helpers_of
from loadtests.environment import admin, harness, new_namespace
from loadtests.studies.study import OUTBOX_LIMIT, Bench, Point, Study

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from kairos_core import Settings
    from loadtests.orders import Helper

COMPARED = ("kairos", "kairos_changed", "bare")
# Of these alone a law is fitted, and one is judged by the other.
IN_BRIEF = ("kairos", "bare")
CEILING = "ceiling"
# Processes that are to find the ceiling: one may not be able to keep the server busy, more take its core away.
CEILING_COUNTS = (1, 2)
# What is judged is measured for at least so long: one is judged by the other at so many instances (`targets.toml`).
BAR_INSTANCES, BAR_S = 4, 3.0
# How often they take turns at each place: what befalls the machine for a while befalls both.
_ROUNDS = 2


def measure(bench: Bench) -> list[Point]:
    """Let them update."""
    counts, repetitions, seconds = (
        ((1, 2, 3, 4, 6, 8), 3, 0.8) if bench.is_quick else (range(1, 9), 10, 0.8 if bench.is_of_a_report else 3.0)
    )
    subjects: Sequence[str] = COMPARED
    if bench.is_brief:
        seconds, subjects = 0.4, IN_BRIEF
    bench.note(
        "bare: redis-py's evalsha of Kairos' own script. Its state was encoded once, beforehand; each call makes only"
        " an operation id, the receipt's key and the version, and checks the reply. kairos: update_session of the state"
        " that the last call returned: checks, encoding, a deadline, and the state that is returned. Nothing in it was"
        " changed, so it is not decoded to be checked. kairos_changed: all participants were, which takes the caller"
        " its time, and it is decoded."
    )
    bench.note(
        "ceiling: the same words over a raw connection, 100 commands at once, by one process and by two;"
        " share_of_ceiling is of the better one of the same repetition. All processes share the cores with the server;"
        " ..._cores is how many of them were busy."
    )
    with harness(new_namespace("instances")) as settings:
        return points(bench, settings, counts, repetitions, seconds, subjects)


def points(  # noqa: PLR0913, PLR0917 - what is measured
    bench: Bench,
    settings: Settings,
    counts: Sequence[int],
    repetitions: int,
    seconds: float,
    subjects: Sequence[str] = COMPARED,
) -> list[Point]:
    """Let so many processes update for so long, a part of it at a time; fresh processes in each repetition."""
    found = []
    settings = msgspec.structs.replace(settings, outbox_limit=OUTBOX_LIMIT)
    # Only where it is judged: a report that is quick does not.
    longest = max(seconds, BAR_S) if bench.is_of_a_report else seconds
    times = {count: longest if count == BAR_INSTANCES else seconds for count in (*counts, *CEILING_COUNTS)}
    outboxes = Layout(settings.namespace, settings.lanes).outboxes
    with admin(settings) as client:
        for repetition in range(1, repetitions + 1):
            run = f"{new_namespace('run')}-{repetition}"
            slices: dict[tuple[str, int], list[dict[str, float]]] = {}
            with ExitStack() as processes:
                helpers = helpers_of("loadtests.throughput", max(*counts, *CEILING_COUNTS), settings, processes)
                connect(helpers, run=run)
                for name, count in _turns(counts, subjects)[:: 1 if repetition % 2 else -1]:
                    one = updated(helpers[:count], client, name, times[count] / 2 / _ROUNDS)
                    slices.setdefault((name, count), []).append(one)
                    # Nobody reads what they hold: a copy of every state that was written.
                    client.unlink(*outboxes)
            values = {
                place: {what: fmean(one[what] for one in many) for what in many[0]} for place, many in slices.items()
            }
            ceiling = max(values[CEILING, count]["updates_per_s"] for count in CEILING_COUNTS)
            for (name, count), one in values.items():
                one["share_of_ceiling"] = one["updates_per_s"] / ceiling
                found.append(Point(subject=name, x=count, repetition=repetition, values=one))
                bench.say(
                    f"instances {name}, {count} processes: {one['updates_per_s']:.0f} updates/s,"
                    f" {one['share_of_ceiling']:.0%} of the ceiling, server {one['server_cores']:.2f} cores"
                )
    return found


def _turns(counts: Sequence[int], subjects: Sequence[str]) -> list[tuple[str, int]]:
    """Who goes when: one, the other, the other, the first, so that what drifts befalls both alike."""
    groups = [[(name, count) for name in subjects] for count in counts]
    groups.append([(CEILING, count) for count in CEILING_COUNTS])
    return [place for group in groups for place in (*group, *reversed(group)) * _ROUNDS]


def updated(helpers: Sequence[Helper], client: redis.Redis, subject: str, seconds: float) -> dict[str, float]:
    """Let these update for so long.

    Raises:
        OrderError: one has ended, for instance because an update was not answered as one.
        StartedLateError: they did not begin together.
    """
    spent_s = 0.0

    def prepare(_: int) -> dict[str, str]:
        nonlocal spent_s
        spent_s = _server_cpu_s(client)
        return {"subject": subject}

    answers, _ = at_once(helpers, "update", seconds, prepare)
    spent_s = _server_cpu_s(client) - spent_s
    count, used_s = (sum(answer[what] for answer in answers) for what in ("count", "cpu_s"))
    return {
        # The last step of each ends after the time: it is divided by what it really took.
        "updates_per_s": sum(answer["count"] / answer["took_s"] for answer in answers),
        "generator_cores": sum(answer["cpu_s"] / answer["took_s"] for answer in answers),
        "server_cores": spent_s / max(answer["took_s"] for answer in answers),
        # What does not depend on how busy the machine is otherwise.
        "generator_us_per_update": used_s / count * 1e6,
        "server_us_per_update": spent_s / count * 1e6,
    }


def _server_cpu_s(client: redis.Redis) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


INSTANCES = Study(
    name="instances",
    question="How many updates a second do several instances make, and how near is that to what the server can do?",
    axis="processes that update",
    measure=measure,
)
