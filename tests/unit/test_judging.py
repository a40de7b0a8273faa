"""What a report says of a run: the verdict, and why."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests import ROOT
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT
from reports.evidence import Evidence
from reports.guarantees import GUARANTEES
from reports.judging.targets import targets
from reports.judging.verdict import said
from reports.statistics import Verdict
from tests.judged_runs import (
    doubted,
    invalid,
    judged,
    missed,
    put,
    set_load,
    validation_of,
    violated,
)

if TYPE_CHECKING:
    from pathlib import Path


Change = "Callable[[Evidence], object]"


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


def test_a_slow_operation_is_missed(made_folder: Path) -> None:
    """A missed target is the first line, with what was measured, its interval and its limit."""
    evidence = Evidence(made_folder)
    assert evidence.latency is not None
    for taken in evidence.latency.samples["update_session"].values():
        taken[:] = [one + 12.0 for one in taken]
    found = judged(evidence)
    assert Verdict.FAIL == found.verdict
    expected = r"Missed: update_session mean is 12\.\d ms \(12\.\d to 12\.\d\), where it must be below 5 ms\. \d more"
    assert re.match(expected, found.headline)


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


def test_the_guarantees_are_those_of_the_readme() -> None:
    """README and reports promise the same, in the same words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| (G\d+) \| (.+?) \| .+ \|$", text, re.MULTILINE))
    assert GUARANTEES == found


def test_mutants_that_were_caught_are_known(sound: Evidence) -> None:
    """The made run has every mutant that there is, so that these tests are of what a validation leaves."""
    named = {one.mutant for one in validation_of(sound).mutants if one.result == CAUGHT}
    assert MUTANTS.keys() == named
