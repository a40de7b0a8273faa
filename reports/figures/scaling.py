"""How cost grows: updates by instances with the fitted law, and what the studies show along their axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.ticker import NullLocator

from reports.figures.style import (
    FONT_PT,
    INK,
    POINTS,
    SMALL_PT,
    Picture,
    below,
    canvas,
    drawn,
    heading,
    in_ink,
    logarithmic,
    look,
    number,
    style,
)
from reports.usl import fit_usl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from loadtests.studies.study import Result
    from reports.usl import Usl

_COMPARED = ("kairos", "bare")
_RIVALS = ("kairos", "watch_multi", "lock", "check_then_set")
# Studies of one subject or a few along an axis of numbers: which value, and what it is in words.
_GROWTH = {
    "live_sessions": ("update_p50_ms", "p50 of an update", "ms"),
    "state_size": ("update_p50_ms", "p50 of an update", "ms"),
    "watchers": ("last_p50_ms", "p50 until the last is told", "ms"),
    "lanes": ("drain_rows_per_s", "drained by all workers", "rows/s"),
}
# How many times as high as its foot a logarithmic axis is, at the least.
_LEAST_RANGE = 4.0
# Labels at the ends of lines are so many points apart.
_APART_PT = 15


class Curve(NamedTuple):
    """A subject's throughput.

    Attributes:
        subject: whose.
        points: instances, and what they did a second: one for each repetition.
        fit: of these points; None where they were too few to be fitted.
    """

    subject: str
    points: Sequence[tuple[int, float]]
    fit: Usl | None


class Spread(NamedTuple):
    """A value of a subject along the axis: median, smallest and largest of the repetitions at each place."""

    x: list[int]
    middle: list[float]
    smallest: list[float]
    largest: list[float]


def points_of(result: Result, subject: str, value: str) -> list[tuple[int, float]]:
    """The points of a subject along an axis of numbers, one for each repetition; what is not above 0 is none."""
    found = [
        (point.x, point.values.get(value, 0.0))
        for point in result.points
        if point.subject == subject and isinstance(point.x, int) and point.x > 0
    ]
    return [(x, seen) for x, seen in found if math.isfinite(seen) and seen > 0]


def spread(points: Sequence[tuple[int, float]]) -> Spread:
    """What the repetitions of each place are, rising."""
    places: dict[int, list[float]] = {}
    for x, value in points:
        places.setdefault(x, []).append(value)
    rows = [(x, float(np.median(found)), min(found), max(found)) for x, found in sorted(places.items())]
    return Spread(*(list(column) for column in zip(*rows, strict=True))) if rows else Spread([], [], [], [])


def instances(result: Result) -> Picture | None:
    """Updates a second by the number of instances, Kairos beside bare redis-py, each with its fitted law."""
    curves = []
    for subject in _COMPARED:
        points = points_of(result, subject, "updates_per_s")
        if points:
            curves.append(Curve(subject, points, _fitted(points)))
    return curved(curves, f"studies/{result.study}.json") if curves else None


def _fitted(points: Sequence[tuple[int, float]]) -> Usl | None:
    try:
        return fit_usl(points)
    except ValueError:
        return None


def curved(curves: Sequence[Curve], file: str = "") -> Picture:
    """Throughput by the number of instances: each repetition a point, with the fitted law and its interval."""
    with style():
        figure = canvas(3.7)
        axis = figure.subplots()
        ends = [_curve(axis, curve) for curve in curves]
        last = max(x for curve in curves for x, _ in curve.points)
        axis.set_xlim(0.6, last * 1.02)
        axis.set_ylim(0, 1.15 * max(value for curve in curves for _, value in curve.points))
        axis.set_xticks(sorted({x for curve in curves for x, _ in curve.points}))
        axis.yaxis.set_major_formatter(lambda value, _: number(value))
        heading(axis, "updates a second")
        below(axis, "instances (processes)")
        in_ink(axis)
        _at_ends(axis, ends)
        return drawn(
            figure,
            "Updates a second by instances",
            _said_of_curves(curves),
            "Each mark is one repetition, the line the Universal Scalability Law with its 95 % interval. Where it"
            " bends, instances wait for something in common; where it falls, they hinder each other. Instances and"
            " server share the cores of one machine.",
            file,
        )


def _curve(axis: Axes, curve: Curve) -> tuple[float, float, str]:
    shown = look(curve.subject)
    axis.plot(*zip(*curve.points, strict=True), shown.mark, color=shown.colour, markersize=5, markerfacecolor="none")
    last = max(x for x, _ in curve.points)
    if curve.fit is None:
        return last, float(np.median([value for x, value in curve.points if x == last])), shown.words
    numbers = np.linspace(1, curve.fit.largest, POINTS // 4)
    told = [curve.fit.at(one) for one in numbers]
    axis.plot(numbers, [one.value for one in told], linestyle=shown.line, color=shown.colour, linewidth=2)
    axis.fill_between(
        numbers, [one.lower for one in told], [one.upper for one in told], color=shown.colour, alpha=0.18, linewidth=0
    )
    return last, told[-1].value, shown.words


def _said_of_curves(curves: Sequence[Curve]) -> str:
    told = []
    for curve in curves:
        found = spread(curve.points)
        of_it = ", ".join(f"{x}: {value:,.0f}" for x, value in zip(found.x, found.middle, strict=True))
        law = "no law could be fitted"
        if curve.fit is not None:
            peak = "no peak" if curve.fit.peak is None else f"peak at {curve.fit.peak:.1f} instances"
            law = f"contention {curve.fit.contention}, coherency {curve.fit.coherency}, {peak}"
        told.append(f"{look(curve.subject).words}, by instances: {of_it}; {law}")
    return f"Updates a second, medians of the repetitions. {'. '.join(told)}."


def contention(result: Result) -> Picture | None:
    """Useful writes a second by the number of writers of one session, beside what one would use instead."""
    return along(
        result,
        "useful_per_s",
        title="Writes that come through, by writers of one session",
        words="useful writes a second (logarithmic)",
        caption="All write the same session as fast as they can. The higher and the flatter, the better; the thin bars"
        " are the range of the repetitions. The unsafe set checks and then writes: it loses writes.",
        subjects=_RIVALS,
    )


def growth(result: Result) -> Picture | None:
    """What another study shows along its axis; None: it is none of numbers."""
    if result.study not in _GROWTH:
        return None
    value, words, unit = _GROWTH[result.study]
    return along(
        result,
        value,
        title=f"{result.study.replace('_', ' ').capitalize()}: {words}",
        words=f"{words}, {unit} (logarithmic)",
        caption=f"{result.question} A flat line: it does not matter how many there are.",
    )


def along(  # noqa: PLR0913 - what is drawn, and what is said about it
    result: Result, value: str, *, title: str, words: str, caption: str, subjects: Sequence[str] = ()
) -> Picture | None:
    """A value by the place on the axis, both logarithmic: medians with the range of the repetitions."""
    wanted = subjects or list(dict.fromkeys(point.subject for point in result.points))
    found = {subject: spread(points_of(result, subject, value)) for subject in wanted}
    found = {subject: one for subject, one in found.items() if one.x}
    if not found:
        return None
    with style():
        figure = canvas(3.7)
        axis = figure.subplots()
        ends = []
        for subject, one in found.items():
            shown = look(subject)
            reach = [
                [middle - end for middle, end in zip(one.middle, one.smallest, strict=True)],
                [end - middle for middle, end in zip(one.middle, one.largest, strict=True)],
            ]
            axis.errorbar(
                one.x, one.middle, reach, linestyle=shown.line, marker=shown.mark, color=shown.colour, linewidth=2,
                markersize=6, elinewidth=1.2,
            )  # fmt: skip
            ends.append((one.x[-1], one.middle[-1], shown.words))
        axis.set_yscale("log")
        # What hardly differs is not to look as if it did.
        low, high = axis.get_ylim()
        axis.set_ylim(min(low, high / _LEAST_RANGE), max(high, low * _LEAST_RANGE))
        logarithmic(axis.yaxis)
        places = sorted({x for one in found.values() for x in one.x})
        axis.set_xscale("log")
        axis.set_xticks(places, [number(x) for x in places], fontsize=FONT_PT)
        axis.xaxis.set_minor_locator(NullLocator())
        heading(axis, words)
        below(axis, f"{result.axis} (logarithmic)")
        in_ink(axis)
        _at_ends(axis, ends)
        return drawn(figure, title, _said_of_spreads(result, value, found), caption, f"studies/{result.study}.json")


def _said_of_spreads(result: Result, value: str, found: dict[str, Spread]) -> str:
    told = [
        f"{look(subject).words}: "
        + ", ".join(f"{number(middle)} at {number(x)}" for x, middle in zip(one.x, one.middle, strict=True))
        for subject, one in found.items()
    ]
    return (
        f"{value.replace('_', ' ')} by {result.axis}, medians of {result.repetitions} repetitions. {'; '.join(told)}."
    )


def _at_ends(axis: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
    """Labels to the right of the ends of lines, moved apart where they would touch."""
    figure = axis.figure
    height_pt = 72 * figure.get_size_inches()[1] * 0.72  # type: ignore[union-attr]
    bottom, top = axis.get_ylim()
    is_log = axis.get_yscale() == "log"
    low, high = (np.log(bottom), np.log(top)) if is_log else (bottom, top)
    placed = -np.inf
    for _, y, text in sorted(ends, key=lambda end: end[1]):
        share = ((np.log(y) if is_log else y) - low) / (high - low)
        placed = max(share, placed + _APART_PT / height_pt)
        axis.annotate(
            text, (1.0, placed), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=SMALL_PT, color=INK, annotation_clip=False,
        )  # fmt: skip
