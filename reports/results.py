"""Results of the latency benchmarks and of the checks between instances: read, and judged."""

from __future__ import annotations

import json
import tomllib
import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from kairos_core.errors import ConfigurationError
from loadtests import ROOT, benchmarks
from loadtests.benchmarks import BENCHMARKS, IN_REPORT
from loadtests.checks import CHECKS, CheckResult
from loadtests.measure import BENCHMARK_PROFILES, DRAIN_ROUNDS, FORMAT, PROFILES
from reports.statistics import (
    FEWEST_RUNS,
    SHARES,
    STATISTICS,
    Comparison,
    Estimate,
    Tally,
    Verdict,
    compare,
    estimate,
    estimate_ratio,
    fires,
    judge_rate,
    judge_target,
    overall,
    tally,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DRAIN = benchmarks.DRAIN
DURABILITY = benchmarks.DURABILITY
# Each benchmark that a report needs, and what is timed beside it in the same rounds.
COMPANIONS = {operation: BENCHMARKS[operation].companions for operation in IN_REPORT}
OPERATIONS = tuple(operation for operation in COMPANIONS if operation not in {DRAIN, DURABILITY})
# What we compare with, in words; what is not here is called by its name.
WORDS = {
    "again": "itself",
    "bare": "bare redis-py",
    "copy": "bare COPY",
    "floor": "the same bytes on a raw socket",
    "lock": "Lock",
    "ping": "PING on a raw socket",
    "slowed": "itself, slowed on purpose",
    "watch_multi": "WATCH/MULTI",
}

# So many calls do not all take the same nanoseconds, unless the clock stands still.
_NEVER_ALIKE = 20
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error)

Samples = NDArray[np.float64]


class Judgement(NamedTuple):
    """One claim and what the run says about it.

    Attributes:
        operation: what was measured.
        statistic: mean, p50, p95 or p99; for a ratio with what it is compared.
        unit: ms, rows/s, or × for a ratio.
        measured: the estimate over runs.
        limit: what it must be below; of a rate, above.
        verdict: whether it is.
        counted: of a percentile, the calls of all runs over the limit and how many of them are allowed.
    """

    operation: str
    statistic: str
    unit: str
    measured: Estimate
    limit: float
    verdict: Verdict
    counted: Tally | None = None

    @property
    def margin(self) -> str:
        """How far below the limit (or above it), in words."""
        factor = self.measured.value / self.limit
        return f"{factor:.1f} times above" if factor >= 1 else f"{1 / factor:.1f} times below"


def words(operation: str, against: str) -> str:
    """What an operation is compared with, in words."""
    if against == "bare" and operation.startswith("async_"):
        return "bare redis.asyncio"
    return WORDS.get(against, against.replace("_", " "))


def read_samples(folder: Path) -> dict[str, dict[str, list[Samples]]]:
    """Milliseconds by operation and subject, one array per run that has them, in the order of the runs.

    A file that cannot be read, and samples that are no times, are left out: so they are missed (see `missing`).
    """
    found: dict[str, dict[str, list[Samples]]] = {}
    for file in sorted((folder / "latency").glob("run-*.npz")):
        try:
            with file.open("rb") as data, np.load(data) as arrays:
                all_of_it = {key: samples.astype(np.float64) / 1e6 for key, samples in arrays.items()}
        except _UNREADABLE:
            continue
        for key, samples in all_of_it.items():
            operation, _, subject = key.rpartition("/")
            if _are_times(samples):
                found.setdefault(operation, {}).setdefault(subject, []).append(samples)
    return found


def _are_times(samples: Samples) -> bool:
    if samples.ndim != 1 or not np.isfinite(samples).all() or not (samples > 0).all():
        return False
    return len(samples) < _NEVER_ALIKE or bool(samples.min() < samples.max())


