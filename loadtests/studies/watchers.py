"""How delivery grows with the watchers of one session, from one to a thousand.

One process writes, the next update when all have the one before it; a few others watch, many connections in each. What
is timed is from before the update call to when the first, the median and the last of the watchers has it: all read the
system-wide monotonic clock of one host. A watcher that is not told of an update ends the study: a number without it
would be one for fewer watchers.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from kairos_core import RedisStateManager
from loadtests.crowd import Crowd
from loadtests.environment import admin, harness, new_namespace
from loadtests.states import sample_state
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from kairos_core import Settings

HOWS = ("kairos", "wire")
PROCESSES = 4
# What came no sooner does not come any more; a thousand watchers of four processes take a tenth of a second.
ARRIVAL_TIMEOUT_S = 20.0
_WARMUP = 3
_LEAVING_S = 2.0
# Connections of others, on a server that is not ours alone.
_SPARE = 64


def measure(bench: Bench) -> list[Point]:
    """Time the deliveries, and what they cost."""
    counts, repetitions, updates = (
        ((1, 10, 100), 3, 40) if bench.is_quick else ((1, 3, 10, 30, 100, 300, 1_000), 5, 100)
    )
    bench.note(
        f"The watchers are shared out to up to {PROCESSES} processes, beside the writer and the server on the same"
        " cores: the last watcher waits for what its process does for the others, too. `wire` is the same connections"
        " as raw sockets, for which next to nothing is done."
    )
    with harness(new_namespace("watchers")) as settings:
        return points(bench, settings, counts, repetitions, updates)


def points(bench: Bench, settings: Settings, counts: Sequence[int], repetitions: int, updates: int) -> list[Point]:
    """Time so many updates at each number of watchers, in each repetition with fresh processes and connections."""
    found = []
    with admin(settings) as client:
        most = int(client.info("clients")["maxclients"]) - _SPARE
        for count in (count for count in counts if count > most):
            bench.note(f"{count} watchers were not measured: the server takes {most} connections besides its own.")
        for repetition in range(1, repetitions + 1):
            # The other one first each time, and the other end of the axis.
            for how in HOWS[:: 1 if repetition % 2 else -1]:
                places = [count for count in counts if count <= most][:: 1 if repetition % 2 else -1]
                with ExitStack() as stack:
                    manager = stack.enter_context(RedisStateManager.connect(settings))
                    crowds = [
                        stack.enter_context(Crowd(settings, how)) for _ in range(min(PROCESSES, max(places, default=0)))
                    ]
                    for count in places:
                        session_id = f"{how}-{repetition}-{count}"
                        samples, values = deliveries(
                            manager, crowds, client, session_id=session_id, count=count, updates=updates
                        )
                        for what, samples_ns in samples.items():
                            bench.keep(f"{how}/{count}/{repetition}/{what}", samples_ns)
                        found.append(Point(subject=how, x=count, repetition=repetition, values=values))
                        bench.say(
                            f"watchers  {how} {count}: first {values['first_p50_ms']:.2f} ms, last"
                            f" {values['last_p50_ms']:.2f}, update call {values['update_p50_ms']:.2f}"
                        )
    return found


def deliveries(  # noqa: PLR0913 - a point of the axis
    manager: RedisStateManager,
    crowds: Sequence[Crowd],
    client: redis.Redis,
    *,
    session_id: str,
    count: int,
    updates: int,
    before_each: Callable[[int], object] = lambda _: None,
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Update a session so often that so many watch.

    Args:
        manager: writes.
        crowds: watch.
        client: asks the server what it took.
        session_id: of a session to be made.
        count: of the watchers, over all crowds.
        updates: how many are timed.
        before_each: is called with an update's number before it; to disturb.

    Returns:
        The samples in nanoseconds by what they are of, and the point's values.

    Raises:
        UpdateMissedError: a watcher was not told of one.
    """
    state = manager.create_session(sample_state(session_id))
    shares = [len(range(place, count, len(crowds))) for place in range(len(crowds))]
    busy = [(crowd, share) for crowd, share in zip(crowds, shares, strict=True) if share]
    for crowd in crowds:
        # Where it has only begun, it has its first connection when this is answered.
        crowd.leave()
    connections = client.info("clients")["connected_clients"]
    memory = client.info("memory")["used_memory"]
    for crowd, share in busy:
        crowd.watch(session_id, share, state.version)
    memory = client.info("memory")["used_memory"] - memory
    samples: dict[str, list[int]] = {"update": [], "first": [], "median": [], "last": []}
    cost = _Cost(client)
    for number in range(-_WARMUP, updates):
        if number == 0:
            cost = _Cost(client)
        before_each(number)
        start = time.monotonic_ns()
        state = manager.update_session(state)
        took = time.monotonic_ns() - start
        arrivals = [arrival - start for crowd, _ in busy for arrival in crowd.arrivals_ns(ARRIVAL_TIMEOUT_S)]
        if number >= 0:
            seen = (took, min(arrivals), round(median(arrivals)), max(arrivals))
            for what, sample in zip(samples, seen, strict=True):
                samples[what].append(sample)
    values = cost.of_each(updates) | {
        "processes": float(len(busy)),
        "memory_kb_per_watcher": memory / count / 1e3,
    }
    for crowd, _ in busy:
        crowd.leave()
    # The server frees what they took a little later, which would count against the next ones. On a server that is not
    # ours alone others may have come meanwhile.
    wait_until(lambda: client.info("clients")["connected_clients"] <= connections, _LEAVING_S)
    for what, samples_ns in samples.items():
        found = percentiles_ms(samples_ns)
        values["count"] = found.pop("count")
        values |= {f"{what}_{name}": value for name, value in found.items()}
    return samples, values


class _Cost:
    """What the server spends from now on, by its own account."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._at_first = self._spent()

    def _spent(self) -> np.ndarray[Any, Any]:
        found = self._client.info()
        cpu_s = found["used_cpu_user"] + found["used_cpu_sys"]
        return np.array([cpu_s * 1e3, found["total_net_output_bytes"] / 1e3])

    def of_each(self, updates: int) -> dict[str, float]:
        """What it spent on each of so many updates."""
        cpu_ms, sent_kb = (self._spent() - self._at_first) / updates
        return {"server_cpu_ms_per_update": float(cpu_ms), "sent_kb_per_update": float(sent_kb)}


WATCHERS = Study(
    name="watchers",
    question="How long does an update take to the first and to the last of so many watchers, and what does it cost?",
    axis="watchers of the session",
    measure=measure,
)
