"""Whether the processes of a load test had time enough to offer what was planned. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from loadtests.load.facts import Load, Part

# A process that has a processor, or waits for one, for longer than this is no longer free when something is due.
BUSY = 0.70
# The mean over so many seconds: a single one may be a collection of garbage, or a neighbour on the machine.
_OVER_S = 5


class Seconds:
    """The seconds of a process, each with the share of it for which the process wanted a processor.

    Whoever looks is always a little late. Were each second to begin when the one before was looked at, a long run would
    miss some at its end, and its shares would be of other seconds than those that they are said to be of.

    Args:
        begin_ns: when the first begins (`time.monotonic_ns`).
        used_s: for how long the process had wanted one by then, in seconds (see `machine.wanted_s`).
    """

    def __init__(self, begin_ns: int, used_s: float) -> None:
        self._begin_ns = begin_ns
        self._used_s = used_s
        self._then_ns = begin_ns
        self._over = 0

    def left_s(self, now_ns: int) -> float:
        """How long it is until the next of them is over."""
        return max(0, self._begin_ns + (self._over + 1) * 10**9 - now_ns) / 1e9

    def look(self, now_ns: int, used_s: float) -> list[float]:
        """The shares of those that are over since the last time; of several at once, their mean."""
        over = (now_ns - self._begin_ns) // 10**9 - self._over
        if over < 1:
            return []
        share = (used_s - self._used_s) / ((now_ns - self._then_ns) / 1e9)
        self._then_ns, self._used_s, self._over = now_ns, used_s, self._over + over
        return [round(share, 4)] * over


def busiest(found: Load, part: Part, within: range) -> float | None:
    """For which share of the time, at the most, a process wanted a processor over five of these seconds; None: unsaid.

    Of fewer than five seconds, over them all.
    """
    # Its own seconds began when it did, which is another moment than that of who led it; of another machine, unknown.
    shift_s = round((part.begin_ns - found.begin_ns) / 1e9) if part.boot == found.boot else 0
    cpu = np.array(part.cpu, np.float64)[max(0, within.start - shift_s) : max(0, within.stop - shift_s)]
    if not len(cpu):
        return None
    length = min(_OVER_S, len(cpu))
    return float(np.convolve(cpu, np.full(length, 1 / length), "valid").max())
