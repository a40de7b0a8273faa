"""Get and update over the same bytes on a raw socket, on a host that is kept awake and on one that may fall asleep.

The same code takes up to five times as long where the host puts idle processors to sleep, and the floor most of all, so
a ratio to the floor means little without the raw PING beside it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from loadtests.environment import harness, new_namespace
from loadtests.spinner import NotPermittedError, host_awake
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.turns import Turns

if TYPE_CHECKING:
    from kairos_core import Settings

OPERATIONS = ("get", "update")
ASLEEP, AWAKE = "as it is", "kept awake"
# Spinners end by themselves after this, whatever becomes of who started them.
_LONGEST_S = 300.0
# How many times its floor each may take at p50, by the raw PING's p50: a call of which the way is less has more of the
# rest. Between the two, nothing is asked.
BARS_FROM_US, BARS_BELOW_US = 50.0, 30.0
BARS = {"get": (1.3, 1.7), "update": (1.25, 1.5)}


def bar(operation: str, ping_us: float) -> float | None:
    """How many times its floor an operation may take at p50 where a raw PING takes so many microseconds; None: any."""
    slow, fast = BARS[operation]
    if ping_us > BARS_FROM_US:
        return slow
    return fast if ping_us < BARS_BELOW_US else None


def measure(bench: Bench) -> list[Point]:
    """Time both, and what they stand on."""
    repetitions, rounds = (3, 500) if bench.is_quick else (10, 5_000)
    bench.note(
        "Spinners of idle priority keep the processors awake; what else runs on the machine does so, too. The bars are"
        f" get {BARS['get'][0]} and update {BARS['update'][0]} times the floor where a raw PING takes over"
        f" {BARS_FROM_US:.0f} us, {BARS['get'][1]} and {BARS['update'][1]} times where it takes less than"
        f" {BARS_BELOW_US:.0f} us; they are shown, and fail nothing."
    )
    with harness(new_namespace("awake")) as settings:
        return points(bench, settings, repetitions, rounds)


def points(bench: Bench, settings: Settings, repetitions: int, rounds: int) -> list[Point]:
    """Time so many calls of each, each time in a fresh process; the host's states take turns."""
    found: list[Point] = []
    is_permitted = True
    for repetition in range(1, repetitions + 1):
        # Each is first as often as it is second.
        for state in (ASLEEP, AWAKE)[:: 1 if repetition % 2 else -1]:
            if state == AWAKE and not is_permitted:
                continue
            own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{state[0]}{repetition}")
            with ExitStack() as stack:
                if state == AWAKE:
                    try:
                        stack.enter_context(host_awake(_LONGEST_S))
                    except NotPermittedError as error:
                        is_permitted = False
                        bench.note(f"The host could not be kept awake, so it was measured only as it is: {error}.")
                        continue
                samples = stack.enter_context(Turns(own, "floor")).samples_ns(rounds, repetition)
            for name, samples_ns in samples.items():
                bench.keep(f"{name}/{state}/{repetition}/call", samples_ns)
            found += _compared(samples, state, repetition)
            ratios = {point.subject: point.values for point in found[-len(samples) :]}
            bench.say(
                f"awake     {state}: PING {ratios['ping']['p50_ms'] * 1e3:.0f} us; of the floor, get"
                f" {ratios['get']['of_floor_p50']:.2f} and update {ratios['update']['of_floor_p50']:.2f} times"
            )
    return found


def _compared(samples: dict[str, list[int]], state: str, repetition: int) -> list[Point]:
    values = {name: percentiles_ms(samples_ns) for name, samples_ns in samples.items()}
    ping_us = values["ping"]["p50_ms"] * 1e3
    for name in OPERATIONS:
        own, floor = values[name], values[f"{name}_floor"]
        own |= {
            f"of_floor_{part}": own[f"{part}_ms"] / floor[f"{part}_ms"]
            for part in ("p50", "p95")
            if f"{part}_ms" in own
        }
        own["ping_p50_us"] = ping_us
        most = bar(name, ping_us)
        if most is not None:
            own["bar_of_floor_p50"] = most
    return [Point(subject=name, x=state, repetition=repetition, values=own) for name, own in values.items()]


AWAKE_STUDY = Study(
    name="awake",
    question="How near are get and update to the same bytes on a raw socket, and what does the host's sleep add?",
    axis="the host",
    measure=measure,
)
