"""A whole run's folder that nobody measured, in about a second: what a sound system would have left behind.

Made of the structs that the measuring itself writes, and judged by the judges themselves where they are quick. What is
to be wrong with it, its arguments say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from loadtests.attack.rounds import ProcessFacts, write_round
from loadtests.benchmarks import DRAIN, DURABILITY
from loadtests.checks import CheckResult
from loadtests.history import write
from loadtests.judging.judge import judge_round
from loadtests.judging.story import Story, history_of
from loadtests.judging.verdict import Status, Verdict
from loadtests.measure import DRAIN_ROUNDS, FORMAT, PROFILES
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT, GREEN, RED, SURVIVED, Caught
from loadtests.validation import RoundResult, SubjectResult, Validation
from reports.findings import Coverage, PartRun
from reports.results import COMPANIONS
from tests.made_load_folder import write_capacity, write_outage
from tests.made_round import made_round
from tests.made_studies import FINISHED, STARTED, write_studies

if TYPE_CHECKING:
    from pathlib import Path


RUNS = 10
COMMIT = "abc1234"
ROWS = 4_000
# Milliseconds of a typical call, by operation; Kairos' own.
_TYPICAL_MS = {"get_session": 0.20, "update_session": 0.24, "delivery": 0.40}
_ANY_MS = 0.25
# How many times as long the others take.
_TIMES = {"floor": 0.6, "bare": 1.5, "again": 1.0, "slowed": 1.05, "watch_multi": 4.0, "lock": 8.0, "fsync": 4.0}
_TIMES |= {"replicated": 1.5, "copy": 0.8, "live": 1.1, "live_copy": 0.9, "ping": 0.5, "check_then_set": 2.0}
_CHECKS = {
    "created_is_read": "G2",
    "updated_is_seen": "G2",
    "update_is_delivered": "G8",
    "stale_is_refused": "G1",
    "nothing_is_lost": "G1",
    "everything_is_recorded": "G7",
}
# Rounds of a quick validation: arena, subject, fault, whether acknowledged writes may be lost.
ROUNDS = (
    ("fsync", "kairos", "worker stopped", False),
    ("fsync", "kairos", "Valkey killed", False),
    ("fsync", "kairos_async", "replies dropped", False),
    ("memory", "kairos", "Valkey killed", True),
    ("memory", "kairos", "PostgreSQL killed", False),
    ("sentinel", "kairos", "failover", True),
    ("cluster", "kairos", "failover in the cluster", True),
    ("calm", "kairos", "", False),
    ("calm, short-lived", "kairos", "", False),
)
COUNTS = {
    "records": 1_800,
    "sessions": 64,
    "attempted": 1_000,
    "acknowledged": 850,
    "refused": 147,
    "unknown": 3,
    "writes acknowledged": 400,
    "reads": 450,
    "notifications": 400,
    "audit rows": 400,
    "processes": 5,
    "lost (expected)": 0,
    "adopted": 2,
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What is to be special about a run.

    Attributes:
        profile: quick or full.
        slow: an operation every call of which takes a second; empty: none.
        itself: one that differs from itself by a fifth, so that the run is INVALID.
        drift: how many times as long the last run took as the first one, of everything.
        has_violation: whether a round found one.
        survived: a mutant that nobody noticed.
        red: a directed check that is red on the unbroken core.
        without: parts that are missing: `latency`, `validation`, `load/capacity`, `load/audit_outage`, `studies`.
        coverage_of: of which commit the coverage is; empty: there is none.
        is_dropping: whether the outage made steps be given up: the load test misses what was asked for.
        is_busy: whether the generator of audit_outage had too little of the processors.
    """

    profile: str = "quick"
    slow: str = ""
    itself: str = ""
    drift: float = 1.05
    has_violation: bool = False
    survived: str = ""
    red: str = ""
    without: tuple[str, ...] = ()
    coverage_of: str = COMMIT
    is_dropping: bool = False
    is_busy: bool = False


