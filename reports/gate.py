"""The gate of `make bench`: whether an operation became slower than the baseline has it. Reads batches, decides purely.

Absolute times are shown and never compared: ratios are, to what was timed in the same rounds. Neither of the two holds
in every state of a virtual machine. Where it sleeps deeply between packets, a wait is the largest part of all times,
and all ratios come nearer to 1; where other work keeps it awake, they go away from it. Measured for a get, idle and
busy: 1.4 and 1.7 times the floor, and 0.87 and 0.71 times redis-py. So where Kairos lies between the floor and
redis-py, as most of its operations do, a change of state moves the two ratios in opposite directions, and slower code
moves both up. Hence the rule: an operation became slower where its ratio to the floor and that to bare redis-py did.
What has only one of them (health) is shown and cannot fail: async_health was at 1.17 times on a quiet machine what it
was on a busy one.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from kairos_core.errors import ConfigurationError
from loadtests import ROOT
from loadtests.benchmarks import BENCHMARKS, GATED
from loadtests.measure import FORMAT
from reports.results import broken, missing, read_manifest, read_reports, read_samples
from reports.statistics import (
    BAND,
    BLIND,
    RUNS_TO_COMPARE,
    STATISTICS,
    Comparison,
    Injected,
    Verdict,
    band_of,
    change,
    compare,
    fires,
    injected,
    regressed,
    regressed_again,
    smallest_visible,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reports.results import Samples

BASELINE = ROOT / "reports" / "baseline.json"
# 1: p50 ratios of each run, by operation and what it is compared with.
BASELINE_FORMAT = 1
# What an operation must have become slower beside, all of it.
JUDGED = ("floor", "bare")
# Of a slowdown that was put in, so much has to be measured.
_MEASURED = 0.5
# Which of the machine's facts a ratio hangs on.
_FACTS = ("cpu", "cores", "python")
# Where the batch is that is measured when the first shows something.
SECOND = "second"


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Ratios to compare with.

    Attributes:
        format: the version of this format.
        measured: the version of the run's format.
        profile, commit, finished_at: of the run.
        machine: its facts.
        servers: theirs.
        ratios: by operation and subject the p50 of Kairos over that subject's, of each run.
    """

    format: int
    measured: int
    profile: str
    commit: str
    finished_at: str
    machine: dict[str, Any]
    servers: dict[str, str]
    ratios: dict[str, dict[str, list[float]]]

    def comparison(self, operation: str, subject: str) -> Comparison | None:
        """What the ratio was; None where it was not measured, or in too few runs to say how widely they are spread."""
        values = self.ratios.get(operation, {}).get(subject, [])
        if len(values) < RUNS_TO_COMPARE or not all(0 < value < math.inf for value in values):
            return None
        return compare(values, [1.0] * len(values))


