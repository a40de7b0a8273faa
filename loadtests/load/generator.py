"""Whether the processes of a load test had time enough to offer what was planned. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from loadtests.load.facts import Load, Part

# A process that has a processor for longer than this is no longer free when something is due.
BUSY = 0.70
# The mean over so many seconds: a single one may be a collection of garbage, or a neighbour on the machine.
_OVER_S = 5


def busiest(found: Load, part: Part, within: range) -> float | None:
    """The highest share of a processor that a process had over any five of these seconds; None: it does not say.

    Of fewer than five seconds, over them all.
    """
    # Its own seconds began when it did, which is another moment than that of who led it; of another machine, unknown.
    shift_s = round((part.begin_ns - found.begin_ns) / 1e9) if part.boot == found.boot else 0
    cpu = np.array(part.cpu, np.float64)[max(0, within.start - shift_s) : max(0, within.stop - shift_s)]
    if not len(cpu):
        return None
    length = min(_OVER_S, len(cpu))
    return float(np.convolve(cpu, np.full(length, 1 / length), "valid").max())
