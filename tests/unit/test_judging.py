"""What a report says of a run: the verdict, why, and what each kind of finding takes."""

from __future__ import annotations

import copy
import itertools
import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from loadtests import ROOT
from loadtests.judging.verdict import Rule, Status
from loadtests.load.findings import Speed
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT, FAILED, RED, SURVIVED
from reports.evidence import Evidence
from reports.findings import NotebookRun, PartRun, Target, Validity
from reports.guarantees import GUARANTEES
from reports.judging.faults import fault_cells, fault_rows
from reports.judging.guarantees import guarantees
from reports.judging.histories import BREAKS, SHOWS, histories
from reports.judging.loads import load_row
from reports.judging.notes import notes
from reports.judging.targets import targets
from reports.judging.validity import validity
from reports.judging.verdict import said
from reports.statistics import Verdict
from tests.made_run import coverage, made_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loadtests.validation import Validation
    from reports.findings import Guarantee
    from reports.judging.verdict import Said
    from reports.results import Samples

Change = "Callable[[Evidence], object]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run; nobody writes into it."""
    return made_run(tmp_path_factory.mktemp("judging") / "run")


@pytest.fixture(scope="module")
def first(folder: Path) -> Evidence:
    """It, read once for all."""
    evidence = Evidence(folder)
    evidence.read_all()
    return evidence


@pytest.fixture
def sound(folder: Path, first: Evidence) -> Evidence:
    """What it left behind; a test may put something else in the place of a part."""
    evidence = Evidence(folder)
    put(evidence, latency=first.latency, loads=dict(first.loads), studies=dict(first.studies))
    put(evidence, contradictions=first.contradictions)
    return evidence


def put(evidence: Evidence, **parts: Any) -> None:
    """Put something in the place of parts that would be read."""
    evidence.__dict__.update(parts)


def judged(evidence: Evidence, profile: str = "quick", notebooks: tuple[NotebookRun, ...] = ()) -> Said:
    """The verdict on it."""
    return said(
        evidence, targets(evidence, profile), guarantees(evidence), validity(evidence, list(notebooks), profile)
    )


def validation_of(evidence: Evidence) -> Validation:
    """Its validation, which is there."""
    assert evidence.validation is not None
    return evidence.validation


def guarantee(evidence: Evidence, number: str) -> Guarantee:
    """What is said of one guarantee."""
    return next(one for one in guarantees(evidence) if one.number == number)


def set_mutant(evidence: Evidence, name: str, result: str, check: str = "") -> None:
    """Give a mutant another result; without a name, the core as it is under a check."""
    found = validation_of(evidence)
    found.mutants = [
        msgspec.structs.replace(one, result=result) if one.mutant == name and check in ("", one.check) else one
        for one in found.mutants
    ]


def set_load(evidence: Evidence, name: str, correctness: str | None = None, **changes: Any) -> None:
    """Let a load test have come out otherwise."""
    test = evidence.loads[name]
    verdict = msgspec.structs.replace(test.verdict, **changes)
    evidence.loads[name] = test._replace(verdict=verdict, correctness=correctness or test.correctness)


def violated(evidence: Evidence, rule: Rule = Rule.ONE_WRITER, place: int = 1) -> None:
    """Let a round have found a violation."""
    one = validation_of(evidence).rounds[place]
    one.status, one.counts = Status.VIOLATION, {**one.counts, f"violations: {rule}": 3}
    one.sentences = ["Both made the same version."]


def invalid(evidence: Evidence) -> None:
    """Let a load test show nothing."""
    set_load(evidence, "audit_outage", verdict=Speed.INVALID, reasons=["process 0 began 9 of 10 steps late"])


def missed(evidence: Evidence) -> None:
    """Let the tests reach too little of the audit."""
    put(evidence, coverage=coverage(audit_percent=70.0))


def doubted(evidence: Evidence) -> None:
    """Let a round have shown nothing."""
    validation_of(evidence).rounds[0].status = Status.UNDECIDED


def test_a_sound_run_passes(sound: Evidence) -> None:
    """Where all is well, the report says so in a sentence, with how much that is, and has nothing to say against it."""
    found = judged(sound)
    assert (Verdict.PASS, []) == (found.verdict, found.reasons)
    judged_here = [one.verdict for one in targets(sound, "quick")]
    left = judged_here.count(None)
    assert 0 < left < len(judged_here)
    expected = f"All {len(judged_here) - left} targets that were judged are met ({left} take a full run), and all 14"
    assert found.headline.startswith(expected)


