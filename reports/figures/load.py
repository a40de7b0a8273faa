"""A load test over time: how long turns took, what came of the steps, the trail's delay; and where the knee is."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.load.findings import NEVER_MS, in_words
from loadtests.load.histograms import Name, values_ms
from loadtests.load.offered import offered
from loadtests.load.resampling import percentile
from loadtests.load.timeline import CONFLICT, DROPPED, ERROR, OK, STEPS, UNKNOWN
from reports.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SHADE,
    SKY,
    TARGET,
    Picture,
    below,
    canvas,
    drawn,
    heading,
    in_ink,
    key,
    logarithmic,
    number,
    style,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from loadtests.load.findings import KneeStep
    from loadtests.load.timeline import Timeline
    from reports.evidence import LoadTest

# The percentiles over time: each with its colour, line and width.
LINES = {"p99": (0.99, RED, ":", 1.8), "p95": (0.95, ORANGE, "--", 1.8), "p50": (0.50, BLUE, "-", 2.0)}
# Each outcome with its colour and hatch; that of a stacked area carries no meaning alone.
OUTCOMES = {
    OK: (BLUE, ""),
    CONFLICT: (SKY, "///"),
    UNKNOWN: (ORANGE, "\\\\\\"),
    ERROR: (RED, "xx"),
    DROPPED: (PURPLE, "--"),
}
# Beside the end of what is shaded.
AWAY = "\N{LEFTWARDS ARROW} PostgreSQL was away"
# No picture has more moments than this: of a longer test each is of several seconds.
MOMENTS = 200


class OverTime(NamedTuple):
    """Something of each stretch of a test.

    Attributes:
        at_s: the middle of each, seconds since the beginning.
        step_s: how long each is.
        values: of each; where there was nothing, no number.
    """

    at_s: NDArray[np.float64]
    step_s: int
    values: NDArray[np.float64]


def stretch_s(length_s: int) -> int:
    """How many seconds each moment of a picture stands for."""
    return max(1, math.ceil(length_s / MOMENTS))


def latency_over_time(timeline: Timeline, share: float, operation: str = "turn") -> OverTime:
    """A percentile of the steps that were answered, in milliseconds, for each stretch in which they were due."""
    step_s = stretch_s(timeline.length_s)
    count = math.ceil(timeline.length_s / step_s)
    found: list[dict[int, int]] = [{} for _ in range(count)]
    for outcome in (OK, CONFLICT):
        for second, (places, counts) in timeline.buckets(Name(operation, outcome, "latency")).items():
            of_it = found[second // step_s]
            for place, often in zip(places.tolist(), counts.tolist(), strict=True):
                of_it[place] = of_it.get(place, 0) + often
    return OverTime(_middles(count, step_s), step_s, np.array([_percentile(one, share) for one in found]))


def _percentile(found: dict[int, int], share: float) -> float:
    if not found:
        return math.nan
    places = np.array(sorted(found))
    return percentile(values_ms()[places], np.array([found[place] for place in places.tolist()]), share)


def _middles(count: int, step_s: int) -> NDArray[np.float64]:
    return np.asarray((np.arange(count) + 0.5) * step_s, np.float64)


def outcomes_over_time(timeline: Timeline) -> dict[str, OverTime]:
    """Steps a second by how they ended, for each stretch in which they were due."""
    step_s = stretch_s(timeline.length_s)
    count = math.ceil(timeline.length_s / step_s)
    found = {outcome: np.zeros(count) for outcome in OUTCOMES}
    for name in timeline.names():
        if name.operation in STEPS and name.part == "latency" and name.outcome in found:
            for second, sparse in timeline.buckets(name).items():
                found[name.outcome][second // step_s] += sparse.counts.sum()
    return {outcome: OverTime(_middles(count, step_s), step_s, of_it / step_s) for outcome, of_it in found.items()}


def latency(test: LoadTest) -> Picture | None:
    """How long turns took over time, with what befell the test shaded."""
    lines = {name: latency_over_time(test.timeline, share) for name, (share, *_) in LINES.items()}
    p50 = lines["p50"]
    seen = np.isfinite(p50.values)
    if not seen.any():
        return None
    with style():
        figure = canvas(3.4)
        axis = figure.subplots()
        for name, line in lines.items():
            _, colour, dashes, width = LINES[name]
            axis.plot(line.at_s, line.values, color=colour, linestyle=dashes, linewidth=width, label=name)
        low, high = np.nanmin(p50.values), np.nanmax(lines["p99"].values)
        axis.set_yscale("log")
        axis.set_ylim(0.6 * low, 4 * high)
        logarithmic(axis.yaxis)
        _befell(axis, test)
        _seconds(axis, test)
        heading(axis, "turns, milliseconds (logarithmic)", key_rows=1)
        in_ink(axis)
        key(axis)
        return drawn(
            figure,
            f"{test.load.name}: latency over time",
            _said_of_latency(test, lines),
            f"Each point is {_every(p50.step_s)}: half of the turns were faster than p50, 99 in 100 faster than p99."
            " Look whether the lines rise where something is shaded.",
            f"load/{test.load.name}/load.json",
        )


def _said_of_latency(test: LoadTest, lines: dict[str, OverTime]) -> str:
    told = [f"{name} {np.nanmedian(line.values):.2f} ms" for name, line in reversed(lines.items())]
    p99 = lines["p99"]
    worst = int(np.nanargmax(p99.values))
    said = (
        f"Latency of turns over {test.timeline.length_s} s; the typical second has {', '.join(told)}."
        f" The highest p99 is {p99.values[worst]:.1f} ms, at {p99.at_s[worst]:.0f} s."
    )
    outage = test.load.outage
    if outage is not None:
        within = (p99.at_s >= outage.from_s) & (p99.at_s <= outage.until_s) & np.isfinite(p99.values)
        said += f" PostgreSQL was away from {outage.from_s:.0f} to {outage.until_s:.0f} s"
        said += f"; the typical p99 then was {np.median(p99.values[within]):.2f} ms." if within.any() else "."
    return said


def _every(step_s: int) -> str:
    return "one second" if step_s == 1 else f"{step_s} seconds"


def _befell(axis: Axes, test: LoadTest) -> None:
    """The ramp, and when PostgreSQL was away; each with its name at its edge."""
    top = axis.get_ylim()[1]
    ramp_s = test.load.scenario.ramp_s
    if ramp_s > 0:
        axis.axvline(ramp_s, color=INK, linewidth=1, linestyle=(0, (2, 2)))
        tell(axis, ramp_s, top, "end of ramp", dx=4, dy=-9)
    if test.load.outage is not None:
        _shaded(axis, test)
        tell(axis, test.load.outage.until_s, top, AWAY, dx=4, dy=-9)


def _shaded(axis: Axes, test: LoadTest) -> None:
    outage = test.load.outage
    if outage is not None:
        axis.axvspan(outage.from_s, outage.until_s, color=INK, alpha=SHADE, linewidth=0, zorder=0)


def _seconds(axis: Axes, test: LoadTest) -> None:
    axis.set_xlim(0, max(1, test.timeline.length_s))
    below(axis, "seconds since the beginning")


def outcomes(test: LoadTest) -> Picture | None:
    """What came of the steps over time, beside what was to be offered."""
    found = outcomes_over_time(test.timeline)
    totals = {name: round(float(one.values.sum()) * one.step_s) for name, one in found.items()}
    if not sum(totals.values()):
        return None
    planned = _planned(test)
    there = [name for name, total in totals.items() if total]
    absent = [name for name, total in totals.items() if not total]
    others = [name for name in there if name != OK]
    with style():
        figure = canvas(4.9 if others else 3.3)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2)) if others else [figure.subplots()]
        top = _stacked(axes[0], {name: found[name] for name in there}, totals)
        axes[0].stairs(planned.values, _edges(planned), color=INK, linewidth=1.8, baseline=None, label="offered")
        axes[0].set_ylim(0, 1.2 * max(top, planned.values.max()))
        _befell(axes[0], test)
        if others:
            # Beside thousands that ended well, a few that did not cannot be seen.
            lower_top = _stacked(axes[1], {name: found[name] for name in others}, totals)
            axes[1].set_ylim(0, 1.2 * lower_top)
            heading(axes[1], "of them not ok, steps a second")
            _shaded(axes[1], test)
        for axis in axes:
            axis.yaxis.set_major_formatter(lambda value, _: number(value))
            axis.locator_params(axis="y", nbins=5)
            in_ink(axis)
        _seconds(axes[-1], test)
        heading(axes[0], "steps a second", key_rows=math.ceil((len(there) + 1) / 3))
        key(axes[0])
        none = f" No step ended as: {', '.join(absent)}." if absent else ""
        told = ", ".join(f"{totals[name]:,} {name}" for name in there)
        return drawn(
            figure,
            f"{test.load.name}: what came of the steps",
            f"Outcomes of {sum(totals.values()):,} steps over {test.timeline.length_s} s: {told}.{none} Offered were"
            f" {round(float(planned.values.sum()) * planned.step_s):,}.",
            f"The line is what users asked for, the area what they got. A gap between them is work left undone.{none}",
            f"load/{test.load.name}/load.json",
        )


def _stacked(axis: Axes, found: dict[str, OverTime], totals: dict[str, int]) -> float:
    """Outcomes on each other; returns the highest sum."""
    base = np.zeros(len(next(iter(found.values())).values))
    for name, one in found.items():
        colour, hatch = OUTCOMES[name]
        above = base + one.values
        # Where there is none of it nothing is drawn, not even what is 0 high.
        shown = np.where(one.values > 0, above, np.nan)
        axis.stairs(
            shown, _edges(one), baseline=base, fill=True, facecolor=colour, edgecolor=INK, hatch=hatch or None,
            linewidth=0, alpha=0.6, label=f"{name} {totals[name]:,}",
        )  # fmt: skip
        base = above
    return float(base.max())


def _edges(one: OverTime) -> NDArray[np.float64]:
    """When each stretch begins, and when the last one ends."""
    return np.append(one.at_s - one.step_s / 2, one.at_s[-1] + one.step_s / 2)


def _planned(test: LoadTest) -> OverTime:
    by_second = offered(test.load.scenario, test.load.seed, max(1, len(test.load.parts))).by_second
    step_s = stretch_s(test.timeline.length_s)
    count = math.ceil(len(by_second) / step_s)
    padded = np.zeros(count * step_s)
    padded[: len(by_second)] = by_second
    return OverTime(_middles(count, step_s), step_s, np.asarray(padded.reshape(count, step_s).mean(axis=1), np.float64))


def knee(test: LoadTest) -> Picture | None:
    """The percentile of turns by the rate that was offered, and how much of it was done."""
    steps = [step for step in test.verdict.knee if step.offered_per_s > 0]
    of_it = [one.target for one in test.verdict.targets if one.target.is_knee]
    if not steps or not of_it or of_it[0].below_ms is None:
        return None
    statistic, limit = of_it[0].statistic, of_it[0].below_ms
    with style():
        figure = canvas(4.3)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _percentiles(upper, steps, limit, f"{statistic} of {of_it[0].operation}s")
        _done(lower, steps)
        return drawn(
            figure,
            f"{test.load.name}: where is the knee?",
            _said_of_knee(steps, limit, f"{statistic} of {of_it[0].operation}s"),
            "Filled: the system took that load. Cross: it did not. Hollow: the generator itself was at its limit, so"
            " that step says nothing of the system. The knee is the last filled mark, or beyond it where a hollow one"
            " follows.",
            f"load/{test.load.name}/load_verdict.json",
        )


def places(steps: Sequence[KneeStep], limit: float) -> tuple[list[tuple[float, float]], float]:
    """Where each step stands, in steps a second and milliseconds, and the upper edge.

    What was given up never was: it has no time, and stands at the edge.
    """
    edge = 3 * max(limit, *(step.percentile_ms for step in steps if step.percentile_ms < NEVER_MS), 0.0)
    return [(step.offered_per_s, min(max(step.percentile_ms, 1e-3), edge)) for step in steps], edge


def _percentiles(axis: Axes, steps: Sequence[KneeStep], limit: float, what: str) -> None:
    shown, edge = places(steps, limit)
    never = [step.offered_per_s for step in steps if step.percentile_ms >= NEVER_MS]
    if never:
        tell(axis, never[0], edge, "given up", dx=-8, dy=-2, ha="right")
    axis.plot(*zip(*shown, strict=True), color=BLUE, linewidth=1.2, alpha=0.6)
    for step, (x, y) in zip(steps, shown, strict=True):
        mark, fill = ("o", "none") if step.is_saturated else ("o", BLUE) if step.is_taken else ("X", RED)
        colour = BLUE if mark == "o" else RED
        axis.plot(x, y, mark, color=colour, markerfacecolor=fill, markersize=9, markeredgewidth=1.8)
    axis.axhline(limit, color=TARGET, linewidth=1.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.25 * min(y for _, y in shown), 1.3 * edge)
    logarithmic(axis.yaxis)
    tell(axis, shown[0][0], limit, f"limit: {number(limit)} ms", dy=9)
    last = knee_of(steps)
    if last is not None:
        step = steps[last]
        is_end = last + 1 == len(steps) or steps[last + 1].is_saturated
        words = f"at least {round(step.offered_per_s):,}/s" if is_end else f"knee: {round(step.offered_per_s):,}/s"
        tell(axis, *shown[last], words, dy=-17, ha="center", fontweight="bold")
    heading(axis, f"{what}, milliseconds (logarithmic)")
    in_ink(axis)


def knee_of(steps: Sequence[KneeStep]) -> int | None:
    """The place of the last step that the system took before one that it did not; None: it took none."""
    taken = list(itertools.takewhile(lambda step: step.is_taken, steps))
    return len(taken) - 1 if taken else None


def _done(axis: Axes, steps: Sequence[KneeStep]) -> None:
    shares = [100 * step.begun_per_s / step.offered_per_s for step in steps]
    rates = [step.offered_per_s for step in steps]
    axis.plot(rates, shares, "-s", color=GREEN, linewidth=1.4, markersize=6)
    logarithmic(axis.xaxis)
    axis.set_xticks(_few(rates), [f"{round(rate):,}" for rate in _few(rates)])
    axis.set_ylim(min(0.95 * min(shares), 80), 104)
    heading(axis, "done, % of what was offered")
    below(axis, "offered steps a second (logarithmic)")
    in_ink(axis)


def _few(rates: Sequence[float]) -> list[float]:
    """So few of the rates that their labels do not touch."""
    return list(rates[:: max(1, math.ceil(len(rates) / 5))])


def _said_of_knee(steps: Sequence[KneeStep], limit: float, what: str) -> str:
    told = []
    for step in steps:
        how = "generator saturated" if step.is_saturated else "taken" if step.is_taken else f"not taken: {step.why}"
        told.append(f"{step.offered_per_s:,.0f}/s: {in_words(step.percentile_ms)} ({how})")
    return f"The {what} by the offered rate, with a limit of {number(limit)} ms. {'; '.join(told)}."
