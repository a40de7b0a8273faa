"""Figures of a run, as inline SVG."""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.results import OPERATIONS, words
from reports.statistics import BAND, fires

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from reports.results import Run
    from reports.statistics import Comparison
    from reports.usl import Usl

# Okabe and Ito's colours, which colour-blind readers can tell apart; the line styles tell them apart without colour.
_SUBJECTS = {
    "kairos": ("Kairos", "#0072B2", "-"),
    "bare": ("bare redis-py", "#E69F00", "--"),
    "floor": ("same bytes, raw socket", "#009E73", ":"),
}
_TARGET = "#D55E00"
_INK = "#808080"  # readable on white and on black
_POINTS = 400


class Picture(NamedTuple):
    """An SVG that notebooks show and pages inline."""

    svg: str
    description: str

    def _repr_html_(self) -> str:
        return f'<figure role="img" aria-label="{self.description}">{self.svg}</figure>'


def distributions(run: Run) -> Picture:
    """The latency distribution of each operation, with its targets as vertical lines."""
    operations = [name for name in OPERATIONS if name in run.samples]
    with _style():
        figure = Figure(figsize=(9, 2.1 * len(operations) + 0.6), layout="constrained")
        axes = figure.subplots(len(operations), 1, sharex=True, squeeze=False)[:, 0]
        for axis, operation in zip(axes, operations, strict=True):
            _distribution(axis, run, operation)
        axes[-1].set_xlabel("latency in milliseconds (logarithmic)", color=_INK)
        handles, labels = axes[
            operations.index("get_session") if "get_session" in operations else 0
        ].get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        for text in legend.get_texts():
            text.set_color(_INK)
        return _picture(figure, "Share of calls answered within a time, per operation, with target lines")


@contextmanager
def _style() -> Iterator[None]:
    # Text stays text: small, searchable, and in the reader's own font. The salt makes ids the same in every rendering.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kairos", "font.family": "sans-serif"}):
        yield