@pytest.mark.parametrize("chosen", list(itertools.product([False, True], repeat=4)))
def test_what_weighs_most_decides(sound: Evidence, chosen: tuple[bool, ...]) -> None:
    """A violation is FAIL whatever else is wrong; then INVALID; then a missed target; then a doubt; all are told."""
    kinds = (violated, invalid, missed, doubted)
    verdicts = (Verdict.FAIL, Verdict.INVALID, Verdict.FAIL, Verdict.INCONCLUSIVE)
    openings = (
        "What must not be was seen: round 2",
        "This run shows nothing: the load",
        "Missed: coverage",
        "Not shown: ",
    )
    for change, is_chosen in zip(kinds, chosen, strict=True):
        if is_chosen:
            change(sound)
    found = judged(sound)
    first = chosen.index(True) if any(chosen) else None
    assert found.verdict == (Verdict.PASS if first is None else verdicts[first])
    assert sum(chosen) == len(found.reasons)
    if first is not None:
        assert found.headline.startswith(openings[first])
        assert found.verdict.value not in found.headline
        ahead = found.reasons[0].rstrip(".")
        assert ahead[1:] in found.headline
    assert (sum(chosen) > 1) == ("below" in found.headline.rsplit(": ", 1)[-1] and "stand" in found.headline)


def test_what_can_be_done_about_it_stands_in_the_reasons(sound: Evidence) -> None:
    """The first line says what is not shown; why, and what to do, is read below it."""
    near = msgspec.structs.replace(targets(sound, "quick")[0], verdict=Verdict.INCONCLUSIVE, note="Too near: again.")
    found = said(sound, [near], [], [])
    assert Verdict.INCONCLUSIVE == found.verdict
    assert "Too near" not in found.headline
    assert found.reasons[0].endswith(" (Too near: again).")


def without(name: str) -> Callable[[Evidence], None]:
    """Let a part be missing."""

    def change(evidence: Evidence) -> None:
        if name.startswith("load/"):
            del evidence.loads[name.removeprefix("load/")]
        else:
            put(evidence, **{name: {} if name == "studies" else None})

    return change


def ended(name: str, status: int) -> Callable[[Evidence], None]:
    """Let a part have ended with a status."""

    def change(evidence: Evidence) -> None:
        parts = [msgspec.structs.replace(one, status=status) if one.name == name else one for one in evidence.parts]
        put(evidence, parts=parts)

    return change


def unreadable(evidence: Evidence) -> None:
    """Let something be there that cannot be read."""
    evidence.problems.append("studies/contention cannot be read: no JSON")


def harness_survives(evidence: Evidence) -> None:
    """Let a broken harness go unnoticed."""
    set_mutant(evidence, "timer_rounds", SURVIVED)


def wrong_one_gets_away(evidence: Evidence) -> None:
    """Let the judge see nothing wrong in what is wrong on purpose."""
    next(one for one in validation_of(evidence).subjects if one.should_be_caught).status = Status.VALID


def right_one_is_accused(evidence: Evidence) -> None:
    """Let the judge accuse a rival that is right."""
    next(one for one in validation_of(evidence).subjects if one.subject == "lock").status = Status.VIOLATION


def another_tree(evidence: Evidence) -> None:
    """Let a study be of another tree."""
    study = evidence.studies["contention"]
    evidence.studies["contention"] = msgspec.structs.replace(study, facts={"machine": {"commit": "other"}})


def set_times(evidence: Evidence, subject: str, times: Callable[[list[Samples]], list[Samples]], of: str) -> None:
    """Let a subject have taken other times for a get: made from those of one that is there."""
    assert evidence.latency is not None
    changed = copy.copy(evidence.latency)
    seen = changed.samples["get_session"]
    vars(changed).pop("beside_itself", None)
    vars(changed)["samples"] = {**changed.samples, "get_session": {**seen, subject: times(seen[of])}}
    put(evidence, latency=changed)


def copied(evidence: Evidence) -> None:
    """Let Kairos beside itself be the same numbers, in one run."""
    own = evidence.latency.samples["get_session"]["again"] if evidence.latency else []
    set_times(evidence, "again", lambda times: [times[0], *own[1:]], "kairos")


