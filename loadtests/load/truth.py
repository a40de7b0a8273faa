"""What every step of a load test must take where all delays are known: by the plan alone. No I/O.

A step begins when it is due and what was to be done before with its session is answered. So a process must have hands
enough that one is always free (`busiest` says how many are busy at once), and nothing else may hold it up.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from loadtests.load.plan import Operation, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.load.delays import Delays
    from loadtests.load.plan import Step
    from loadtests.scenarios import Scenario

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

# What a step asks for, one after the other.
ATTEMPTS = {
    Operation.CREATE: ("create",),
    Operation.START: ("update",),
    Operation.TURN: ("get", "update"),
    Operation.END: ("get", "update", "delete"),
}


class Truth(NamedTuple):
    """What the steps of a process take, each array in the order of its plan.

    Attributes:
        operations: what each step is.
        due_ns: when it is due, in nanoseconds since the beginning.
        begin_ns: likewise, when it begins.
        end_ns: likewise, when it is answered.
        attempts_us: how long each attempt of a step takes, by the step's and its own name (`turn.get`), in the order of
            the steps.
    """

    operations: Numbers
    due_ns: Numbers
    begin_ns: Numbers
    end_ns: Numbers
    attempts_us: dict[str, Numbers]

    @property
    def latency_us(self) -> Numbers:
        """From when each step is due until it is answered."""
        return (self.end_ns - self.due_ns) / 1e3

    @property
    def waiting_us(self) -> Numbers:
        """From when it is due until it begins."""
        return (self.begin_ns - self.due_ns) / 1e3

    @property
    def service_us(self) -> Numbers:
        """From when it begins until it is answered."""
        return (self.end_ns - self.begin_ns) / 1e3

    @property
    def busiest(self) -> int:
        """How many steps are under way at once, at the most: so many hands are needed."""
        moments = np.concatenate([self.begin_ns, self.end_ns])
        changes = np.repeat([1, -1], len(self.begin_ns))
        # Where one ends as another begins, a hand does both.
        return int(np.cumsum(changes[np.lexsort((changes, moments))]).max(initial=0))


def truth(  # noqa: PLR0913 - the four of a plan, and what answers it
    scenario: Scenario,
    seed: int,
    place: int,
    places: int,
    *,
    delays: Delays,
    begin_ns: int,
    late_ns: Mapping[tuple[int, int], int] | None = None,
) -> Truth:
    """What the steps of the process in this place of so many take.

    Args:
        scenario: as of `plan`.
        seed: likewise.
        place: likewise.
        places: likewise.
        delays: when what is asked is answered.
        begin_ns: when the process began: what its steps' times count from.
        late_ns: by how much later it is answered, by the number of the session and how many requests it had before:
            what the server says of itself, where its own lateness is to be part of the truth.

    Raises:
        ValueError: a session of this scenario has requests in an order that the plan does not tell.
    """
    if scenario.is_shared or scenario.message_s is not None:
        raise ValueError("sessions that are shared or have messages have no order that the plan tells")
    walk = _Walk(delays, begin_ns, {} if late_ns is None else late_ns)
    for step in plan(scenario, seed, place, places):
        walk.do(step)
    moments = np.array(walk.moments, np.int64).reshape(-1, 3)
    return Truth(
        np.array(walk.operations, np.str_),
        moments[:, 0],
        moments[:, 1],
        moments[:, 2],
        {name: np.array(values) for name, values in walk.attempts_us.items()},
    )


class _Walk:
    """Goes through a plan, and keeps when each session is free and how many requests it had."""

    def __init__(self, delays: Delays, begin_ns: int, late_ns: Mapping[tuple[int, int], int]) -> None:
        self.operations: list[str] = []
        self.moments: list[tuple[int, int, int]] = []
        self.attempts_us: dict[str, list[float]] = {}
        self._delays = delays
        self._begin_ns = begin_ns
        self._late_ns = late_ns
        self._counts: Counter[int] = Counter()
        self._free_ns: dict[int, int] = {}

    def do(self, step: Step) -> None:
        begin_ns = at_ns = max(step.due_ns, self._free_ns.get(step.session, 0))
        for name in ATTEMPTS[step.operation]:
            answered_ns = self._answered_ns(at_ns, step.session)
            self.attempts_us.setdefault(f"{step.operation}.{name}", []).append((answered_ns - at_ns) / 1e3)
            at_ns = answered_ns
        self._free_ns[step.session] = at_ns
        self.operations.append(step.operation.value)
        self.moments.append((step.due_ns, begin_ns, at_ns))

    def _answered_ns(self, sent_ns: int, session: int) -> int:
        count = self._counts[session]
        self._counts[session] += 1
        answered_ns = self._delays.answered_ns(self._begin_ns + sent_ns, session, count) - self._begin_ns
        return answered_ns + self._late_ns.get((session, count), 0)
