"""What the master of a load test keeps while it runs: of every second the histograms of all processes. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.load.histograms import Histograms, values_ms
from loadtests.load.resampling import percentile
from loadtests.load.timeline import CONFLICT, DROPPED, ERROR, OUTCOMES, STEPS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# So many of the last seconds are held as they are counted: a histogram in memory is a hundred times as large as one
# that was encoded, and a run has many seconds.
_OPEN_SECONDS = 12


class Now(NamedTuple):
    """How it goes, over the last few seconds.

    Attributes:
        rate: steps a second that were answered.
        p50_ms, p95_ms, p99_ms: of turns, from when they were due; where there are none, of all steps.
        conflicts: since the beginning.
        failures: likewise: steps that ended in an error, in an unknown outcome, or were given up.
    """

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    conflicts: int
    failures: int


class Board:
    """Takes the reports of all processes, and merges them.

    Args:
        places: how many processes there are.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._numbers: dict[int, set[int]] = {place: set() for place in range(places)}
        self._open: dict[int, Histograms] = {}
        self._closed: dict[int, dict[str, str]] = {}
        self._notes: list[str] = []
        self._outcomes = dict.fromkeys(OUTCOMES, 0)

    def take(self, place: int, number: int, seconds: Mapping[int, Mapping[str, str]]) -> None:
        """Take a report; one that came before, or that cannot be read, is noted, and not counted.

        Args:
            place: of the process.
            number: of the report: 1, 2, and so on.
            seconds: for each second since the beginning what was counted in it since the report before; encoded.
        """
        seen = self._numbers.get(place)
        if seen is None:
            self._notes.append(f"a report came from process {place}, of {self._places} from 0 on")
        elif number < 1 or number in seen:
            self._notes.append(f"report {number} of process {place} came twice, or has no number that it may have")
        else:
            seen.add(number)
            try:
                self._merge(seconds)
            except (ValueError, TypeError, AttributeError) as error:
                self._notes.append(f"report {number} of process {place} cannot be read: {error}")

    def missing(self, reports: Mapping[int, int]) -> list[str]:
        """Which processes sent other reports than those that came, in sentences.

        Args:
            reports: how many each says it sent, by its place.
        """
        found = []
        for place, seen in self._numbers.items():
            sent = reports.get(place)
            if sent is None:
                found.append(f"process {place} does not say how many reports it sent; {len(seen)} came")
                continue
            lost = sorted(set(range(1, sent + 1)) - seen)
            more = sorted(number for number in seen if number > sent)
            if lost:
                found.append(f"of {sent} reports of process {place} {len(lost)} did not come, the first is {lost[0]}")
            if more:
                found.append(f"process {place} sent {sent} reports, but report {more[-1]} came")
        return found

    @property
    def notes(self) -> list[str]:
        """What went wrong, so that the run shows nothing."""
        gaps = []
        for place, seen in self._numbers.items():
            absent = max(seen, default=0) - len(seen)
            if absent:
                gaps.append(f"{absent} of the first {max(seen)} reports of process {place} did not come")
        return [*self._notes, *gaps]

    def now(self, until_s: int, over_s: int = 10) -> Now:
        """How it goes.

        Args:
            until_s: the second that is not over yet, since the beginning: what is before it is whole.
            over_s: over how many seconds before.
        """
        # A second that nobody has told of yet would look like one in which nothing was done.
        last = min(until_s, max((*self._open, -1)) + 1)
        seconds = range(max(0, last - over_s), last)
        steps = np.zeros(len(values_ms()), np.int64)
        turns = steps.copy()
        for second in seconds:
            for name, counted in self._open.get(second, _NOTHING).items():
                if name.operation in STEPS and name.part == "latency" and name.outcome != DROPPED:
                    places, counts = counted.sparse()
                    steps[places] += counts
                    if name.operation == "turn":
                        turns[places] += counts
        felt = turns if turns.any() else steps
        return Now(
            rate=int(steps.sum()) / max(1, len(seconds)),
            p50_ms=_at_ms(felt, 0.50),
            p95_ms=_at_ms(felt, 0.95),
            p99_ms=_at_ms(felt, 0.99),
            conflicts=self._outcomes[CONFLICT],
            failures=sum(self._outcomes[outcome] for outcome in (UNKNOWN, ERROR, DROPPED)),
        )

    def seconds(self) -> list[dict[str, str]]:
        """What was counted in each second since the beginning; encoded, as `facts.Load` has it."""
        found = {**self._closed, **{second: counted.encoded() for second, counted in self._open.items()}}
        return [found.get(second, {}) for second in range(max(found, default=-1) + 1)]

    def _merge(self, seconds: Mapping[int, Mapping[str, str]]) -> None:
        """Add what was counted: all of a report, or nothing of it."""
        checked: dict[int, Histograms] = {}
        for second, encoded in seconds.items():
            if int(second) < 0:
                raise ValueError(f"there is no second {second}")
            found = checked[int(second)] = Histograms()
            found.add(encoded)
            strange = {name.outcome for name in found} - set(OUTCOMES)
            if strange:
                raise ValueError(f"no outcome is called {', '.join(sorted(strange))}")
        for second, found in checked.items():
            self._opened(second).join(found)
            for name, counted in found.items():
                if name.operation in STEPS and name.part == "latency":
                    self._outcomes[name.outcome] += len(counted)

    def _opened(self, second: int) -> Histograms:
        """Those of a second, held as they are counted; others are encoded in turn."""
        if second not in self._open:
            self._open[second] = Histograms()
            self._open[second].add(self._closed.pop(second, {}))
            while len(self._open) > _OPEN_SECONDS:
                oldest = min(one for one in self._open if one != second)
                self._closed[oldest] = self._open.pop(oldest).encoded()
        return self._open[second]


_NOTHING = Histograms()


def _at_ms(counts: NDArray[np.int64], share: float) -> float:
    return percentile(values_ms(), counts, share) if counts.any() else 0.0
