from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from loadtests import __main__ as program
from loadtests.attack.rounds import FaultFacts, write_round
from loadtests.faults.arenas import KINDS
from loadtests.faults.schedule import FAULTS, FIRST, fitting, schedule
from loadtests.history import Kind, Recorder, Seen
from loadtests.judging.verdict import Status
from loadtests.mutants.catch import CAUGHT, FAILED, RED, SURVIVED, Caught
from loadtests.profiles import profiles
from loadtests.validation import NAME, RoundResult, SubjectResult, Validation
from tests.made_round import made_round

if TYPE_CHECKING:
    from pathlib import Path

# What a terminal should be wide.
WIDE = 120


def subject(**changes: Any) -> SubjectResult:
    """The subject that loses updates, caught in time."""
    facts: dict[str, Any] = {
        "subject": "check_then_set",
        "status": Status.VIOLATION,
        "should_be_caught": True,
        "seconds": 2.0,
        "within_s": 5.0,
        "counts": {},
        "sentence": "Both made the same version.",
    }
    return SubjectResult(**(facts | changes))


def a_round(**changes: Any) -> RoundResult:
    """A round whose fault hit, and in which all is well."""
    facts: dict[str, Any] = {
        "number": 1,
        "arena": "fsync",
        "subject": "kairos",
        "seed": 1,
        "fault": "store killed",
        "exercised": True,
        "proof": "another run id",
        "status": Status.VALID,
        "counts": {"attempted": 1_000, "acknowledged": 900},
        "losses_allowed": False,
        "sentences": [],
        "seconds": 3.0,
    }
    return RoundResult(**(facts | changes))


def mutant(result: str = CAUGHT) -> Caught:
    """One that was caught."""
    return Caught(
        mutant="local_cache",
        guarantee="G2",
        bug="",
        check="history",
        result=result,
        attempts=1,
        seconds=1.0,
        evidence="",
    )


def validation(**changes: Any) -> Validation:
    """One in which all is well."""
    facts: dict[str, Any] = {
        "profile": "quick",
        "seed": 1,
        "attempts_at_least": 1_000,
        "subjects": [subject(), subject(subject="kairos", status=Status.VALID, should_be_caught=False)],
        "rounds": [a_round()],
        "mutants": [mutant()],
        "mutants_status": 0,
    }
    return Validation(**(facts | changes))


def test_all_is_well() -> None:
    """Where each part is as it should be, the status is 0, and no doubt is told."""
    found = validation()
    assert (0, []) == (found.exit_status, found.doubts())
    assert found.summary()[-1].startswith("VALID")


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": [a_round(), a_round(status=Status.VIOLATION)]},
        # Also where it was followed by another.
        {"rounds": [a_round(status=Status.VIOLATION, is_repeated=True), a_round()]},
        {"mutants_status": 1},
        {"subjects": [subject(status=Status.VALID)]},
        {"subjects": [subject(seconds=5.1)]},
        {"subjects": [subject(should_be_caught=False)]},
    ],
    ids=["round", "repeated", "mutant", "not caught", "too late", "accused"],
)
def test_what_is_wrong_is_a_failure(changes: dict[str, Any]) -> None:
    """A violation, a surviving mutant, a wrong subject that is not caught in time, a right one that is accused: 1."""
    found = validation(**changes)
    assert found.exit_status == 1
    assert found.summary()[-1].startswith("VIOLATION")


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": [a_round(status=Status.UNDECIDED)]},
        {"rounds": [a_round(exercised=False)]},
        {"subjects": [subject(), subject(should_be_caught=False, status=Status.UNDECIDED)]},
        {"subjects": [subject(status=Status.UNDECIDED)]},
        {"subjects": []},
        {"mutants_status": 2},
        {"mutants": []},
        {"rounds": []},
        {"attempts_at_least": 1_001},
    ],
    ids=["round", "fault", "right", "wrong", "no subject", "mutants", "no mutant", "no round", "too few"],
)
def test_what_could_not_be_told_is_no_pass(changes: dict[str, Any]) -> None:
    """A round without a verdict, a fault that did not hit, a part that was not run, too few attempts: 2."""
    found = validation(**changes)
    assert found.exit_status == 2
    assert found.doubts()
    assert found.summary()[-1].startswith("UNDECIDED")


