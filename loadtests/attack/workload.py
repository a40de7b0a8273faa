"""The workload: a seeded random mix of operations on one subject, each attempt recorded.

What is attempted, and when, follows from the seed alone; only where it cannot be done (an update of what is not held)
is something else attempted in its place, so that their number stays. An instance visits a session and does a few
things there, and sessions are visited the more often the lower their number is: the first few are hot, and the last
are left alone for long.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from loadtests.history import Error, Kind, Outcome
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from loadtests.history import Recorder
    from loadtests.subjects.recorded import Answer
    from loadtests.subjects.register import Register

# What an instance waits after an answer that the store cannot be used: it keeps trying, and does not flood its history.
FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.020
# How long a wait for a planned moment takes at the most before it is asked whether to stop.
_LONGEST_WAIT_S = 0.05
_MOST_IN_A_VISIT = 5
_DRAWN = 256
_LATER = frozenset([Error.UNAVAILABLE, Error.BACKLOG_FULL])


WEIGHTS = {"CREATE": 3.0, "GET": 27.0, "UPDATE": 42.0, "MUTATE": 14.0, "DELETE": 2.0, "DELETE_IF": 4.0, "TOUCH": 8.0}


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """What is attempted, how often.

    Attributes:
        sessions: numbered from 1.
        skew: session k is visited in proportion to k ** -skew.
        old: the share of updates and deletions of one version that are derived from what was held before, and of
            mutations that are tried first on that.
        known: the share of mutations that are tried first on what is held, where anything is or was.
        weights: of each operation.
    """

    sessions: int = 64
    skew: float = 0.7
    old: float = 0.05
    known: float = 0.5
    weights: dict[str, float] = msgspec.field(default_factory=WEIGHTS.copy)


class Step(NamedTuple):
    """What is to be attempted next.

    Attributes:
        kind: the operation.
        session: the session's number.
        is_old: whether to derive it from what was held before.
        is_known: whether to try a mutation first on what is held.
    """

    kind: Kind
    session: int
    is_old: bool
    is_known: bool = False


def steps(seed: int, place: int, mix: Mix) -> Iterator[Step]:
    """What the instance in this place attempts, without end; of the seed alone."""
    rng = random.Random(f"{seed}/{place}/steps")  # noqa: S311 - not a secret
    numbers = range(1, mix.sessions + 1)
    shares = list(itertools.accumulate(number**-mix.skew for number in numbers))
    kinds = [Kind[name] for name in mix.weights]
    weights = list(itertools.accumulate(mix.weights.values()))
    while True:
        for session in rng.choices(numbers, cum_weights=shares, k=_DRAWN):
            count = 1 + rng.getrandbits(8) % _MOST_IN_A_VISIT
            for kind in rng.choices(kinds, cum_weights=weights, k=count):
                drawn = rng.random()
                # Of what is tried first on something held, too, the share `old` is old.
                is_known = kind == Kind.MUTATE and rng.random() < mix.known
                yield Step(kind, session, drawn < mix.old, is_known)


def arrivals(seed: int, place: int, rate: float, duration_s: float) -> list[int]:
    """When the instance in this place is to attempt something, in ns since the beginning; of the seed alone."""
    rng = random.Random(f"{seed}/{place}/arrivals")  # noqa: S311 - not a secret
    found = []
    at_s = rng.expovariate(rate)
    while at_s < duration_s:
        found.append(round(at_s * 1e9))
        at_s += rng.expovariate(rate)
    return found


def due(planned: Iterable[int], is_told_to_stop: Callable[[], bool]) -> Iterator[int]:
    """Each planned moment when it has come, or at once where it is past: none is skipped."""
    for planned_ns in planned:
        while (wait_s := (planned_ns - time.monotonic_ns()) / 1e9) > 0:
            time.sleep(min(wait_s, _LONGEST_WAIT_S))
            if is_told_to_stop():
                return
        yield planned_ns


class Attacker:
    """Attempts steps on a subject, and records each.

    Attributes:
        attempted: how many steps were attempted.
    """

    def __init__(self, register: Register, recorder: Recorder, prefix: str) -> None:
        self.attempted = 0
        self._recorded = recorded = Recorded(register, recorder, prefix)
        self._simple = {Kind.CREATE: recorded.create, Kind.GET: recorded.get, Kind.TOUCH: recorded.touch}
        self._held: dict[int, Held] = {}
        self._former: dict[int, Held] = {}
        self._absent: set[int] = set()
        self._pause_s = FIRST_PAUSE_S

    @property
    def shown(self) -> int:
        """How many states were read for mutations and shown to their functions, each a GET in the history."""
        return self._recorded.shown

    def attempt(self, step: Step, planned_ns: int = 0) -> None:
        """Attempt a step, or what can be done in its place."""
        kind, session, is_old, is_known = step
        held = self._held.get(session)
        if kind == Kind.MUTATE:
            # What was held before is out of date, or of a life that is over: the best that is left of it.
            former = self._former.get(session)
            held = (former if is_old or held is None else held) if is_known else None
        if kind in (Kind.UPDATE, Kind.DELETE_IF):
            if is_old:
                held = self._former.get(session, held)
            if held is None:
                kind = Kind.CREATE if session in self._absent else Kind.GET
        self.attempted += 1
        self._learn(kind, session, self._made(kind, session, planned_ns, held))

    def read(self, session: int) -> Outcome:
        """Read a session; what became of it."""
        answer = self._recorded.get(session)
        self._learn(Kind.GET, session, answer)
        return answer.outcome

    def _made(self, kind: Kind, session: int, planned_ns: int, held: Held | None) -> Answer:
        """Make an attempt, with what is held or known where it takes that."""
        recorded = self._recorded
        if kind == Kind.UPDATE and held is not None:
            return recorded.update(session, held, planned_ns=planned_ns)
        if kind == Kind.DELETE_IF and held is not None:
            return recorded.delete(session, held, planned_ns=planned_ns)
        if kind == Kind.MUTATE:
            return recorded.mutate(session, planned_ns=planned_ns, known=held)
        if kind == Kind.DELETE:
            return recorded.delete(session, None, planned_ns=planned_ns)
        if kind not in self._simple:
            raise AssertionError(f"{kind.name} of what is not held")
        return self._simple[kind](session, planned_ns=planned_ns)

    def _learn(self, kind: Kind, session: int, answer: Answer) -> None:
        """Keep what is held of a session now, and wait a little where the store cannot be used."""
        outcome, error, result = answer.outcome, answer.error, answer.result
        if error in _LATER:
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return
        self._pause_s = FIRST_PAUSE_S
        if isinstance(result, Held):
            self._hold(session, result)
            self._absent.discard(session)
        elif outcome == Outcome.OK and kind == Kind.TOUCH:
            self._absent.discard(session)
        elif outcome == Outcome.OK or error == Error.NOT_FOUND:
            # Read and not found, or deleted.
            self._hold(session, None)
            self._absent.add(session)
        else:
            self._hold(session, None)
            self._absent.discard(session)

    def _hold(self, session: int, held: Held | None) -> None:
        former = self._held.pop(session, None)
        if former is not None:
            self._former[session] = former
        if held is not None:
            self._held[session] = held
