"""What was counted in a load test, second by second, as arrays. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.load.findings import Percentiles
from loadtests.load.histograms import LONGEST_US, Name, Sparse, decoded, values_ms
from loadtests.load.resampling import percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from loadtests.scenarios import Scenario

OK, CONFLICT, UNKNOWN, ERROR, DROPPED = "ok", "conflict", "unknown", "error", "dropped"
# What counts as over every limit, whatever its time: no user got what was asked for.
FAILED = (UNKNOWN, ERROR, DROPPED)
OUTCOMES = (OK, CONFLICT, *FAILED)
STEPS = ("create", "start", "turn", "message", "end")
DELIVERY, MESSAGE_DELIVERY, MESSAGE_SEND = "delivery", "message_delivery", "message.send"


class Deliveries(NamedTuple):
    """Updates of which another process was told: two arrays of the same length.

    Attributes:
        at_s: when each was sent, in seconds since the beginning.
        ms: how long it took from before it was sent until the callback, in milliseconds; infinite: never.
    """

    at_s: NDArray[np.float64]
    ms: NDArray[np.float64]


class Counted(NamedTuple):
    """Calls of some consecutive blocks of time.

    Attributes:
        values_ms: what was counted, rising.
        counts: blocks by values.
    """

    values_ms: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> NDArray[np.int64]:
        """How often each value was counted in all."""
        total: NDArray[np.int64] = self.counts.sum(axis=0)
        return total

    @property
    def calls(self) -> int:
        """How many there were."""
        return int(self.counts.sum())

    def over(self, limit_ms: float) -> int:
        """How many were not below a limit."""
        return int(self.total[self.values_ms >= limit_ms].sum())

    def at_ms(self, share: float) -> float:
        """The percentile, in milliseconds; of none, 0."""
        return percentile(self.values_ms, self.total, share) if self.calls else 0.0


class Timeline:
    """The histograms of every second.

    Args:
        seconds: of a load test (see `facts.Load`).
        deliveries: of its updates.

    Raises:
        ValueError: a histogram is none.
    """

    def __init__(self, seconds: Sequence[Mapping[str, str]], deliveries: Deliveries | None = None) -> None:
        self._found: dict[Name, dict[int, Sparse]] = {}
        for second, histograms in enumerate(seconds):
            for text, encoded in histograms.items():
                self._found.setdefault(Name.of(text), {})[second] = decoded(encoded)
        if deliveries is not None and len(deliveries.ms):
            self._found[Name(DELIVERY, OK, "latency")] = _by_second(deliveries)
        self.length_s = 1 + max((second for one in self._found.values() for second in one), default=-1)

    def names(self) -> list[Name]:
        """Of what there is any, sorted."""
        return sorted(self._found)

    def buckets(self, name: Name) -> Mapping[int, Sparse]:
        """What was counted of a name, by second."""
        return self._found.get(name, {})

    def count(self, within: range | None = None, **wanted: str | Iterable[str]) -> int:
        """How many were counted of the names that have the wanted fields, in some seconds or in all."""
        return sum(
            int(sparse.counts.sum())
            for name in self._chosen(wanted)
            for second, sparse in self._found[name].items()
            if within is None or second in within
        )

    def counted(self, within: range, blocks: int = 1, **wanted: str | Iterable[str]) -> Counted:
        """What was counted in some seconds, in so many blocks of them as equal as whole seconds can be.

        What failed counts as the longest there is.
        """
        values = values_ms()
        never = int(np.searchsorted(values, LONGEST_US / 1e3))
        block_of = {
            second: block
            for block, part in enumerate(np.array_split(np.array(within), blocks))
            for second in part.tolist()
        }
        dense = np.zeros((blocks, len(values)), np.int64)
        for name in self._chosen(wanted):
            for second, (places, counts) in self._found[name].items():
                if second in block_of:
                    block = dense[block_of[second]]
                    if name.outcome in FAILED:
                        block[never] += counts.sum()
                    else:
                        # Those beyond are few, and all stand for the longest.
                        np.add.at(block, np.minimum(places, never), counts)
        used = np.flatnonzero(dense.sum(axis=0))
        return Counted(values[used], dense[:, used])

    def percentiles(self, within: range) -> list[Percentiles]:
        """Those of every name, in some seconds; as they were measured, with what failed, too."""
        rows = []
        for name in self.names():
            dense = np.zeros(len(values_ms()), np.int64)
            for second, (places, counts) in self._found[name].items():
                if second in within:
                    dense[places] += counts
            used = np.flatnonzero(dense)
            if len(used):
                found = Counted(values_ms()[used], dense[used][None, :])
                rows.append(_row(name, found))
        return rows

    def window(self, scenario: Scenario, name: str) -> range:
        """The seconds that lie within a window whole; of one that goes on to the end, all behind its beginning."""
        return self.whole(scenario, *scenario.window_s(name))

    def whole(self, scenario: Scenario, from_s: float, until_s: float) -> range:
        """The seconds that lie within two moments whole.

        What was answered after the end belongs to the end: without it, the slowest would be missing.
        """
        is_last = until_s >= scenario.duration_s - 1e-9
        # A moment that is meant to be a whole second may be computed as a little less or more.
        end = max(self.length_s, math.ceil(until_s - 1e-9)) if is_last else math.floor(until_s + 1e-9)
        return range(math.ceil(from_s - 1e-9), end)

    def _chosen(self, wanted: Mapping[str, str | Iterable[str]]) -> list[Name]:
        allowed = {field: {value} if isinstance(value, str) else set(value) for field, value in wanted.items()}
        return [name for name in self._found if all(getattr(name, field) in some for field, some in allowed.items())]


def part_of(operation: str) -> str:
    """Which part of an operation users feel: of a step from when it was due, of an attempt from when it was sent."""
    return "service" if "." in operation else "latency"


def _by_second(deliveries: Deliveries) -> dict[int, Sparse]:
    values = values_ms()
    longest_ms = LONGEST_US / 1e3
    places = np.searchsorted(values, np.clip(deliveries.ms, 1e-3, longest_ms) - 1e-9)
    seconds = np.maximum(np.floor(deliveries.at_s), 0).astype(np.int64)
    found = {}
    for second in np.unique(seconds).tolist():
        some, counts = np.unique(places[seconds == second], return_counts=True)
        found[second] = Sparse(some, counts.astype(np.int64))
    return found


def _row(name: Name, found: Counted) -> Percentiles:
    return Percentiles(
        operation=name.operation,
        outcome=name.outcome,
        part=name.part,
        calls=found.calls,
        p50=found.at_ms(0.50),
        p90=found.at_ms(0.90),
        p95=found.at_ms(0.95),
        p99=found.at_ms(0.99),
        p999=found.at_ms(0.999),
        longest=float(found.values_ms[-1]),
    )
