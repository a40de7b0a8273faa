from __future__ import annotations

from typing import Any

import pytest

from loadtests.faults.arenas import KINDS
from loadtests.faults.schedule import FAULTS, FIRST, fitting, schedule
from loadtests.judging.verdict import Status
from loadtests.mutants.catch import CAUGHT, Caught
from loadtests.profiles import profiles
from loadtests.validation import RoundResult, SubjectResult, Validation


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


def test_the_full_profile_has_all_faults() -> None:
    """Each fault befalls at least one arena that it fits."""
    full = profiles()["full"]
    for seed in range(5):
        found = {fault.name for kind, count in full.rounds.items() for fault in schedule(seed, kind, count)}
        assert FAULTS.keys() == found, f"seed {seed}"


def test_what_an_arena_is_there_for_comes_first() -> None:
    """Where there is but one round, it is the fault that only this arena shows."""
    for kind, name in FIRST.items():
        assert name in {fault.name for fault in fitting(kind)}
        for seed in range(3):
            assert name == schedule(seed, kind, 1)[0].name
