"""What a report says of each guarantee, and of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests.judging.verdict import Rule, Status
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import FAILED, RED, SURVIVED
from reports.evidence import Evidence
from reports.guarantees import GUARANTEES
from reports.judging.faults import fault_cells, fault_rows
from reports.judging.guarantees import guarantees
from reports.judging.histories import BREAKS, SHOWS, histories
from reports.judging.notes import notes
from reports.statistics import Verdict
from tests.judged_runs import (
    doubted,
    guarantee,
    invalid,
    judged,
    put,
    set_load,
    set_mutant,
    validation_of,
    violated,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rule", list(Rule))
def test_a_violation_breaks_what_it_is_of(sound: Evidence, rule: Rule) -> None:
    """Each rule of the judge accuses guarantees; those FAIL, and no others; so does the report, which names them."""
    violated(sound, rule)
    failed = [one.number for one in guarantees(sound) if one.verdict is Verdict.FAIL]
    assert sorted(BREAKS[rule]) == sorted(failed)
    assert all(3 == guarantee(sound, number).violations for number in failed)
    found = judged(sound)
    assert Verdict.FAIL == found.verdict
    assert f"is a violation of {', '.join(BREAKS[rule])}: Both made the same version" in found.headline


def test_a_violation_under_load_is_one(sound: Evidence) -> None:
    """A load test that found a violation fails the run in each profile, also where it shows nothing of speed."""
    invalid(sound)
    set_load(sound, "audit_outage", correctness=Status.VIOLATION)
    found = judged(sound)
    assert Verdict.FAIL == found.verdict
    assert "the load test audit_outage is a violation" in found.headline


def test_the_core_that_is_attacked_alone_is_judged_too(sound: Evidence) -> None:
    """What the attack on Kairos itself found is a violation of Kairos, and no fault of the judge."""
    one = next(one for one in validation_of(sound).subjects if one.subject == "kairos_async")
    one.status = Status.VIOLATION
    found = judged(sound)
    assert "What must not be was seen: the attack on kairos_async" in found.headline
    assert 1 == len(found.reasons)


def test_who_else_is_attacked_says_nothing_of_the_core(sound: Evidence) -> None:
    """The histories of rivals are no evidence of what Kairos guarantees."""
    assert {"kairos", "kairos_async"} == {one.subject for one in histories(sound)}
    validation_of(sound).rounds[0].subject = "lock"
    assert "round 1 (worker stopped, fsync)" not in [one.name for one in histories(sound)]


@pytest.mark.parametrize("name", ["local_cache", "chain_forgotten", "ground_not_looked_at"])
def test_a_mutant_that_survived(sound: Evidence, name: str) -> None:
    """A broken core that nobody noticed leaves its guarantee unshown: FAIL, with what is wrong with it."""
    set_mutant(sound, name, SURVIVED)
    number = MUTANTS[name].guarantee
    found = guarantee(sound, number)
    assert (Verdict.FAIL, 1) == (found.verdict, found.mutants - found.mutants_caught)
    assert MUTANTS[name].bug in " ".join(found.sentences)
    assert f"Missed: the mutant {name} ({number}: {MUTANTS[name].bug}) survived" in judged(sound).headline


def test_a_survived_mutant_says_nothing_in_an_invalid_run(sound: Evidence) -> None:
    """It may have been missed because nothing went as it should."""
    set_mutant(sound, "local_cache", SURVIVED)
    invalid(sound)
    assert Verdict.INVALID == judged(sound).verdict


def test_a_red_check_breaks_all_that_it_bears_on(sound: Evidence) -> None:
    """A check that is red on the core as it is fails each guarantee of which it notices mutants, and the run."""
    set_mutant(sound, "", RED, "a_killed_drain")
    assert ["G7", "G13"] == [one.number for one in guarantees(sound) if one.verdict is Verdict.FAIL]
    assert (5, 6) == (guarantee(sound, "G7").checks_held, guarantee(sound, "G7").checks)
    assert "the check a_killed_drain (G7, G13) is red on the core as it is" in judged(sound).headline


def test_a_check_between_instances_that_is_broken(made_folder: Path) -> None:
    """So does one of the checks between instances, also where the same check was green among the mutants' ones."""
    evidence = Evidence(made_folder)
    assert evidence.latency is not None
    evidence.latency.checks = [
        msgspec.structs.replace(one, passed=one.name != "created_is_read") for one in evidence.latency.checks
    ]
    assert Verdict.FAIL is guarantee(evidence, "G2").verdict
    assert "the check created_is_read (G2) is red" in judged(evidence).headline


@pytest.mark.parametrize("name", ["", "read_before_write"])
def test_what_could_not_be_run_shows_nothing(sound: Evidence, name: str) -> None:
    """A check or a mutant that could not be run leaves its guarantee in doubt."""
    set_mutant(sound, name, FAILED, "one_round_trip")
    found = guarantee(sound, "G3")
    assert Verdict.INCONCLUSIVE is found.verdict
    assert any("could not be run" in one for one in found.sentences)
    assert Verdict.INCONCLUSIVE == judged(sound).verdict


def test_a_guarantee_takes_a_mutant_and_something_that_held(sound: Evidence) -> None:
    """What nothing was seen to notice is not shown, however often it held; nor what was not looked at."""
    found = validation_of(sound)
    kept = found.mutants
    found.mutants = [one for one in kept if one.guarantee != "G3"]
    assert Verdict.INCONCLUSIVE is guarantee(sound, "G3").verdict
    found.mutants = [one for one in kept if one.mutant or one.check != "one_round_trip"]
    assert Verdict.INCONCLUSIVE is guarantee(sound, "G3").verdict
    put(sound, validation=None, latency=None, loads={})
    assert {Verdict.INCONCLUSIVE} == {one.verdict for one in guarantees(sound)}