def faster_than_the_floor(evidence: Evidence) -> None:
    """Let the same bytes on a socket take twice as long as Kairos."""
    set_times(evidence, "floor", lambda runs: [2 * times for times in runs], "kairos")


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (copied, "get_session, the times of kairos and again: the same, call by call"),
        (faster_than_the_floor, "the operation that is nearest to its floor: get_session, 0.5"),
        (without("latency"), "the part latency: missing"),
        (without("validation"), "the part validation: missing"),
        (without("studies"), "the part studies: missing"),
        (without("load/capacity"), "the part load/capacity: missing"),
        (ended("latency", 1), "the part latency: ended with status 1"),
        (ended("load/audit_outage", -9), "the part load/audit_outage: ended with status -9"),
        (unreadable, "studies/contention cannot be read: no JSON"),
        (harness_survives, "broken harnesses that the judge noticed: 1 of 2"),
        (wrong_one_gets_away, "what the judge says of check_then_set: VALID"),
        (right_one_is_accused, "what the judge says of lock: VIOLATION"),
        (another_tree, "the tree that was measured: abc1234, other"),
        (invalid, "the load test audit_outage: process 0 began 9 of 10 steps late"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_makes_a_run_invalid(sound: Evidence, change: Callable[[Evidence], None], seen: str) -> None:
    """A part that is missing or broken, a judge that is blind, a run that was unfair: each is INVALID, and named."""
    change(sound)
    found = judged(sound)
    assert Verdict.INVALID == found.verdict
    assert any(seen.lower() in reason.lower() for reason in found.reasons)


def test_a_part_may_end_with_a_finding(sound: Evidence) -> None:
    """That a validation or a load test found something is its status, and no reason to distrust it."""
    for name in ("validation", "load/capacity"):
        for status in (1, 2):
            ended(name, status)(sound)
            assert Verdict.PASS == judged(sound).verdict


def test_a_part_that_was_left_out_is_no_failure(sound: Evidence) -> None:
    """What cannot be done to given servers is left out, which is said, and the run is none the less valid."""
    without("load/audit_outage")(sound)
    reason = "it stops PostgreSQL"
    parts = [one for one in sound.parts if one.name != "load/audit_outage"]
    put(sound, parts=[*parts, PartRun(name="load/audit_outage", command="", left_out=reason)])
    assert "load/audit_outage: left out, though no servers were given" in judged(sound).headline
    assert sound.latency is not None
    given = copy.copy(sound.latency)
    given.manifest = {**given.manifest, "servers_given": True}
    put(sound, latency=given)
    assert Verdict.PASS == judged(sound).verdict
    assert f"load/audit_outage was left out: {reason}." in notes(sound, [])


def test_a_judge_that_was_put_to_no_broken_harness_is_not_believed(sound: Evidence) -> None:
    """All of none were noticed: that shows nothing of whoever is to notice."""
    validation = validation_of(sound)
    validation.mutants = [one for one in validation.mutants if one.guarantee != "harness"]
    assert "broken harnesses that the judge noticed: 0 of 0" in judged(sound).headline


def test_a_run_that_does_not_say_what_was_asked_for_needs_all_parts(sound: Evidence) -> None:
    """Without a list of its parts, a run has all that every report has, or it is invalid."""
    put(sound, parts=[])
    assert Verdict.PASS == judged(sound).verdict
    without("load/audit_outage")(sound)
    assert "the part load/audit_outage: missing" in judged(sound).headline


def test_a_run_of_another_profile_is_invalid(sound: Evidence) -> None:
    """A quick run is no full one, whatever it is called."""
    found = judged(sound, "full")
    assert Verdict.INVALID == found.verdict
    assert "the part latency: of the profile quick, where it has to be: measured, of the profile full" in found.headline


@pytest.mark.parametrize(("error", "run_cells"), [("NameError: x\nTraceback", 4), ("NameError: x", 5), (None, 3)])
def test_a_notebook_that_did_not_end_makes_it_invalid(sound: Evidence, error: str | None, run_cells: int) -> None:
    """A crashed notebook is named with the first line of what ended it."""
    book = NotebookRun(
        name="03_consistency",
        question="Is anything lost?",
        seconds=1.0,
        cells=5,
        cells_run=run_cells,
        error=error,
        file="x",
    )
    found = judged(sound, notebooks=(book,))
    assert Verdict.INVALID == found.verdict
    assert f"the notebook 03_consistency: {run_cells} of 5 cells" in found.headline
    assert (error is not None) == ("NameError: x" in found.headline)


def rows(found: list[Validity], what: str) -> list[Validity]:
    """Of what has to be so, what begins with these words."""
    return [one for one in found if one.what.startswith(what)]


@pytest.mark.parametrize(
    ("factor", "is_valid"), [(1.1, True), (4.9, True), (1 / 4.9, True), (5.1, False), (1 / 5.1, False)]
)
def test_a_floor_that_drifts(folder: Path, factor: float, is_valid: bool) -> None:
    """Where the same bytes take five times as long, or as short, from the midst on, it was not one machine."""
    evidence = Evidence(folder)
    assert evidence.latency is not None
    floors = evidence.latency.samples["get_session"]["floor"]
    half = len(floors) // 2
    for number, (earlier, later) in enumerate(zip(range(half), range(half, 2 * half), strict=True)):
        # No two are alike: one would be a copy.
        floors[earlier] = floors[0] * (1 + 1e-9 * number)
        floors[later] = floors[earlier] * factor
    # One run by itself is no drift.
    floors[1] = floors[0] * 9
    (row,) = rows(validity(evidence, [], "quick"), "drift")
    assert is_valid == row.is_valid
    assert row.seen.startswith(f"{max(factor, 1 / factor):.2f} times")
    found = judged(evidence)
    assert is_valid == (found.verdict != Verdict.INVALID), found.reasons


def test_a_benchmark_process_that_failed(folder: Path) -> None:
    """A process that ended with an error makes the run invalid, though it left all its results."""
    evidence = Evidence(folder)
    assert evidence.latency is not None
    evidence.latency.manifest["exit_statuses"][3] = 1
    (row,) = rows(validity(evidence, [], "quick"), "benchmark processes")
    assert (False, "9 of 10") == (row.is_valid, row.seen)


def test_a_result_that_is_missing(folder: Path) -> None:
    """What a benchmark that raised left out makes the run invalid, and is named; no target of it is met."""
    evidence = Evidence(folder)
    assert evidence.latency is not None
    evidence.latency.samples["delivery"]["kairos"].pop()
    found = judged(evidence)
    assert Verdict.INVALID == found.verdict
    assert "delivery: 9 of 10 runs have a result of kairos" in found.headline
    assert Verdict.PASS not in [one.verdict for one in targets(evidence, "quick") if one.what.startswith("delivery")]


def test_an_operation_that_differs_from_itself(folder: Path) -> None:
    """Each operation stands beside itself; one that comes out otherwise makes the run invalid, with its numbers."""
    evidence = Evidence(folder)
    assert evidence.latency is not None
    again = evidence.latency.samples["update_session"]["again"]
    again[:] = [one * 1.2 for one in again]
    found = rows(validity(evidence, [], "quick"), "")
    wrong = [one for one in found if not one.is_valid]
    assert ["update_session beside itself"] == [one.what for one in wrong]
    assert wrong[0].seen.startswith("0.83")
    assert 6 == sum("beside itself" in one.what for one in found)
    assert "This run shows nothing: update_session beside itself: 0.83" in judged(evidence).headline


def test_a_slow_operation_is_missed(folder: Path) -> None:
    """A missed target is the first line, with what was measured, its interval and its limit."""
    evidence = Evidence(folder)
    assert evidence.latency is not None
    for taken in evidence.latency.samples["update_session"].values():
        taken[:] = [one + 12.0 for one in taken]
    found = judged(evidence)
    assert Verdict.FAIL == found.verdict
    expected = r"Missed: update_session mean is 12\.\d ms \(12\.\d to 12\.\d\), where it must be below 5 ms\. \d more"
    assert re.match(expected, found.headline)


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


def test_a_check_between_instances_that_is_broken(folder: Path) -> None:
    """So does one of the checks between instances, also where the same check was green among the mutants' ones."""
    evidence = Evidence(folder)
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


def of_source(found: list[Target], source: str) -> list[Target]:
    """The targets that were measured so."""
    return [one for one in found if one.source == source]


def test_what_a_quick_run_judges(sound: Evidence) -> None:
    """It judges percentiles where there are calls enough, and failures; ratios, knees and bars it only shows."""
    found = targets(sound, "quick")
    shown = [one for one in found if one.verdict is None]
    assert all(one.value is not None and "PROFILE=full" in one.note for one in shown)
    assert all(one.verdict is None for one in of_source(found, "study"))
    assert {one.what for one in of_source(found, "load") if one.verdict is not None} == {
        "audit_outage: calls that failed or were given up",
        "capacity: calls that failed or were given up",
    }
    assert 3 == sum(one.verdict is None for one in of_source(found, "latency"))


def test_what_failed_beyond_the_knee_is_not_counted_and_that_is_said(sound: Evidence) -> None:
    """A load that grows until something gives fails in the end: its row says that it is of the time before."""
    notes_of = {one.what: one.note for one in targets(sound, "quick")}
    assert notes_of["capacity: calls that failed or were given up"].endswith("What came before the knee.")
    assert "knee" not in notes_of["audit_outage: calls that failed or were given up"]


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ({}, ""),
        ({"time": 0.3}, " Here: 0.3 times its time."),
        ({"time": 0.3, "size": 2.0}, " Here: 0.3 times its time and 2 times its size."),
    ],
)
def test_a_load_test_that_was_scaled_says_so(sound: Evidence, scale: dict[str, float], told: str) -> None:
    """What a scenario is about holds of its whole length: of another, the row says how long it was."""
    test = sound.loads["audit_outage"]
    load = msgspec.structs.replace(test.load, **({"time": 1.0, "size": 1.0} | scale))
    assert f"{load.scenario.about}{told}" == load_row("audit_outage", test._replace(load=load), "quick").about


