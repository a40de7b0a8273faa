"""Histograms of latencies, by operation, outcome and part; merged over processes without loss.

Values are counted in microseconds, to three digits, from 1 us to ten minutes (HdrHistogram, Gil Tene). A value beyond
is counted, and never dropped: as beyond, and as the longest there is.
"""

from __future__ import annotations

import base64
import itertools
import math
from array import array
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

LONGEST_US = 600_000_000
_DIGITS = 3
# Four bytes, which hold the longest; and what stands between how many were beyond and the rest, where it is `Counts`.
_UNSIGNED = "I"
_AS_THEY_CAME = "#"


@cache
def values_ms() -> NDArray[np.float64]:
    """What each bucket stands for, in milliseconds and rising: the largest value that is counted in it."""
    empty = _empty()
    lowest = map(empty.get_value_from_index, range(empty.counts_len))
    return np.array([empty.get_highest_equivalent_value(value) for value in lowest]) / 1e3


class Sparse(NamedTuple):
    """The buckets in which anything was counted, rising, and how often: two arrays of the same length."""

    places: NDArray[np.intp]
    counts: NDArray[np.int64]


class Name(NamedTuple):
    """What a histogram counts.

    Attributes:
        operation: a step (`turn`), or one of its attempts (`turn.update`).
        outcome: `ok`, `conflict`, `unknown`, `error` or `dropped`.
        part: of a step `latency`, `waiting`, `service` and `lag`; of an attempt `service`.
    """

    operation: str
    outcome: str
    part: str

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def of(cls, text: str) -> Self:
        """The name that a text is.

        Raises:
            ValueError: it is none.
        """
        operation, outcome, part = text.split("/")
        return cls(operation, outcome, part)


def rank(share: float, count: int) -> int:
    """Which of so many in rising order, from 1, is the first that this share of all are not above; of none, 0."""
    # 0.07 * 100 is a little more than 7.
    return min(count, max(1, math.ceil(round(share * count, 6))))


