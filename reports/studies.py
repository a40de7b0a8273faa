"""`make studies`: how cost grows, and what a user would pick instead: run the studies, show them and judge their bars.

The exit status is the verdict. 0: all bars are met, or there are none. 1: one is missed. 2: it could not be told, or
could not be run.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.ending import status_of
from loadtests.measure import unwind_on_termination
from loadtests.studies.registry import STUDIES
from loadtests.studies.study import Result, asked, read
from reports.children import MeasuringFailed, run_to_its_end
from reports.folders import INTERRUPTED, new_run, whole_or_gone
from reports.statistics import (
    EXIT_STATUS,
    Estimate,
    Verdict,
    estimate,
    estimate_ratio,
    judge,
    judge_above,
    overall,
)
from reports.tables import Table, signed
from reports.usl import fit_usl

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from loadtests.studies.study import Point

OURS = "kairos"
# Who is divided by the others, where that is not Kairos.
_OURS = {"cluster": "cluster", "durability": "memory", "tls": "tls"}
# What each study is about; of another one, the first of its values.
MAIN = {
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
_NOTHING = "–"
_WHOLE_BEFORE = "kairos: what was done before is whole: --folder "


class Bar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a study is to show; `[[study]]` in targets.toml.

    Attributes:
        study: its name.
        value: which of its values.
        subject: whose.
        x: at which place of the axis.
        against: whose value it is divided by, within each repetition; None: it is judged itself.
        above: what it must be above; None: there is `below`.
        below: what it must be below; None: there is `above`.
    """

    study: str
    value: str
    subject: str
    x: int | str
    against: str | None = None
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"{self.study}, {self.value}: either above or below is needed")

    def __str__(self) -> str:
        over = f" ÷ {self.against}" if self.against else ""
        return f"{self.study}: {self.value} of {self.subject}{over} at {self.x}"

    @property
    def limit(self) -> str:
        """The limit in a few characters."""
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"


class Judged(NamedTuple):
    """A bar, what was seen, and whether it is met."""

    bar: Bar
    seen: Estimate
    verdict: Verdict


class PointMissingError(Exception):
    """A study does not have what is to be judged; the message says what."""


def bars(names: Iterable[str]) -> list[Bar]:
    """The bars of these studies, in the order of the file.

    Raises:
        ConfigurationError: one is of a study that there is not: it would never be judged.
    """
    targets = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
    found = msgspec.convert(targets["study"], list[Bar])
    unknown = [bar.study for bar in found if bar.study not in STUDIES]
    if unknown:
        raise ConfigurationError("reports/targets.toml", f"there is no study {unknown[0]}")
    wanted = set(names)
    return [bar for bar in found if bar.study in wanted]


def values_of(result: Result, subject: str, x: int | str, value: str) -> list[float]:
    """A value of each repetition, in their order.

    Raises:
        PointMissingError: a repetition does not have it, or has it twice.
    """
    of_it = [point for point in result.points if point.subject == subject and point.x == x and value in point.values]
    found = {point.repetition: point.values[value] for point in of_it}
    if len(found) < len(of_it):
        raise PointMissingError(f"{result.study}: a repetition has {value} of {subject} at {x} twice")
    missing = [number for number in range(1, result.repetitions + 1) if number not in found]
    if missing or not found:
        which = ", ".join(map(str, missing)) or "any"
        raise PointMissingError(f"{result.study}: no {value} of {subject} at {x} in repetition {which}")
    return [found[number] for number in sorted(found)]


def judged(bar: Bar, result: Result) -> Judged:
    """Judge a bar over the repetitions of its study.

    Raises:
        PointMissingError: something is missing, or there are fewer than 3 repetitions.
    """
    ours = values_of(result, bar.subject, bar.x, bar.value)
    try:
        if bar.against is None:
            seen = estimate(ours)
        else:
            theirs = values_of(result, bar.against, bar.x, bar.value)
            _above_0(bar, [*ours, *theirs])
            seen = estimate_ratio([our / their for our, their in zip(ours, theirs, strict=True)])
    except (ValueError, ZeroDivisionError) as error:
        raise PointMissingError(f"{bar}: {error}") from error
    verdict = judge_above(seen, bar.above) if bar.above is not None else judge(seen, _known(bar.below))
    return Judged(bar, seen, verdict)


def _above_0(bar: Bar, values: Sequence[float]) -> None:
    if min(values) <= 0:
        raise PointMissingError(f"{bar}: a value that is not above 0, of which there is no ratio")


def _known(limit: float | None) -> float:
    if limit is None:
        raise AssertionError("a bar without a limit")
    return limit


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
            if any(cell != _NOTHING for cell in cells):
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
    return " ".join(found) or _NOTHING


