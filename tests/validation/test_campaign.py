from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from loadtests import history
from loadtests.attack import campaign
from loadtests.attack.campaign import Campaign, _has_reached, run_round
from loadtests.attack.rounds import Plan, RoundError, read_round, round_folders
from loadtests.attack.workload import Mix, arrivals
from loadtests.faults.arenas import GIVEN
from loadtests.faults.schedule import fault
from loadtests.history import Kind, Outcome, Recorder, Seen
from loadtests.servers.worker import worker_pool

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.attack.attacker import Start
    from loadtests.faults.arenas import Arena
    from loadtests.history import History

FEW = Mix(sessions=6)


def planned(folder: Path, **options: Any) -> Plan:
    """A short round with few sessions."""
    return Plan(**{"folder": folder, "instances": 4, "duration_s": 1.0, "mix": FEW, "quiet_s": 20.0, **options})


def records_of(folder: Path, role: str) -> History:
    """The records of a round's processes of one role."""
    numbers = [process.number for process in read_round(folder).processes if process.role == role]
    return history.join(history.read(folder / f"{number}.history.gz") for number in numbers)


def attempts_in(records: History) -> History:
    """Without what the functions of mutations were shown."""
    is_shown = (records["kind"] == Kind.GET) & (records["expected_incarnation"] != 0)
    attempts: History = records[(records["kind"] < Kind.TOLD) & ~is_shown]
    return attempts


def test_a_round_leaves_its_evidence(arena: Arena, start: Start, tmp_path: Path) -> None:
    """Histories, rows of the audit and a manifest: all attempts, all writes told and recorded, and the final states."""
    with worker_pool(arena.worker_settings) as arena.pool:
        folder = run_round(arena, planned(tmp_path), start)
    found = read_round(folder)
    assert [] == found.notes
    assert [folder] == round_folders(tmp_path) == round_folders(folder)
    attempts = attempts_in(records_of(folder, "instance"))
    writes = attempts[(attempts["outcome"] == Outcome.OK) & np.isin(attempts["kind"], [1, 3, 4])]
    assert sum(process.attempted or 0 for process in found.processes) == len(attempts) > 0
    told = records_of(folder, "watcher")
    assert set(writes["token"].tolist()) == set(told[told["kind"] == Kind.TOLD]["writer"].tolist())
    rows = history.read(folder / "audit.history.gz")
    assert found.audit is not None
    assert (len(rows), 0, True) == (found.audit.rows, found.audit.dead_letters, found.audit.is_drained)
    recorded = {(int(row["writer"]), int(row["digest"])) for row in rows[rows["kind"] == Kind.RECORDED]}
    assert {(int(write["token"]), int(write["digest"])) for write in writes} == recorded
    finals = records_of(folder, "reader")
    assert list(range(1, FEW.sessions + 1)) == finals["session"].tolist()


def test_who_was_killed_leaves_a_history_and_is_replaced(arena: Arena, start: Start, tmp_path: Path) -> None:
    """What a killed instance had attempted is read; the next round has a new one in its place, and the others stay."""
    killing = fault("instance killed", 1, GIVEN)
    killing.parameters |= {"hold_s": 0.1, "instance": 0}
    with Campaign(arena, start) as rounds:
        folder = rounds.run_round(planned(tmp_path, duration_s=0.8, fault=killing, fault_after_s=0.4, after_s=0.1))
        first = [instance.pid for instance in arena.instances]
        found = read_round(folder)
        assert [True, False, False, False] == [one.was_killed for one in found.processes if one.role == "instance"]
        records = records_of(folder, "instance")
        killed = records[records["process"] == found.processes[0].number]
        assert len(killed) > 0
        assert np.count_nonzero(killed["outcome"] == Outcome.PENDING) <= 1
        assert found.fault is not None
        assert found.fault.exercised, found.fault.proof
        assert found.begin_ns < found.fault.begin_ns < found.fault.healed_ns
        again = read_round(rounds.run_round(planned(tmp_path, number=2, duration_s=0.3)))
        assert not any(one.was_killed for one in again.processes)
        second = [instance.pid for instance in arena.instances]
        assert first[1:] == second[1:]
        assert first[0] != second[0]
    assert [] == arena.instances


FINAL = {1: (Kind.GET, (7, 3)), 2: (Kind.GET, (0, 0))}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([(Kind.TOLD, 1, 3)], True),
        ([(Kind.TOLD, 1, 2)], False),
        ([(Kind.TOLD, 1, 3), (Kind.TOLD_REMOVED, 1, 4)], True),
        ([(Kind.RESYNCHRONISED, 1, 3), (Kind.TOLD, 2, 5)], False),
        ([(Kind.TOLD, 2, 5), (Kind.TOLD, 1, 3), (Kind.TOLD_REMOVED, 2, 6)], True),
        ([(Kind.TOLD, 2, 5), (Kind.TOLD, 1, 3), (Kind.RESYNCHRONISED_ABSENT, 2, 5)], True),
        ([], False),
    ],
)
def test_when_a_watcher_has_reached_the_end(told: list[tuple[Kind, int, int]], expected: bool, tmp_path: Path) -> None:
    """G8: it has where it was told of what is stored, or of something later; of what is gone, that it is gone."""
    with Recorder(tmp_path / "w.history", 5) as recorder:
        for kind, session, version in told:
            recorder.saw(kind, session, Seen((7, version)), 1, 1)
        # Also while it is still being written.
        assert expected == _has_reached(tmp_path / "w.history", FINAL)


def test_a_watcher_is_waited_for(arena: Arena, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G8: a round ends once its watchers have reached the final states, not before."""
    answers = [False, False, False, True]
    monkeypatch.setattr(campaign, "_has_reached", lambda *_: answers.pop(0))
    run_round(arena, planned(tmp_path, instances=1, duration_s=0.1), start)
    assert [] == answers


def test_what_was_planned_is_attempted_when_it_was_planned(arena: Arena, start: Start, tmp_path: Path) -> None:
    """In an open workload every attempt has its moment, of the seed alone; none is left out, and none is early."""
    folder = run_round(
        arena, planned(tmp_path, subject="kairos_async", rate=200.0, seed=8, duration_s=0.5, watchers=0), start
    )
    found = read_round(folder)
    for process in found.processes:
        if process.role != "instance":
            continue
        records = attempts_in(history.read(folder / f"{process.number}.history.gz"))
        offsets = arrivals(8, process.place, 200.0, 0.5)
        assert [found.begin_ns + offset for offset in offsets] == records["planned_ns"].tolist()
        assert process.planned == process.attempted == len(offsets)
        assert (records["start_ns"] >= records["planned_ns"]).all()


def test_a_folder_without_rounds_is_none(tmp_path: Path) -> None:
    """What cannot be judged is an error that names it."""
    with pytest.raises(RoundError, match="no rounds"):
        round_folders(tmp_path)
    (tmp_path / "round.json").write_text('{"format": 99}')
    with pytest.raises(RoundError, match="format 99"):
        read_round(tmp_path)
    (tmp_path / "round.json").write_text("no JSON")
    with pytest.raises(RoundError):
        read_round(tmp_path)
