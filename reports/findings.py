"""What a report says, as data: `report.json`, which the page and the summary are made of and nothing else is.

Every number on the page stands here, so that a program reads what people read. Files are named relative to the run's
folder. Nothing here measures or decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core.errors import ConfigurationError
from loadtests.whole import write_whole
from reports.statistics import Verdict  # noqa: TC001 - msgspec reads it when it decodes

if TYPE_CHECKING:
    from pathlib import Path

# 1: the first.
FORMAT = 1
NAME = "report.json"
# What is made of it for people, beside it.
PAGE, SUMMARY = "report.html", "summary.md"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A limit, and what was measured beside it.

    Attributes:
        source: what it was measured by: `latency`, `load`, `study` or `coverage`.
        what: what was measured, in words: `update_session p95`, `useful writes a second over WATCH/MULTI, 8 writers`.
        unit: ms, ×, rows/s, /s, %.
        value: the estimate; None: nothing was measured.
        lower, upper: its bounds, each of 95 % or both of them together (see `interval`); None: it has none.
        interval: what kind of interval that is: `one-sided bounds over runs`, `over blocks of time`, empty: none.
        is_below: whether it must be below the limit; else above.
        limit: that.
        calls: how many there were, of a percentile; None: it is none.
        over: how many of them were not within the limit; None likewise.
        allowed: how many may be; None: it is no percentile, or there are too few calls to tell.
        verdict: PASS, FAIL or INCONCLUSIVE; None: this profile measures too little of it, so that it is shown and not
            judged.
        file: where the raw data of it is.
        note: what a reader must know, or why the verdict is what it is.
    """

    source: str
    what: str
    unit: str
    value: float | None
    limit: float
    is_below: bool
    verdict: Verdict | None
    file: str
    lower: float | None = None
    upper: float | None = None
    interval: str = ""
    calls: int | None = None
    over: int | None = None
    allowed: int | None = None
    note: str = ""

    @property
    def margin(self) -> str:
        """How far on the right or the wrong side of the limit, in words."""
        if not self.value or not self.limit:
            return "–"
        factor = self.value / self.limit
        if factor < 0:
            # A difference, of which the smaller was the slower one: there is no number of times to that.
            return "below 0"
        return f"{factor:.1f} times above" if factor >= 1 else f"{1 / factor:.1f} times below"


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """One of the guarantees, with its evidence in numbers.

    Attributes:
        number: `G1` to `G14`.
        text: what is guaranteed, in a sentence.
        verdict: PASS: it held in all that was done to it; FAIL: it did not, or what is to notice that did not;
            INCONCLUSIVE: too little was shown.
        operations: attempts in the histories that were judged for it, 0 where it is shown by directed checks alone.
        rounds: in so many rounds.
        faults: rounds among them in which a fault hit.
        violations: of it that were found, on the core as it is.
        checks, checks_held: directed checks that bear on it, and how many of them held on the core as it is.
        mutants, mutants_caught: broken variants of it, and how many of them were noticed.
        sentences: what was seen, in sentences with numbers: of each check its evidence.
        file: where the evidence is.
    """

    number: str
    text: str
    verdict: Verdict
    file: str
    operations: int = 0
    rounds: int = 0
    faults: int = 0
    violations: int = 0
    checks: int = 0
    checks_held: int = 0
    mutants: int = 0
    mutants_caught: int = 0
    sentences: list[str] = []


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has to be so if the run is to say anything.

    Attributes:
        what: in words: `get_session beside itself`, `generator's processor, audit_outage`, `drift of the floor`.
        seen: what was seen, with its unit.
        limit: how it has to be, likewise.
        is_valid: whether it is.
        file: where it is to be seen.
    """

    what: str
    seen: str
    limit: str
    is_valid: bool
    file: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long an operation took, of one subject: medians over runs, in milliseconds; of a rival likewise.

    Attributes:
        operation: what was timed.
        subject: `kairos`, or what is compared with it.
        name: the subject in words.
        p50, p95, p99: medians over the runs.
        p50_smallest, p50_largest: of the runs.
        ratio: Kairos' p50 over this subject's, the median over runs; None of Kairos itself.
        ratio_lower, ratio_upper: its two-sided 95 % interval; None: too few runs.
        file: where the raw data of it is.
    """

    operation: str
    subject: str
    name: str
    p50: float
    p95: float
    p99: float
    p50_smallest: float
    p50_largest: float
    file: str
    ratio: float | None = None
    ratio_lower: float | None = None
    ratio_upper: float | None = None


