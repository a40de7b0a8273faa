"""What a step of a load test does with its session: one attempt or a few, each recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kairos_core.errors import KairosError
from kairos_core.session import SyncStatus
from loadtests.history import Error, Outcome
from loadtests.load.plan import Operation
from loadtests.load.timeline import CONFLICT, ERROR, OK, UNKNOWN
from loadtests.subjects.register import Held, session_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.load.plan import Step
    from loadtests.subjects.recorded import Answer, Recorded

# What a refusal says where others write the session, too.
_OVERTAKEN = (Error.CONFLICT, Error.NOT_FOUND)


class Made(NamedTuple):
    """An attempt of a step: `turn.get`, how it ended, and when."""

    name: str
    outcome: str
    begin_ns: int
    end_ns: int


class Done(NamedTuple):
    """A step that was done.

    Attributes:
        outcome: how it ended: that of its last attempt.
        attempts: all of them.
        held: what is known of the session now.
        sent: of a message: to how many receivers it was handed.
    """

    outcome: str
    attempts: list[Made]
    held: Held | None = None
    sent: int = 0

    @property
    def begin_ns(self) -> int:
        """When its first attempt began."""
        return self.attempts[0].begin_ns

    @property
    def end_ns(self) -> int:
        """When its last attempt was answered."""
        return self.attempts[-1].end_ns


class Broadcaster(Protocol):
    """Who can send a message to a session's receivers."""

    def broadcast(self, session_id: str, message: object) -> int:
        """Send it; to how many it was handed. Raises KairosError."""
        ...


class Steps:
    """Does steps.

    Args:
        recorded: what records the attempts.
        broadcaster: what sends messages; None: there are none in this load test.
        prefix: of the ids of its sessions.
        place: of the process, which a message names.
        is_shared: whether others write the sessions, too.
    """

    def __init__(
        self, recorded: Recorded, broadcaster: Broadcaster | None, prefix: str, place: int, *, is_shared: bool
    ) -> None:
        self._recorded = recorded
        self._broadcaster = broadcaster
        self._prefix = prefix
        self._place = place
        self._is_shared = is_shared
        self._actions: dict[Operation, Callable[[Step, int, Held | None], Done]] = {
            Operation.CREATE: self._create,
            Operation.START: self._start,
            Operation.TURN: self._turn,
            Operation.MESSAGE: self._message,
            Operation.END: self._end,
        }

    def do(self, step: Step, planned_ns: int, held: Held | None) -> Done:
        """Do a step.

        Args:
            step: what.
            planned_ns: when it was due, as the histories have it.
            held: what is known of its session.
        """
        return self._actions[step.operation](step, planned_ns, held)

    def _create(self, step: Step, planned_ns: int, _: Held | None) -> Done:
        answer = self._recorded.create(step.session, planned_ns=planned_ns, status=SyncStatus.PENDING)
        return self._done([self._made("create.create", answer)], answer)

    def _start(self, step: Step, planned_ns: int, held: Held | None) -> Done:
        return self._write(step, planned_ns, held, "start", SyncStatus.RUNNING)

    def _turn(self, step: Step, planned_ns: int, _: Held | None) -> Done:
        # Whatever this instance knows: any of them serves any request.
        return self._write(step, planned_ns, None, "turn", SyncStatus.RUNNING)

    def _write(self, step: Step, planned_ns: int, held: Held | None, name: str, status: SyncStatus) -> Done:
        """Update what is held; what is not is read first."""
        attempts = []
        if held is None:
            answer = self._recorded.get(step.session, planned_ns=planned_ns)
            attempts.append(self._made(f"{name}.get", answer))
            if not isinstance(answer.result, Held):
                if answer.outcome == Outcome.OK:
                    # There is nothing: where others end sessions, too, they were first.
                    return Done(CONFLICT if self._is_shared else ERROR, attempts)
                return self._done(attempts, answer)
            held = answer.result
        answer = self._recorded.update(step.session, held, planned_ns=planned_ns, status=status)
        attempts.append(self._made(f"{name}.update", answer))
        return self._done(attempts, answer)

    def _end(self, step: Step, planned_ns: int, _: Held | None) -> Done:
        # Where others write it, what is known may be old.
        done = self._write(step, planned_ns, None, "end", SyncStatus.COMPLETED)
        if done.held is None:
            return done
        answer = self._recorded.delete(step.session, done.held, planned_ns=planned_ns)
        return self._done([*done.attempts, self._made("end.delete", answer)], answer)

    def _message(self, step: Step, _: int, held: Held | None) -> Done:
        if self._broadcaster is None:
            raise AssertionError("a message, and nobody who sends it")
        begin_ns = time.monotonic_ns()
        message = {"place": self._place, "sent_ns": begin_ns}
        outcome, sent = OK, 0
        try:
            sent = self._broadcaster.broadcast(session_name(self._prefix, step.session), message)
        except KairosError as error:
            outcome = ERROR if error.definite else UNKNOWN
        return Done(outcome, [Made("message.send", outcome, begin_ns, time.monotonic_ns())], held, sent)

    def _made(self, name: str, answer: Answer) -> Made:
        return Made(name, self._outcome(answer), answer.begin_ns, answer.end_ns)

    def _done(self, attempts: list[Made], answer: Answer) -> Done:
        held = answer.result if isinstance(answer.result, Held) else None
        return Done(self._outcome(answer), attempts, held)

    def _outcome(self, answer: Answer) -> str:
        if answer.outcome == Outcome.OK:
            # Applied, and less safe than was asked for, is not what was asked for.
            return OK if answer.error == Error.NONE else ERROR
        if answer.outcome == Outcome.UNKNOWN:
            return UNKNOWN
        return CONFLICT if self._is_shared and answer.error in _OVERTAKEN else ERROR
