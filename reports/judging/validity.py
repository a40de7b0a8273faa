"""Whether a run says anything at all: what has to be so, what was seen, and where."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from loadtests.judging.verdict import Status
from loadtests.load.generator import BUSY
from loadtests.load.knee import LATE_SHARE
from loadtests.load.validity import is_searched
from loadtests.mutants.catch import CAUGHT
from loadtests.validation import NAME as VALIDATION_FILE
from reports import statistics
from reports.evidence import LATENCY, LOAD, STUDIES, VALIDATION
from reports.findings import Validity
from reports.judging.guarantees import HARNESS
from reports.judging.histories import OURS
from reports.parts import profiles
from reports.statistics import FAIR, WIDEST_DRIFT, WIDEST_SELF_RATIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reports.evidence import Evidence, LoadTest
    from reports.findings import NotebookRun, PartRun
    from reports.results import Run

# Without these there is no report; of a run that does not say what was asked for, all of them are.
PARTS = (LATENCY, VALIDATION, f"{LOAD}/audit_outage", f"{LOAD}/capacity", STUDIES)
_FLOOR = ("get_session", "floor", "p50")
# How something has to be of which there may be none.
NOTHING_LIKE_IT = "nothing of the kind"
# Of a validation and a load test, what it found; anything else is a process that came to no end.
_FOUND = (0, 1, 2)


def validity(evidence: Evidence, notebooks: Sequence[NotebookRun], profile: str) -> list[Validity]:
    """All that has to be so, what is not so first."""
    evidence.read_all()
    found = [*parts(evidence, profile), *_unreadable(evidence), *_contradictions(evidence)]
    if evidence.latency is not None:
        run = evidence.latency
        found += [*_latency(run), *fairness(run), *beyond_the_floor(run), *copies(run), *drift(run)]
    for name, test in evidence.loads.items():
        found += generator(name, test)
    found += [*_judge(evidence), *_one_tree(evidence), *_notebooks(notebooks)]
    return sorted(found, key=lambda one: one.is_valid)


def parts(evidence: Evidence, profile: str) -> Iterator[Validity]:
    """Each part of the measuring is there and came to its end, but for those that were left out for a reason."""
    runs = {one.name: one for one in evidence.parts}
    for name in dict.fromkeys((*(runs or PARTS), *(f"{LOAD}/{name}" for name in evidence.loads))):
        one = runs.get(name)
        part = next((part for part in profiles().get(profile, ()) if part.name == name), None)
        # Only what given servers cannot bear may be left out, and only where servers were given.
        if one is not None and one.left_out and (part is None or part.left_out) and _on_given_servers(evidence):
            continue
        of = _profiles(name, evidence)
        seen = _ended(name, one) or ("measured" if of is not None else "missing")
        lost = [file for file in part.results if not (evidence.folder / file).is_file()] if part else []
        if seen == "measured" and lost:
            seen = f"{lost[0]} is missing"
        for found in sorted((of or set()) - {profile, ""}):
            seen = seen if seen != "measured" else f"of the profile {found}"
        yield Validity(
            what=f"the part {name}",
            seen=seen,
            limit=f"measured, of the profile {profile}",
            is_valid=seen == "measured",
            file=name if of is not None else "parts.json",
        )


def _on_given_servers(evidence: Evidence) -> bool:
    """Whether a run was on servers that were given, as far as it says."""
    return evidence.latency is None or bool(evidence.latency.manifest.get("servers_given"))


def _profiles(name: str, evidence: Evidence) -> set[str] | None:
    """Of which profiles a part is, where it is there; empty: it does not say."""
    if name == LATENCY:
        return {str(evidence.latency.manifest["profile"])} if evidence.latency else None
    if name == VALIDATION:
        return _with(name, f"--profile {evidence.validation.profile}") if evidence.validation else None
    if name == STUDIES:
        each = [_with(name, f"--profile {one.profile}") for one in evidence.studies.values()]
        return set().union(*each) if each else None
    test = evidence.loads.get(name.removeprefix(f"{LOAD}/"))
    return _with(name, f"--time {test.load.time:g}" if test.load.time != 1 else "") if test else None


def _with(name: str, option: str) -> set[str]:
    """The profiles in which a part is measured so; none: it was measured in a way of its own."""
    return {
        profile
        for profile, parts in profiles().items()
        for part in parts
        if part.name == name and (f"{option} " in f"{part.command} " if option else "--time" not in part.command)
    }


def _ended(name: str, one: PartRun | None) -> str:
    """How a part ended that came to no result; empty: it did not end so, or nothing is noted of it."""
    if one is None:
        return ""
    if one.left_out:
        return "left out, though no servers were given"
    if one.status is None:
        return "not measured, or not to its end"
    finds = name == VALIDATION or name.startswith(LOAD)
    return "" if one.status in (_FOUND if finds else (0,)) else f"ended with status {one.status}"


def _unreadable(evidence: Evidence) -> Iterator[Validity]:
    for problem in evidence.problems:
        name = problem.partition(" cannot be read")[0]
        yield Validity(what=name, seen=problem, limit="can be read", is_valid=False, file=name)


def _contradictions(evidence: Evidence) -> Iterator[Validity]:
    for one in evidence.contradictions:
        yield Validity(
            what=one.file, seen=one.sentence, limit="what the files say beside it", is_valid=False, file=one.file
        )


def _latency(run: Run) -> Iterator[Validity]:
    """Everything is there that the latency benchmarks were to leave."""
    statuses = run.manifest["exit_statuses"]
    well = sum(status == 0 for status in statuses)
    yield Validity(
        what="benchmark processes that ended well",
        seen=f"{well} of {run.manifest['runs']}",
        limit="all",
        is_valid=well == run.manifest["runs"] == len(statuses),
        file="manifest.json",
    )
    for gap in run.gaps:
        yield Validity(what="the latency benchmarks", seen=gap, limit="complete", is_valid=False, file=LATENCY)


def fairness(run: Run) -> Iterator[Validity]:
    """Each operation beside itself (A/A): what is there in two names must come out alike."""
    unfair = {name for name, _ in run.unfair}
    near, far = 100 * (FAIR - 1), 100 * (WIDEST_SELF_RATIO - 1)
    for name, own in run.beside_itself.items():
        yield Validity(
            what=f"{name} beside itself",
            seen=f"{own} times",
            limit=f"within {near:.1f} % of 1 (within {far:.0f} % where its interval is near 1)",
            is_valid=name not in unfair,
            file=LATENCY,
        )


def beyond_the_floor(run: Run) -> Iterator[Validity]:
    """No operation takes less time than the same bytes on a socket: whoever seems to, was not measured."""
    found = {name: run.compare(name, "floor") for name in run.beside_itself if "floor" in run.samples[name]}
    if found:
        fastest = min(found, key=lambda name: found[name].upper)
        yield Validity(
            what="the operation that is nearest to its floor",
            seen=f"{fastest}, {found[fastest]} times the same bytes on a socket",
            limit="no faster than these",
            is_valid=found[fastest].upper >= 1,
            file=LATENCY,
        )


def copies(run: Run) -> Iterator[Validity]:
    """No two subjects took the same times, call by call: these would be one, in two names."""
    for operation, subjects in run.samples.items():
        for (name, one), (other_name, other) in combinations(subjects.items(), 2):
            if any(len(times) > 1 and np.array_equal(times, others) for times, others in zip(one, other, strict=False)):
                yield Validity(
                    what=f"{operation}, the times of {name} and {other_name}",
                    seen="the same, call by call",
                    limit="of calls of their own",
                    is_valid=False,
                    file=LATENCY,
                )


def drift(run: Run) -> Iterator[Validity]:
    """The floor does not depend on Kairos: where it drifts, the machine does."""
    operation, subject, statistic = _FLOOR
    if not run.samples.get(operation, {}).get(subject):
        return
    found = run.per_run(operation, subject, statistic)
    factor = statistics.drift(found)
    yield Validity(
        what="drift of the floor",
        seen=f"{factor:.2f} times between the halves of the runs; {min(found):.3f} to {max(found):.3f} ms",
        limit=f"at most {WIDEST_DRIFT:g} times",
        is_valid=factor <= WIDEST_DRIFT,
        file=LATENCY,
    )


def generator(name: str, test: LoadTest) -> Iterator[Validity]:
    """The generator was not what was measured: it had its processor, and was on time; and whatever else is in doubt."""
    verdict, file = test.verdict, f"{LOAD}/{name}/load_verdict.json"
    searched = is_searched(test.load)
    if verdict.busiest:
        busiest = max(verdict.busiest)
        yield Validity(
            what=f"generator's processor, {name}",
            seen=f"{100 * busiest:.0f} %",
            # A load that grows until something gives leaves out the steps in which it was the generator.
            limit=f"any: steps above {100 * BUSY:.0f} % say nothing" if searched else f"at most {100 * BUSY:.0f} %",
            is_valid=searched or busiest <= BUSY,
            file=file,
        )
    yield Validity(
        what=f"steps begun late, {name}",
        seen=f"{verdict.late:,} of {verdict.planned:,}",
        limit=f"any: such steps say nothing of {name}" if searched else f"at most {100 * LATE_SHARE:g} %",
        is_valid=searched or verdict.late <= LATE_SHARE * verdict.planned,
        file=file,
    )
    for reason in verdict.reasons:
        yield Validity(what=f"the load test {name}", seen=reason, limit=NOTHING_LIKE_IT, is_valid=False, file=file)


def _judge(evidence: Evidence) -> Iterator[Validity]:
    """The judge notices what is wrong on purpose, and accuses nobody who is right."""
    validation = evidence.validation
    if validation is None:
        return
    file = f"{VALIDATION}/{VALIDATION_FILE}"
    for one in validation.subjects:
        # That one of ours is accused is no fault of the judge, but what it found.
        if one.subject in OURS or one.status == Status.UNDECIDED:
            continue
        within = f" within {one.within_s:g} s" if one.within_s is not None else ""
        yield Validity(
            what=f"what the judge says of {one.subject}",
            seen=f"{one.status} after {one.seconds:.1f} s",
            limit=f"{Status.VIOLATION}{within}: it is wrong on purpose" if one.should_be_caught else f"{Status.VALID}",
            is_valid=one.is_as_it_should_be,
            file=file,
        )
    harness = [one for one in validation.mutants if one.guarantee == HARNESS]
    caught = sum(one.result == CAUGHT for one in harness)
    yield Validity(
        what="broken harnesses that the judge noticed",
        seen=f"{caught} of {len(harness)}",
        limit="all, and any",
        is_valid=0 < caught == len(harness),
        file=file,
    )


def _one_tree(evidence: Evidence) -> Iterator[Validity]:
    """All parts that say of which tree they are, are of the same."""
    commits = {name: str(one.facts.get("machine", {}).get("commit", "")) for name, one in evidence.studies.items()}
    if evidence.latency is not None:
        commits[LATENCY] = str(evidence.latency.manifest.get("machine", {}).get("commit", ""))
    commits |= {f"the part {one.name}": one.commit for one in evidence.parts}
    known = sorted({commit for commit in commits.values() if commit})
    if known:
        yield Validity(
            what="the tree that was measured",
            seen=", ".join(known),
            limit="one and the same in all parts",
            is_valid=len(known) == 1,
            file="manifest.json",
        )


def _notebooks(notebooks: Sequence[NotebookRun]) -> Iterator[Validity]:
    for one in notebooks:
        reason = (one.error or "").strip().splitlines()
        yield Validity(
            what=f"the notebook {one.name}",
            seen=f"{one.cells_run} of {one.cells} cells" + (f"; {reason[0]}" if reason else ""),
            limit="all cells",
            is_valid=not reason and one.cells_run == one.cells,
            file=one.file,
        )
