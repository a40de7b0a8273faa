"""A subject whose attempts are recorded: each is put down before it begins, and completed when it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from kairos_core.session import SyncStatus
from loadtests.history import NOTHING, Error, Kind, Outcome, Seen
from loadtests.subjects.register import DurabilityMissed, Held, Refused, Unknown, digest_of, payload, session_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.history import Recorder
    from loadtests.subjects.register import Register


class Answer(NamedTuple):
    """What became of an attempt.

    Attributes:
        outcome: as it is recorded.
        error: likewise.
        result: what was read or written, or whether there was anything to delete or to touch; None where nothing was
            found, or nothing came back.
        begin_ns: when it began, as it is recorded.
        end_ns: when it was answered, or given up.
    """

    outcome: Outcome
    error: Error
    result: Held | bool | None
    begin_ns: int
    end_ns: int


class Recorded:
    """Attempts on a subject, one after the other, each recorded; whatever becomes of it, it is answered.

    Args:
        register: the subject.
        recorder: of the history, which nobody else writes.
        prefix: what the ids of the sessions begin with.

    Attributes:
        shown: how many states were read for mutations and shown to their functions, each a GET in the history.
    """

    def __init__(self, register: Register, recorder: Recorder, prefix: str) -> None:
        self.shown = 0
        self._register = register
        self._recorder = recorder
        self._prefix = prefix
        # Of the attempt under way, in the history.
        self._place = 0

    def create(self, session: int, *, planned_ns: int = 0, status: SyncStatus = SyncStatus.RUNNING) -> Answer:
        """Create a session that must not exist."""
        return self._perform(
            Kind.CREATE,
            session,
            planned_ns,
            lambda token, name: self._register.create(name, token, status),
            writes=status,
        )

    def get(self, session: int, *, planned_ns: int = 0) -> Answer:
        """Read a session."""
        return self._perform(Kind.GET, session, planned_ns, lambda _, name: self._register.get(name))

    def update(
        self, session: int, held: Held, *, planned_ns: int = 0, status: SyncStatus = SyncStatus.RUNNING
    ) -> Answer:
        """Write, if what is stored is what is held."""
        return self._perform(
            Kind.UPDATE,
            session,
            planned_ns,
            lambda token, _: self._register.update(held, token, status),
            expected=held.seen.stamp,
            writes=status,
        )

    def mutate(self, session: int, *, planned_ns: int = 0, known: Held | None = None) -> Answer:
        """Read and write, again where another was first; where something is known, that may be tried first, unread."""
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

        return self._perform(Kind.MUTATE, session, planned_ns, call, writes=SyncStatus.RUNNING)

    def delete(self, session: int, held: Held | None, *, planned_ns: int = 0) -> Answer:
        """Delete; with something held, only that."""
        return self._perform(
            Kind.DELETE if held is None else Kind.DELETE_IF,
            session,
            planned_ns,
            lambda token, name: self._register.delete(name, token, held),
            expected=(0, 0) if held is None else held.seen.stamp,
        )

    def touch(self, session: int, *, planned_ns: int = 0) -> Answer:
        """Let a session live for its full time from now on."""
        return self._perform(Kind.TOUCH, session, planned_ns, lambda _, name: self._register.touch(name))

    def _perform(  # noqa: PLR0913 - the parts of one record
        self,
        kind: Kind,
        session: int,
        planned_ns: int,
        call: Callable[[int, str], Held | bool | None],
        *,
        expected: tuple[int, int] = (0, 0),
        writes: SyncStatus | None = None,
    ) -> Answer:
        """Record an attempt and what became of it."""
        recorder = self._recorder
        name = session_name(self._prefix, session)
        token = recorder.next_token()
        digest = 0 if writes is None else digest_of(payload(name, token, writes))
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
        return Answer(outcome, error, result, recorder.began_ns(place), end_ns)


def _answered(kind: Kind, result: Held | bool | None, error: Error) -> tuple[Outcome, Seen, Error]:
    """How an attempt that was answered is recorded: that there is nothing to delete or to touch is a no."""
    if isinstance(result, Held):
        return Outcome.OK, result.seen, error
    if kind == Kind.GET or result is True:
        return Outcome.OK, NOTHING, error
    if result is False:
        return Outcome.REFUSED, NOTHING, Error.NOT_FOUND
    return Outcome.UNKNOWN, NOTHING, Error.OTHER