def made_run(folder: Path, **wanted: Any) -> Path:
    """Write a run's folder (see `Made` for what can be wanted), and return it."""
    facts = Made(**wanted)
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {
        "latency": _write_latency,
        "validation": _write_validation,
        "load/capacity": lambda folder, _: write_capacity(folder),
        "load/audit_outage": _write_outage,
        "studies": lambda folder, facts: write_studies(folder, facts.profile),
    }
    runs = []
    for name, write_part in parts.items():
        if name not in facts.without:
            write_part(folder / name if name != "latency" else folder, facts)
            runs.append(PartRun(name=name, command=f"python -m made {name}", status=0, seconds=10.0))
    (folder / "parts.json").write_bytes(msgspec.json.encode(runs))
    if facts.coverage_of:
        (folder / "coverage.json").write_bytes(msgspec.json.encode(coverage(facts.coverage_of)))
    return folder


def coverage(commit: str = COMMIT, **changes: Any) -> Coverage:
    """That of a core whose tests reach nearly all of it."""
    facts: dict[str, Any] = {
        "commit": commit,
        "is_of_this": commit == COMMIT,
        "all_percent": 97.0,
        "managers_percent": 98.0,
        "audit_percent": 96.0,
        "lines": 4_000,
        "missing": 120,
        "files": {"kairos_core/manager.py": 98.0},
        "file": "coverage.json",
    }
    return Coverage(**(facts | changes))


def _write_latency(folder: Path, facts: Made) -> None:
    (folder / "latency").mkdir(parents=True)
    chance = np.random.default_rng(7)
    rounds = PROFILES[facts.profile].rounds
    for number in range(1, RUNS + 1):
        pace = facts.drift ** ((number - 1) / (RUNS - 1))
        arrays = {
            f"{operation}/{subject}": _samples_ns(chance, facts, operation, subject, rounds, pace)
            for operation, companions in COMPANIONS.items()
            for subject in ("kairos", *companions)
        }
        np.savez(folder / "latency" / f"run-{number:02d}.npz", **arrays)  # type: ignore[arg-type]  # typed as flags
        benchmarks = [
            {"name": f"test_{operation}", "extra_info": {"rows": ROWS} if operation == DRAIN else {}}
            for operation in COMPANIONS
        ]
        (folder / "latency" / f"run-{number:02d}.json").write_text(json.dumps({"benchmarks": benchmarks}))
    (folder / "checks.json").write_bytes(msgspec.json.encode(_checks()))
    (folder / "manifest.json").write_text(json.dumps(_manifest(facts, rounds)))


def _samples_ns(
    chance: np.random.Generator, facts: Made, operation: str, subject: str, rounds: int, pace: float
) -> np.ndarray[Any, np.dtype[np.int64]]:
    if operation == DRAIN:
        # 20,000 rows a second.
        return np.rint(200e6 * _TIMES.get(subject, 1.0) * pace * chance.uniform(0.99, 1.01, DRAIN_ROUNDS)).astype(int)
    middle_ms = _TYPICAL_MS.get(operation, _ANY_MS) * _TIMES.get(subject, 1.0) * pace
    if operation == facts.itself and subject == "again":
        middle_ms *= 1.2
    if operation == facts.slow and operation != DURABILITY:
        middle_ms += 1_000
    return np.rint(1e6 * middle_ms * chance.lognormal(0.0, 0.12, rounds)).astype(int)


def _checks() -> list[CheckResult]:
    return [
        CheckResult(
            name=name,
            guarantee=guarantee,
            question=f"Does {name.replace('_', ' ')} hold?",
            passed=True,
            evidence="2,000 of 2,000 were as they should be",
            duration_s=0.3,
        )
        for name, guarantee in _CHECKS.items()
    ]


def _manifest(facts: Made, rounds: int) -> dict[str, Any]:
    machine = {
        "cpu": "a processor",
        "cores": 2,
        "system": "Linux 6.1",
        "python": "CPython 3.11",
        "packages": {"kairos": "0.1.0", "redis": "8.1.0"},
        "commit": COMMIT,
        "load_average_before": [0.5, 0.5, 0.5],
    }
    return {
        "format": FORMAT,
        "profile": facts.profile,
        "runs": RUNS,
        "rounds": rounds,
        "operations": list(COMPANIONS),
        "exit_statuses": [0] * RUNS,
        "started_at": STARTED,
        "finished_at": FINISHED,
        "servers_given": False,
        "machine": machine,
        "servers": {"store": "Valkey 9.1.2", "store persistence": "AOF off", "audit": "PostgreSQL 18.6"},
        "load_average_after": [1.0, 1.0, 1.0],
    }


