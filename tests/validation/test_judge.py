from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from loadtests import history
from loadtests.__main__ import main
from loadtests.attack.campaign import Campaign
from loadtests.attack.rounds import AuditFacts, FaultFacts, Plan, ProcessFacts, Round, read_round, write_round
from loadtests.attack.workload import Mix, arrivals
from loadtests.history import Error, Kind, Outcome, Recorder, Seen
from loadtests.judging.judge import facts_of, judge, judge_round, worst
from loadtests.judging.verdict import Rule, Status
from tests.made_round import made_round

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.attack.attacker import Start
    from loadtests.faults.arenas import Arena

FEW = Mix(sessions=6)


@pytest.mark.parametrize("subject", ["kairos", "kairos_async", "watch_multi", "lock"])
def test_a_sound_subject_is_never_accused(subject: str, arena: Arena, start: Start, tmp_path: Path) -> None:
    """G1, G2, G8: what compares and sets in one step, or alone, has no contradiction in its history."""
    with Campaign(arena, start) as campaign:
        campaign.run_round(Plan(folder=tmp_path, subject=subject, instances=3, duration_s=0.6, mix=FEW))
    verdict = judge(tmp_path)
    assert Status.VALID == verdict.status, verdict.rounds
    assert verdict.counts["attempted"] > 20
    assert verdict.counts["notifications"] > 0


