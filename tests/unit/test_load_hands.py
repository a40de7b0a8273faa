from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from loadtests.load.hands import Hands
from loadtests.load.plan import Operation, Step
from loadtests.load.steps import Done, Made
from loadtests.load.tally import Tally

if TYPE_CHECKING:
    from loadtests.subjects.register import Held

TURNS = [Step(0, session, Operation.TURN, is_last=False) for session in (1, 2, 3, 1, 2, 3)]


class AtOnce:
    """Does steps at once."""

    def do(self, step: Step, planned_ns: int, held: Held | None) -> Done:
        """Do one."""
        del step, planned_ns, held
        now_ns = time.monotonic_ns()
        return Done("ok", [Made("turn.get", "ok", now_ns, now_ns)])


def test_a_stall_of_the_process_makes_all_late_that_was_due_in_it() -> None:
    """What a process got around to late is late by its own fault, though most of it then waits for a hand, too."""
    tally = Tally()
    alone: list[Any] = [AtOnce()]
    Hands(tally, alone, time.monotonic_ns() - 10**9, duration_s=3600).do(TURNS)
    assert (len(TURNS), len(TURNS)) == (tally.begun, tally.late.total())