def test_all_guarantees_are_shown(sound: Evidence) -> None:
    """Fourteen, in order; each has a mutant that was caught and a check that held; some have histories, too."""
    found = guarantees(sound)
    assert [f"G{number}" for number in range(1, 15)] == [one.number for one in found] == list(GUARANTEES)
    assert {Verdict.PASS} == {one.verdict for one in found}
    assert all(one.mutants == one.mutants_caught > 0 and one.checks == one.checks_held > 0 for one in found)
    by_mutants = [one for one in MUTANTS.values() if one.guarantee in GUARANTEES]
    assert len(by_mutants) == sum(one.mutants for one in found)
    assert SHOWS.keys() == {one.number for one in found if one.operations}
    assert all((one.operations > 0) == (one.rounds > 0) and one.sentences for one in found)


def test_a_history_bears_only_on_what_happened_in_it(sound: Evidence) -> None:
    """Without rivals nothing of G1, without an unknown outcome nothing of G6, without a killed store nothing of G11."""
    before = {number: guarantee(sound, number) for number in ("G1", "G5", "G6", "G9", "G11")}
    assert (11, 1, 11, 1, 1) == tuple(one.rounds for one in before.values())
    for one in validation_of(sound).rounds:
        one.counts = {**one.counts, "refused": 0, "unknown": 0}
        one.exercised = False
    after = {number: guarantee(sound, number) for number in before}
    assert (2, 0, 2, 1, 0) == tuple(one.rounds for one in after.values())
    assert 0 == after["G1"].faults
    assert 7 == before["G1"].faults


def test_an_undecided_history_is_no_evidence(sound: Evidence) -> None:
    """Its attempts are not counted, and the run is in doubt; where another took its place, it is not."""
    before = guarantee(sound, "G1")
    doubted(sound)
    after = guarantee(sound, "G1")
    assert (before.rounds - 1, before.operations - 1_000) == (after.rounds, after.operations)
    assert "Not shown: validation: round 1 is undecided." == judged(sound).headline
    validation_of(sound).rounds[0].is_repeated = True
    assert Verdict.PASS == judged(sound).verdict


def test_a_load_test_that_nobody_could_judge(sound: Evidence) -> None:
    """Whether it lost anything is not known, so the run is in doubt."""
    set_load(sound, "capacity", correctness="UNDECIDED")
    assert "Not shown: whether the load test capacity is right could not be told" in judged(sound).headline


def test_every_rule_of_the_judge_is_of_a_guarantee() -> None:
    """No violation goes unassigned, and none is of a guarantee that there is not."""
    assert set(Rule) == BREAKS.keys()
    assert all(found and set(found) <= GUARANTEES.keys() for found in BREAKS.values())
    # What histories can accuse of, they can also show.
    assert {number for found in BREAKS.values() for number in found} <= SHOWS.keys()


def cells(evidence: Evidence, fault: str) -> dict[str, Verdict]:
    """The verdicts of a fault, by guarantee."""
    return {one.guarantee: one.verdict for one in fault_cells(evidence) if one.fault == fault}


def test_faults_by_guarantees(sound: Evidence) -> None:
    """A cell is there where a round bears on the guarantee, PASS where all that it hit were VALID."""
    found = cells(sound, "Valkey killed")
    assert {"G1", "G2", "G6", "G7", "G8", "G11"} == found.keys()
    assert {Verdict.PASS} == set(found.values())
    assert {"G2", "G6", "G7", "G8", "G1", "G5"} == cells(sound, "replies dropped").keys()
    assert {"G2", "G7", "G8"} <= cells(sound, "PostgreSQL stopped").keys()
    whole = next(one for one in fault_cells(sound) if (one.fault, one.guarantee) == ("Valkey killed", "G1"))
    assert (2, 2_000) == (whole.rounds, whole.operations)


def test_a_fault_that_broke_something(sound: Evidence) -> None:
    """What is accused is FAIL; what else the same round bears on is in doubt, and other faults are not."""
    violated(sound, Rule.AUDIT)
    found = cells(sound, "Valkey killed")
    assert Verdict.FAIL is found.pop("G7")
    assert {Verdict.INCONCLUSIVE} == set(found.values())
    assert {Verdict.PASS} == set(cells(sound, "failover").values())


def test_a_fault_that_did_not_hit(sound: Evidence) -> None:
    """It shows nothing: INCONCLUSIVE, of no round and no attempts; its row says so."""
    validation_of(sound).rounds[5].exercised = False
    assert {Verdict.INCONCLUSIVE} == set(cells(sound, "failover").values())
    assert {(0, 0)} == {(one.rounds, one.operations) for one in fault_cells(sound) if one.fault == "failover"}
    (row,) = (one for one in fault_rows(sound) if one.fault == "failover")
    assert (1, 0, None) == (row.rounds, row.hit, row.recovery_s)


def test_rows_of_faults(sound: Evidence) -> None:
    """Each fault in each arena has a row with its losses and its slowest recovery, and a folder; so has an outage."""
    found = {(one.fault, one.arena): one for one in fault_rows(sound)}
    row = found["Valkey killed", "memory"]
    assert (1, 1, 7, 0.4) == (row.rounds, row.hit, row.expected_losses, round(row.recovery_s or 0, 3))
    assert "validation/rounds/004" == row.file
    assert found["PostgreSQL stopped", "audit_outage"].operations > 0
    assert any(": memory 7, sentinel 7, cluster 7. They" in note for note in notes(sound, []))
