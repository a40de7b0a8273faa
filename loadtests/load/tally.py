"""What a process of a load test counts: each step and each attempt, in the second in which it was due."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from loadtests.load.histograms import Counts, Name
from loadtests.load.offered import LATE_MS
from loadtests.load.timeline import DROPPED, OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.load.latency import Latency


class Tally:
    """Counts; what was counted since the last report goes into the next.

    Args:
        on_step: told of each step: what it was, how it ended, and how long it took in milliseconds.

    Attributes:
        begun, dropped, attempted: see `facts.Part`.
        late: by second, how many steps were begun late: see there.
        sent, told, own: of messages: see `facts.Load`.
        reports: how many were taken.
    """

    def __init__(self, on_step: Callable[[str, str, float], None] = lambda *_: None) -> None:
        self._on_step = on_step
        self.begun = 0
        self.dropped = 0
        self.late: Counter[int] = Counter()
        self.attempted = 0
        self.sent = 0
        self.told = 0
        self.own = 0
        self.reports = 0
        self._seconds: dict[int, dict[Name, Counts]] = {}

    def step(self, second: int, operation: str, outcome: str, latency: Latency, *, is_late: bool = False) -> None:
        """Count a step that was done.

        Args:
            second: in which it was due, since the beginning.
            operation: what it was.
            outcome: how it ended.
            latency: how long it took.
            is_late: whether this process itself got around to it late, whatever it then had to wait for.
        """
        self.begun += 1
        self.late[second] += int(is_late or latency.lag_us > 1e3 * LATE_MS)
        self._record(second, operation, outcome, "latency", latency.latency_us)
        self._record(second, operation, outcome, "waiting", latency.waiting_us)
        self._record(second, operation, outcome, "service", latency.service_us)
        self._record(second, operation, outcome, "lag", latency.lag_us)
        self._on_step(operation, outcome, latency.latency_us / 1e3)

    def drop(self, second: int, operation: str, waited_us: float) -> None:
        """Count a step that was given up after it had waited for so long."""
        self.dropped += 1
        self._record(second, operation, DROPPED, "latency", waited_us)
        self._on_step(operation, DROPPED, waited_us / 1e3)

    def attempt(self, second: int, operation: str, outcome: str, service_us: float) -> None:
        """Count an attempt of a step, or what came of one in another process."""
        self._record(second, operation, outcome, "service", service_us)

    def delivery(self, second: int, operation: str, latency_us: float) -> None:
        """Count that another process was told of something."""
        self._record(second, operation, OK, "latency", latency_us)

    def take(self) -> dict[str, Any]:
        """A report: its number, from 1, and all that was counted since the last, by second and name."""
        self.reports += 1
        seconds, self._seconds = self._seconds, {}
        encoded = {
            str(at): {str(name): counts.encoded() for name, counts in found.items()} for at, found in seconds.items()
        }
        return {"number": self.reports, "seconds": encoded}

    def _record(self, second: int, operation: str, outcome: str, part: str, value_us: float) -> None:
        found = self._seconds.get(second)
        if found is None:
            found = self._seconds[second] = {}
        name = Name(operation, outcome, part)
        counts = found.get(name)
        if counts is None:
            counts = found[name] = Counts()
        counts.record(value_us)