def test_what_is_wrong_is_named() -> None:
    """A round, a subject, a mutant and a check are told by their names, and what could not be run is a doubt."""
    red = msgspec.structs.replace(mutant(RED), mutant="", evidence="two round trips")
    failed = msgspec.structs.replace(mutant(FAILED), mutant="stale", evidence="no answer")
    found = validation(
        rounds=[a_round(status=Status.VIOLATION, number=7), a_round(fault="", arena="calm", status=Status.VIOLATION)],
        subjects=[subject(status=Status.VALID), subject(subject="lock", should_be_caught=False)],
        mutants=[mutant(SURVIVED), red, failed],
        mutants_status=2,
    )
    assert [
        "round 7 (store killed, fsync) is a violation",
        "round 1 (calm) is a violation",
        "check_then_set was not caught in time",
        "lock was accused",
        "mutant local_cache survived the check history: ",
        "the check history is red on the unbroken core: two round trips",
    ] == found.wrongs()
    assert "stale could not be run against history: no answer" in found.doubts()
    text = "\n".join(found.summary())
    assert "wrong: lock was accused" in text
    assert "in doubt: stale could not be run" in text


def test_what_each_fault_did_is_added_up() -> None:
    """How often it hit, what it took, and the slowest recovery, for each arena; calm rounds are of no fault."""
    lossy: dict[str, Any] = {"arena": "memory", "losses_allowed": True}
    found = validation(
        rounds=[
            a_round(recovery_s=0.25),
            a_round(exercised=False, is_repeated=True, recovery_s=9.0),
            a_round(recovery_s=1.5),
            a_round(**lossy, counts={"lost (expected)": 1_000}, recovery_s=0.5),
            a_round(**lossy, counts={"lost (expected)": 234}, recovery_s=0.25),
            a_round(fault="failover", arena="cluster"),
            a_round(fault=""),
        ]
    )
    assert [
        ("store killed", "fsync", 3, 2, 0, 1.5),
        ("store killed", "memory", 2, 2, 1_234, 0.5),
        ("failover", "cluster", 1, 1, 0, None),
    ] == [(one.fault, one.arena, one.rounds, one.hit, one.expected_losses, one.recovery_s) for one in found.faults()]
    assert [
        "              fsync         memory            cluster",
        "store killed  2 of 3 1.5 s  2× 0.50 s -1,234  ·",
        "failover      ·             ·                 1×",
    ] == found.matrix()
    assert found.summary()[0].startswith("faults: 5 of 6 hit")
    assert [] == validation(rounds=[]).matrix()


def test_a_full_run_fits_into_a_terminal() -> None:
    """The matrix of all faults in all arenas, and every line of what is told."""
    rounds = [
        a_round(
            fault=fault.name,
            arena=kind,
            counts={"attempted": 99_999, "lost (expected)": 1_999},
            losses_allowed=kind not in ("fsync", "replicated") and fault.name == FIRST[kind],
            recovery_s=12.25,
            sentences=["p65 update of session 1, from (1795547813247892, v4), " * 8],
            subject="kairos_async",
        )
        for kind in KINDS
        for fault in fitting(kind)
    ]
    sentence = "p65 update of session 1, from (1795547813247892, v4), " * 8
    found = validation(rounds=rounds, subjects=[subject(sentence=sentence)], mutants=[mutant(SURVIVED)])
    lines = "\n".join([one.line for one in found.rounds] + [one.line for one in found.subjects])
    told = [*found.summary(), *(f"  {line}" for line in lines.splitlines())]
    assert [] == [line for line in told if len(line) > WIDE]


def test_what_is_stored_has_the_verdict(tmp_path: Path) -> None:
    """The file says what came of it, what each fault did, and is read again as it was."""
    found = validation(rounds=[a_round(status=Status.UNDECIDED, recovery_s=0.5)])
    found.write(tmp_path)
    data = (tmp_path / NAME).read_bytes()
    stored = msgspec.json.decode(data)
    assert ("UNDECIDED", [], ["round 1 is undecided"]) == (stored["status"], stored["wrongs"], stored["doubts"])
    assert [("store killed", "fsync", 0.5)] == [
        (one["fault"], one["arena"], one["recovery_s"]) for one in stored["faults"]
    ]
    assert found == msgspec.json.decode(data, type=Validation)


