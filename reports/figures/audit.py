"""How late the audit trail is: what waits for it, and since when, over the time of a load test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from reports.figures.load import AWAY
from reports.figures.style import (
    BLUE,
    INK,
    POINTS,
    PURPLE,
    SHADE,
    Picture,
    below,
    canvas,
    drawn,
    heading,
    in_ink,
    number,
    style,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from loadtests.load.facts import Moment
    from reports.evidence import LoadTest


class Waited(NamedTuple):
    """What waited over time.

    Attributes:
        moments: at which was looked, from the beginning on.
        back_s: when nothing of the outage waited any longer; None: there was none, or it never came to that.
    """

    moments: Sequence[Moment]
    back_s: float | None


def waited(test: LoadTest) -> Waited:
    """What waited, and when the outage was made up for.

    While there is load something always waits, for a moment. So what counts is that the oldest entry is again no older
    than it ever was before the outage.
    """
    moments = [moment for moment in test.load.moments if moment.at_s >= 0]
    outage = test.load.outage
    if outage is None:
        return Waited(moments, None)
    usual_s = max((moment.lag_s for moment in moments if moment.at_s < outage.from_s), default=0.0)
    behind = [one.at_s for one in moments if one.at_s > outage.until_s and one.lag_s <= max(usual_s, 1.0)]
    return Waited(moments, min(behind, default=None))


def lag(test: LoadTest) -> Picture | None:
    """The age of the oldest entry and how many there are, over time."""
    found = waited(test)
    if not found.moments:
        return None
    with style():
        figure = canvas(4.3)
        upper, lower = figure.subplots(2, 1, sharex=True)
        at_s = [moment.at_s for moment in found.moments]
        _line(upper, *thinned(at_s, [moment.lag_s for moment in found.moments]), BLUE, "-")
        _line(lower, *thinned(at_s, [moment.waiting for moment in found.moments]), PURPLE, "--")
        heading(upper, "age of the oldest entry, seconds")
        heading(lower, "entries in the outboxes")
        _marked(upper, lower, test, found.back_s)
        lower.set_xlim(0, max(at_s))
        below(lower, "seconds since the beginning")
        return drawn(
            figure,
            f"{test.load.name}: how late is the audit trail?",
            _said(test, found),
            "While PostgreSQL is away the trail waits in the outboxes and its oldest entry grows older by the second."
            " Once it is back, both must fall to nothing: what had waited is written, and nothing is lost."
            if test.load.outage
            else "Both should stay flat: what is written goes to the trail as fast as it comes.",
            f"load/{test.load.name}/load.json",
        )


def thinned(at_s: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Of so many moments in a row the one with the highest value, so that no more than can be seen remain."""
    step = max(1, math.ceil(len(values) / (POINTS // 2)))
    parts = [range(start, min(start + step, len(values))) for start in range(0, len(values), step)]
    highest = [max(part, key=values.__getitem__) for part in parts]
    return [at_s[place] for place in highest], [values[place] for place in highest]


def _line(axis: Axes, at_s: Sequence[float], values: Sequence[float], colour: str, dashes: str) -> None:
    axis.plot(at_s, values, color=colour, linestyle=dashes, linewidth=2)
    axis.fill_between(at_s, values, color=colour, alpha=0.15, linewidth=0)
    axis.set_ylim(0, 1.25 * max(values) or 1.0)
    axis.yaxis.set_major_formatter(lambda value, _: number(value))
    axis.locator_params(axis="y", nbins=5)
    in_ink(axis)


def _marked(upper: Axes, lower: Axes, test: LoadTest, back_s: float | None) -> None:
    outage = test.load.outage
    if outage is None:
        return
    for axis in (upper, lower):
        axis.axvspan(outage.from_s, outage.until_s, color=INK, alpha=SHADE, linewidth=0)
        if back_s is not None:
            axis.axvline(back_s, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
    top = upper.get_ylim()[1]
    beside = outage.until_s if back_s is None else back_s
    tell(upper, beside, top, AWAY, dx=5, dy=-9)
    if back_s is not None:
        tell(upper, back_s, 0.45 * top, f"made up for within\n{back_s - outage.until_s:.1f} s", dx=5)


def _said(test: LoadTest, found: Waited) -> str:
    most = max(moment.waiting for moment in found.moments)
    oldest = max(moment.lag_s for moment in found.moments)
    last = found.moments[-1]
    outage = test.load.outage
    if outage is not None:
        # It was looked at more often then.
        most, oldest = max(most, outage.most_waiting), max(oldest, outage.longest_lag_s)
    said = f"Entries that wait for the audit trail: at the most {most:,}, the oldest {oldest:.1f} s old."
    if outage is not None:
        said += f" PostgreSQL was away from {outage.from_s:.0f} to {outage.until_s:.0f} s."
        if found.back_s is None:
            said += " What had waited was not seen to be made up for."
        else:
            said += f" What had waited was written {found.back_s - outage.until_s:.1f} s after its return."
    return f"{said} At the end {last.waiting:,} waited."
