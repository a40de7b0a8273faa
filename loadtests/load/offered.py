"""What a load test was to offer: as planned again, from its seed. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.load.plan import plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loadtests.scenarios import Scenario

# A step that was begun so long after it could have been was not offered when it was to be.
LATE_MS = 50.0


class Offered(NamedTuple):
    """How many steps were planned.

    Attributes:
        by_second: for each second since the beginning.
        by_place: for each process.
    """

    by_second: NDArray[np.int64]
    by_place: list[int]

    def rate(self, within: range) -> float:
        """How many a second, in some seconds; what is planned ends with the time."""
        seconds = self.by_second[within.start : within.stop]
        return float(seconds.mean()) if len(seconds) else 0.0


def offered(scenario: Scenario, seed: int, places: int) -> Offered:
    """What so many processes were to do."""
    by_place = []
    due_s: list[int] = []
    for place in range(places):
        steps = [step.due_ns // 1_000_000_000 for step in plan(scenario, seed, place, places)]
        by_place.append(len(steps))
        due_s += steps
    return Offered(np.bincount(np.array(due_s, np.int64)).astype(np.int64), by_place)
