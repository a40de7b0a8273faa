"""A run whose files do not fit together is invalid, whatever its summaries say."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from reports.evidence import Evidence
from reports.judging import judged
from reports.statistics import Verdict
from tests.made_run import made_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reports.findings import Report

VALIDATION, OUTAGE = "validation/validation.json", "load/audit_outage"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run; nobody writes into it."""
    return made_run(tmp_path_factory.mktemp("agreement") / "run")


def changed(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Change a JSON file of a run in place."""

    def change_it(folder: Path) -> None:
        found = json.loads((folder / name).read_bytes())
        change(found)
        (folder / name).write_text(json.dumps(found), encoding="utf-8")

    return change_it


def replaced(folder: Path, name: str, other: str) -> None:
    """Put one file in the place of another."""
    shutil.copy(folder / other, folder / name)


def of_quick(found: dict[str, Any]) -> None:
    """The validation of a quick report."""
    found["profile"] = "report"


def left_out(found: list[dict[str, Any]]) -> None:
    """The benchmarks, of which nothing says that they may be left out."""
    found[0]["left_out"] = "nobody knows"


def without_benchmarks(folder: Path) -> None:
    """They are not there, and were left out for no reason that is known."""
    changed("parts.json", left_out)(folder)
    (folder / "manifest.json").unlink()


def judged_in(folder: Path, profile: str = "quick") -> Report:
    """The report on it."""
    return judged(Evidence(folder), profile=profile, command="", made_at="2026-01-01T10:00:00+00:00")


WRONG: dict[str, Callable[[Path], object]] = {
    "round 3 is VALID in it": changed("validation/rounds/003/verdict.json", lambda one: one.update(status="VIOLATION")),
    "the attack on kairos is VALID in it": changed(
        "validation/subjects/kairos/rounds/001/verdict.json", lambda one: one.update(counts={})
    ),
    "round 3 has no verdict": lambda run: (run / "validation/rounds/003/verdict.json").unlink(),
    "it lists 8 rounds, and there are 9": changed(VALIDATION, lambda one: one["rounds"].pop()),
    "kairos_async was attacked": changed(VALIDATION, lambda one: one["subjects"].pop(1)),
    "round 1 is said to be repeated": changed(VALIDATION, lambda one: one["rounds"][0].update(is_repeated=True)),
    "1 of ": changed(VALIDATION, lambda one: one["mutants"].pop()),
    "was not run on the core as it is": changed(VALIDATION, lambda one: one["mutants"].pop(0)),
    "fine is no result": changed(VALIDATION, lambda one: one["mutants"][-1].update(result="fine")),
    "it is of audit_outage, and load.json of capacity": lambda run: replaced(
        run, f"{OUTAGE}/load.json", "load/capacity/load.json"
    ),
    "it does not follow from load.json": changed(f"{OUTAGE}/load_verdict.json", lambda one: one.update(dropped=1)),
    "judged again": changed(f"{OUTAGE}/load.json", lambda one: one.update(notes=["the servers were gone"])),
    "is not that of its round": changed(
        f"{OUTAGE}/rounds/001/verdict.json", lambda one: one.update(status="VIOLATION")
    ),
    "records were judged, and": lambda run: next((run / OUTAGE / "rounds/001").glob("*.history.gz")).unlink(),
    "it is of instances": lambda run: replaced(run, "studies/contention.json", "studies/instances.json"),
    "not everything in it was measured 3 times": changed("studies/instances.json", lambda one: one["points"].pop()),
    "studies/instances.json is missing": lambda run: (run / "studies/instances.json").unlink(),
    "the part latency": without_benchmarks,
}


def test_what_was_measured_in_one_go_fits_together(sound: Path) -> None:
    """A sound run contradicts itself nowhere."""
    assert [] == Evidence(sound).contradictions
    assert Verdict.PASS == judged_in(sound).verdict


@pytest.mark.parametrize("told", WRONG)
def test_files_that_do_not_fit_together_are_no_evidence(sound: Path, tmp_path: Path, told: str) -> None:
    """What is lost, left over or of another run makes the run invalid, and the report says where."""
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    WRONG[told](folder)
    report = judged_in(folder)
    assert Verdict.INVALID == report.verdict
    assert any(told in reason for reason in (*report.reasons, report.headline)), report.reasons


def test_a_part_of_another_profile_is_none(tmp_path: Path) -> None:
    """A quick validation in a full run shows too little, and is not taken for a full one."""
    folder = made_run(tmp_path / "run", profile="full")
    assert Verdict.INVALID != judged_in(folder, "full").verdict
    changed(VALIDATION, of_quick)(folder)
    assert "the part validation: of the profile quick" in judged_in(folder, "full").headline


def test_counts_of_violations_are_violations(sound: Path, tmp_path: Path) -> None:
    """A verdict that says VALID and counts violations is believed in what is worse."""
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    changed(VALIDATION, lambda one: one["rounds"][2]["counts"].update({"violations: lost": 1}))(folder)
    assert Verdict.FAIL == judged_in(folder).verdict


def test_parts_of_two_trees_are_no_run(sound: Path, tmp_path: Path) -> None:
    """Who changes the code and goes on with a run measures two systems, and neither of them."""
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    changed("parts.json", lambda one: one[1].update(commit="fedcba9"))(folder)
    assert "the tree that was measured: abc1234, fedcba9" in judged_in(folder).headline


@pytest.mark.parametrize(
    ("name", "field", "part"),
    [
        ("manifest.json", "started_at", "latency"),
        ("studies/instances.json", "finished_at", "studies/instances"),
        (f"{OUTAGE}/load.json", "began_at", OUTAGE),
    ],
)
def test_a_time_that_is_none_is_named(sound: Path, tmp_path: Path, name: str, field: str, part: str) -> None:
    """A part that does not say when it was measured cannot be read, and the report says so instead of ending."""
    folder = shutil.copytree(sound, tmp_path / "run")
    changed(name, lambda found: found.update({field: "yesterday"}))(folder)
    evidence = Evidence(folder)
    found = judged(evidence, profile="quick", command="", made_at="2026-03-01T12:00:00+00:00")
    assert Verdict.INVALID == found.verdict
    assert any(f"{part} cannot be read" in problem and "yesterday" in problem for problem in evidence.problems)
