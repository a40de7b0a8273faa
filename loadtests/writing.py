"""A process that writes one session beside others: `python -m loadtests.writing` takes orders (see `orders.py`)."""

from __future__ import annotations

import time
from contextlib import ExitStack
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from kairos_core import Settings
from loadtests.at_once import wait_until_then
from loadtests.orders import serve
from loadtests.subjects.register import Refused
from loadtests.subjects.registry import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from loadtests.history import Seen
    from loadtests.subjects.register import Held, Register

# A token names the writer in the bits above these, and its write in these.
_NUMBER_BITS = 40


def subject_of(name: str, others: Mapping[str, str]) -> Callable[[Settings], Register]:
    """What connects as a subject: one of the registry, or another one, given as `module:name`."""
    if name not in others:
        return SUBJECTS[name]
    module, _, attribute = others[name].partition(":")
    found: Callable[[Settings], Register] = attrgetter(attribute)(import_module(module))
    return found


class Writer:
    """What such a process can do; each public method is an order."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._registers: dict[str, Register] = {}
        self._token = self._shown = 0

    def connect(self, number: int, run: str, subjects: Sequence[str], others: Mapping[str, str]) -> dict[str, Any]:
        """Connect to the store as each of the subjects, and write once to a session of one's own.

        Args:
            number: of this writer.
            run: of all writers, in the names of their sessions.
            subjects: of the registry.
            others: subjects that are not in it, as `module:name`.
        """
        self._token = number + 1 << _NUMBER_BITS
        for name in [*subjects, *others]:
            register = subject_of(name, others)(self._settings)
            self._stack.callback(register.close)
            self._registers[name] = register
            register.create(f"{run}-{name}-own-{number}", self._next_token())
            register.mutate(f"{run}-{name}-own-{number}", self._next_token(), self._note)
        return {"connected": len(self._registers)}

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _note(self, _: Seen) -> None:
        self._shown += 1

    def write(self, subject: str, session_id: str, start_at: float, seconds: float) -> dict[str, Any]:
        """Write for so long from then on (`time.monotonic`), each time as soon as the one before it is over.

        What a write returned is what is known for the next one; most subjects read all the same.

        Returns:
            How many writes were acknowledged within that time (`in_time`) and in all (`acknowledged`), on how many
            states they were tried (`attempts`), and how many were given up (`refused`). Where it is not known whether
            one was applied, the process ends: what others did could not be told from it.
        """
        mutate = self._registers[subject].mutate
        known: Held | None = None
        in_time = acknowledged = refused = self._shown = 0
        late_s = wait_until_then(start_at)
        end_at = start_at + seconds
        while time.monotonic() < end_at:
            try:
                known = mutate(session_id, self._next_token(), self._note, known)
            except Refused:
                refused += 1
                known = None
                continue
            acknowledged += 1
            in_time += time.monotonic() < end_at
        return {
            "in_time": in_time,
            "acknowledged": acknowledged,
            "attempts": self._shown,
            "refused": refused,
            "late_s": late_s,
        }


def main() -> None:
    """Serve orders until standard input closes."""
    with ExitStack() as stack:
        serve(Writer(Settings.from_env(), stack))


if __name__ == "__main__":
    main()