def test_a_repeated_round_is_taken_for_the_one_before() -> None:
    """A round that showed nothing is no doubt where another took its place."""
    for nothing in ({"status": Status.UNDECIDED}, {"exercised": False}):
        assert 0 == validation(rounds=[a_round(**nothing, is_repeated=True), a_round()]).exit_status


def test_the_full_profile_is_what_it_is_said_to_be() -> None:
    """At least 1,000,000 attempts from 8 instances, 50 rounds with faults, 20 calm seeds; all arenas are known."""
    full = profiles()["full"]
    assert (8, 50, 20) == (full.instances, sum(full.rounds.values()), full.calm_seeds)
    assert full.attempts_at_least >= 1_000_000
    for profile in profiles().values():
        assert profile.rounds.keys() <= set(KINDS)


@pytest.mark.parametrize("name", ["full", "report_full"])
def test_a_full_profile_has_all_faults(name: str) -> None:
    """Each fault befalls at least one arena that it fits, in a full validation and in that of a full report."""
    full = profiles()[name]
    for seed in range(5):
        found = {fault.name for kind, count in full.rounds.items() for fault in schedule(seed, kind, count)}
        assert FAULTS.keys() == found, f"seed {seed}"


def test_what_an_arena_is_there_for_comes_first() -> None:
    """Where there is but one round, it is the fault that only this arena shows."""
    for kind, name in FIRST.items():
        assert name in {fault.name for fault in fitting(kind)}
        for seed in range(3):
            assert name == schedule(seed, kind, 1)[0].name


def stored_round(folder: Path) -> None:
    """A round with a fault between two reads, and a row of the audit, whose time is its place."""
    found = made_round(number=3, prefix="1x", session_ttl_ms=1_000, receipt_ttl_ms=1_000, timeout_ms=1_000, begin_ns=0)
    found.fault = FaultFacts(
        name="Valkey killed", parameters={}, begin_ns=2_000, healed_ns=5_000, exercised=True, proof="another run id"
    )
    found.losses = [{"at_ns": 2_400, "back_ns": 5_000, "why": "it has all in memory"}]
    write_round(folder, found)
    with Recorder(folder / "65.history", 65) as recorder:
        recorder.saw(Kind.RECORDED, 1, Seen((5, 1)), 1, 1)
        for moment in (6_000, 1_000, 3_000):
            recorder.saw(Kind.GET, 1, Seen((5, 1)), moment, moment + 100)


def test_a_fault_is_shown_where_it_hit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records are shown in the order of time, the fault in between; rows of the audit, which have none, come last."""
    stored_round(tmp_path)
    assert program.main(["show", str(tmp_path), "--session", "1"]) == 0
    assert [
        "round 3: kairos, seed 1, Valkey killed",
        "p65 get of session 1, at (5, v1), ok, 0.000001 s to 0.000001 s",
        "--- 0.000002 s Valkey killed: another run id",
        "--- 0.000002 s may lose writes: it has all in memory",
        "p65 get of session 1, at (5, v1), ok, 0.000003 s to 0.000003 s",
        "--- 0.000005 s Valkey killed: all is as before",
        "p65 get of session 1, at (5, v1), ok, 0.000006 s to 0.000006 s",
        "p65 recorded of session 1, at (5, v1), row 1",
    ] == capsys.readouterr().out.splitlines()
    assert program.main(["show", str(tmp_path), "--session", "2"]) == 2
    found = capsys.readouterr()
    assert 4 == len(found.out.splitlines())
    assert "nobody saw anything of session 2" in found.err


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, 2), (KeyboardInterrupt, 130), (FileNotFoundError, 2)])
def test_what_fails_is_no_violation(
    error: type[BaseException], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of the harness, or an end before its time, has another exit status than what was found to be wrong."""

    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(program, "judge", fail)
    assert program.main(["judge", str(tmp_path)]) == status


def test_a_mutant_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit) as caught:
        program.main(["attack", "--mutant", "nonsense"])
    assert 2 == caught.value.code
    assert "argument --mutant: there is no such choice" in capsys.readouterr().err