def test_a_reason_of_which_there_may_be_none_says_no_limit(sound: Evidence) -> None:
    """Where any at all is too much, the headline says what was seen and leaves it at that."""
    invalid(sound)
    assert "where it has to be" not in judged(sound).headline


def test_what_a_full_run_judges(folder: Path, sound: Evidence) -> None:
    """It judges everything that has a limit; what it measured too little of leaves it in doubt."""
    full = Evidence(folder).latency
    assert full is not None
    full.manifest["profile"] = "full"
    put(sound, latency=full)
    found = targets(sound, "full")
    of = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
    count = sum(len(of[kind]) for kind in ("latency", "ratio", "difference", "rate"))
    assert count == len(of_source(found, "latency"))
    doubts = {one.what for one in found if one.verdict is not Verdict.PASS}
    assert {"audit_outage: turn.update p99 away over before", "audit_outage: turn.update p99 back"} == doubts
    assert {Verdict.INCONCLUSIVE, Verdict.PASS} == {one.verdict for one in found}


def test_reasons_begin_as_sentences_do(sound: Evidence) -> None:
    """With a capital letter, but for names; each ends with one full stop."""
    doubted(sound)
    missed(sound)
    set_load(sound, "audit_outage", correctness="UNDECIDED")
    invalid(sound)
    found = judged(sound).reasons
    assert all(re.match(r"([A-Z]|[a-z]+[_:])", reason) and reason.endswith(".") for reason in found)
    assert not any(reason.endswith("..") for reason in found)
    put(sound, latency=None)
    assert any(reason.startswith("The part latency") for reason in judged(sound).reasons)


