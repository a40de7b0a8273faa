"""What makes a run show nothing, and what does not."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests.judging.verdict import Status
from loadtests.mutants.catch import SURVIVED
from reports.evidence import Evidence
from reports.findings import NotebookRun, PartRun
from reports.judging.notes import notes
from reports.judging.targets import targets
from reports.judging.validity import validity
from reports.statistics import Verdict
from tests.judged_runs import (
    invalid,
    judged,
    put,
    rows,
    set_load,
    set_mutant,
    validation_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reports.results import Samples


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


@pytest.mark.parametrize(
    ("factor", "is_valid"), [(1.1, True), (4.9, True), (1 / 4.9, True), (5.1, False), (1 / 5.1, False)]
)
def test_a_floor_that_drifts(made_folder: Path, factor: float, is_valid: bool) -> None:
    """Where the same bytes take five times as long, or as short, from the midst on, it was not one machine."""
    evidence = Evidence(made_folder)
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


def test_a_benchmark_process_that_failed(made_folder: Path) -> None:
    """A process that ended with an error makes the run invalid, though it left all its results."""
    evidence = Evidence(made_folder)
    assert evidence.latency is not None
    evidence.latency.manifest["exit_statuses"][3] = 1
    (row,) = rows(validity(evidence, [], "quick"), "benchmark processes")
    assert (False, "9 of 10") == (row.is_valid, row.seen)


def test_a_result_that_is_missing(made_folder: Path) -> None:
    """What a benchmark that raised left out makes the run invalid, and is named; no target of it is met."""
    evidence = Evidence(made_folder)
    assert evidence.latency is not None
    evidence.latency.samples["delivery"]["kairos"].pop()
    found = judged(evidence)
    assert Verdict.INVALID == found.verdict
    assert "delivery: 9 of 10 runs have a result of kairos" in found.headline
    assert Verdict.PASS not in [one.verdict for one in targets(evidence, "quick") if one.what.startswith("delivery")]


def test_an_operation_that_differs_from_itself(made_folder: Path) -> None:
    """Each operation stands beside itself; one that comes out otherwise makes the run invalid, with its numbers."""
    evidence = Evidence(made_folder)
    assert evidence.latency is not None
    again = evidence.latency.samples["update_session"]["again"]
    again[:] = [one * 1.2 for one in again]
    found = rows(validity(evidence, [], "quick"), "")
    wrong = [one for one in found if not one.is_valid]
    assert ["update_session beside itself"] == [one.what for one in wrong]
    assert wrong[0].seen.startswith("0.83")
    assert 6 == sum("beside itself" in one.what for one in found)
    assert "This run shows nothing: update_session beside itself: 0.83" in judged(evidence).headline


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
