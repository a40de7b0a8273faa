"""What a fault is: something that befalls an arena for a while, is undone on every path, and proves that it hit.

The families stand in `store.py`, `processes.py`, `connections.py` and `failover.py`; `schedule.py`
has the registry and the schedule.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from loadtests.faults.arenas import GIVEN, KINDS
from loadtests.history import NEVER, Error, Kind, Outcome

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from loadtests.faults.arenas import Arena
    from loadtests.history import History

# What an attempt is answered that met a fault, and not another writer.
_FAULTY = (Error.UNAVAILABLE, Error.OUTCOME_UNKNOWN, Error.BACKLOG_FULL, Error.DURABILITY, Error.OTHER)
# Longer than any call takes: what began before that, and has no end, was not on its way when the fault began.
_LONGEST_NS = 35_000_000_000
_WRITES = (Kind.CREATE, Kind.UPDATE, Kind.MUTATE, Kind.DELETE, Kind.DELETE_IF, Kind.TOUCH)


class NotOurs(Exception):  # noqa: N818 - a refusal, of the harness to itself
    """A fault was to befall servers that the harness did not start, or an arena that it does not fit."""


class Fault:
    """Something that befalls an arena, once.

    Attributes:
        name: what it is, in a few words.
        kinds: of the arenas that it fits.
        touches_servers: whether it stops, pauses, fills or commands servers; only ever those of the harness's own.
        uses_proxy: whether instances must take the way by the arena's proxy.
        parameters: what was chosen for it; `hold_s`: how long it lasts.
        begin_ns: when it began; 0: not yet.
        healing_ns: when its end began; 0: not yet.
        healed_ns: when everything was as before; 0: not yet.
        losses: moments at which acknowledged writes may have been lost: `at_ns`, up to which what ended was answered by
            whom it befell, and from which what begins is answered by who came after; `back_ns`, from when there is
            somebody who answers; `why`; `kept`, where there is one: the durability of writes that may not be lost.
        evidence: what the servers themselves say of it.

    Args:
        chance: what its parameters are chosen by.
        kind: of the arena.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = KINDS
    touches_servers: ClassVar[bool] = True
    uses_proxy: ClassVar[bool] = False

    def __init__(self, chance: random.Random, kind: str) -> None:
        self.kind = kind
        self.parameters: dict[str, float | int | str | bool] = {"hold_s": round(chance.uniform(0.3, 3.0), 3)}
        self.begin_ns = self.healing_ns = self.healed_ns = 0
        self.losses: list[dict[str, Any]] = []
        self.evidence: dict[str, Any] = {}
        self._acting: list[int] = []

    @property
    def hold_s(self) -> float:
        """How long it lasts, at the least."""
        return float(self.parameters["hold_s"])

    @property
    def lasted_s(self) -> float:
        """How long it lasted, until it began to be undone."""
        return max(0, self.healing_ns - self.begin_ns) / 1e9

    def begin(self, arena: Arena) -> None:
        """Let it befall the arena; what was begun is undone where that fails.

        Raises:
            NotOurs: it would touch servers that the harness did not start, or does not fit.
        """
        self.check(arena)
        arena.note_roles()
        self._acting = arena.acting()
        self.before(arena)
        self.begin_ns = time.monotonic_ns()
        try:
            self.strike(arena)
        except BaseException:
            self.heal(arena)
            raise

    def heal(self, arena: Arena) -> None:
        """Undo it and wait until everything is as before; nothing happens where it did not begin, or is healed.

        Raises:
            TimeoutError: it is undone, and a server was not ready again in time.
        """
        if not self.begin_ns or self.healed_ns:
            return
        self.healing_ns = self.healing_ns or time.monotonic_ns()
        self.undo(arena)
        self.after(arena)
        self.healed_ns = time.monotonic_ns()
        self._notice_failover(arena)

    def run(self, arena: Arena, stop: threading.Event | None = None) -> None:
        """Begin it, wait for as long as it lasts, or until told to stop, and heal it whatever happens."""
        self.begin(arena)
        try:
            (stop or threading.Event()).wait(self.hold_s)
        finally:
            self.heal(arena)

    def check(self, arena: Arena) -> None:
        """Raise NotOurs where it would touch what is not ours, or does not fit."""
        if self.touches_servers and not arena.is_own:
            raise NotOurs(f"{self.name}: these servers are not the harness's own")
        if arena.kind not in self.kinds:
            raise NotOurs(f"{self.name}: does not fit arena {arena.kind}")

    def before(self, arena: Arena) -> None:
        """Look at what will be compared, before it begins."""

    def strike(self, arena: Arena) -> None:
        """Do it."""
        raise NotImplementedError

    def undo(self, arena: Arena) -> None:
        """Undo it, also where only a part of it was done, and as often as this is called."""
        raise NotImplementedError

    def after(self, arena: Arena) -> None:
        """Wait until everything is as before, and look at what is compared."""

    def prove(self, arena: Arena, history: History) -> tuple[bool, str]:
        """Whether it hit, and what shows it; "not exercised" and why, where nothing does.

        Args:
            arena: in which it was.
            history: all attempts of the round.
        """
        if not self.healed_ns:
            return False, "not exercised: it did not run to its end"
        window = Window.of(history, self.begin_ns, self.healed_ns)
        if not window.in_flight:
            return False, "not exercised: no operation was in flight"
        has_hit, shown = self.shows(arena, history, window)
        text = f"{window}; {shown}; {self._recovery(history)}"
        return has_hit, text if has_hit else f"not exercised: {text}"

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Whether what was seen is what this fault does, and how that is to be seen."""
        raise NotImplementedError

    def recovery_s(self, history: History) -> float | None:
        """Seconds from when it began to be undone to the next write that was acknowledged; None: there was none."""
        ends = history["end_ns"][np.isin(history["kind"], _WRITES) & (history["outcome"] == Outcome.OK)]
        later = ends[ends > self.healing_ns]
        return float(later.min() - self.healing_ns) / 1e9 if len(later) else None

    def _recovery(self, history: History) -> str:
        seconds = self.recovery_s(history)
        return "no write was acknowledged afterwards" if seconds is None else f"writes again after {seconds:.3f} s"

    def _notice_failover(self, arena: Arena) -> None:
        """A server that was busy for too long may be replaced without any fault: what it acknowledged may be lost."""
        arena.note_roles()
        if not self.losses and self._acting != arena.acting():
            self.losses.append(
                {"at_ns": self.healed_ns, "back_ns": self.healed_ns, "why": "a primary was replaced that nobody killed"}
            )


class Window(NamedTuple):
    """What a history says of the time in which a fault lasted.

    Attributes:
        in_flight: attempts that were on their way in it.
        acknowledged: of them, those that were acknowledged.
        faulty: of them, those that were answered by an error that is not another writer's doing, or not at all.
        longest_ms: the longest of those that were answered.
        before_ms: the longest of those that ended before it.
        silence_ms: the longest time within it in which no attempt ended well.
    """

    in_flight: int
    acknowledged: int
    faulty: int
    longest_ms: float
    before_ms: float
    silence_ms: float

    @classmethod
    def of(cls, history: History, begin_ns: int, end_ns: int) -> Window:
        """Count."""
        attempts = history[history["kind"] < Kind.TOLD]
        start, end = attempts["start_ns"], attempts["end_ns"]
        within = (start <= end_ns) & (end >= begin_ns) & (start >= begin_ns - _LONGEST_NS)
        faulty = np.isin(attempts["error"], _FAULTY) | np.isin(attempts["outcome"], (Outcome.UNKNOWN, Outcome.PENDING))
        good = attempts["outcome"] == Outcome.OK
        ends = np.sort(end[good & (end >= begin_ns) & (end <= end_ns)])
        # Where the load ended before the fault did, the rest is no silence.
        until_ns = min(end_ns, max(int(start.max(initial=begin_ns)), int(ends.max(initial=begin_ns))))
        marks = np.concatenate([[begin_ns], ends, [until_ns]])
        return cls(
            in_flight=int(within.sum()),
            acknowledged=int((within & good).sum()),
            faulty=int((within & faulty).sum()),
            longest_ms=_longest_ms(attempts[within & (end != NEVER)]),
            before_ms=_longest_ms(attempts[end < begin_ns]),
            silence_ms=float(np.diff(marks).max()) / 1e6,
        )

    def __str__(self) -> str:
        return (
            f"{self.in_flight} in flight, {self.faulty} failed or unknown, the longest {self.longest_ms:.0f} ms "
            f"(before: {self.before_ms:.0f} ms), {self.silence_ms:.0f} ms of silence"
        )


class Repeated:
    """Does something again and again in a thread, until it is stopped.

    Args:
        action: what; an error of it ends the thread, and is raised when it is stopped.
        every_s: the pause in between.
    """

    def __init__(self, action: Callable[[], object], every_s: float) -> None:
        self._action, self._every_s = action, every_s
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                self._action()
        except Exception as error:  # noqa: BLE001 - raised in `stop`
            self._error = error

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        self._stop.set()
        self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error


def with_given(*kinds: str) -> tuple[str, ...]:
    """These kinds, and servers that were given."""
    return (*kinds, GIVEN)


def _longest_ms(attempts: History) -> float:
    return float((attempts["end_ns"] - attempts["start_ns"]).max()) / 1e6 if len(attempts) else 0.0
