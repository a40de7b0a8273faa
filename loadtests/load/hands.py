"""Who does the steps of a plan when they are due: a dispatcher and the hands of a process, all of them greenlets.

A step is ready when it is due and nothing is done with its session any more; it is done as soon as a hand is free. What
it waits for is known to the nanosecond, so that the system's queues can be told from the generator's own lateness.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import gevent
from gevent.queue import SimpleQueue

from loadtests.load.latency import split
from loadtests.load.offered import LATE_MS
from loadtests.load.plan import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from loadtests.load.plan import Step
    from loadtests.load.steps import Done, Steps
    from loadtests.load.tally import Tally
    from loadtests.subjects.register import Held

# How long a step that still waits when the time is over is waited for.
PATIENCE_S = 10.0


class Due(NamedTuple):
    """A step that is ready.

    Attributes:
        step: what.
        planned_ns: when it was due (`time.monotonic_ns`).
        is_late: whether this process itself only got around to it long after it was due.
        had_to_wait: whether no hand was free when it was ready.
    """

    step: Step
    planned_ns: int
    is_late: bool = False
    had_to_wait: bool = False


class _Session:
    """What a process knows of a session: its state, when it was last free, and what is to be done with it next."""

    __slots__ = ("free_ns", "held", "is_busy", "waiting")

    def __init__(self) -> None:
        self.held: Held | None = None
        self.free_ns = 0
        self.is_busy = False
        self.waiting: deque[Due] = deque()


class Hands:
    """Does all steps of a plan.

    Args:
        tally: counts them.
        steps: what each hand does steps with: one for each, since attempts of one history cannot overlap.
        begin_ns: when the plan begins (`time.monotonic_ns`).
        duration_s: how long it goes on.

    Attributes:
        planned: how many steps were planned.
    """

    def __init__(self, tally: Tally, steps: Sequence[Steps], begin_ns: int, duration_s: float) -> None:
        self.planned = 0
        self._tally = tally
        self._begin_ns = begin_ns
        self._give_up_ns = begin_ns + round((duration_s + PATIENCE_S) * 1e9)
        self._sessions: dict[int, _Session] = {}
        self._inboxes: list[SimpleQueue[Due | None]] = [SimpleQueue() for _ in steps]
        self._idle = list(self._inboxes)
        # Ready, and no hand is free.
        self._ready: deque[Due] = deque()
        self._left = 0
        self._steps = steps

    def do(self, planned: Iterable[Step]) -> None:
        """Do all of it; returns when all is done or given up. What is raised in a greenlet is raised here."""
        hands = [
            gevent.spawn(self._work, inbox, steps) for inbox, steps in zip(self._inboxes, self._steps, strict=True)
        ]
        greenlets = [*hands, gevent.spawn(self._dispatch, planned)]
        try:
            gevent.joinall(greenlets, raise_error=True)
        finally:
            gevent.killall(greenlets)

    def _dispatch(self, planned: Iterable[Step]) -> None:
        for step in planned:
            planned_ns = self._begin_ns + step.due_ns
            while (left_ns := planned_ns - time.monotonic_ns()) > 0:
                gevent.sleep(left_ns / 1e9)
            self.planned += 1
            self._left += 1
            # After a stall, most of what was missed waits for a session or a hand; that it is due to the stall, only
            # this shows.
            due = Due(step, planned_ns, is_late=-left_ns > 1e6 * LATE_MS)
            session = self._sessions.get(step.session)
            if session is None:
                session = self._sessions[step.session] = _Session()
            if session.is_busy:
                session.waiting.append(due)
            else:
                session.is_busy = True
                self._hand_out(due)
        while self._left:
            # A step is never longer than its calls' deadlines, so this ends.
            gevent.sleep(0.01)
        for inbox in self._inboxes:
            inbox.put(None)

    def _hand_out(self, due: Due) -> None:
        if self._idle:
            self._idle.pop().put(due)
        else:
            self._ready.append(due._replace(had_to_wait=True))

    def _work(self, inbox: SimpleQueue[Due | None], steps: Steps) -> None:
        """One hand's work."""
        free_ns = 0
        due = inbox.get()
        while due is not None:
            session = self._sessions[due.step.session]
            if time.monotonic_ns() > self._give_up_ns:
                self._drop(due)
            else:
                done = steps.do(due.step, due.planned_ns, session.held)
                self._count(due, done, session.free_ns, free_ns if due.had_to_wait else 0)
                session.held = done.held
                session.free_ns = free_ns = done.end_ns
            self._go_on(due.step, session)
            if self._ready:
                due = self._ready.popleft()
            else:
                self._idle.append(inbox)
                due = inbox.get()

    def _go_on(self, step: Step, session: _Session) -> None:
        """What was waiting for the session is ready now."""
        self._left -= 1
        if session.waiting:
            self._hand_out(session.waiting.popleft())
        elif step.is_last:
            del self._sessions[step.session]
        else:
            session.is_busy = False

    def _count(self, due: Due, done: Done, session_free_ns: int, hand_free_ns: int) -> None:
        second = self._second(due)
        latency = split(
            due_ns=due.planned_ns,
            session_free_ns=session_free_ns,
            hand_free_ns=hand_free_ns,
            begin_ns=done.begin_ns,
            end_ns=done.end_ns,
        )
        self._tally.step(second, due.step.operation, done.outcome, latency, is_late=due.is_late)
        self._tally.sent += done.sent
        for made in done.attempts:
            self._tally.attempt(second, made.name, made.outcome, (made.end_ns - made.begin_ns) / 1e3)
        # That a message was sent is in no history.
        self._tally.attempted += len(done.attempts) if due.step.operation != Operation.MESSAGE else 0

    def _drop(self, due: Due) -> None:
        self._tally.drop(self._second(due), due.step.operation, (time.monotonic_ns() - due.planned_ns) / 1e3)

    def _second(self, due: Due) -> int:
        return int((due.planned_ns - self._begin_ns) / 1e9)