class Histogram:
    """The latencies of one name.

    Attributes:
        beyond: how many were longer than the longest that is told apart.
    """

    __slots__ = ("_counts", "beyond")

    def __init__(self) -> None:
        self._counts = _empty()
        self.beyond = 0

    def __len__(self) -> int:
        return int(self._counts.get_total_count())

    def record(self, value_us: float) -> None:
        """Count a value; less than a microsecond is one."""
        rounded = max(1, round(value_us))
        if rounded > LONGEST_US:
            self.beyond += 1
            rounded = LONGEST_US
        if not self._counts.record_value(rounded):
            raise AssertionError(f"{rounded} us was not counted")

    def at_ms(self, share: float) -> float:
        """The value that this share of all are not above, in milliseconds; of none, 0."""
        if not len(self):
            return 0.0
        places, counts = self.sparse()
        return float(values_ms()[places[np.searchsorted(np.cumsum(counts), rank(share, len(self)))]])

    def longest_ms(self) -> float:
        """The longest, in milliseconds; of none, 0."""
        return float(self._counts.get_max_value()) / 1e3 if len(self) else 0.0

    def mean_ms(self) -> float:
        """Their mean in milliseconds; of none, 0."""
        return float(self._counts.get_mean_value()) / 1e3 if len(self) else 0.0

    def over(self, limit_ms: float) -> int:
        """How many were longer."""
        return sum(count for value_ms, count in self.buckets() if value_ms > limit_ms)

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Each value that was counted, in milliseconds and rising, and how often."""
        places, counts = self.sparse()
        yield from zip(values_ms()[places].tolist(), counts.tolist(), strict=True)

    def sparse(self) -> Sparse:
        """The buckets in which anything was counted (see `values_ms`)."""
        return _sparse(self._counts)

    def encoded(self) -> str:
        """All of it as a text, for JSON."""
        return f"{self.beyond}:{base64.b64encode(bytes(self._counts.encode())).decode()}"

    def join(self, other: Histogram) -> None:
        """Add what another counted that is at hand."""
        self._counts.add(other._counts)
        self.beyond += other.beyond

    def add(self, encoded: str) -> None:
        """Add what another counted, which was encoded.

        Raises:
            ValueError: it is no histogram, or not all of it was taken.
        """
        before = len(self)
        came = encoded.partition(_AS_THEY_CAME)
        beyond, separator, text = came if came[1] else encoded.partition(":")
        if not beyond.isdecimal():
            raise ValueError("not a histogram: it does not say how many were beyond")
        try:
            other = _empty()
            if separator == _AS_THEY_CAME:
                for value_us, count in _pairs(text):
                    other.record_value(value_us, count)
            else:
                other.decode_and_add(base64.b64decode(text, validate=True))
            self._counts.add(other)
            self.beyond += int(beyond)
        except Exception as error:
            raise ValueError(f"not a histogram: {error}") from error
        if len(self) != before + int(other.get_total_count()):
            raise ValueError("a histogram was not taken whole")


class Counts:
    """What a histogram is to count, kept as it came: for a process that must neither grow nor stop to encode.

    A second of a load test has few values, of which a histogram would take a hundred times the memory, and its encoding
    longer than a call.
    """

    __slots__ = ("_beyond", "_counts")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._beyond = 0

    def record(self, value_us: float) -> None:
        """As of a histogram."""
        rounded = max(1, round(value_us))
        if rounded > LONGEST_US:
            self._beyond += 1
            rounded = LONGEST_US
        self._counts[rounded] = self._counts.get(rounded, 0) + 1

    def encoded(self) -> str:
        """All of it as a text that a histogram can add."""
        pairs = array(_UNSIGNED, itertools.chain.from_iterable(self._counts.items()))
        return f"{self._beyond}{_AS_THEY_CAME}{base64.b64encode(pairs.tobytes()).decode()}"


def _pairs(text: str) -> list[tuple[int, int]]:
    """Values in microseconds and their counts, as `Counts` encoded them.

    Raises:
        ValueError: they are none.
    """
    flat = array(_UNSIGNED)
    flat.frombytes(base64.b64decode(text, validate=True))
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if not all(1 <= value_us <= LONGEST_US and count for value_us, count in pairs):
        raise ValueError("a value or a count is out of range")
    return pairs


def decoded(encoded: str) -> Sparse:
    """What a histogram that was encoded counted.

    Raises:
        ValueError: it is no histogram.
    """
    try:
        other = HdrHistogram.decode(base64.b64decode(encoded.partition(":")[2], validate=True))
    except Exception as error:
        raise ValueError(f"not a histogram: {error}") from error
    if other.counts_len != len(values_ms()):
        raise ValueError("not a histogram of latencies: its buckets are others")
    return _sparse(other)


def _empty() -> HdrHistogram:
    return HdrHistogram(1, LONGEST_US, _DIGITS)


def _sparse(counted: HdrHistogram) -> Sparse:
    counts = np.ctypeslib.as_array(counted.counts)
    places = np.flatnonzero(counts)
    return Sparse(places, counts[places].astype(np.int64))


class Histograms:
    """Those of all names."""

    def __init__(self) -> None:
        self._by_name: dict[Name, Histogram] = {}

    def __iter__(self) -> Iterator[Name]:
        return iter(sorted(self._by_name))

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: Name) -> Histogram:
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name[name] = Histogram()
        return found

    def items(self) -> Iterator[tuple[Name, Histogram]]:
        """Each name and its histogram."""
        yield from sorted(self._by_name.items(), key=lambda item: item[0])

    def encoded(self) -> dict[str, str]:
        """All of them by their names as texts, for JSON."""
        return {str(name): histogram.encoded() for name, histogram in sorted(self._by_name.items())}

    def add(self, encoded: Mapping[str, str]) -> None:
        """Add those of another process, or of another time.

        Raises:
            ValueError: as of `Histogram.add`.
        """
        for text, histogram in encoded.items():
            self[Name.of(text)].add(histogram)

    def join(self, other: Histograms) -> None:
        """Add those of another time that are at hand as they are counted."""
        for name, histogram in other.items():
            self[name].join(histogram)

    def of(self, operation: str, part: str, outcomes: Iterable[str]) -> Histogram:
        """Those of several outcomes as one."""
        found = Histogram()
        for name in self:
            if name.operation == operation and name.part == part and name.outcome in set(outcomes):
                found.join(self[name])
        return found