def test_check_then_set_is_caught(
    arena: Arena, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """G1: two writers of one version are found, and named in a sentence; the command says so with its status."""
    with Campaign(arena, start) as campaign:
        # As many rounds as it takes: how soon two writers meet is chance.
        for number in range(1, 11):
            campaign.run_round(
                Plan(folder=tmp_path, number=number, subject="check_then_set", instances=4, duration_s=0.7, mix=FEW)
            )
            verdict = judge(tmp_path)
            if f"violations: {Rule.ONE_WRITER}" in verdict.counts:
                break
    assert Status.VIOLATION == verdict.status
    assert f"violations: {Rule.ONE_WRITER}" in verdict.counts
    assert main(["judge", str(tmp_path)]) == 1
    assert "one writer: " in capsys.readouterr().out
    stored = msgspec.json.decode((tmp_path / "verdict.json").read_bytes())
    assert stored["status"] == "VIOLATION"
    assert "<svg" in (tmp_path / "rounds" / f"{max(verdict.rounds):03d}" / "violation.svg").read_text()


PLAIN = made_round(
    seed=4,
    mix=FEW,
    arena="none",
    prefix="1x",
    begin_ns=1_000,
    processes=[ProcessFacts(number=65, role="instance", place=1, attempted=2)],
)


def stored(folder: Path, found: Round, count: int = 2) -> Path:
    """A round in which an instance created a session and read it as often as it takes."""
    folder = folder / "rounds" / f"{found.number:03d}"
    folder.mkdir(parents=True)
    write_round(folder, found)
    with Recorder(folder / "65.history", 65) as recorder:
        planned = iter(arrivals(found.seed, 1, found.rate, found.duration_s) if found.rate else [])
        for number in range(count):
            at_ns = found.begin_ns + next(planned) if found.rate else 0
            place = recorder.begin(Kind.GET if number else Kind.CREATE, 1, digest=0 if number else 7, planned_ns=at_ns)
            end_ns = int(history.read(folder / "65.history")["start_ns"][-1]) + 1
            recorder.end(place, Outcome.OK, end_ns, Seen((5, 1), history.token(65, 1), 7), Error.NONE)
    history.seal(folder / "65.history")
    return folder


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for what is valid, 2 for what is undecided or cannot be read; and it shows the records of a session."""
    stored(tmp_path, PLAIN)
    assert main(["judge", str(tmp_path)]) == 0
    assert "VALID: " in capsys.readouterr().out
    assert main(["show", str(tmp_path), "--session", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["round 1: kairos, seed 4, calm"] == lines[:1]
    assert ["p65 create of session 1", "p65 get of session 1"] == [line.split(",")[0] for line in lines[1:]]
    assert main(["show", str(tmp_path), "--session", "2"]) == 2
    assert "nobody saw anything of session 2" in capsys.readouterr().err
    assert main(["judge", str(tmp_path / "nothing")]) == 2
    assert "no rounds" in capsys.readouterr().err


def test_what_did_not_go_as_it_should_is_no_pass(tmp_path: Path) -> None:
    """A round of which something is missing is undecided, whatever its records say; and so is the whole run."""
    stored(tmp_path, PLAIN)
    stored(tmp_path, msgspec.structs.replace(PLAIN, number=2, notes=["the final states were not read"]))
    verdict = judge(tmp_path)
    assert (Status.VALID, Status.UNDECIDED) == (verdict.rounds[1].status, verdict.rounds[2].status)
    assert Status.UNDECIDED == verdict.status
    assert "the final states were not read" in verdict.rounds[2].reasons


@pytest.mark.parametrize(("left_out", "expected"), [(0, Status.VALID), (1, Status.UNDECIDED)])
def test_the_plan_is_made_again_from_the_seed(left_out: int, expected: Status, tmp_path: Path) -> None:
    """What was attempted in an open workload is compared with what the seed says, not with what the process says."""
    rate = 50.0
    count = len(arrivals(4, 1, rate, 1.0)) - left_out
    process = ProcessFacts(number=65, role="instance", place=1, planned=count, attempted=count)
    stored(tmp_path, msgspec.structs.replace(PLAIN, rate=rate, processes=[process]), count)
    verdict = judge(tmp_path)
    assert expected == verdict.status, verdict.rounds
    if left_out:
        assert any("did not attempt what was planned" in reason for reason in verdict.rounds[1].reasons)


def test_the_worst_counts() -> None:
    """One violation makes a run a violation, one doubt a doubt; nothing judged is no pass."""
    assert Status.VALID == worst([Status.VALID, Status.VALID])
    assert Status.UNDECIDED == worst([Status.VALID, Status.UNDECIDED]) == worst([])
    assert Status.VIOLATION == worst([Status.UNDECIDED, Status.VIOLATION, Status.VALID])


def test_the_checker_is_told_the_facts() -> None:
    """Who was killed, who watched, what may be lost, and whether there is a whole audit."""
    processes = [
        ProcessFacts(number=65, role="instance", place=1, attempted=12),
        ProcessFacts(number=66, role="instance", place=2, was_killed=True),
        ProcessFacts(number=105, role="watcher", place=1),
        ProcessFacts(number=106, role="watcher", place=2, was_killed=True),
        ProcessFacts(number=125, role="reader", place=1),
    ]
    fault = FaultFacts(name="killed", parameters={}, begin_ns=5, healed_ns=9, exercised=True, proof="")
    losses = [{"at_ns": 5, "back_ns": 9, "why": "memory"}]
    audit = AuditFacts(rows=3, dead_letters=0, is_drained=True)
    found = msgspec.structs.replace(PLAIN, processes=processes, fault=fault, losses=losses, audit=audit)
    facts = facts_of(found)
    assert ({65: 12}, (66, 106), (105,), True) == (facts.planned, facts.killed, facts.watchers, facts.has_audit)
    assert [(5, 9, "memory")] == [(loss.at_ns, loss.back_ns, loss.why) for loss in facts.losses]
    assert [("killed", 5, 9)] == [(one.name, one.begin_ns, one.healed_ns) for one in facts.faults]
    late = AuditFacts(rows=3, dead_letters=0, is_drained=False)
    assert not facts_of(msgspec.structs.replace(found, audit=late)).has_audit


def test_sealed_evidence_is_judged_like_open_evidence(tmp_path: Path) -> None:
    """Histories are read compressed or not; the records are the same."""
    folder = stored(tmp_path, PLAIN)
    sealed = history.read(folder / "65.history.gz")
    history.write(tmp_path / "open.history", sealed, 65)
    assert np.array_equal(sealed, history.read(tmp_path / "open.history"))


def test_failures_without_a_fault_are_no_pass(tmp_path: Path) -> None:
    """A store that refuses for no reason contradicts nothing, and is not well; in a fault it may."""
    processes = [*PLAIN.processes, ProcessFacts(number=66, role="instance", place=2, attempted=1)]
    folder = stored(tmp_path, msgspec.structs.replace(PLAIN, processes=processes))
    with Recorder(folder / "66.history", 66) as recorder:
        place = recorder.begin(Kind.UPDATE, 1, expected=(5, 1), digest=8)
        recorder.end(place, Outcome.REFUSED, time.monotonic_ns(), error=Error.UNAVAILABLE)
    calm = read_round(folder)
    verdict = judge_round(folder, calm)
    assert Status.UNDECIDED == verdict.status
    assert "1 of 3 attempts failed, and nothing befell the store" in verdict.reasons
    fault = FaultFacts(name="worker killed", parameters={}, begin_ns=1, healed_ns=2, exercised=True, proof="")
    assert Status.VALID == judge_round(folder, msgspec.structs.replace(calm, fault=fault)).status


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"processes": [*PLAIN.processes, ProcessFacts(number=125, role="reader", place=1)]}, "125 (reader)"),
        ({"processes": [*PLAIN.processes, ProcessFacts(number=105, role="watcher", place=1)]}, "105 (watcher)"),
        ({"audit": AuditFacts(rows=1, dead_letters=0, is_drained=True)}, "audit"),
        ({"processes": []}, "no process took part"),
    ],
    ids=["reader", "watcher", "audit", "nobody"],
)
def test_missing_evidence_is_no_verdict(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Where a process' records are not there, nothing is found to be well, and nobody is accused of it."""
    folder = stored(tmp_path, msgspec.structs.replace(PLAIN, **changes))
    verdict = judge_round(folder, read_round(folder))
    assert (Status.UNDECIDED, ()) == (verdict.status, verdict.violations)
    assert any(reason in one for one in verdict.reasons)
