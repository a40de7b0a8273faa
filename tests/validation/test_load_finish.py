from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pytest

from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from loadtests import history
from loadtests.__main__ import main
from loadtests.attack.rounds import FaultFacts, read_round
from loadtests.environment import as_administrator
from loadtests.history import Kind, Outcome, Recorder
from loadtests.judging.judge import judge
from loadtests.judging.verdict import Status
from loadtests.load.delivery import deliveries
from loadtests.load.facts import Load, LoadError, Part
from loadtests.load.finish import finish, must_be_there, unlike
from loadtests.load.machine import boot
from loadtests.load.plan import plan
from loadtests.load.steps import Steps
from loadtests.scenarios import Scenario
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import session_number
from loadtests.subjects.registry import OF_KAIROS, SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kairos_core import AuditWriter, Settings
    from loadtests.judging.judge import RunVerdict
    from loadtests.subjects.register import Held, Watcher

SCENARIO = Scenario(about="", sessions=4, duration_s=6.0, think_s=0.4, life_turns=5, ramp_s=0.5, hands=2)
PLACES = 2
# Numbers of each instance's processes, as of its first.
HANDS, WATCHER, LISTENER, CLOSER = (0, 1), 10, 11, 20
LAST_SESSION = 4_000_000_000
TIMEOUT_S = 20.0


class Loaded(NamedTuple):
    """A load test that was not finished yet: its folder, and what is known of it."""

    folder: Path
    load: Load


def numbered(place: int, which: int) -> int:
    """The number of an instance's process."""
    return 1 + 100 * place + which


def listen(watcher: Watcher, recorder: Recorder, listener: Recorder) -> None:
    """Record all that a watcher is told, up to what was written last; and of one session, as told to another one."""
    deadline = time.monotonic() + TIMEOUT_S
    session = None
    while session != LAST_SESSION:
        assert time.monotonic() < deadline
        if (notice := watcher.receive(0.1)) is not None:
            session = session_number("1x", notice.session_id)
            assert session is not None
            for each in (recorder, listener) if session == 1 else (recorder,):
                each.saw(notice.kind, session, notice.seen, notice.start_ns, notice.received_ns)


def loaded(folder: Path, settings: Settings, *, subject: str = "kairos", scenario: Scenario = SCENARIO) -> Loaded:
    """Two instances do all that is planned, one step after the other, each time by the next hand; all of it is due."""
    histories = folder / "rounds" / "001"
    histories.mkdir(parents=True)
    own = settings if subject in OF_KAIROS else as_administrator(settings)
    # Odd, since a time that is rounded is not believed.
    begin_ns = time.monotonic_ns() - round(scenario.duration_s * 1e9) - 10**6 - 7
    parts = []
    with ExitStack() as stack:

        def recorder(number: int) -> Recorder:
            return stack.enter_context(Recorder(histories / f"{number}.history", number))

        todo = []
        watched = []
        for place in range(PLACES):
            register = stack.enter_context(closing(SUBJECTS[subject](own)))
            hands = [Recorded(register, recorder(numbered(place, hand)), "1x") for hand in HANDS]
            does = itertools.cycle([Steps(hand, None, "1x", place, is_shared=scenario.is_shared) for hand in hands])
            recorders = recorder(numbered(place, WATCHER)), recorder(numbered(place, LISTENER))
            watched.append((stack.enter_context(register.watch()), *recorders))
            steps = list(plan(scenario, 5, place, PLACES))
            todo += [(step, place, next(does)) for step in steps]
            parts.append(
                Part(
                    place=place,
                    boot=boot(),
                    begin_ns=begin_ns,
                    hands=len(hands),
                    planned=len(steps),
                    begun=len(steps),
                    histories=[numbered(place, hand) for hand in HANDS],
                    watchers=[numbered(place, WATCHER)],
                    listeners=[numbered(place, LISTENER)],
                )
            )
        known: dict[tuple[int, int], Held | None] = {}
        # Each session's in order; but steps of some wait until others are done, so that no hand's are.
        for step, place, hand in sorted(todo, key=lambda one: (one[0].due_ns + one[0].session % 2 * 10**9, one[1])):
            done = hand.do(step, begin_ns + step.due_ns, known.get((place, step.session)))
            known[place, step.session] = done.held
            parts[place].attempted += len(done.attempts)
        closer = Recorded(register, recorder(numbered(1, CLOSER)), "1x")
        assert Outcome.OK == closer.create(LAST_SESSION).outcome
        parts[1].closers, parts[1].attempted = [numbered(1, CLOSER)], parts[1].attempted + 1
        for one in watched:
            listen(*one)
    load = Load(
        name="small",
        scenario=scenario,
        time=1.0,
        size=1.0,
        subject=subject,
        seed=5,
        prefix="1x",
        command=["locust"],
        began_at="",
        begin_ns=begin_ns,
        boot=boot(),
        parts=parts,
    )
    return Loaded(folder, load)


