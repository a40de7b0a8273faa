"""The processes of an attack: instances that attempt, watchers that are told, readers that look at the end.

`python -m loadtests.attack.attacker` reads a JSON object per line (`do`, and the arguments) and answers each with one.
A process serves many rounds, one after the other, each with a history of its own; it ends when its standard input
closes.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.settings import Settings, child_environment
from loadtests import ROOT
from loadtests.attack.workload import Attacker, Mix, arrivals, due, steps
from loadtests.history import Outcome, Recorder
from loadtests.subjects.outside import told_of
from loadtests.subjects.register import session_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loadtests.subjects.register import Register

ANSWER_TIMEOUT_S = 60.0
# Between two attempts of a reader whose store cannot be used.
_READER_PAUSE_S = 0.05
_LISTEN_S = 0.05

# Starts a process that serves orders: given its settings, and where its log goes.
Start: TypeAlias = "Callable[[Settings, Path | None], Any]"


class Ended(Exception):  # noqa: N818 - what happened to it, not always an error
    """The process ended before it answered."""


def started(settings: Settings, log: Path | None) -> subprocess.Popen[str]:
    """A new process that serves orders, with these settings; its log goes there, or where this process's goes."""
    with contextlib.ExitStack() as stack:
        return subprocess.Popen(
            [sys.executable, "-m", "loadtests.attack.attacker"],
            cwd=ROOT,
            env=child_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("a")) if log else None,
            text=True,
        )


class Process:
    """A handle to a process of an attack.

    Attributes:
        role: `instance`, `watcher` or `reader`.
        place: which of its role, from 1.
        number: as in its history; of the round at hand.
        path: of its history; likewise.
        is_alive: False once it has ended, by itself or by a fault.
    """

    def __init__(  # noqa: PLR0913 - facts, by name
        self,
        settings: Settings,
        *,
        subject: str,
        role: str,
        place: int,
        mutant: str | None = None,
        log: Path | None = None,
        start: Start = started,
    ) -> None:
        self.role = role
        self.place = place
        self.number = 0
        self.path = Path()
        self.is_alive = True
        self._process = start(settings, log)
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.tell("connect", subject=subject, mutant=mutant)

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._process.pid)

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._answers.put(json.loads(line))
        self.is_alive = False
        self._answers.put(None)

    def tell(self, do: str, **arguments: Any) -> None:
        """Send an order without waiting for its answer; to one that has ended, nothing."""
        if self._process.stdin is None:
            raise AssertionError("the process has no standard input")
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()

    def answer(self, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The answer to the oldest order that has none yet.

        Raises:
            Ended: there will be none.
            TimeoutError: there is none in this time.
        """
        try:
            found = self._answers.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            raise TimeoutError(f"{self.role} {self.place} did not answer within {timeout_s:.0f} s") from None
        if found is None:
            # Whoever asks again is told again.
            self._answers.put(None)
            raise Ended(f"{self.role} {self.place} ended with status {self._process.wait()}")
        return found

    def kill(self) -> None:
        """End it at once; what it recorded stays."""
        self._process.kill()
        self._process.wait()
        self._listener.join()

    def hang_up(self) -> None:
        """Let it end by itself."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def close(self) -> None:
        """Let it end by itself, or else at once."""
        self.hang_up()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Orders:
    """What comes over standard input."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._orders.put(json.loads(line))
        self._orders.put(None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (order := self._orders.get()) is not None:
            yield order
        self._orders.put(None)

    def are_there(self) -> bool:
        """Whether there is one: whoever is at work is to stop, then."""
        return not self._orders.empty()


class _Actor:
    """What a process can do; each method is an order, and the lines it gives are the answers."""

    def __init__(self, settings: Settings, orders: _Orders) -> None:
        self._settings = settings
        self._orders = orders
        self._connected: Register | None = None

    @property
    def _register(self) -> Register:
        if self._connected is None:
            raise AssertionError("not connected")
        return self._connected

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()

    def connect(self, subject: str, mutant: str | None) -> Iterator[dict[str, Any]]:
        """Connect to the subject, of a core that is broken in this way."""
        if mutant is not None:
            from loadtests import mutants  # noqa: PLC0415 - only a broken core needs them

            mutants.apply(mutant)
        from loadtests.subjects.registry import subject_named  # noqa: PLC0415 - as the mutant left it

        try:
            self._connected = subject_named(subject)(self._settings)
        except ConfigurationError as error:
            yield {"setting": error.setting, "cause": error.cause}
        else:
            yield {"connected": True}

    def attack(  # noqa: PLR0913 - one order
        self,
        *,
        path: str,
        number: int,
        place: int,
        prefix: str,
        seed: int,
        mix: dict[str, Any],
        begin_ns: int,
        duration_s: float,
        count: int | None,
        rate: float | None,
    ) -> Iterator[dict[str, Any]]:
        """Attempt steps from `begin_ns`: for `duration_s`, or `count` of them, or as planned at this rate."""
        with Recorder(Path(path), number) as recorder:
            attacker = Attacker(self._register, recorder, prefix)
            planned = steps(seed, place, msgspec.convert(mix, Mix))
            if rate is not None:
                moments = (begin_ns + offset_ns for offset_ns in arrivals(seed, place, rate, duration_s))
                for planned_ns in due(moments, self._orders.are_there):
                    attacker.attempt(next(planned), planned_ns)
            else:
                end_ns = begin_ns + round(duration_s * 1e9)
                time.sleep(max(0, begin_ns - time.monotonic_ns()) / 1e9)
                while time.monotonic_ns() < end_ns and attacker.attempted != count and not self._orders.are_there():
                    attacker.attempt(next(planned))
        yield {"attempted": attacker.attempted, "shown": attacker.shown, "notes": told_of(self._register)}

    def watch(self, path: str, number: int, prefix: str) -> Iterator[dict[str, Any]]:
        """Record what is told of the round's sessions, until there is another order."""
        told = 0
        with Recorder(Path(path), number) as recorder, self._register.watch() as watcher:
            yield {"watching": True}
            while not self._orders.are_there():
                notice = watcher.receive(_LISTEN_S)
                session = notice and session_number(prefix, notice.session_id)
                if notice and session:
                    recorder.saw(notice.kind, session, notice.seen, notice.start_ns, notice.received_ns)
                    told += 1
        yield {"told": told, "notes": told_of(self._register)}

    def read(self, path: str, number: int, prefix: str, sessions: int, timeout_s: float) -> Iterator[dict[str, Any]]:
        """Read all sessions of the round, each until it is read."""
        deadline = time.monotonic() + timeout_s
        missing = 0
        with Recorder(Path(path), number) as recorder:
            attacker = Attacker(self._register, recorder, prefix)
            for session in range(1, sessions + 1):
                while attacker.read(session) != Outcome.OK:
                    if time.monotonic() > deadline:
                        missing += 1
                        break
                    time.sleep(_READER_PAUSE_S)
        yield {"missing": missing, "notes": told_of(self._register)}

    def finish(self) -> Iterator[dict[str, Any]]:
        """Nothing: that it came ends what was going on."""
        yield from ()


def main() -> None:
    """Serve orders until standard input closes."""
    orders = _Orders()
    with contextlib.closing(_Actor(Settings.from_env(), orders)) as actor:
        for order in orders:
            for answer in getattr(actor, order.pop("do"))(**order):
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
