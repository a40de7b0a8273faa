"""What studies are to show: the bars of targets.toml, and whether each is met."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from loadtests.studies.registry import STUDIES
from reports.statistics import Estimate, Verdict, estimate, estimate_ratio, judge, judge_above

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from loadtests.studies.study import Result


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
