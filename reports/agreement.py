"""Whether what a run's folder holds fits together: a summary says what the files say that it was made of.

A file may be lost, left over from another run or half copied. What was judged then no longer stands on what is there.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from loadtests.judging.verdict import Verdict
from loadtests.load.verdict import judge_load
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT, FAILED, GREEN, RED, SURVIVED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.load.verdict import LoadVerdict
    from loadtests.studies.study import Result
    from loadtests.validation import RoundResult, SubjectResult, Validation
    from reports.evidence import Evidence, LoadTest

_RESULTS = {True: (CAUGHT, SURVIVED, FAILED), False: (GREEN, RED, FAILED)}
_VERDICT, _ROUNDS, _FIRST = "verdict.json", "rounds", "001"


class Contradiction(NamedTuple):
    """Two files of a run that do not fit together: where, and a sentence."""

    file: str
    sentence: str


def contradictions(evidence: Evidence) -> list[Contradiction]:
    """All of a run; a part that is not there contradicts nothing."""
    found = []
    if evidence.validation is not None:
        folder = evidence.folder / "validation"
        told = [*_of_rounds(evidence.validation, folder), *_of_mutants(evidence.validation)]
        found += [Contradiction("validation/validation.json", one) for one in told]
    for name, test in evidence.loads.items():
        found += [Contradiction(f"load/{name}/load_verdict.json", one) for one in _of_load(name, test)]
    for name, study in evidence.studies.items():
        found += [Contradiction(f"studies/{name}.json", one) for one in _of_study(name, study)]
    return found


def _of_rounds(found: Validation, folder: Path) -> Iterator[str]:
    """Each history that was judged is there with the same verdict, and no other."""
    listed = [f"{one.number:03d}" for one in found.rounds]
    there = {path.name for path in (folder / _ROUNDS).glob("*/")}
    left_out = sorted(there - set(listed))
    if left_out or len(set(listed)) < len(listed):
        yield f"it lists {len(set(listed))} rounds, and there are {len(there | set(listed))}"
    known = {one.subject for one in found.subjects}
    for name in sorted({path.name for path in (folder / "subjects").glob("*/")} - known):
        yield f"{name} was attacked, and is not listed"
    lasting = {(one.arena, one.fault) for one in found.rounds if not one.is_repeated}
    for each in found.rounds:
        if (each.arena, each.fault) not in lasting:
            yield f"round {each.number} is said to be repeated, and none took its place"
    judged: list[tuple[str, Path, RoundResult | SubjectResult]] = [
        (f"round {one.number}", folder / _ROUNDS / f"{one.number:03d}", one) for one in found.rounds
    ]
    judged += [
        (f"the attack on {one.subject}", folder / "subjects" / one.subject / _ROUNDS / _FIRST, one)
        for one in found.subjects
    ]
    for name, place, one in judged:
        verdict = _verdict(place)
        if verdict is None:
            yield f"{name} has no verdict that can be read"
        elif (verdict.status, verdict.counts) != (one.status, one.counts):
            yield f"{name} is {one.status} in it, and its own verdict is {verdict.status}, or counts otherwise"


def _of_mutants(found: Validation) -> Iterator[str]:
    """Each mutant that there is has a result, and so has the check that is to notice it on the core as it is."""
    tried = {one.mutant for one in found.mutants}
    left_out = sorted(set(MUTANTS) - tried)
    if left_out:
        yield f"{len(left_out)} of {len(MUTANTS)} mutants have no result: {', '.join(left_out[:3])}"
    sound = {one.check for one in found.mutants if not one.mutant}
    for check in sorted({one.check for one in found.mutants} - sound):
        yield f"the check {check} was not run on the core as it is"
    for one in found.mutants:
        if one.result not in _RESULTS[bool(one.mutant)]:
            yield f"{one.mutant or one.check}: {one.result} is no result"


def _of_load(name: str, test: LoadTest) -> Iterator[str]:
    """It is the test its folder is named after, its verdict follows from the counts, its histories are there."""
    if not test.load.name == test.verdict.name == name:
        yield f"it is of {test.verdict.name}, and load.json of {test.load.name}"
        return
    again = judge_load(test.load, test.deliveries)
    if not _is_alike(again, test.verdict):
        yield "it does not follow from load.json and the histories: judged again, something else comes out"
    own = _verdict(test.folder / _ROUNDS / _FIRST)
    judged = test.judged
    if judged is not None:
        statuses = {judged.status, *(one.status for one in judged.rounds.values()), own.status if own else None}
        if len(statuses) != 1 or not judged.rounds:
            yield "its verdict on what is right is not that of its round"
        elif judged.counts.get("records") != test.records:
            yield f"{judged.counts.get('records', 0):,} records were judged, and {test.records:,} are there"


def _of_study(name: str, found: Result) -> Iterator[str]:
    """It is the study that its file is named after, and each point was measured as often as it says."""
    if found.study != name:
        yield f"it is of {found.study}"
    times = Counter((one.subject, one.x) for one in found.points if one.values)
    odd = [f"{subject} at {x}" for (subject, x), number in times.items() if number != found.repetitions]
    if odd or not times:
        yield f"not everything in it was measured {found.repetitions} times: {', '.join(odd[:3]) or 'nothing was'}"


def _verdict(folder: Path) -> Verdict | None:
    try:
        return msgspec.json.decode((folder / _VERDICT).read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return None


def _is_alike(again: LoadVerdict, stored: LoadVerdict) -> bool:
    """The same but for the last digits; what the records contradict is judged once, since that takes longer."""
    if not set(again.reasons) <= set(stored.reasons):
        return False
    ours, theirs = (msgspec.to_builtins(one) for one in (again, stored))
    for one in (ours, theirs):
        del one["reasons"]
        if stored.reasons:
            del one["verdict"]
    return _same(ours, theirs)


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return one == other
