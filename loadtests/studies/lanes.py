"""What the number of lanes costs: an update, a drain of all lanes, and the sweeps of a store that is idle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from loadtests.environment import harness, new_namespace
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.subjects.lanes import SESSIONS
from loadtests.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core import Settings

CALLS = ("update", "expiry_sweep", "depths")


class Extent(NamedTuple):
    """How much is measured.

    Attributes:
        repetitions: fresh processes.
        rounds: timed calls of each in a process.
        drains: of each number of lanes in a process.
        rows: that are drained each time, over all lanes.
    """

    repetitions: int
    rounds: int
    drains: int
    rows: int


def measure(bench: Bench) -> list[Point]:
    """Time all of them for each number of lanes."""
    extent = Extent(3, 300, 2, 1_500) if bench.is_quick else Extent(10, 3_000, 3, 5_000)
    bench.note(
        f"Updates go to {SESSIONS} sessions in turn, however many lanes there are. A drain is one process that empties"
        f" one lane after the other of {extent.rows} entries in all, each of another session and in batches of at most"
        " 1,000: with more lanes, a batch has fewer."
    )
    bench.note(
        "expiry_sweep looks for sessions that are due where none is; depths is what the other sweep asks of all"
        " outboxes. Each is one round trip for all lanes of a single server."
    )
    with harness(new_namespace("lanes")) as settings:
        return points(bench, settings, (1, 4, 16, 64), extent)


def points(bench: Bench, settings: Settings, lanes: Sequence[int], extent: Extent) -> list[Point]:
    """Time each for each number of lanes, all in the same rounds of a fresh process.

    Args:
        bench: see `Bench`.
        settings: with an account that may do a worker's work.
        lanes: numbers of lanes.
        extent: how much.

    Raises:
        OrderError: a process has ended before it was done.
    """
    found = []
    names = list(map(str, lanes))
    for repetition in range(1, extent.repetitions + 1):
        own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_c{repetition}")
        with Turns(own, "lanes", *names) as turns:
            samples = turns.samples_ns(extent.rounds, repetition)
        own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_d{repetition}")
        with Turns(own, "drains", str(extent.rows), *names) as turns:
            samples |= turns.samples_ns(extent.drains, repetition, warmup_rounds=1)
        for count in lanes:
            values: dict[str, float] = {"count": float(extent.rounds), "rows": float(extent.drains * extent.rows)}
            for what in CALLS:
                seen = percentiles_ms(samples[f"{what}/{count}"])
                values |= {f"{what}_{name}": value for name, value in seen.items() if name != "count"}
            drained_ns = samples[f"drain/{count}"]
            values["drain_rows_per_s"] = values["rows"] / (sum(drained_ns) / 1e9)
            for what in (*CALLS, "drain"):
                bench.keep(f"kairos/{count}/{repetition}/{what}", samples[f"{what}/{count}"])
            found.append(Point(subject="kairos", x=count, repetition=repetition, values=values))
            bench.say(
                f"lanes     {count}: update p50 {values['update_p50_ms']:.3f} ms, {values['drain_rows_per_s']:,.0f}"
                f" rows/s, sweep p50 {values['expiry_sweep_p50_ms']:.3f} ms"
            )
    return found


LANES = Study(
    name="lanes",
    question="What do more lanes cost: an update, a drain of all of them, and the sweeps of an idle store?",
    axis="lanes",
    measure=measure,
)