def _write_validation(folder: Path, facts: Made) -> None:
    wrong = _write_subject(folder / "subjects" / "check_then_set")
    names = ("kairos", "kairos_async", "check_then_set", "watch_multi", "lock")
    for name in names:
        (folder / "subjects" / name).mkdir(exist_ok=True)
    subjects = [
        SubjectResult(
            subject=name,
            status=Status.VIOLATION if name == "check_then_set" else Status.VALID,
            should_be_caught=name == "check_then_set",
            seconds=2.0,
            within_s=5.0 if name == "check_then_set" else None,
            counts={**COUNTS, **wrong.counts} if name == "check_then_set" else COUNTS,
            sentence=wrong.violations[0].sentence if name == "check_then_set" else "",
        )
        for name in names
    ]
    rounds = _rounds(facts)
    for one in rounds:
        _write_verdict(folder / "rounds" / f"{one.number:03d}", one)
    for attacked in subjects:
        _write_verdict(folder / "subjects" / attacked.subject / "rounds" / "001", attacked)
    found = Validation(
        profile=facts.profile,
        seed=1,
        attempts_at_least=1_000,
        subjects=subjects,
        rounds=rounds,
        mutants=_mutants(facts),
        mutants_status=int(bool(facts.survived or facts.red)),
        seconds=120.0,
    )
    found.write(folder)


def _write_verdict(folder: Path, one: RoundResult | SubjectResult) -> None:
    """The judge's own, beside what it judged; where it was judged in earnest, with what it found."""
    path = folder / "verdict.json"
    folder.mkdir(parents=True, exist_ok=True)
    known = msgspec.json.decode(path.read_bytes(), type=Verdict) if path.exists() else Verdict(status=one.status)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, status=one.status, counts=one.counts)))


def _rounds(facts: Made) -> list[RoundResult]:
    found = [
        RoundResult(
            number=number,
            arena=arena,
            subject=subject,
            seed=number,
            fault=fault,
            exercised=True,
            proof="11 in flight, 5 failed or unknown" if fault else "",
            status=Status.VALID,
            counts={**COUNTS, "lost (expected)": 7} if may_lose else dict(COUNTS),
            losses_allowed=may_lose,
            sentences=[],
            seconds=3.5,
            recovery_s=0.1 * number if fault else None,
        )
        for number, (arena, subject, fault, may_lose) in enumerate(ROUNDS, 1)
    ]
    if facts.has_violation:
        found[1].status = Status.VIOLATION
        found[1].counts["violations: lost"] = 3
        found[1].sentences = ["lost: 3 acknowledged writes are not there."]
    return found


def _mutants(facts: Made) -> list[Caught]:
    checks = sorted({mutant.catcher for mutant in MUTANTS.values()})
    rows = [("", "", "", check) for check in checks]
    rows += [(one.name, one.guarantee, one.bug, one.catcher) for one in MUTANTS.values()]
    return [
        Caught(
            mutant=name,
            guarantee=guarantee,
            bug=bug,
            check=check,
            result=_result(facts, name, check),
            attempts=1,
            seconds=0.5,
            evidence="seen: 1 of 1",
        )
        for name, guarantee, bug, check in rows
    ]


def _result(facts: Made, name: str, check: str) -> str:
    if name:
        return SURVIVED if name == facts.survived else CAUGHT
    return RED if check == facts.red else GREEN


def _write_subject(folder: Path) -> Verdict:
    """A round of two writers who made the same version, judged and drawn."""
    story = Story()
    first = story.create(1, 2, process=65)
    second = story.update(3, 6, (1, 1), process=65)
    story.update(4, 5, (1, 1), process=66)
    story.get(3.5, 3.9, (1, 1), first, process=67)
    story.get(7, 8, (1, 2), second, process=67)
    records = history_of(story.records)
    readers = [ProcessFacts(number=number, role="reader", place=1) for number in (65, 66, 67)]
    found = made_round(subject="check_then_set", processes=readers)
    of_it = folder / "rounds" / "001"
    of_it.mkdir(parents=True)
    write_round(of_it, found)
    for process in found.processes:
        write(of_it / f"{process.number}.history.gz", records[records["process"] == process.number], process.number)
    return judge_round(of_it, found)


def _write_outage(folder: Path, facts: Made) -> None:
    write_outage(folder, facts.profile, is_dropping=facts.is_dropping, is_busy=facts.is_busy)