def _picture(figure: Figure, description: str) -> Picture:
    target = io.StringIO()
    figure.savefig(
        target, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    svg = target.getvalue()
    return Picture(svg[svg.index("<svg") :], description)


def _distribution(axis: Axes, run: Run, operation: str) -> None:
    shares = np.concatenate([np.linspace(0, 0.98, _POINTS), np.linspace(0.98, 1, _POINTS // 4)])
    for subject, (label, colour, style) in _SUBJECTS.items():
        if subject in run.samples[operation]:
            pooled = np.concatenate(run.samples[operation][subject])
            axis.plot(np.quantile(pooled, shares), shares * 100, style, color=colour, label=label, linewidth=1.6)
    for judgement in run.judgements:
        if judgement.operation == operation and judgement.unit == "ms":
            axis.axvline(judgement.limit, color=_TARGET, linewidth=1.2)
            axis.annotate(
                f"{judgement.statistic} target {judgement.limit:g} ms ",
                (judgement.limit, 50),
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
                color=_TARGET,
            )
    axis.set_xscale("log")
    axis.set_ylim(0, 100)
    axis.set_title(operation, loc="left", fontsize=10, color=_INK)
    axis.set_ylabel("% of calls", color=_INK)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    _in_ink(axis)


def _in_ink(axis: Axes) -> None:
    axis.grid(visible=True, which="major", color=_INK, alpha=0.25, linewidth=0.6)
    axis.tick_params(colors=_INK, which="both")
    for spine in axis.spines.values():
        spine.set_color(_INK)


class Row(NamedTuple):
    """One line of a forest plot.

    Attributes:
        operation: what was measured.
        subject: with what it is compared, by the name that it has in a run.
        compared: its ratio.
    """

    operation: str
    subject: str
    compared: Comparison


def ratios(run: Run) -> Picture:
    """The forest plot of a run: each operation beside all that it was compared with."""
    rows: list[Row] = []
    for operation in (name for name in OPERATIONS if name in run.samples):
        subjects = run.samples[operation]
        count = len(subjects.get("kairos", ()))
        # Itself first: it says how far the others can be trusted.
        order = sorted(set(subjects) - {"kairos"}, key=lambda name: (name != "again", name))
        whole = [subject for subject in order if count and len(subjects[subject]) == count]
        rows.extend(Row(operation, subject, run.compare(operation, subject)) for subject in whole)
    return forest(rows)


def forest(rows: Sequence[Row], band: float = BAND) -> Picture:
    """Ratios with their 95 % intervals, one below the other; what is within the shaded band is no difference.

    An operation beside itself has a hollow mark, and the colour of a missed target where that row fires. A row of too
    few runs to have an interval has a mark alone.
    """
    with _style():
        figure = Figure(figsize=(9, 0.28 * len(rows) + 1.1), layout="constrained")
        axis = figure.subplots()
        axis.axvspan(1 / band, band, color=_INK, alpha=0.2, linewidth=0)
        axis.axvline(1.0, color=_INK, linewidth=1)
        for place, row in enumerate(rows):
            _forest_row(axis, place, row)
        axis.set_yticks(
            range(len(rows)), [f"{row.operation} over {words(row.operation, row.subject)}" for row in rows], fontsize=8
        )
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(FuncFormatter(_sparse))
        axis.set_xlabel("Kairos takes so many times as long (logarithmic); below 1 it is faster", color=_INK)
        _in_ink(axis)
        return _picture(figure, "Ratio of each operation to what it is compared with, with its interval")


def _sparse(value: float, _: object) -> str:
    """Labels of some places between powers of ten: ratios seldom reach one."""
    first = f"{value:e}"[0]
    return f"{value:g}" if first in "235" else ""


def _forest_row(axis: Axes, place: int, row: Row) -> None:
    compared = row.compared
    itself = row.subject == "again"
    colour = _TARGET if itself and fires(compared) else _SUBJECTS["kairos"][1]
    if compared.lower > 0 and math.isfinite(compared.upper):
        axis.plot([compared.lower, compared.upper], [place, place], "-", color=colour, linewidth=1.6)
    axis.plot(compared.ratio, place, "o", color=colour, markersize=5, markerfacecolor="none" if itself else colour)
    axis.annotate(
        f"{compared.ratio:.2f}",
        (compared.ratio, place),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=7,
        color=_INK,
    )


def scaling(points: Sequence[tuple[int, float]], fit: Usl | None, what: str = "updates a second") -> Picture:
    """Throughput by the number of instances: each repetition a point, with the fitted law and its interval.

    Args:
        points: instances, and what they did a second.
        fit: of these points; None where they were too few to be fitted.
        what: the unit of the throughput.
    """
    with _style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        axis = figure.subplots()
        axis.plot(*zip(*points, strict=True), "o", color=_SUBJECTS["kairos"][1], markersize=4, label="measured")
        if fit is not None:
            numbers = np.linspace(1, fit.largest, _POINTS // 4)
            told = [fit.at(number) for number in numbers]
            axis.plot(numbers, [one.value for one in told], "-", color=_INK, linewidth=1.4, label="fitted law")
            lower, upper = [one.lower for one in told], [one.upper for one in told]
            axis.fill_between(numbers, lower, upper, color=_INK, alpha=0.25, linewidth=0, label="95 % interval")
            axis.plot(
                numbers,
                fit.throughput.value * numbers,
                ":",
                color=_SUBJECTS["floor"][1],
                linewidth=1.2,
                label="as many times as much",
            )
        axis.set_ylim(bottom=0)
        axis.set_xlabel("instances", color=_INK)
        axis.set_ylabel(what, color=_INK)
        _in_ink(axis)
        for text in axis.legend(frameon=False).get_texts():
            text.set_color(_INK)
        return _picture(figure, f"{what} by the number of instances")
