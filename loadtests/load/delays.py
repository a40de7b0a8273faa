"""Delays that are known beforehand: those that the delaying server answers with, and the truth is made of. No I/O."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import msgspec

_SHORTEST_MS = 1.0


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """When what is asked is answered.

    A delay is drawn from a lognormal distribution, by the session and by how many requests it had before: both sides
    can tell it without the other. At the defaults 2 % of the median of two of them is 0.9 ms, which a generator can
    keep; half are above 20 ms, one of a hundred above 130 ms, one of a thousand above 235 ms.

    Attributes:
        seed: what they are drawn from.
        median_ms: half of them are below it.
        spread: the standard deviation of their logarithms.
        longest_ms: none is longer.
        begin_ns: what the times of the stalls count from (`time.monotonic_ns`).
        stalls: from when until when nothing is answered, in nanoseconds since then, one after the other: what would be
            answered in between is answered at the end.
    """

    seed: int
    median_ms: float = 20.0
    spread: float = 0.8
    longest_ms: float = 400.0
    begin_ns: int = 0
    stalls: list[tuple[int, int]] = []

    def delay_ns(self, session: int, count: int) -> int:
        """How long the answer to a request takes, but for stalls.

        Args:
            session: the number of the session.
            count: how many requests it had before.
        """
        drawn_ms = self.median_ms * math.exp(self.spread * _drawn(self.seed, session, count))
        return round(min(max(_SHORTEST_MS, drawn_ms), self.longest_ms) * 1e6)

    def answered_ns(self, sent_ns: int, session: int, count: int) -> int:
        """When a request that was sent at a moment is answered (both `time.monotonic_ns`)."""
        answered_ns = sent_ns + self.delay_ns(session, count)
        for from_ns, until_ns in self.stalls:
            if from_ns <= answered_ns - self.begin_ns < until_ns:
                answered_ns = self.begin_ns + until_ns
        return answered_ns


# The truth is told more than once: with the server's own lateness, and without.
@lru_cache(maxsize=2**17)
def _drawn(seed: int, session: int, count: int) -> float:
    return random.Random(f"{seed}/{session}/{count}").gauss(0.0, 1.0)  # noqa: S311 - not a secret
