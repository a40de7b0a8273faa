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

from loadtests.history import NOTHING, Error, Kind, Outcome, Recorder, Seen
from loadtests.subjects.register import (
    DurabilityMissed,
    Held,
    Refused,
    Register,
    Unknown,
    digest_of,
    payload,
    session_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
        shown: how many states were read for mutations and shown to their functions, each a GET in the history.
    """

    def __init__(self, register: Register, recorder: Recorder, prefix: str) -> None:
        self.attempted = 0
        self.shown = 0
        self._register = register
        self._recorder = recorder
        self._prefix = prefix
        self._held: dict[int, Held] = {}
        self._former: dict[int, Held] = {}
        self._absent: set[int] = set()
        self._pause_s = FIRST_PAUSE_S
        # Of the attempt under way, in the history.
        self._place = 0
        self._actions: dict[Kind, Callable[[int, int, Held | None], None]] = {
            Kind.CREATE: self._create,
            Kind.GET: self._get,
            Kind.UPDATE: self._update,
            Kind.MUTATE: self._mutate,
            Kind.DELETE: self._delete,
            Kind.DELETE_IF: self._delete_if,
            Kind.TOUCH: self._touch,
        }

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
        self._actions[kind](session, planned_ns, held)

    def read(self, session: int) -> Outcome:
        """Read a session; what became of it."""
        return self._perform(Kind.GET, session, 0, lambda _, name: self._register.get(name))

    def _create(self, session: int, planned_ns: int, _: Held | None) -> None:
        self._perform(
            Kind.CREATE, session, planned_ns, lambda token, name: self._register.create(name, token), writes=True
        )

    def _get(self, session: int, planned_ns: int, _: Held | None) -> None:
        self._perform(Kind.GET, session, planned_ns, lambda _, name: self._register.get(name))

    def _update(self, session: int, planned_ns: int, held: Held | None) -> None:
        if held is None:
            raise AssertionError("an update of what is not held")
        self._perform(
            Kind.UPDATE,
            session,
            planned_ns,
            lambda token, _: self._register.update(held, token),
            expected=held.seen.stamp,
            writes=True,
        )

    def _mutate(self, session: int, planned_ns: int, known: Held | None) -> None:
        since_ns = 0
        # What is shown first and is what was known has not been read; whatever is shown later has, be it the same.
        # (Of a subject that reads all the same, one read fewer is put down.)
        unread = None if known is None else known.seen

        def shown(seen: Seen) -> None:
            nonlocal since_ns, unread
            shown_ns = time.monotonic_ns()
            self._recorder.derive(self._place, seen.stamp)
            if seen != unread:
                self.shown += 1
                self._recorder.saw(Kind.GET, session, seen, since_ns, shown_ns, expected=seen.stamp)
            unread = None
            since_ns = time.monotonic_ns()

        def call(token: int, name: str) -> Held:
            nonlocal since_ns
            since_ns = time.monotonic_ns()
            return self._register.mutate(name, token, shown, known)

        self._perform(Kind.MUTATE, session, planned_ns, call, writes=True)

    def _delete(self, session: int, planned_ns: int, _: Held | None) -> None:
        self._perform(Kind.DELETE, session, planned_ns, lambda token, name: self._register.delete(name, token, None))

    def _delete_if(self, session: int, planned_ns: int, held: Held | None) -> None:
        if held is None:
            raise AssertionError("a deletion of what is not held")
        self._perform(
            Kind.DELETE_IF,
            session,
            planned_ns,
            lambda token, name: self._register.delete(name, token, held),
            expected=held.seen.stamp,
        )

    def _touch(self, session: int, planned_ns: int, _: Held | None) -> None:
        self._perform(Kind.TOUCH, session, planned_ns, lambda _, name: self._register.touch(name))

    def _perform(  # noqa: PLR0913 - the parts of one record
        self,
        kind: Kind,
        session: int,
        planned_ns: int,
        call: Callable[[int, str], Held | bool | None],
        *,
        expected: tuple[int, int] = (0, 0),
        writes: bool = False,
    ) -> Outcome:
        """Record an attempt and what became of it."""
        recorder = self._recorder
        name = session_name(self._prefix, session)
        token = recorder.next_token()
        digest = digest_of(payload(name, token)) if writes else 0
        place = self._place = recorder.begin(kind, session, expected=expected, digest=digest, planned_ns=planned_ns)
        outcome, seen, error = Outcome.UNKNOWN, NOTHING, Error.OTHER
        result: Held | bool | None = None
        try:
            result = call(token, name)
            end_ns = time.monotonic_ns()
            outcome, seen, error = _answered(kind, result, Error.NONE)
        except Refused as refused:
            end_ns = time.monotonic_ns()
            outcome, seen, error = Outcome.REFUSED, Seen(refused.stamp), refused.error
        except Unknown as unknown:
            end_ns = time.monotonic_ns()
            error = unknown.error
        except DurabilityMissed as missed:
            end_ns = time.monotonic_ns()
            result = missed.result
            outcome, seen, error = _answered(kind, result, Error.DURABILITY)
        except Exception:  # noqa: BLE001 - whatever it is, nothing is known
            end_ns = time.monotonic_ns()
        recorder.end(place, outcome, end_ns, seen, error)
        self._learn(kind, session, outcome, error, result)
        return outcome

    def _learn(self, kind: Kind, session: int, outcome: Outcome, error: Error, result: Held | bool | None) -> None:
        """Keep what is held of a session now, and wait a little where the store cannot be used."""
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


def _answered(kind: Kind, result: Held | bool | None, error: Error) -> tuple[Outcome, Seen, Error]:
    """How an attempt that was answered is recorded: that there is nothing to delete or to touch is a no."""
    if isinstance(result, Held):
        return Outcome.OK, result.seen, error
    if kind == Kind.GET or result is True:
        return Outcome.OK, NOTHING, error
    if result is False:
        return Outcome.REFUSED, NOTHING, Error.NOT_FOUND
    return Outcome.UNKNOWN, NOTHING, Error.OTHER