def finished(found: Loaded, settings: Settings, worker_settings: Settings, *, has_audit: bool = False) -> RunVerdict:
    """The verdict on it."""
    return finish(
        found.folder,
        found.load,
        settings,
        worker_settings,
        has_audit=has_audit,
        outage=None,
        timeout_s=TIMEOUT_S,
    )


def interrupted(*_: object) -> None:
    """Somebody ends it."""
    raise KeyboardInterrupt


def test_a_load_test_is_judged_with_its_audit(
    settings: Settings,
    worker_settings: Settings,
    writer: AuditWriter,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G1, G2, G7, G8: what instances did in some sessions has no contradiction; it can be judged and shown again."""
    found = loaded(tmp_path, settings)
    with closing(Outbox.connect(worker_settings)) as outbox:
        for lane, depth in enumerate(outbox.depths()):
            if depth:
                drain_lane(outbox, writer, lane)
    with monkeypatch.context() as patched:
        patched.setattr("loadtests.load.finish.write_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finished(found, settings, worker_settings, has_audit=True)
    # What came to no end the first time is done again.
    verdict = finished(found, settings, worker_settings, has_audit=True)
    assert Status.VALID == verdict.status, verdict.rounds
    stored = read_round(tmp_path / "rounds" / "001")
    assert stored.audit is not None
    assert stored.audit.is_drained
    assert stored.audit.rows == verdict.counts["writes acknowledged"] > 20
    roles = {process.role for process in stored.processes}
    assert {"hand", "watcher", "listener", "closer", "reader"} == roles
    records = history.join(map(history.read, (tmp_path / "rounds" / "001").glob("*.history.gz")))
    attempts = records[records["kind"] < Kind.TOLD]
    # All sessions that were there are read in the end, and some that were not any more.
    read = attempts[attempts["process"] == max(process.number for process in stored.processes)]
    assert set(attempts["session"].tolist()) == set(read["session"].tolist())
    assert {0} < set(read["version"].tolist())
    own = {number: part.place for part in found.load.parts for number in (*part.histories, *part.watchers)}
    watchers = [number for part in found.load.parts for number in part.watchers]
    took = deliveries(records, watchers, own).took_ms
    told = records[(records["kind"] == Kind.TOLD) & np.isin(records["process"], watchers)]
    # Half of what was told was told to who wrote it; and what was written last belongs to no instance's plan.
    assert len(took) == len(told) / 2 - 1
    assert (took > 0).all()
    assert main(["judge", str(tmp_path)]) == 0
    assert main(["show", str(tmp_path), "--session", "1"]) == 0
    assert "create of session 1" in capsys.readouterr().out


def test_sessions_that_all_instances_write_are_judged(
    settings: Settings, worker_settings: Settings, tmp_path: Path
) -> None:
    """G1: instances that write the same sessions do what their plans say; a fault on the way is kept with the round."""
    scenario = msgspec.structs.replace(SCENARIO, is_shared=True, sessions=2)
    folder, load = loaded(tmp_path, settings, subject="watch_multi", scenario=scenario)
    fault = FaultFacts(name="PostgreSQL away", parameters={}, begin_ns=1, healed_ns=2, exercised=True, proof="it was")
    verdict = finish(folder, load, settings, worker_settings, has_audit=True, outage=fault, timeout_s=TIMEOUT_S)
    assert Status.VALID == verdict.status, verdict.rounds
    found = read_round(tmp_path / "rounds" / "001")
    assert (None, fault) == (found.audit, found.fault)
    assert not unlike(load, found)
    # What was counted in another run, in which as many did as much.
    other = msgspec.structs.replace(load, prefix="2x", begin_ns=load.begin_ns + 1)
    assert [
        f"the round is not of this load test: it has another {what}" for what in ("prefix of its sessions", "beginning")
    ] == unlike(other, found)
    found.load, found.processes = None, [one for one in found.processes if one.role != "watcher"]
    assert ["scenario", "part of a process", "set of processes"] == [
        reason.partition("another ")[2] for reason in unlike(load, found)
    ]


def overwrite(found: Loaded) -> None:
    """Doctor a history: an update is made one of the version before it, as if two had written that one."""
    number = found.load.parts[0].histories[0]
    path = found.folder / "rounds" / "001" / f"{number}.history"
    records = history.read(path).copy()
    updates = (records["kind"] == Kind.UPDATE) & (records["outcome"] == Outcome.OK) & (records["version"] > 3)
    last = updates.nonzero()[0][-1]
    records["version"][last] -= 1
    records["expected_version"][last] -= 1
    history.write(path, records, number)


def go_back(found: Loaded) -> None:
    """Doctor a history: who watched one session is told of an earlier state in the end."""
    number = found.load.parts[0].listeners[0]
    path = found.folder / "rounds" / "001" / f"{number}.history"
    records = history.read(path)[[0, 1, 0]]
    records["token"][-1] = history.token(number, 3)
    records["start_ns"][-1] = records["end_ns"][-1] = records["end_ns"][1] + 1
    history.write(path, records, number)


def test_another_store_has_nothing_of_a_run(settings: Settings, tmp_path: Path) -> None:
    """A run that is finished later is not judged by the states of another store, in which all would be lost."""
    folder, load = loaded(tmp_path, settings)
    must_be_there(folder, load, settings)
    with pytest.raises(LoadError, match="has nothing of it"):
        must_be_there(folder, msgspec.structs.replace(load, prefix="2x"), settings)


@pytest.mark.parametrize("doctor", [overwrite, go_back])
def test_a_contradiction_is_found(
    doctor: Callable[[Loaded], None], settings: Settings, worker_settings: Settings, tmp_path: Path
) -> None:
    """G1, G8: what no sound store can have answered or told is a violation, and the command says so."""
    found = loaded(tmp_path, settings)
    doctor(found)
    verdict = finished(found, settings, worker_settings)
    assert Status.VIOLATION == verdict.status, verdict.rounds
    assert verdict.rounds[1].violations
    assert main(["judge", str(tmp_path)]) == 1


def test_several_clocks_are_no_order(settings: Settings, worker_settings: Settings, tmp_path: Path) -> None:
    """Of instances on several machines nobody is accused, and nothing is found to be well, now or later."""
    found = loaded(tmp_path, settings)
    overwrite(found)
    found.load.parts[1].boot = "another"
    for verdict in (finished(found, settings, worker_settings), judge(tmp_path)):
        assert Status.UNDECIDED == verdict.status
        (reason,) = verdict.rounds[1].reasons
        assert "2 machines took part" in reason


@pytest.mark.parametrize("wrong", ["note", "plan", "history"])
def test_what_went_wrong_is_no_pass(wrong: str, settings: Settings, worker_settings: Settings, tmp_path: Path) -> None:
    """What an instance noted, did not do, or did not leave behind makes the load test undecided."""
    found = loaded(tmp_path, settings)
    part = found.load.parts[1]
    if wrong == "note":
        part.notes.append("the watch was not told")
    elif wrong == "plan":
        found.load.seed += 1
    else:
        (tmp_path / "rounds" / "001" / f"{part.watchers[0]}.history").unlink()
    verdict = finished(found, settings, worker_settings)
    expected = {"note": "process 1: the watch was not told", "plan": "not planned", "history": "is missing"}
    assert Status.UNDECIDED == verdict.status
    assert any(expected[wrong] in reason for reason in verdict.rounds[1].reasons), verdict.rounds[1].reasons
