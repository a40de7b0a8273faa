from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis

from kairos_core import KairosError, OutcomeUnknown, RedisStateManager, Settings
from kairos_core.settings import servers_given
from loadtests import ROOT, history
from loadtests.environment import admin
from loadtests.faults.arenas import GIVEN, KINDS, Arena, given, own_ground
from loadtests.faults.fault import NotOurs, Window
from loadtests.faults.schedule import FAULTS, fault, fitting, schedule
from loadtests.faults.store import ClientsKilled, ValkeyStopped, info
from loadtests.faults.way import way_to
from loadtests.history import Error, Kind, Outcome, Recorder, Seen
from loadtests.servers.stopping import Stopped, children, is_stopped, is_there
from loadtests.states import sample_state
from loadtests.waiting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.faults.arenas import Ground
    from loadtests.history import History

NOTHING: History = history.join([])
APPLIED = "return {0, 1}"


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A launcher and a PostgreSQL."""
    with own_ground() as started:
        yield started


@pytest.fixture(scope="module")
def arena(ground: Ground) -> Iterator[Arena]:
    """One server that has all in memory; no worker."""
    with ground.arena("memory", workers=0) as started:
        yield started


class Load:
    """Two threads that create and update sessions of their own, and put down what they attempted."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._stop = threading.Event()
        self.acknowledged = 0
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in (1, 2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        assert self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> bool:
        """Whether writes are acknowledged from now on."""
        before = self.acknowledged
        return wait_until(lambda: self.acknowledged > before + 10)

    def history(self) -> History:
        """What was attempted; once it has ended."""
        return history.join(history.read(path) for path in sorted(self._folder.glob("*.history")))

    def _write(self, number: int) -> None:
        with (
            Recorder(self._folder / f"{number}.history", number) as recorder,
            RedisStateManager.connect(self._settings) as manager,
        ):
            state, count = None, 0
            while not self._stop.is_set():
                place = recorder.begin(Kind.UPDATE if state else Kind.CREATE, number)
                outcome, error = Outcome.OK, Error.NONE
                try:
                    count += state is None
                    state = manager.update_session(state) if state else manager.create_session(self._new(number, count))
                    self.acknowledged += 1
                except OutcomeUnknown:
                    state, outcome, error = None, Outcome.UNKNOWN, Error.OUTCOME_UNKNOWN
                except KairosError:
                    state, outcome, error = None, Outcome.REFUSED, Error.UNAVAILABLE
                recorder.end(place, outcome, time.monotonic_ns(), Seen(), error)

    def _new(self, number: int, count: int) -> Any:
        return sample_state(f"{self._folder.name}-{number}-{count}")


# The schedule.


@pytest.mark.parametrize("kind", [*KINDS, GIVEN])
def test_a_schedule_is_its_seed(kind: str) -> None:
    """The same seed gives the same faults with the same parameters, all that fit equally often, each for a while."""
    count = 2 * len(fitting(kind))
    found = schedule(7, kind, count)
    named = [(one.name, one.parameters) for one in found]
    assert named == [(one.name, one.parameters) for one in schedule(7, kind, count)]
    assert named[:3] == [(one.name, one.parameters) for one in schedule(7, kind, 3)]
    assert named != [(one.name, one.parameters) for one in schedule(8, kind, count)]
    assert {2} == set(Counter(one.name for one in found).values())
    assert all(0.2 <= one.hold_s <= 5.0 for one in found)


def test_every_fault_fits_somewhere() -> None:
    """There is an arena of the harness's own for every fault, and each kind of arena has what it is there for."""
    assert set(FAULTS) == {one.name for kind in KINDS for one in fitting(kind)}
    assert {"failover"} == {one.name for one in fitting("sentinel")} & {"failover", "failover in the cluster"}
    assert "Valkey killed" in {one.name for one in fitting("fsync")}


# Servers that were given.


def test_given_servers_are_not_touched(servers: Settings, settings: Settings) -> None:
    """Servers that the harness did not start are never stopped, paused, filled or commanded: such faults refuse."""
    with given(settings, workers=0) as found, admin(settings) as client:
        before = client.info("server")["run_id"], client.config_get("maxmemory"), client.info("commandstats")
        for name, one in FAULTS.items():
            assert one.touches_servers != (GIVEN in one.kinds)
            if one.touches_servers:
                for kind in (GIVEN, *one.kinds):
                    # Also where somebody calls such an arena by another name.
                    with pytest.raises(NotOurs, match="not the harness's own"):
                        fault(name, 1, kind).begin(dataclasses.replace(found, kind=kind))
        after = client.info("server")["run_id"], client.config_get("maxmemory"), client.info("commandstats")
        assert before[:2] == after[:2]
        # Others may be at work there, where it was given to several; on an embedded one nobody is.
        commanded = {"cmdstat_client|kill", "cmdstat_script|flush", "cmdstat_config|set"}
        if not servers_given():
            assert [before[2].get(one) for one in commanded] == [after[2].get(one) for one in commanded]
        cut = fault("connections cut", 1, GIVEN)
        cut.parameters["hold_s"] = 0.05
        if found.proxy is not None:
            cut.run(found)
            assert cut.healed_ns > cut.begin_ns > 0
    del servers


# Proof.


@pytest.mark.parametrize("name", ["clients killed", "scripts flushed", "Valkey stopped", "memory full", "delayed"])
def test_what_meets_nothing_is_not_exercised(arena: Arena, name: str) -> None:
    """A fault that no operation met says so, whatever it did."""
    one = fault(name, 1, arena.kind)
    one.parameters["hold_s"] = 0.05
    one.run(arena)
    hit, text = one.prove(arena, NOTHING)
    assert (False, "not exercised: no operation was in flight") == (hit, text)


def test_what_did_nothing_is_not_exercised(arena: Arena, tmp_path: Path) -> None:
    """A fault that was to befall a load, and did not, says so: operations in flight prove nothing by themselves."""

    class Nothing(ClientsKilled):
        """Kills nobody."""

        def command(self, client: redis.Redis) -> int:
            return int(client.ping()) - 1

    one = Nothing(random.Random(1), arena.kind)  # noqa: S311 - not a secret
    one.parameters["hold_s"] = 0.4
    with Load(arena.settings, tmp_path) as load:
        one.run(arena)
        assert load.goes_on()
    hit, text = one.prove(arena, load.history())
    assert not hit
    assert text.startswith("not exercised: ")
    assert Window.of(load.history(), one.begin_ns, one.healed_ns).in_flight > 0


@pytest.mark.parametrize(("faulty", "longest_ms", "expected"), [(0, 20.0, False), (0, 1_500.0, True), (1, 20.0, True)])
def test_a_stop_is_shown_by_who_waited(faulty: int, longest_ms: float, expected: bool) -> None:
    """A store was stopped where an attempt took about as long, or was given up; not where all went on as before."""
    one = ValkeyStopped(random.Random(1), "memory")  # noqa: S311 - not a secret
    one.begin_ns, one.healing_ns = 1, 2_000_000_001
    window = Window(50, 40, faulty, longest_ms, before_ms=10.0, silence_ms=5.0)
    assert expected == one.shows(Arena("memory", Settings(), Settings()), NOTHING, window)[0]


def test_a_store_that_is_killed_loses(arena: Arena, tmp_path: Path) -> None:
    """SIGKILL of a store that has all in memory: another run of it, the loss is stated, and writes go on."""
    one = fault("Valkey killed", 1, arena.kind)
    one.parameters["hold_s"] = 0.3
    with Load(arena.settings, tmp_path) as load:
        one.run(arena)
        assert load.goes_on()
    hit, text = one.prove(arena, load.history())
    assert hit, text
    ((at_ns, back_ns),) = [(loss["at_ns"], loss["back_ns"]) for loss in one.losses]
    assert one.begin_ns < at_ns < one.healing_ns < back_ns < one.healed_ns
    assert 0 < (one.recovery_s(load.history()) or 0) < DEADLINE_S


def test_replies_are_dropped_after_writes_were_applied(arena: Arena, tmp_path: Path) -> None:
    """Writes take effect and their answers do not arrive: the proxy counts them, and each is still made once (G5)."""
    one = fault("replies dropped", 1, arena.kind)
    one.parameters |= {"hold_s": 0.5, "share": 0.5, "silently": False}
    with Load(arena.settings_for(proxied=True), tmp_path) as load:
        one.run(arena)
        assert load.goes_on()
    hit, text = one.prove(arena, load.history())
    assert hit, text
    assert [] == one.losses
    assert not (load.history()["outcome"] == Outcome.REFUSED).any()


def test_a_silent_connection_stays_silent(arena: Arena) -> None:
    """No later reply passes for the one that was dropped, not even when everything passes again."""
    assert arena.node is not None
    with way_to(arena.node.url) as way, closing(redis.Redis.from_url(way.url)) as other:
        connection = redis.Redis.from_url(way.url).connection_pool.get_connection()
        way.drop_replies(1.0, 1, silently=True)
        connection.send_command("EVAL", APPLIED, "0")
        assert wait_until(lambda: way.disturbed().dropped == 1)
        way.pass_all()
        connection.send_command("PING")
        assert not connection.can_read(timeout=0.2)
        assert other.eval(APPLIED, 0) == [0, 1]
        assert 1 == way.disturbed().silent
        connection.disconnect()
        assert wait_until(lambda: way.disturbed().silent == 0)


# Healing.


def interrupted(*_: object) -> bool:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["while it begins", "while it lasts"])
@pytest.mark.parametrize("name", ["Valkey stopped", "PostgreSQL stopped", "memory full", "Valkey killed"])
def test_every_fault_is_healed(arena: Arena, name: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes in between: what was stopped goes on, what was killed is there, what was changed is as before."""
    one = fault(name, 3, arena.kind)
    stop = threading.Event()
    if moment == "while it begins":
        strike = one.strike
        monkeypatch.setattr(one, "strike", lambda arena: (strike(arena), interrupted()))
    else:
        monkeypatch.setattr(stop, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.run(arena, stop)
    (node,) = arena.primaries()
    assert arena.postgres is not None
    assert not any(is_stopped(pid) for pid in (node.pid, arena.postgres.pid, *children(arena.postgres.pid)))
    assert "0" == str(info(node, "memory")["maxmemory"])
    assert one.healed_ns > one.begin_ns > 0


def test_what_was_stopped_outlives_who_stopped_it() -> None:
    """A harness that is killed leaves no stopped process behind."""
    code = (
        "import sys, time; from loadtests.servers.stopping import Stopped; found = Stopped([int(sys.argv[1])]);"
        " print('stopped', flush=True); time.sleep(60)"
    )
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(subprocess.Popen(["/bin/sleep", "60"]))
        stack.callback(victim.kill)
        command = [sys.executable, "-c", code, str(victim.pid)]
        harness = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        stack.callback(harness.kill)
        assert harness.stdout is not None
        assert "stopped\n" == harness.stdout.readline()
        assert wait_until(lambda: is_stopped(victim.pid))
        harness.kill()
        assert wait_until(lambda: not is_stopped(victim.pid))
        assert is_there(victim.pid)


def test_children_are_stopped_with_their_parent() -> None:
    """All of a server's processes are stopped, and go on."""
    with contextlib.ExitStack() as stack:
        # A group of its own, to be ended together.
        command = ["/bin/sh", "-c", "sleep 60 & sleep 60 & wait"]
        parent = stack.enter_context(subprocess.Popen(command, process_group=0))
        stack.callback(os.killpg, parent.pid, signal.SIGKILL)
        assert wait_until(lambda: len(children(parent.pid)) == 2)
        family = [parent.pid, *children(parent.pid)]
        stopped = Stopped([parent.pid], with_children=True)
        assert wait_until(lambda: all(map(is_stopped, family)))
        stopped.resume()
        assert wait_until(lambda: not any(map(is_stopped, family)))
