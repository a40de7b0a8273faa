"""What a state's size costs: create, get and update with few and with many participants.

Beside Kairos stand redis-py with the same words, built outside of the time measured, and the same bytes on a raw
socket: what Kairos takes more than redis-py is encoding, checking and decoding, less what redis-py's way costs more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kairos_core import session
from loadtests.environment import harness, new_namespace
from loadtests.states import sample_state
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.subjects.sizes import OPERATIONS, SUBJECTS
from loadtests.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core import Settings


def measure(bench: Bench) -> list[Point]:
    """Time all three at each size."""
    sizes, repetitions, rounds = (
        ((2, 30, 300, 1_000), 3, 120) if bench.is_quick else ((2, 10, 30, 100, 300, 1_000), 10, 500)
    )
    bench.note(
        "redis_py and wire neither encode nor decode: Kairos does both within the time. A get of redis_py is HMGET, its"
        " create and update are EVALSHA of Kairos' own scripts with the same words. wire is the same bytes on a raw"
        " socket. body_bytes is the state as JSON."
    )
    bench.note("What was written is removed from the outbox after each call, outside of the time measured.")
    with harness(new_namespace("state_size")) as settings:
        return points(bench, settings, sizes, repetitions, rounds)


def points(bench: Bench, settings: Settings, sizes: Sequence[int], repetitions: int, rounds: int) -> list[Point]:
    """Time so many calls of each at each size, each time in a fresh process.

    Args:
        bench: see `Bench`.
        settings: with an account that may trim outboxes.
        sizes: numbers of participants.
        repetitions: how often each is measured.
        rounds: timed calls of each operation.

    Raises:
        OrderError: a process has ended before it was done.
    """
    found = []
    for repetition in range(1, repetitions + 1):
        # The first in one repetition is the last in the next.
        for size in sizes[:: 1 if repetition % 2 else -1]:
            own = msgspec.structs.replace(
                settings,
                namespace=f"{settings.namespace}_{size}_{repetition}",
                # Whatever the environment says: what is measured is not a refusal.
                state_limit_bytes=max(settings.state_limit_bytes, session.MAX_STATE_BYTES),
            )
            with Turns(own, "sizes", str(size)) as turns:
                samples = turns.samples_ns(rounds, repetition)
            body, _ = session.encode(sample_state("kairos-get", size))
            for subject in SUBJECTS:
                values = {"body_bytes": float(len(body)), "count": float(rounds)}
                for what in OPERATIONS:
                    samples_ns = samples[f"{subject}/{what}"]
                    bench.keep(f"{subject}/{size}/{repetition}/{what}", samples_ns)
                    values |= {
                        f"{what}_{name}": value for name, value in percentiles_ms(samples_ns).items() if name != "count"
                    }
                found.append(Point(subject=subject, x=size, repetition=repetition, values=values))
            by = {point.subject: point.values for point in found[-len(SUBJECTS) :]}
            bench.say(
                f"state_size {size} participants, {len(body):,} bytes: Kairos' p50 over redis-py's: "
                + ", ".join(
                    f"{what} {by['kairos'][f'{what}_p50_ms'] / by['redis_py'][f'{what}_p50_ms']:.2f}"
                    for what in OPERATIONS
                )
            )
    return found


STATE_SIZE = Study(
    name="state_size",
    question="How do create, get and update grow with the size of a state?",
    axis="participants of the session",
    measure=measure,
)
