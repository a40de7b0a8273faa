"""How the numbers of a project went over its runs: small multiples, a mark for each run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from reports.figures.style import (
    BLUE,
    INK,
    ORANGE,
    PURPLE,
    RED,
    TARGET,
    Picture,
    canvas,
    drawn,
    heading,
    in_ink,
    number,
    style,
    tell,
)
from reports.statistics import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from reports.findings import Report

# Each verdict with its colour and mark.
_MARKS = {
    Verdict.PASS: (BLUE, "o"),
    Verdict.FAIL: (RED, "X"),
    Verdict.INCONCLUSIVE: (ORANGE, "D"),
    Verdict.INVALID: (PURPLE, "s"),
}
# How many times as high as all values a limit may be, to be drawn.
_FAR = 3.0
# No more dates than can be read.
_DATES = 3
_CAPTION = (
    "Each mark is a run, the newest to the right: circle PASS, cross FAIL, diamond INCONCLUSIVE, square INVALID;"
    " filled: profile full, hollow: quick. The red line is the target."
)


class Value(NamedTuple):
    """A number of a run.

    Attributes:
        place: which run it is of, in the order of time.
        value: the number.
        lower, upper: its interval; None: it has none.
        verdict: on the whole run.
        is_full: whether that has the profile full.
    """

    place: int
    value: float
    lower: float | None
    upper: float | None
    verdict: Verdict
    is_full: bool


class Series(NamedTuple):
    """A number over the runs that have it.

    Attributes:
        title: what it is.
        unit: its unit.
        values: in the order of time.
        limit: what it must be below, or above; None: it has no target.
    """

    title: str
    unit: str
    values: list[Value]
    limit: float | None = None


def trend(reports: Sequence[Report]) -> list[Picture]:
    """A picture of each number that at least one run has; the runs in the order of time."""
    ordered = sorted(reports, key=lambda report: report.started_at)
    dates = [report.started_at[:10] for report in ordered]
    return [_multiple(one, dates) for one in series(ordered) if one.values]


def series(ordered: Sequence[Report]) -> list[Series]:
    """The numbers that are followed."""
    name = load_of(ordered)
    found = [
        _over_bare(ordered, "get_session"),
        _over_bare(ordered, "update_session"),
        _percentile(ordered, "update_session", "p95"),
        _percentile(ordered, "delivery", "p50"),
        _drain(ordered),
    ]
    if name:
        values = []
        for place, report in enumerate(ordered):
            rows = [row for row in report.loads if row.name == name and row.p99_ms > 0]
            values += [_value(place, report, row.p99_ms) for row in rows[:1]]
        found.append(Series(f"Turns under load ({name}), p99", "ms", values))
    return found


def _value(place: int, report: Report, value: float, lower: float | None = None, upper: float | None = None) -> Value:
    return Value(place, value, lower, upper, report.verdict, report.profile == "full")


def _over_bare(ordered: Sequence[Report], operation: str) -> Series:
    values = []
    for place, report in enumerate(ordered):
        values += [
            _value(place, report, row.ratio, row.ratio_lower, row.ratio_upper)
            for row in report.latencies
            if row.operation == operation and row.subject == "bare" and row.ratio is not None
        ]
    return Series(f"{operation} over bare redis-py", "×", values, _limit(ordered, operation, "p50", "bare"))


def _percentile(ordered: Sequence[Report], operation: str, statistic: str) -> Series:
    values = []
    for place, report in enumerate(ordered):
        for row in report.latencies:
            if row.operation == operation and row.subject == "kairos":
                smallest, largest = (row.p50_smallest, row.p50_largest) if statistic == "p50" else (None, None)
                values.append(_value(place, report, getattr(row, statistic), smallest, largest))
    return Series(f"{operation}, {statistic}", "ms", values, _limit(ordered, operation, statistic, "ms"))


def _drain(ordered: Sequence[Report]) -> Series:
    values, limit = [], None
    for place, report in enumerate(ordered):
        for target in report.targets:
            if target.unit == "rows/s" and target.value is not None:
                values.append(_value(place, report, target.value, target.lower, target.upper))
                limit = target.limit
    return Series("Drain of one worker", "rows/s", values, limit)


def _limit(ordered: Sequence[Report], operation: str, statistic: str, last: str) -> float | None:
    """The newest target whose words begin with an operation and a percentile, and that is of a rival or a unit."""
    for report in reversed(ordered):
        for target in report.targets:
            words = target.what.replace(",", "").split()
            if target.source == "latency" and words[:2] == [operation, statistic]:
                is_ratio = target.unit == "×"
                if (not is_ratio and last == target.unit) or (is_ratio and last in words):
                    return target.limit
    return None


def load_of(reports: Sequence[Report]) -> str:
    """The load test that most runs have, of several the first by name: two are not to be mixed; empty: none."""
    often = Counter(row.name for report in reports for row in report.loads)
    return min(often, key=lambda name: (-often[name], name), default="")


def _multiple(one: Series, dates: Sequence[str]) -> Picture:
    with style():
        figure = canvas(2.2)
        axis = figure.subplots()
        axis.plot([each.place for each in one.values], [each.value for each in one.values], color=INK, linewidth=0.8)
        for each in one.values:
            _mark(axis, each)
        _limits(axis, one, len(dates))
        far = f" (target: {number(one.limit)}, off the scale)" if one.limit is not None and _is_far(one) else ""
        heading(axis, f"{one.unit}, newest {number(one.values[-1].value)}{far}")
        in_ink(axis)
        step = max(1, -(-len(dates) // _DATES))
        places = list(range(len(dates)))[::-1][::step][::-1]
        axis.set_xticks(places, [dates[place] for place in places])
        axis.set_xlim(-0.5, len(dates) - 0.5)
        return drawn(figure, one.title, _said(one, dates), _CAPTION)


def _mark(axis: Axes, each: Value) -> None:
    colour, mark = _MARKS[each.verdict]
    if each.lower is not None and each.upper is not None:
        axis.plot([each.place, each.place], [each.lower, each.upper], color=colour, linewidth=1.6)
    axis.plot(
        each.place, each.value, mark, color=colour, markersize=8, markeredgewidth=1.6,
        markerfacecolor=colour if each.is_full else "none",
    )  # fmt: skip


def _limits(axis: Axes, one: Series, count: int) -> None:
    ends = [end for each in one.values for end in (each.lower, each.value, each.upper) if end is not None]
    top = 1.25 * max(ends)
    if one.limit is not None and not _is_far(one):
        top = max(top, 1.25 * one.limit)
        axis.axhline(one.limit, color=TARGET, linewidth=1.6)
        tell(axis, count - 0.5, one.limit, f"target\n{number(one.limit)}", dx=5, annotation_clip=False)
    axis.set_ylim(0, top or 1.0)
    axis.yaxis.set_major_formatter(lambda value, _: number(value))
    axis.locator_params(axis="y", nbins=4)


def _is_far(one: Series) -> bool:
    """Whether the limit is so far away that it would flatten what there is to see."""
    return one.limit is not None and one.limit > _FAR * max(each.upper or each.value for each in one.values)


def _said(one: Series, dates: Sequence[str]) -> str:
    told = [f"{dates[each.place]}: {number(each.value)} ({each.verdict.value})" for each in one.values]
    limit = "" if one.limit is None else f" The target is {number(one.limit)} {one.unit}."
    return f"{one.title} over {len(one.values)} runs, in {one.unit}: {', '.join(told)}.{limit}"