class Batch:
    """Some fresh processes in which the same operations were timed, as their files tell it.

    Raises:
        ConfigurationError: the folder holds none, or one that another version wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.operations: list[str] = self.manifest.get("operations", [])
        if not self.operations or not set(self.operations) <= set(GATED):
            raise ConfigurationError("--run", f"{folder}: holds no run of the benchmarks that are compared")

    @cached_property
    def samples(self) -> dict[str, dict[str, list[Samples]]]:
        """Milliseconds by operation and subject, one array per run that has them."""
        return read_samples(self.folder)

    def per_run(self, operation: str, subject: str, statistic: str = "p50") -> list[float]:
        """A statistic of each run, in milliseconds."""
        return [STATISTICS[statistic](samples) for samples in self.samples[operation][subject]]

    def comparison(self, operation: str, subject: str) -> Comparison:
        """Kairos over another subject of the same rounds."""
        return compare(self.per_run(operation, "kairos"), self.per_run(operation, subject))

    @cached_property
    def problems(self) -> list[str]:
        """Why the batch cannot be trusted; empty where it can."""
        found = []
        runs, rounds = self.manifest["runs"], self.manifest["rounds"]
        for operation in self.operations:
            companions = BENCHMARKS[operation].all_companions
            lacking = missing(self.samples.get(operation, {}), operation, companions, runs, rounds)
            found.extend(lacking or self._unfair(operation) + self._unslowed(operation))
        if runs < RUNS_TO_COMPARE:
            found.append(f"{runs} runs; {RUNS_TO_COMPARE} are the fewest that can be compared")
        return found + broken(self.manifest, read_reports(self.folder) if not found else None)

    def _unfair(self, operation: str) -> list[str]:
        again = self.comparison(operation, "again")
        if not fires(again):
            return []
        return [f"{operation}: beside itself it came out at {again} times"]

    def _unslowed(self, operation: str) -> list[str]:
        """What was put in has to be there: else nothing that comes by itself would be seen either."""
        if "slowed" not in BENCHMARKS[operation].all_companions:
            return []
        found = self.put_in(operation)
        if found is None:
            return [f"{operation}: it was to be slowed on purpose, and no run says by how much"]
        if found.measured.upper >= 1 + _MEASURED * (found.injected - 1):
            return []
        return [f"{operation}: slowed on purpose, and hardly any of it was measured: {found}"]

    def put_in(self, operation: str) -> Injected | None:
        """What was seen of a slowdown of known size; None where none was put in."""
        if operation not in self.delays_ms or "slowed" not in self.samples.get(operation, {}):
            return None
        plain, slowed = self.per_run(operation, "kairos"), self.per_run(operation, "slowed")
        return injected(plain, slowed, self.delays_ms[operation])

    @cached_property
    def delays_ms(self) -> dict[str, float]:
        """What was added to each call of what was slowed, by operation."""
        found: dict[str, list[float]] = {}
        for benchmark in (one for run in read_reports(self.folder) for one in run):
            if "slowed_ns" in benchmark["extra_info"]:
                operation = benchmark["name"].removeprefix("test_")
                found.setdefault(operation, []).append(benchmark["extra_info"]["slowed_ns"] / 1e6)
        return {operation: float(np.median(delays)) for operation, delays in found.items()}

    def baseline(self) -> Baseline:
        """Its ratios, to compare later ones with."""
        return Baseline(
            format=BASELINE_FORMAT,
            measured=FORMAT,
            profile=self.manifest["profile"],
            commit=self.manifest["machine"]["commit"],
            finished_at=self.manifest["finished_at"],
            machine=self.manifest["machine"],
            servers=self.manifest["servers"],
            ratios={
                operation: {
                    subject: [
                        round(our / their, 4)
                        for our, their in zip(
                            self.per_run(operation, "kairos"), self.per_run(operation, subject), strict=True
                        )
                    ]
                    for subject in BENCHMARKS[operation].all_companions
                    if subject in JUDGED
                }
                for operation in self.operations
            },
        )


class Change(NamedTuple):
    """What became of one ratio of an operation.

    Attributes:
        operation: which.
        subject: to what.
        before: the baseline's ratio.
        now: this run's.
        band: what a change must exceed: how far the operation was from itself.
        reason: why it is slower; None where it is not shown to be.
    """

    operation: str
    subject: str
    before: Comparison
    now: Comparison
    band: float
    reason: str | None

    @property
    def changed(self) -> Comparison:
        """How many times as much it is."""
        return change(self.now, self.before)

    @property
    def visible(self) -> float:
        """How many times as long the operation would have to take to be seen in two batches, 80 times in 100.

        Where the ratio is below the baseline's, as it is in another state of the machine, it has to come up first.
        """
        return smallest_visible(self.changed, self.band, batches=2) / min(1.0, self.changed.ratio)


def changes(batch: Batch, baseline: Baseline) -> list[Change]:
    """Each ratio of the batch that the baseline has, too."""
    found = []
    for operation in batch.operations:
        band = band_of(batch.comparison(operation, "again"))
        for subject in (one for one in BENCHMARKS[operation].all_companions if one in JUDGED):
            before, now = baseline.comparison(operation, subject), batch.comparison(operation, subject)
            if before is not None:
                found.append(Change(operation, subject, before, now, band, regressed(now, before, band)))
    return found


def slower(found: Sequence[Change]) -> list[str]:
    """The operations of which both ratios became larger; what has only one changes with the machine's state, too."""
    reasons: dict[str, list[str | None]] = {}
    for one in found:
        reasons.setdefault(one.operation, []).append(one.reason)
    return [name for name, both in reasons.items() if len(both) == len(JUDGED) and all(both)]


def visible(found: Sequence[Change]) -> dict[str, float]:
    """How many times as long each operation that can fail would have to take to be seen: in both of its ratios."""
    seen: dict[str, list[float]] = {}
    for one in found:
        seen.setdefault(one.operation, []).append(one.visible)
    return {operation: max(both) for operation, both in seen.items() if len(both) == len(JUDGED)}


def blind(found: Sequence[Change]) -> list[str]:
    """The operations that might take twice as long unseen: of these nothing is said."""
    return [
        f"{operation}: less than {times_as_long:.2f} times as long would not have been seen"
        for operation, times_as_long in visible(found).items()
        if times_as_long > BLIND
    ]


