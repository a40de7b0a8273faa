"""Judges stored evidence: rounds of an attack, as often as wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from loadtests import history
from loadtests.attack.rounds import read_round, round_folders
from loadtests.attack.workload import arrivals
from loadtests.history import Error, Kind
from loadtests.judging.checker import check
from loadtests.judging.counterexample import picture
from loadtests.judging.plans import not_as_planned
from loadtests.judging.verdict import Facts, Fault, Loss, Status, Verdict
from loadtests.subjects.outside import is_outside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from loadtests.attack.rounds import Round
    from loadtests.history import History


# What an attempt is answered that met neither a rival nor an absence.
_FAILURES = (Error.UNAVAILABLE, Error.OUTCOME_UNKNOWN, Error.BACKLOG_FULL, Error.DURABILITY, Error.CORRUPT, Error.OTHER)
# Of all attempts, so many may take too long on a machine that is busy with something else.
_FEW = 0.005


class RunVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a run shows: the worst of what its rounds show.

    Attributes:
        status: VALID, VIOLATION or UNDECIDED.
        rounds: the verdict on each, by its number.
        counts: of all rounds.
    """

    status: Status
    rounds: dict[int, Verdict]
    counts: dict[str, int]


def judge(folder: Path) -> RunVerdict:
    """Judge all rounds of a run, or one round by its folder; writes a `verdict.json` beside what was judged.

    Raises:
        RoundError, HistoryError: what is stored cannot be read.
    """
    rounds: dict[int, Verdict] = {}
    for path in round_folders(folder):
        found = read_round(path)
        rounds[found.number] = judge_round(path, found)
    verdict = RunVerdict(status=worst(one.status for one in rounds.values()), rounds=rounds, counts=_sum(rounds))
    if not (folder / "round.json").exists():
        _write(folder, verdict)
    return verdict


def judge_round(folder: Path, found: Round) -> Verdict:
    """Judge one round; writes its `verdict.json`, and a picture of the first violation, if there is one."""
    missing = _missing(folder, found)
    # What was not there to be seen proves nothing, in either direction: then no record is looked at.
    records, facts = history.join([]) if missing else records_of(folder), facts_of(found)
    verdict = Verdict(status=Status.UNDECIDED) if missing else check(records, facts)
    load = () if found.load is None or missing else not_as_planned(records, found.load)
    doubts = (
        *found.notes,
        *missing,
        *_unplanned(records, found),
        *load,
        *_unprovoked(records, found),
        *_unpromised(records, found),
    )
    if doubts:
        status = worst([verdict.status, Status.UNDECIDED])
        verdict = msgspec.structs.replace(verdict, status=status, reasons=(*verdict.reasons, *doubts))
    verdict = msgspec.structs.replace(verdict, not_judged=tuple(found.not_judged))
    _write(folder, verdict)
    drawing = folder / "violation.svg"
    drawing.unlink(missing_ok=True)
    if verdict.violations:
        drawing.write_text(picture(verdict.violations[0], records, facts), encoding="utf-8")
    return verdict


def worst(statuses: Iterable[Status]) -> Status:
    """What remains of several verdicts: one violation is one too many, and one doubt too."""
    found = set(statuses)
    for status in (Status.VIOLATION, Status.UNDECIDED):
        if status in found:
            return status
    return Status.VALID if found else Status.UNDECIDED


def records_of(folder: Path) -> History:
    """All records of a round, of all its processes and of the audit."""
    return history.join(map(history.read, sorted([*folder.glob("*.history"), *folder.glob("*.history.gz")])))


def facts_of(found: Round) -> Facts:
    """What the checker is told of a round beside its records."""
    instances = [process for process in found.processes if process.role == "instance"]
    planned = {
        process.number: process.attempted if process.planned is None else process.planned for process in instances
    }
    fault = found.fault
    return Facts(
        began_ns=found.begin_ns,
        session_ttl_ms=found.session_ttl_ms,
        losses=tuple(msgspec.convert(loss, Loss) for loss in found.losses),
        planned={number: count for number, count in planned.items() if count is not None},
        shared_plans=tuple(tuple(place.histories) for place in found.load.places) if found.load else (),
        killed=tuple(process.number for process in found.processes if process.was_killed),
        watchers=tuple(
            process.number for process in found.processes if process.role == "watcher" and not process.was_killed
        ),
        has_audit=found.audit is not None and found.audit.is_drained,
        faults=(Fault(name=fault.name, begin_ns=fault.begin_ns, healed_ns=fault.healed_ns),) if fault else (),
    )


def _unplanned(records: History, found: Round) -> list[str]:
    """Which instances did not attempt what was planned when it was planned: as planned again, from the seed."""
    if found.rate is None:
        return []
    doubts = []
    attempts = records[(records["kind"] < Kind.TOLD) & (records["planned_ns"] != 0)]
    for process in found.processes:
        if process.role != "instance":
            continue
        offsets = arrivals(found.seed, process.place, found.rate, found.duration_s)
        planned = np.array(offsets, np.int64) + found.begin_ns
        made = attempts[attempts["process"] == process.number]["planned_ns"]
        if process.was_killed:
            planned = planned[: len(made)]
        if not np.array_equal(made, planned):
            doubts.append(f"process {process.number} did not attempt what was planned: {len(made)} of {len(planned)}")
    return doubts


def _missing(folder: Path, found: Round) -> list[str]:
    """What evidence is not there: a process that left no history, an audit that was not written down, one clock."""
    stored = {path.name.partition(".")[0] for path in folder.glob("*.history*")}
    wanted = {str(process.number): process.role for process in found.processes if not process.was_killed}
    if found.audit is not None:
        wanted["audit"] = "the audit's"
    doubts = [f"the history {name} ({role}) is missing" for name, role in wanted.items() if name not in stored]
    if found.load is not None and len(found.load.boots) > 1:
        doubts.append(f"{len(found.load.boots)} machines took part, each with a clock of its own: no order is known")
    return doubts if wanted else ["no process took part"]


def _unprovoked(records: History, found: Round) -> list[str]:
    """That attempts failed where nothing befell the store: what is refused for no reason shows nothing."""
    if found.fault is not None:
        return []
    attempts = records[records["kind"] < Kind.TOLD]
    failed = int(np.isin(attempts["error"], _FAILURES).sum())
    if failed <= _FEW * len(attempts):
        return []
    return [f"{failed} of {len(attempts)} attempts failed, and nothing befell the store"]


def _unpromised(records: History, found: Round) -> list[str]:
    """That a subject from outside answered what it does not promise, whatever befell it: nobody knows what it did."""
    if not is_outside(found.subject):
        return []
    count = int(((records["kind"] < Kind.TOLD) & (records["error"] == Error.OTHER)).sum())
    return [f"{count} attempts were answered what no subject may answer: what they did is unknown"] if count else []


def _sum(rounds: dict[int, Verdict]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for verdict in rounds.values():
        for name, number in verdict.counts.items():
            counts[name] = counts.get(name, 0) + number
    return counts


def _write(folder: Path, verdict: Verdict | RunVerdict) -> None:
    text = msgspec.json.encode(verdict)
    (folder / "verdict.json").write_bytes(msgspec.json.format(text, indent=2))
