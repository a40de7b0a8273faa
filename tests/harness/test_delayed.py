from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from kairos_core.session import SyncStatus
from loadtests.history import Error, Kind, Seen
from loadtests.load.comparing import tolerance_ms
from loadtests.load.delays import Delays
from loadtests.load.plan import Operation, plan
from loadtests.load.truth import truth
from loadtests.scenarios import Scenario
from loadtests.servers.delaying import delaying_server, lateness_ns
from loadtests.subjects.delayed import VARIABLE, Delayed
from loadtests.subjects.register import Held, Refused, digest_of, payload, session_name
from loadtests.subjects.registry import LOADABLE, SUBJECTS
from loadtests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.load.plan import Step
    from loadtests.orders import Helper

MS = 1_000_000
SHORT = Delays(seed=3, median_ms=1.0, spread=0.0)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Helper, str]]:
    """A delaying server, and its address."""
    with delaying_server(SHORT) as found:
        yield found


@pytest.fixture
def server(served: tuple[Helper, str]) -> Helper:
    """What takes the server's orders; its delays are short."""
    begin(served[0], SHORT)
    return served[0]


@pytest.fixture
def register(served: tuple[Helper, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Delayed]:
    """The subject."""
    monkeypatch.setenv(VARIABLE, served[1])
    found = Delayed(Settings())
    yield found
    found.close()


def begin(server: Helper, delays: Delays) -> None:
    """Let it answer as these say from now on."""
    server.ask(
        "begin",
        delays={
            "seed": delays.seed,
            "median_ms": delays.median_ms,
            "spread": delays.spread,
            "begin_ns": delays.begin_ns,
            "stalls": delays.stalls,
        },
    )


def refused(error: pytest.ExceptionInfo[Refused]) -> tuple[Error, tuple[int, int], bool]:
    """What was answered."""
    return error.value.error, error.value.stamp, error.value.absent


@pytest.mark.usefixtures("server")
def test_it_compares_and_sets(register: Delayed) -> None:
    """A write applies to what is held and to nothing else; each has a stamp, and who reads sees who wrote what."""
    first = register.create("compared-1", 11, SyncStatus.PENDING)
    assert Seen((first.seen.stamp[0], 1), 11, digest_of(payload("compared-1", 11, SyncStatus.PENDING))) == first.seen
    with pytest.raises(Refused) as exists:
        register.create("compared-1", 12)
    assert (Error.EXISTS, first.seen.stamp, False) == refused(exists)
    second = register.update(first, 13)
    assert (first.seen.stamp[0], 2) == second.seen.stamp
    assert second == register.get("compared-1")
    with pytest.raises(Refused) as conflict:
        register.update(first, 14)
    assert (Error.CONFLICT, second.seen.stamp, False) == refused(conflict)
    with pytest.raises(Refused) as old:
        register.delete("compared-1", 15, first)
    assert (Error.CONFLICT, second.seen.stamp, False) == refused(old)
    shown: list[Seen] = []
    third = register.mutate("compared-1", 16, shown.append, first)
    assert [first.seen, second.seen] == shown
    assert register.touch("compared-1")
    assert register.delete("compared-1", 17, third)
    assert not register.delete("compared-1", 18, None)
    assert not register.touch("compared-1")
    assert None is register.get("compared-1")
    with pytest.raises(Refused) as absent:
        register.update(third, 19)
    assert (Error.NOT_FOUND, (0, 0), True) == refused(absent)
    again = register.create("compared-1", 20)
    assert again.seen.stamp > third.seen.stamp


@pytest.mark.usefixtures("server")
def test_watchers_are_told_of_each_write(register: Delayed) -> None:
    """Each watcher is told of each write in its order, and of nothing that was refused."""
    with register.watch() as one, register.watch() as other:
        created = register.create("watched-1", 21)
        updated = register.update(created, 22)
        with pytest.raises(Refused):
            register.update(created, 23)
        register.delete("watched-1", 24, updated)
        stamp = updated.seen.stamp
        expected = [
            (Kind.TOLD, created.seen),
            (Kind.TOLD, updated.seen),
            (Kind.TOLD_REMOVED, Seen((stamp[0], stamp[1] + 1), 24)),
        ]
        for watcher in (one, other):
            told = [watcher.receive(DEADLINE_S) for _ in expected]
            assert expected == [notice and (notice.kind, notice.seen) for notice in told]
            assert None is watcher.receive(0.01)


def test_it_is_loaded_and_not_attacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load test can be of it, by its server's address; a validation has no part of it."""
    assert {*SUBJECTS, "delayed"} - {"kairos_async"} == set(LOADABLE)
    assert "delayed" not in SUBJECTS
    for url in ("", "redis://127.0.0.1:1", "tcp://127.0.0.1"):
        monkeypatch.setenv(VARIABLE, url)
        with pytest.raises(ConfigurationError, match="delaying server"):
            LOADABLE["delayed"](Settings())


class Measured(NamedTuple):
    """When a step began and was answered."""

    begin_ns: int
    end_ns: int


class Player(threading.Thread):
    """Does all steps of a plan with one session, each when it is due and the one before is answered."""

    def __init__(self, register: Delayed, steps: list[Step], begin_ns: int, name: str) -> None:
        super().__init__(daemon=True)
        self.measured: list[Measured] = []
        self._register = register
        self._steps = steps
        self._begin_ns = begin_ns
        self._name = name
        self._held: Held | None = None
        self._tokens = itertools.count(1)

    def run(self) -> None:
        """Do them."""
        for step in self._steps:
            time.sleep(max(0, self._begin_ns + step.due_ns - time.monotonic_ns()) / 1e9)
            begin_ns = time.monotonic_ns()
            self._do(step.operation)
            self.measured.append(Measured(begin_ns - self._begin_ns, time.monotonic_ns() - self._begin_ns))

    def _do(self, operation: Operation) -> None:
        token = next(self._tokens)
        if operation == Operation.CREATE:
            self._held = self._register.create(self._name, token)
            return
        held = self._held if operation == Operation.START else self._register.get(self._name)
        assert held is not None
        held = self._register.update(held, token)
        if operation == Operation.END:
            assert self._register.delete(self._name, token, held)


SCENARIO = Scenario(
    about="", sessions=16, duration_s=1.5, think_s=0.1, life_turns=5, ramp_s=0.2, settle_s=0.05, hands=200
)
STALLS = [(500 * MS, 600 * MS), (1_000 * MS, 1_080 * MS)]


def played(register: Delayed, server: Helper, prefix: str, delays: Delays) -> list[Measured]:
    """What was measured, by a hand for each session, in the order of the plan."""
    begin_ns = delays.begin_ns
    begin(server, delays)
    steps: dict[int, list[Step]] = {}
    for step in plan(SCENARIO, 3, 0, 1):
        steps.setdefault(step.session, []).append(step)
    players = {
        session: Player(register, mine, begin_ns, session_name(prefix, session)) for session, mine in steps.items()
    }
    for player in players.values():
        player.start()
    for player in players.values():
        player.join(DEADLINE_S)
        assert not player.is_alive()
    measured = {session: iter(player.measured) for session, player in players.items()}
    return [next(measured[step.session]) for step in plan(SCENARIO, 3, 0, 1)]


def test_what_is_measured_is_the_truth(register: Delayed, server: Helper, tmp_path: Path) -> None:
    """No step is answered before the truth says so, nor in a stall; and most not by more than is allowed later."""
    deadline = time.monotonic() + DEADLINE_S
    for number in itertools.count(1):
        delays = Delays(seed=number, begin_ns=time.monotonic_ns() + 100 * MS, stalls=STALLS)
        measured = np.array(played(register, server, f"played{number}", delays))
        drawn = truth(SCENARIO, 3, 0, 1, delays=delays, begin_ns=delays.begin_ns)
        assert (measured[:, 0] >= drawn.begin_ns).all()
        assert (measured[:, 1] >= drawn.end_ns).all()
        # What was to be answered right before a stall, and was sent off later, may be met by it all the same.
        assert all((measured[drawn.end_ns >= until_ns, 1] >= until_ns).all() for _, until_ns in STALLS)
        late_ns = lateness_ns(server, tmp_path / "answers.npy")
        true = truth(SCENARIO, 3, 0, 1, delays=delays, begin_ns=delays.begin_ns, late_ns=late_ns)
        longer_ms = np.median((measured[:, 1] - true.due_ns) / 1e3 - true.latency_us) / 1e3
        # A machine that others use has its moments; what measures wrongly has no others.
        if longer_ms <= tolerance_ms(float(np.median(true.latency_us)) / 1e3):
            return
        assert time.monotonic() < deadline, longer_ms


def test_the_server_is_precise(register: Delayed, server: Helper, tmp_path: Path) -> None:
    """It says of each answer how late it was: none was early, and of most that is less than 50 us."""
    deadline = time.monotonic() + DEADLINE_S
    for number in itertools.count(1):
        name = session_name(f"precise{number}", 900_000 + number)
        register.create(name, 1)
        for _ in range(30):
            register.get(name)
        late_ns = lateness_ns(server, tmp_path / "answers.npy")
        own = [late_ns[900_000 + number, count] for count in range(31)]
        assert min(own) >= 0
        if sorted(own)[15] < 50_000:
            return
        assert time.monotonic() < deadline, sorted(own)[15]
