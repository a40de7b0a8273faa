"""What studies measured and showed, as tables."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from reports.tables import NOTHING, Table, signed
from reports.usl import fit_usl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.studies.study import Point, Result
    from reports.study_bars import Judged

_KAIROS = "kairos"
# Who is divided by the others, where that is not Kairos.
_DIVIDED = {"cluster": "cluster", "durability": "memory", "tls": "tls"}
# What each study is about; of another one, the first of its values.
_MAIN = {
    "awake": "p50_ms",
    "cluster": "p50_ms",
    "contention": "useful_per_s",
    "durability": "updates_per_s",
    "instances": "updates_per_s",
    "instead": "p50_ms",
    "lanes": "drain_rows_per_s",
    "live_sessions": "update_p50_ms",
    "state_size": "update_p50_ms",
    "tls": "p50_ms",
    "watchers": "last_p50_ms",
}
# Wider tables are cut into several.
_COLUMNS = 7
# Facts of a subject, not measured: shown in one column.
_DOES, _BAR = "does_", "bar_"
# From here on decimals are noise.
_WHOLE = 1_000


def measured(result: Result) -> list[Table]:
    """Every subject at every place of the axis with all that was seen; so many tables that none is too wide."""
    names = list(dict.fromkeys(name for point in result.points for name in point.values))
    does = any(name.startswith(_DOES) for name in names)
    names = [name for name in names if not name.startswith((_DOES, _BAR))]
    places = _places(result)
    found = []
    for start in range(0, len(names), _COLUMNS):
        columns = names[start : start + _COLUMNS]
        rows = []
        for subject, x in places:
            points = [point for point in result.points if (point.subject, point.x) == (subject, x)]
            cells = [_spread([point.values[name] for point in points if name in point.values]) for name in columns]
            last = (_done(points[0]),) if does and start == 0 else ()
            if any(cell != NOTHING for cell in cells):
                rows.append((subject, str(x), *cells, *last))
        head = ("subject", result.axis, *columns, *(("does",) if does and start == 0 else ()))
        caption = f"Median of {result.repetitions} repetitions (smallest to largest)"
        found.append(Table(head, rows, caption))
    return found


def _places(result: Result) -> list[tuple[str, int | str]]:
    """The subjects and places, each subject along the axis, in the order in which they came first."""
    subjects = list(dict.fromkeys(point.subject for point in result.points))
    axis = list(dict.fromkeys(point.x for point in result.points))
    axis.sort(key=lambda x: (isinstance(x, str), x if isinstance(x, int) else 0))
    there = {(point.subject, point.x) for point in result.points}
    return [(subject, x) for subject in subjects for x in axis if (subject, x) in there]


def _done(point: Point) -> str:
    found = [name.removeprefix(_DOES) for name, value in point.values.items() if name.startswith(_DOES) and value]
    return " ".join(found) or NOTHING


def _spread(values: Sequence[float]) -> str:
    if not values:
        return NOTHING
    middle, smallest, largest = (_short(value) for value in (median(values), min(values), max(values)))
    return middle if smallest == largest else f"{middle} ({smallest} to {largest})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _WHOLE or value == int(value) else f"{value:.3g}"


def ratios(result: Result, value: str | None = None, ours: str | None = None) -> Table:
    """What is ours over each of the others, by the place of the axis, for one value.

    Args:
        result: of the study.
        value: which; None: the one that the study is about.
        ours: the subject that is divided by the others; None: Kairos, or what the study is about. Where there is none
            of this name, the table has no rows.
    """
    name = value or main_value(result)
    ours = ours or _DIVIDED.get(result.study, _KAIROS)
    subjects = [subject for subject, _ in _places(result)]
    others = [subject for subject in dict.fromkeys(subjects) if subject != ours]
    seen = {(point.subject, point.x, point.repetition): point.values.get(name) for point in result.points}
    rows: list[tuple[str, ...]] = []
    for subject, x in _places(result):
        if subject != ours:
            continue
        cells = []
        for other in others:
            pairs = [
                (seen.get((ours, x, number)), seen.get((other, x, number)))
                for number in range(1, result.repetitions + 1)
            ]
            cells.append(_spread([our / their for our, their in pairs if our is not None and their]))
        if any(cell != NOTHING for cell in cells):
            rows.append((str(x), *cells))
    caption = f"{name}: median of the ratios within each repetition (smallest to largest)"
    if len(others) < _COLUMNS:
        return Table((result.axis, *(f"{ours} ÷ {other}" for other in others)), rows, caption)
    # Where there are many, each is there at few places.
    pairs_of_cells = ((x, zip(others, cells, strict=True)) for x, *cells in rows)
    long: list[tuple[str, ...]] = [
        (x, other, cell) for x, pairs in pairs_of_cells for other, cell in pairs if cell != NOTHING
    ]
    return Table((result.axis, "other", f"{ours} ÷ other"), long, caption)


def along(result: Result, value: str | None = None) -> Table:
    """How one value of each subject grows along the axis: over that at its first place; where the axis is of numbers.

    Args:
        result: of the study.
        value: which; None: the one that the study is about.
    """
    name = value or main_value(result)
    seen = {(point.subject, point.x, point.repetition): point.values.get(name) for point in result.points}
    axis = sorted({point.x for point in result.points if isinstance(point.x, int)})
    subjects = dict.fromkeys(point.subject for point in result.points)
    rows = []
    for x in axis[1:]:
        cells = []
        for subject in subjects:
            pairs = [
                (seen.get((subject, x, number)), seen.get((subject, axis[0], number)))
                for number in range(1, result.repetitions + 1)
            ]
            cells.append(_spread([later / first for later, first in pairs if later is not None and first]))
        rows.append((str(x), *cells))
    head = (result.axis, *(f"{subject} ÷ at {axis[0]}" for subject in subjects)) if axis else (result.axis,)
    return Table(head, rows, f"{name}: median of the ratios within each repetition (smallest to largest)")


def main_value(result: Result) -> str:
    """What a study is about."""
    return _MAIN.get(result.study) or next(iter(result.points[0].values))


def growth(result: Result, value: str = "updates_per_s") -> Table:
    """The Universal Scalability Law, fitted to each subject that has places enough; with 95 % intervals."""
    rows: list[tuple[str, ...]] = []
    for subject in dict.fromkeys(point.subject for point in result.points):
        points = [
            (point.x, point.values[value])
            for point in result.points
            if point.subject == subject and isinstance(point.x, int) and value in point.values
        ]
        try:
            usl = fit_usl(points)
        except ValueError as error:
            rows.append((subject, str(error), "", "", ""))
            continue
        peak = NOTHING if usl.peak is None else f"{usl.peak:.1f}"
        rows.append((subject, str(usl.throughput), str(usl.contention), str(usl.coherency), peak))
    return Table(
        ("subject", f"{value} of one", "contention", "coherency", "peak"),
        rows,
        "Universal Scalability Law, 95 % intervals over repetitions. The processes share the cores with the server, so"
        " contention and coherency are of the whole machine.",
    )


def verdicts(found: Sequence[Judged]) -> Table:
    """Each bar with what was seen, and its verdict."""
    return Table(
        ("verdict", "what", "measured", "95 % bounds", "smallest to largest", "bar", "repetitions"),
        [
            (
                signed(one.verdict.value),
                str(one.bar),
                f"{one.seen.value:.3g}",
                f"{one.seen.lower:.3g} to {one.seen.upper:.3g}",
                f"{one.seen.smallest:.3g} to {one.seen.largest:.3g}",
                one.bar.limit,
                str(one.seen.runs),
            )
            for one in found
        ],
        "measured: the mean of the repetitions, of a ratio the geometric one, where the tables above have medians. Each"
        " bound is\none-sided, 95 %: PASS and FAIL are beyond it, INCONCLUSIVE is between.",
    )


def tables_of(result: Result) -> list[Table]:
    """All tables of one study."""
    found = measured(result)
    found += [table for table in (ratios(result), along(result)) if table.rows]
    if result.study == "instances":
        found.append(growth(result))
    return found