def read_reports(folder: Path) -> list[list[dict[str, Any]]]:
    """What pytest-benchmark says of the benchmarks of each run, of all whose file can be read."""
    found = []
    for file in sorted((folder / "latency").glob("run-*.json")):
        try:
            benchmarks = json.loads(file.read_bytes())["benchmarks"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        found.append(benchmarks)
    return found


def missing(
    subjects: Mapping[str, list[Samples]], operation: str, companions: tuple[str, ...], runs: int, rounds: int
) -> list[str]:
    """What a run should have of an operation, and has not: the first such thing."""
    for subject in ("kairos", *companions):
        results = subjects.get(subject, [])
        if len(results) != runs:
            return [f"{operation}: {len(results)} of {runs} runs have a result of {subject}"]
        if any(len(samples) != rounds for samples in results):
            return [f"{operation}: a run does not have the {rounds:,} samples of {subject} that it should"]
        if rounds >= _NEVER_ALIKE and len({samples.tobytes() for samples in results}) < runs:
            return [f"{operation}: two runs have the very same samples of {subject}: one is a copy"]
    return []


def broken(manifest: Mapping[str, Any], reports: list[list[dict[str, Any]]] | None = None) -> list[str]:
    """What is wrong with a run's processes.

    Args:
        manifest: of the run.
        reports: what they left; None: that something is missing is known already.
    """
    runs, statuses = manifest["runs"], manifest["exit_statuses"]
    found = []
    if len(statuses) != runs:
        found.append(f"{len(statuses)} of {runs} benchmark processes have an exit status")
    failed = sum(status != 0 for status in statuses)
    if failed:
        found.append(f"{failed} of {runs} benchmark processes ended with an error")
    if not found and reports is not None and len(reports) != runs:
        found.append(f"{len(reports)} of {runs} benchmark processes left a result that can be read")
    return found


class _Facts(msgspec.Struct):
    """What a judge needs of a manifest."""

    profile: str
    runs: Annotated[int, msgspec.Meta(ge=1)]
    rounds: Annotated[int, msgspec.Meta(ge=1)]
    exit_statuses: list[int]


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself.

    Raises:
        ConfigurationError: the folder holds none, or one that another version wrote.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found = manifest.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError("--run", f"{folder}: holds no finished run") from error
    if found != FORMAT:
        raise ConfigurationError("--run", f"{folder}: format {found}, this version reads {FORMAT}")
    try:
        msgspec.convert(manifest, _Facts)
    except msgspec.ValidationError as error:
        raise ConfigurationError("--run", f"{folder}: its manifest is none: {error}") from error
    return manifest


class Run:
    """One run, as its files tell it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        try:
            self.checks = msgspec.json.decode((folder / "checks.json").read_bytes(), type=list[CheckResult])
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError("--run", f"{folder}: checks.json cannot be read: {error}") from error

    @cached_property
    def samples(self) -> dict[str, dict[str, list[Samples]]]:
        """Milliseconds by operation and subject, one array per run that has them."""
        return read_samples(self.folder)

    @cached_property
    def _reports(self) -> list[list[dict[str, Any]]]:
        return read_reports(self.folder)

    @cached_property
    def _drained_rows(self) -> int:
        """Rows of a drain; 0 where the runs do not say, or do not agree."""
        extra = [benchmark["extra_info"] for benchmarks in self._reports for benchmark in benchmarks]
        found = {info["rows"] for info in extra if "rows" in info}
        return max(0, found.pop()) if len(found) == 1 else 0

    def per_run(self, operation: str, subject: str, statistic: str) -> list[float]:
        """A statistic of each run, in milliseconds."""
        return [STATISTICS[statistic](samples) for samples in self.samples[operation][subject]]

    def drain_rates(self, subject: str) -> list[float]:
        """Rows a second of each run: of the drain (`kairos`, or `live` for live sessions), or of a bare COPY."""
        return [self._drained_rows * len(samples) / (samples.sum() / 1e3) for samples in self.samples[DRAIN][subject]]

    def ratio(self, operation: str, against: str, statistic: str = "p50") -> Estimate:
        """Kairos over another subject of the same rounds."""
        ours, theirs = (
            self.per_run(operation, "kairos", statistic),
            self.per_run(operation, against, statistic),
        )
        return estimate_ratio([our / their for our, their in zip(ours, theirs, strict=True)])

    def compare(self, operation: str, against: str, statistic: str = "p50") -> Comparison:
        """The same as the median of the runs, with its two-sided interval: what is shown, and what is not a target."""
        return compare(*(self.per_run(operation, subject, statistic) for subject in ("kairos", against)))

    def cost(self, level: str, statistic: str = "p50") -> Estimate:
        """An update at a level of durability over one at memory, of the same rounds."""
        ours, theirs = (self.per_run(DURABILITY, subject, statistic) for subject in (level, "kairos"))
        return estimate_ratio([our / their for our, their in zip(ours, theirs, strict=True)])

    @cached_property
    def problems(self) -> list[str]:
        """Why the run cannot be trusted; empty where it can."""
        return [*self.gaps, *(f"{name}: compared with itself it came out at {own} times" for name, own in self.unfair)]

    @cached_property
    def gaps(self) -> list[str]:
        """What it should have and has not."""
        found = [gap for operation in COMPANIONS for gap in self._missing(operation)]
        found.extend(broken(self.manifest, None if found or self.unfair else self._reports))
        missing = {check.__name__ for check in CHECKS} - {check.name for check in self.checks}
        found.extend(f"check {name}: has no result" for name in sorted(missing))
        return found if found or self.unfair else self._unjudged()

    @cached_property
    def beside_itself(self) -> dict[str, Comparison]:
        """Each operation that has all its results, over itself in the same rounds: how fair the run was."""
        whole = [name for name, beside in COMPANIONS.items() if "again" in beside and not self._missing(name)]
        return {name: self.compare(name, "again") for name in whole}

    @property
    def unfair(self) -> list[tuple[str, Comparison]]:
        """Operations that differ from themselves, and by how much."""
        return [(name, own) for name, own in self.beside_itself.items() if fires(own)]

    def _unjudged(self) -> list[str]:
        """What has a target and no verdict: it must not pass for want of one."""
        profile, wanted = self.manifest["profile"], len(self._targets)
        if profile not in {*PROFILES, *BENCHMARK_PROFILES}:
            return [f"there is no profile {profile}"]
        judged = len(self.judgements)
        return [f"{judged} of {wanted} targets could be judged"] if judged < wanted else []

    def _missing(self, operation: str) -> list[str]:
        rounds = DRAIN_ROUNDS if operation == DRAIN else self.manifest["rounds"]
        subjects, companions = self.samples.get(operation, {}), COMPANIONS[operation]
        found = missing(subjects, operation, companions, self.manifest["runs"], rounds)
        if operation == DRAIN and not found and not self._drained_rows:
            return [f"{operation}: the runs do not say how many rows they drained"]
        return found

    @cached_property
    def _all_targets(self) -> list[tuple[str, dict[str, Any]]]:
        """The targets of all profiles, each with its kind."""
        targets = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
        return [
            (kind, target) for kind in ("latency", "ratio", "difference", "rate") for target in targets.get(kind, ())
        ]

    @property
    def _targets(self) -> list[tuple[str, dict[str, Any]]]:
        """Those of its own profile."""
        return [(kind, target) for kind, target in self._all_targets if self._has(target)]

    def _has(self, target: dict[str, Any]) -> bool:
        return bool(target.get("profile", self.manifest["profile"]) == self.manifest["profile"])

    @cached_property
    def judgements(self) -> list[Judgement]:
        """Every target of its profile that the run has the data for; what is missing is among the problems."""
        return self._judged(self._targets)

    @cached_property
    def unjudged(self) -> list[Judgement]:
        """Targets of another profile, as far as there is data: to be shown, while their verdicts say nothing."""
        return self._judged([(kind, target) for kind, target in self._all_targets if not self._has(target)])

    def _judged(self, targets: list[tuple[str, dict[str, Any]]]) -> list[Judgement]:
        kinds = {"latency": self._latency, "ratio": self._ratio, "difference": self._difference, "rate": self._rate}
        found = [kinds[kind](target) for kind, target in targets]
        return [judgement for judgement in found if judgement is not None]

    def _latency(self, target: dict[str, Any]) -> Judgement | None:
        operation, statistic, limit = target["operation"], target["statistic"], target["below_ms"]
        if not self._can_judge(operation):
            return None
        measured = estimate(self.per_run(operation, "kairos", statistic))
        counted = None
        if statistic in SHARES:
            counted = tally(np.concatenate(self.samples[operation]["kairos"]), limit, SHARES[statistic])
        verdict = judge_target(measured, limit, counted)
        return Judgement(operation, statistic, "ms", measured, limit, verdict, counted)

    def _ratio(self, target: dict[str, Any]) -> Judgement | None:
        operation, statistic, limit = target["operation"], target["statistic"], target["below"]
        against = target["against"]
        if not self._can_judge(operation, against):
            return None
        measured = self.ratio(operation, against, statistic)
        name = f"{statistic} over {words(operation, against)}"
        return Judgement(operation, name, "×", measured, limit, judge_target(measured, limit))

    def _difference(self, target: dict[str, Any]) -> Judgement | None:
        operation, statistic, limit = target["operation"], target["statistic"], target["below_ms"]
        minus = target["minus"]
        if not (self._can_judge(operation) and self._can_judge(minus)):
            return None
        ours, theirs = (self.per_run(one, "kairos", statistic) for one in (operation, minus))
        if len(ours) != len(theirs):
            return None
        measured = estimate([our - their for our, their in zip(ours, theirs, strict=True)])
        name = f"{statistic} minus that of {minus}"
        return Judgement(operation, name, "ms", measured, limit, judge_target(measured, limit))

    def _rate(self, target: dict[str, Any]) -> Judgement | None:
        operation, limit = target["operation"], target["above"]
        if not self._can_judge(operation) or not self._drained_rows:
            return None
        measured = estimate(self.drain_rates("kairos"))
        return Judgement(operation, "rate", "rows/s", measured, limit, judge_rate(measured, limit))

    def _can_judge(self, operation: str, *against: str) -> bool:
        if operation not in COMPANIONS:
            raise ConfigurationError("reports/targets.toml", f"there is no operation {operation}")
        counts = {len(self.samples.get(operation, {}).get(subject, [])) for subject in ("kairos", *against)}
        return len(counts) == 1 and counts.pop() >= FEWEST_RUNS

    @property
    def verdict(self) -> Verdict:
        """The verdict of the whole run."""
        if self.problems:
            return Verdict.INVALID
        checks = [Verdict.PASS if check.passed else Verdict.FAIL for check in self.checks]
        return overall([judgement.verdict for judgement in self.judgements] + checks)