@pytest.mark.parametrize(
    ("sentence", "verdict"), [("too few: 3 turn", None), ("the interval holds it", Verdict.INCONCLUSIVE)]
)
def test_a_load_target_in_doubt(sound: Evidence, sentence: str, verdict: Verdict | None) -> None:
    """A quick run leaves out what had too few calls; what had enough and could not be told leaves all in doubt."""
    results = [
        msgspec.structs.replace(one, verdict=Speed.INCONCLUSIVE, sentence=sentence)
        for one in sound.loads["audit_outage"].verdict.targets
    ]
    set_load(sound, "audit_outage", targets=results)
    ratio, percentile = (one.verdict for one in of_source(targets(sound, "quick"), "load") if "p99" in one.what)
    assert (None, verdict) == (ratio, percentile)
    assert judged(sound).verdict == (verdict or Verdict.PASS)
    assert {Verdict.INCONCLUSIVE} == {
        one.verdict for one in targets(sound, "full") if "p99 " in one.what and one.source == "load"
    }


def test_failed_calls_miss_a_target_in_each_profile(sound: Evidence) -> None:
    """None may fail, however little was measured."""
    lines = [
        msgspec.structs.replace(one, measured=7, verdict=Speed.FAIL) if one.what == "dropped" else one
        for one in sound.loads["audit_outage"].verdict.lines
    ]
    set_load(sound, "audit_outage", lines=lines, verdict=Speed.FAIL)
    expected = "Missed: audit_outage: calls that failed or were given up is 7 calls, where it must be below 1 calls."
    assert expected == judged(sound).headline
    assert Verdict.FAIL is load_row("audit_outage", sound.loads["audit_outage"], "quick").verdict


