"""Forest plots: ratios with their intervals, one below the other, in groups."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports.figures.style import BLUE, INK, SHADE, SMALL_PT, TARGET, canvas, in_ink, number
from reports.statistics import BAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reports.statistics import Comparison

_ROW, _EDGES = 0.26, 1.15
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
# Of less than such a range, these are too few.
_NEARER = ((1.3, (0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15)), (2.5, (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2)))


class Line(NamedTuple):
    """One line of a forest plot.

    Attributes:
        group: under which heading it stands.
        words: what it is.
        compared: its ratio. Of too few runs to have an interval, it has a mark alone.
        is_hollow: whether its mark is: what should be 1, or is judged in no way.
        is_wrong: whether it has the colour of a missed target, and a cross.
    """

    group: str
    words: str
    compared: Comparison
    is_hollow: bool = False
    is_wrong: bool = False


def forest(lines: Sequence[Line], axis_words: str, band: float = BAND) -> Figure:
    """The figure; what is within the shaded band is no difference. Call it within `style`."""
    groups = [(name, list(some)) for name, some in itertools.groupby(lines, lambda line: line.group)]
    rows = len(lines) + len(groups)
    figure = canvas(_ROW * rows + _EDGES)
    axis = figure.subplots()
    axis.axvspan(1 / band, band, color=INK, alpha=2 * SHADE, linewidth=0)
    axis.axvline(1.0, color=INK, linewidth=1)
    places, words, row = [], [], 0
    for name, some in groups:
        places.append(row)
        words.append(name)
        for line in some:
            row += 1
            places.append(row)
            words.append(line.words)
            _mark(axis, row, line)
        row += 1
    axis.set_ylim(max(rows, 1) - 0.4, -0.7)
    axis.set_xscale("log")
    _horizontal(axis, lines, axis_words, band)
    axis.set_yticks(places, words)
    in_ink(axis)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    headings = {place for place, word in zip(places, words, strict=True) if word in dict(groups)}
    for place, label in zip(places, axis.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if place in headings else "normal")
    return figure


def _mark(axis: Axes, row: int, line: Line) -> None:
    compared = line.compared
    colour = TARGET if line.is_wrong else BLUE
    if compared.lower > 0 and math.isfinite(compared.upper):
        axis.plot([compared.lower, compared.upper], [row, row], "-", color=colour, linewidth=2)
    mark = "X" if line.is_wrong else "o"
    axis.plot(
        compared.ratio, row, mark, color=colour, markersize=7, markerfacecolor="none" if line.is_hollow else colour
    )
    axis.annotate(
        f"{compared.ratio:.2f} ×",
        (1.0, row),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL_PT,
        color=INK,
        annotation_clip=False,
    )


def _horizontal(axis: Axes, lines: Sequence[Line], axis_words: str, band: float) -> None:
    seen = [1 / band, band]
    for line in lines:
        compared = line.compared
        ends = (compared.lower, compared.upper) if math.isfinite(compared.upper) else ()
        seen += [end for end in (compared.ratio, *ends) if end > 0]
    low, high = min(seen) / 1.08, max(seen) * 1.08
    axis.set_xlim(low, high)
    ticks = next((some for widest, some in _NEARER if high / low < widest), _TICKS)
    axis.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(axis_words, color=INK)