def confirmed(first: Sequence[Change], second: Sequence[Change]) -> dict[str, str]:
    """The operations that are slower in both batches, and why."""
    both = set(slower(first)) & set(slower(second))
    earlier = {(one.operation, one.subject): one for one in first}
    found: dict[str, list[str]] = {}
    for one in second:
        again = earlier.get((one.operation, one.subject))
        if one.operation in both and again is not None:
            reason = regressed_again([again.now, one.now], one.before, max(one.band, again.band))
            found.setdefault(one.operation, []).append(f"over {one.subject} {reason}" if reason else "")
    return {operation: "; ".join(reasons) for operation, reasons in found.items() if all(reasons)}


def undecided(suspects: Sequence[str], second: Sequence[Change]) -> list[str]:
    """Those that the second batch measured as slower, too, and is too noisy to show."""
    again: dict[str, list[bool]] = {}
    for one in second:
        again.setdefault(one.operation, []).append(one.changed.ratio > BAND)
    return [name for name in suspects if all(again.get(name, ()))]


def unlike(first: Batch, second: Batch) -> list[str]:
    """Why a second batch is none of the first's: it must be of the same code at the same place."""

    def facts(batch: Batch) -> dict[str, Any]:
        machine = batch.manifest["machine"]
        of_machine = {name: machine.get(name) for name in (*_FACTS, "commit")}
        of_run = {name: batch.manifest[name] for name in ("profile", "runs", "rounds", "servers")}
        return of_machine | of_run

    here, there = facts(first), facts(second)
    return [
        f"{name}: {there[name]} in the second batch, {here[name]} in the first"
        for name in here
        if here[name] != there[name]
    ]


def unknown_to(batch: Batch, baseline: Baseline) -> list[str]:
    """What the batch has and the baseline has not: nothing is compared of it."""
    return [
        f"{operation}: the baseline has no ratio to {subject}; write it anew (--write-baseline)"
        for operation in batch.operations
        for subject in BENCHMARKS[operation].all_companions
        if subject in JUDGED and baseline.comparison(operation, subject) is None
    ]


def read_baseline(file: Path) -> Baseline:
    """The stored baseline.

    Raises:
        ConfigurationError: there is none, or it is of another format.
    """
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Baseline)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError("--baseline", f"{file}: {error}") from error
    if (found.format, found.measured) != (BASELINE_FORMAT, FORMAT):
        raise ConfigurationError("--baseline", f"{file}: of another format; write it anew (--write-baseline)")
    return found


def elsewhere(batch: Batch, baseline: Baseline) -> list[str]:
    """What is other here than where the baseline was measured."""
    here, there = batch.manifest["machine"], baseline.machine
    pairs = [(name, here.get(name), there.get(name)) for name in _FACTS]
    pairs.append(("store", batch.manifest["servers"].get("store"), baseline.servers.get("store")))
    return [f"{name}: {now} here, {before} of the baseline" for name, now, before in pairs if now != before]


class Judged(NamedTuple):
    """What a run of the benchmarks says.

    Attributes:
        verdict: INCONCLUSIVE, too, where an operation might have become slower unseen.
        reasons: why, a line each.
    """

    verdict: Verdict
    reasons: list[str]


def judge(first: Batch, second: Batch | None, baseline: Baseline) -> Judged:
    """The gate: pure, but for reading the batches."""
    problems = [*first.problems, *unknown_to(first, baseline)]
    if second is not None:
        problems += [*second.problems, *unlike(first, second)]
    if problems:
        return Judged(Verdict.INVALID, problems)
    found = changes(first, baseline)
    suspects = slower(found)
    if not suspects:
        return _unless_blind(found, [])
    if second is None or not set(suspects) <= set(second.operations):
        return Judged(Verdict.INVALID, [f"{name}: slower in one batch, and there is no second" for name in suspects])
    again = changes(second, baseline)
    reasons = confirmed(found, again)
    others = [name for name in suspects if name not in reasons]
    doubted = undecided(others, again)
    told = [
        f"{name}: slower in one batch, and not in the next"
        + (", which measured it as slower, too, and is too noisy to show it" if name in doubted else "")
        for name in others
    ]
    if reasons:
        return Judged(Verdict.FAIL, [*(f"{name}: {reason}" for name, reason in reasons.items()), *told])
    return Judged(Verdict.INCONCLUSIVE, told) if doubted else _unless_blind(found, told)


def _unless_blind(found: Sequence[Change], told: list[str]) -> Judged:
    unseen = blind(found)
    return Judged(Verdict.INCONCLUSIVE if unseen else Verdict.PASS, told + unseen)