def test_an_invalid_load_test_meets_nothing(sound: Evidence) -> None:
    """Of one that shows nothing, no target looks as if it were met."""
    invalid(sound)
    found = [one for one in of_source(targets(sound, "quick"), "load") if one.what.startswith("audit_outage")]
    assert {Verdict.INCONCLUSIVE} == {one.verdict for one in found}
    assert Verdict.INVALID is load_row("audit_outage", sound.loads["audit_outage"], "quick").verdict


def test_a_busy_generator(sound: Evidence) -> None:
    """More than 70 % of a processor is too much, but for a load that grows until something gives."""
    set_load(sound, "audit_outage", busiest=[0.2, 0.71])
    set_load(sound, "capacity", busiest=[0.97])
    wrong = [one for one in validity(sound, [], "quick") if not one.is_valid]
    assert [("generator's processor, audit_outage", "71 %", "at most 70 %")] == [
        (one.what, one.seen, one.limit) for one in wrong
    ]


def test_late_steps(sound: Evidence) -> None:
    """More than one step of a hundred that was begun late makes a load test invalid."""
    set_load(sound, "audit_outage", planned=1_000, late=11)
    assert not rows(validity(sound, [], "quick"), "steps begun late, audit_outage")[0].is_valid
    set_load(sound, "audit_outage", planned=1_000, late=10)
    assert rows(validity(sound, [], "quick"), "steps begun late, audit_outage")[0].is_valid


def test_what_is_wrong_comes_first(sound: Evidence) -> None:
    """Who looks for what makes a run invalid finds it at the top."""
    invalid(sound)
    found = validity(sound, [], "quick")
    assert [False] + [True] * (len(found) - 1) == [one.is_valid for one in found]
    assert all(one.what and one.seen and one.limit and one.file for one in found)


@pytest.mark.parametrize(
    ("field", "limit"), [("managers_percent", 90.0), ("audit_percent", 85.0), ("all_percent", 80.0)]
)
def test_coverage(sound: Evidence, field: str, limit: float) -> None:
    """What the tests reach has to be above its limit; at it, it is missed."""
    for value, verdict in ((limit, Verdict.FAIL), (limit + 0.1, Verdict.PASS)):
        put(sound, coverage=msgspec.structs.replace(coverage(), **{field: value}))
        assert verdict == judged(sound).verdict
        assert [one.verdict for one in of_source(targets(sound, "quick"), "coverage")].count(verdict) in (1, 3)


def test_coverage_of_another_tree_is_no_coverage(sound: Evidence) -> None:
    """It is not judged, and a note says how to have it."""
    for found in (coverage("other", audit_percent=1.0), None):
        put(sound, coverage=found)
        assert [] == of_source(targets(sound, "quick"), "coverage")
        assert Verdict.PASS == judged(sound).verdict
        (note,) = (one for one in notes(sound, []) if "Coverage" in one)
        assert "not measured at this commit" in note
        assert "make coverage" in note


def test_the_guarantees_are_those_of_the_readme() -> None:
    """README and reports promise the same, in the same words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| (G\d+) \| (.+?) \| .+ \|$", text, re.MULTILINE))
    assert GUARANTEES == found


def test_mutants_that_were_caught_are_known(sound: Evidence) -> None:
    """The made run has every mutant that there is, so that these tests are of what a validation leaves."""
    named = {one.mutant for one in validation_of(sound).mutants if one.result == CAUGHT}
    assert MUTANTS.keys() == named