class FaultCell(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault did to a guarantee.

    Attributes:
        fault: its name.
        guarantee: `G1` ….
        verdict: PASS: it held in each round in which the fault hit; FAIL: it did not; INCONCLUSIVE: the fault did not
            hit, or it could not be told.
        rounds: in how many rounds the fault hit.
        operations: attempts in them.
    """

    fault: str
    guarantee: str
    verdict: Verdict
    rounds: int
    operations: int


class FaultRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in an arena: how often it hit, and what that cost.

    Attributes:
        fault, arena: which.
        rounds, hit: how many rounds there were, and in how many it hit.
        operations: attempts in them.
        recovery_s: the slowest return of writes after its end; None: none was seen.
        expected_losses: acknowledged writes that are gone where the store may lose them.
        file: a folder of one of the rounds.
    """

    fault: str
    arena: str
    rounds: int
    hit: int
    operations: int
    recovery_s: float | None
    expected_losses: int
    file: str


class MutantRow(msgspec.Struct, frozen=True, kw_only=True):
    """A broken variant and what noticed it; without a name the core as it is, where the check must be green."""

    mutant: str
    guarantee: str
    bug: str
    check: str
    result: str
    attempts: int
    seconds: float
    evidence: str
    is_well: bool


class Counterexample(msgspec.Struct, frozen=True, kw_only=True):
    """A violation of the subject that is wrong on purpose: so that a reader sees what one looks like.

    Attributes:
        subject: `check_then_set`.
        sentence: what contradicts what.
        violations: how many there were in all.
        lost: how many acknowledged writes it lost.
        operations: attempts.
        picture: the file of the picture.
        file: the verdict.
    """

    subject: str
    sentence: str
    violations: int
    lost: int
    operations: int
    picture: str
    file: str


class LoadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A load test: what it offered, what came of it.

    Attributes:
        name: of the scenario.
        about: what it is, in a sentence.
        verdict: on its speed.
        correctness: VALID, VIOLATION or UNDECIDED.
        reasons: why nothing follows from it, or what is in doubt.
        seconds: how long it lasted.
        instances: processes.
        offered_per_s, done_per_s: steps in the time that is judged.
        p50_ms, p95_ms, p99_ms, p999_ms, longest_ms: of turns that were answered, from when they were due.
        steps, errors, unknown, dropped, conflicts: in all.
        busiest: the highest share of a processor that a process of the generator had.
        outage_s: for how long PostgreSQL was away; None: it was not.
        most_waiting: entries in the outboxes, at the most.
        longest_lag_s: the age of the oldest, at the most.
        file: of what was counted.
    """

    name: str
    about: str
    verdict: Verdict
    correctness: str
    reasons: list[str]
    seconds: float
    instances: int
    offered_per_s: float
    done_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    longest_ms: float
    steps: int
    errors: int
    unknown: int
    dropped: int
    conflicts: int
    busiest: float
    outage_s: float | None
    most_waiting: int
    longest_lag_s: float
    file: str


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """The Universal Scalability Law, fitted to a subject of the study `instances`; each with its 95 % interval.

    Attributes:
        subject: whose.
        one_per_s: updates a second of one instance: value, lower, upper.
        contention, coherency: likewise.
        peak: instances beyond which more do less; None: not shown.
        note: why there is no fit; then the rest is 0.
        file: of the points.
    """

    subject: str
    one_per_s: tuple[float, float, float]
    contention: tuple[float, float, float]
    coherency: tuple[float, float, float]
    peak: float | None
    file: str
    note: str = ""


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the core the tests reach, lines and branches together.

    Attributes:
        commit: of which tree.
        is_of_this: whether the core is what it was then, to the byte.
        all_percent, managers_percent, audit_percent: shares in %, of the whole core, of the state managers with what
            they call, and of the audit.
        lines, missing: of the core.
        files: share in % by file.
        file: where it is from.
    """

    commit: str
    is_of_this: bool
    all_percent: float
    managers_percent: float
    audit_percent: float
    lines: int
    missing: int
    files: dict[str, float]
    file: str


class PartRun(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the measuring: `latency`, `validation`, `load/capacity`, `studies`.

    Attributes:
        name: its name.
        command: what was run, as one types it.
        status: its exit status; None: it was not run.
        seconds: it took.
        left_out: why it was not run, though the profile has it; empty: it was.
        tail: the last lines that it said, where it ended without a result.
        commit: of the tree that measured it; empty: nobody noted it.
    """

    name: str
    command: str
    status: int | None = None
    seconds: float = 0.0
    left_out: str = ""
    tail: list[str] = []
    commit: str = ""


class NotebookRun(msgspec.Struct, frozen=True, kw_only=True):
    """An executed notebook.

    Attributes:
        name: `01_latency`.
        question: what it answers: its first heading.
        seconds: it took.
        cells, cells_run: code cells, and how many of them ended well.
        error: what ended it early, with the traceback; None: nothing did.
        file: the executed notebook.
    """

    name: str
    question: str
    seconds: float
    cells: int
    cells_run: int
    error: str | None
    file: str

    @property
    def page(self) -> str:
        """The same, for a browser."""
        return f"{self.file.removesuffix('.ipynb')}.html"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report.

    Attributes:
        format: of this file.
        verdict: of all of it.
        headline: what came of it, in a sentence of plain words; the page's first line.
        reasons: why the verdict is no PASS, the most important first; empty of a PASS.
        profile: quick or full.
        command: what reproduces it.
        made_at, started_at, finished_at: ISO 8601 in UTC: of this report, and of the measuring.
        commit: of the tree that was measured.
        targets, guarantees, validity: in the order in which they are shown.
        latencies: of all operations, Kairos first and its rivals behind it.
        faults, fault_cells, mutants, loads, laws: likewise.
        counterexample, coverage: None where there is none.
        environment: the machine and the servers: name and fact.
        notes: what a reader has to know: what was left out and why.
        parts, notebooks: what was run.
    """

    format: int = FORMAT
    verdict: Verdict
    headline: str
    reasons: list[str]
    profile: str
    command: str
    made_at: str
    started_at: str
    finished_at: str
    commit: str
    targets: list[Target] = []
    guarantees: list[Guarantee] = []
    validity: list[Validity] = []
    latencies: list[Latency] = []
    faults: list[FaultRow] = []
    fault_cells: list[FaultCell] = []
    mutants: list[MutantRow] = []
    loads: list[LoadRow] = []
    laws: list[Law] = []
    counterexample: Counterexample | None = None
    coverage: Coverage | None = None
    environment: list[tuple[str, str]] = []
    notes: list[str] = []
    parts: list[PartRun] = []
    notebooks: list[NotebookRun] = []


def write_report(folder: Path, report: Report) -> None:
    """Write `report.json`: all of it, or nothing."""
    write_whole(folder / NAME, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read_report(folder: Path) -> Report:
    """Read it.

    Raises:
        ConfigurationError: there is none, or one of another format.
    """
    try:
        data = (folder / NAME).read_bytes()
        found: Any = msgspec.json.decode(data)
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise ConfigurationError("--run", f"{folder}: a report of format {version}, this version reads {FORMAT}")
        return msgspec.json.decode(data, type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError("--run", f"{folder}: {NAME} cannot be read: {error}") from error