def _spread(values: Sequence[float]) -> str:
    if not values:
        return _NOTHING
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
    ours = ours or _OURS.get(result.study, OURS)
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
        if any(cell != _NOTHING for cell in cells):
            rows.append((str(x), *cells))
    caption = f"{name}: median of the ratios within each repetition (smallest to largest)"
    if len(others) < _COLUMNS:
        return Table((result.axis, *(f"{ours} ÷ {other}" for other in others)), rows, caption)
    # Where there are many, each is there at few places.
    pairs_of_cells = ((x, zip(others, cells, strict=True)) for x, *cells in rows)
    long: list[tuple[str, ...]] = [
        (x, other, cell) for x, pairs in pairs_of_cells for other, cell in pairs if cell != _NOTHING
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
    return MAIN.get(result.study) or next(iter(result.points[0].values))


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
        peak = _NOTHING if usl.peak is None else f"{usl.peak:.1f}"
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


# What can be done about a verdict; nothing about a PASS.
_ADVICE = {
    Verdict.INCONCLUSIVE: "Too near to the bar for how much the repetitions differ: measure again, on a quieter machine"
    " or with PROFILE=full (10 repetitions).",
    Verdict.FAIL: "A bar is missed by more than the repetitions differ. The bars were set on a quiet machine.",
}


def tables_of(result: Result) -> list[Table]:
    """All tables of one study."""
    found = measured(result)
    found += [table for table in (ratios(result), along(result)) if table.rows]
    if result.study == "instances":
        found.append(growth(result))
    return found


def read_all(folder: Path, names: Sequence[str]) -> list[Result]:
    """The results of these studies; without names, of all that were asked for, and that are there.

    Raises:
        ConfigurationError: one is not there or cannot be read.
    """
    begun = asked(folder)
    wanted = names or [name for name in STUDIES if name in begun or (folder / f"{name}.json").exists()]
    if not wanted:
        raise ConfigurationError("--folder", f"{folder}: holds no result of a study")
    found = []
    for name in wanted:
        try:
            found.append(read(folder / f"{name}.json"))
        except (OSError, ValueError) as error:
            raise ConfigurationError("--folder", f"{folder}: {name} cannot be read: {error}") from error
        if found[-1].study != name:
            raise ConfigurationError("--folder", f"{folder}: {name}.json is of the study {found[-1].study}")
    return found


def run_studies(names: Sequence[str], profile: str, folder: Path) -> None:
    """Measure, in another process.

    Raises:
        MeasuringFailed: it could not be measured.
    """
    command = [sys.executable, "-m", "loadtests.studies", *names, "--profile", profile, "--folder", str(folder)]
    status = run_to_its_end([*command, "--end-with-stdin"])
    if status != 0:
        raise MeasuringFailed(status)


def report(results: Sequence[Result], folder: Path) -> Verdict | None:
    """Print and write all tables, and judge the bars; None where there is none.

    Raises:
        PointMissingError: a study does not have what is to be judged.
    """
    texts = []
    for result in results:
        texts.append(f"{result.study}: {result.question} ({result.profile})\n")
        texts += [f"{table.explained()}\n" for table in tables_of(result)]
        texts += [*result.notes, ""]
    by_name = {result.study: result for result in results}
    found = [judged(bar, by_name[bar.study]) for bar in bars(by_name)]
    if found:
        texts.append(verdicts(found).explained())
    verdict = overall([one.verdict for one in found]) if found else None
    if verdict in _ADVICE:
        texts += ["", _ADVICE[verdict]]
    text = "\n".join(texts)
    (folder / "studies.txt").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n")
    return verdict


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.studies", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which, of {', '.join(STUDIES)}; none is named: all of them"
    )
    parser.add_argument("--profile", choices=("quick", "full"), default="quick", help="how much to measure")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports" / "runs", help="folder of all runs")
    parser.add_argument("--folder", type=Path, help="results that are there: show and judge them, measure nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - STUDIES.keys())
    if unknown:
        parser.error(f"there is no study {unknown[0]}; there are {', '.join(STUDIES)}")
    unwind_on_termination()
    begun: list[Path] = []

    def interrupted() -> str:
        kept = [folder for folder in begun if folder.exists()]
        return "\n".join([INTERRUPTED, *(f"{_WHOLE_BEFORE}{os.path.relpath(folder)}" for folder in kept)])

    return status_of(lambda: _studies(options, begun), MeasuringFailed, PointMissingError, interrupted=interrupted)


def _studies(options: argparse.Namespace, begun: list[Path]) -> int:
    folder: Path = options.folder or new_run(options.runs, f"studies-{options.profile}")
    if options.folder is None:
        begun.append(folder)
        # A study that was done before is whole, and can be shown.
        with whole_or_gone(folder, unless="*.json"):
            run_studies(options.names, options.profile, folder)
    verdict = report(read_all(folder, options.names), folder)
    print(f"{signed(verdict.value) if verdict else 'measured; there is no bar to meet'}   {os.path.relpath(folder)}")
    return EXIT_STATUS[verdict] if verdict else 0


if __name__ == "__main__":
    sys.exit(main())
