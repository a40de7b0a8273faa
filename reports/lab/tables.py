"""Tables of a notebook, made of the rows of the report: so what a notebook shows is what the page shows."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from reports.cells import guarantee_cells, target_cells
from reports.figures.style import look
from reports.tables import NOTHING, Table, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.validation import SubjectResult
    from reports.evidence import LoadTest
    from reports.findings import (
        FaultCell,
        FaultRow,
        Guarantee,
        Latency,
        Law,
        LoadRow,
        MutantRow,
        Target,
        Validity,
    )

# What was seen, in so many characters; the report has all of it.
_WIDEST = 90
_NOT_JUDGED = "not judged here"


def targets(found: Sequence[Target]) -> Table:
    """Each target with what was measured beside it."""
    return Table(
        ("verdict", "what", "measured", "95 % bounds", "target", "margin", "over it", "allowed", "calls"),
        [_target(one) for one in found],
        "over it: calls that were not within the target; allowed: how many may be, so that the percentile is within it "
        "with 95 % confidence. not judged here: this profile measures too little of it.",
    )


def _target(one: Target) -> tuple[str, ...]:
    cells = target_cells(one, _NOT_JUDGED)
    counts = (cells.over, cells.allowed, cells.calls)
    return (cells.verdict, cells.what, cells.measured, cells.bounds, cells.limit, cells.margin, *counts)


def validity(found: Sequence[Validity]) -> Table:
    """What has to be so if anything is to follow from the run."""
    return Table(
        ("as it must be", "what", "seen", "must be"),
        [(signed("PASS" if one.is_valid else "INVALID"), one.what, one.seen, one.limit) for one in found],
    )


def latencies(found: Sequence[Latency]) -> Table:
    """How long operations took, of Kairos and of what it is compared with."""
    return Table(
        (
            "operation",
            "subject",
            "p50, ms",
            "p95, ms",
            "p99, ms",
            "p50 of the runs, ms",
            "Kairos ÷ it",
            "95 % interval",
        ),
        [
            (
                one.operation,
                one.name,
                f"{one.p50:.3f}",
                f"{one.p95:.3f}",
                f"{one.p99:.3f}",
                f"{one.p50_smallest:.3f} to {one.p50_largest:.3f}",
                NOTHING if one.ratio is None else f"{one.ratio:.3f}",
                NOTHING if one.ratio_lower is None else f"{one.ratio_lower:.3f} to {one.ratio_upper:.3f}",
            )
            for one in found
        ],
        "Medians over the runs. Below 1 Kairos is the faster one. itself: the same once more, which should give 1.",
    )


def guarantees(found: Sequence[Guarantee]) -> Table:
    """Each guarantee with its evidence in numbers."""
    return Table(
        (
            "verdict",
            "guarantee",
            "what",
            "operations",
            "rounds",
            "faults",
            "violations",
            "checks held",
            "mutants caught",
        ),
        [_guarantee(one) for one in found],
        "operations: attempts in the histories that were judged for it; –: it is shown by directed checks alone.",
    )


def _guarantee(one: Guarantee) -> tuple[str, ...]:
    cells = guarantee_cells(one)
    counts = (cells.attempts, cells.rounds, cells.faults, cells.violations, cells.checks, cells.mutants)
    return (cells.verdict, cells.number, cells.text, *counts)


def subjects(found: Sequence[SubjectResult]) -> Table:
    """Who was attacked without faults, and whether the judge said of each what it should."""
    return Table(
        ("as it should be", "subject", "the judge says", "attempts", "seconds", "what contradicts what"),
        [
            (
                signed("PASS" if one.is_as_it_should_be else "FAIL"),
                f"{one.subject}, wrong on purpose" if one.should_be_caught else one.subject,
                str(one.status),
                f"{one.counts.get('attempted', 0):,}",
                f"{one.seconds:.1f}",
                shorten(one.sentence, 2 * _WIDEST, placeholder=" …") or NOTHING,
            )
            for one in found
        ],
    )


def faults(found: Sequence[FaultRow]) -> Table:
    """Each fault: how often it hit, how soon writes went on, and what was lost where the store may lose it."""
    return Table(
        ("fault", "arena", "rounds", "it hit in", "attempts", "writes again after", "lost, as the store may"),
        [
            (
                one.fault,
                one.arena,
                f"{one.rounds:,}",
                f"{one.hit:,}",
                f"{one.operations:,}",
                NOTHING if one.recovery_s is None else f"{one.recovery_s:.2f} s",
                f"{one.expected_losses:,}" if one.expected_losses else NOTHING,
            )
            for one in found
        ],
        "writes again after: from when the fault began to be undone to the next acknowledged write, the slowest round. "
        "lost: acknowledged writes of an arena in which the store may lose them; elsewhere one is a violation.",
    )


def matrix(found: Sequence[FaultCell]) -> Table:
    """Each fault by each guarantee that it puts to the test."""
    names = sorted({one.guarantee for one in found}, key=lambda name: int(name[1:]))
    cells = {(one.fault, one.guarantee): one for one in found}
    rows = []
    for fault in dict.fromkeys(one.fault for one in found):
        there = (cells.get((fault, name)) for name in names)
        rows.append((fault, *(NOTHING if one is None else signed(one.verdict.value) for one in there)))
    return Table(("fault", *names), rows)


def mutants(found: Sequence[MutantRow]) -> Table:
    """What each broken variant was noticed by; without a name the core as it is."""
    return Table(
        ("as it should be", "guarantee", "what is broken", "what looked at it", "result", "evidence"),
        [
            (
                signed("PASS" if one.is_well else "FAIL"),
                one.guarantee or NOTHING,
                f"{one.mutant}: {one.bug}" if one.mutant else "nothing: the core as it is",
                one.check.replace("_", " "),
                one.result,
                shorten(one.evidence, _WIDEST, placeholder=" …"),
            )
            for one in found
        ],
    )


def loads(found: Sequence[LoadRow]) -> Table:
    """Each load test: what it offered, what came of it."""
    return Table(
        (
            "speed",
            "histories",
            "load test",
            "steps/s, offered",
            "done",
            "p50",
            "p95",
            "p99",
            "p99.9",
            "longest, ms",
            "busiest process",
        ),
        [
            (
                signed(one.verdict.value),
                one.correctness,
                f"{one.name}, {one.seconds:.0f} s, {one.instances} instances",
                f"{one.offered_per_s:,.1f}",
                f"{one.done_per_s:,.1f}",
                *(f"{value:.2f}" for value in (one.p50_ms, one.p95_ms, one.p99_ms, one.p999_ms, one.longest_ms)),
                f"{one.busiest * 100:.0f} %",
            )
            for one in found
        ],
        "Milliseconds of turns that were answered, from when they were due. busiest process: the share of a processor "
        "that a process of the generator had.",
    )


def outcomes(found: Sequence[LoadRow]) -> Table:
    """How the steps of each load test ended, and why anything is in doubt."""
    return Table(
        ("load test", "steps", "errors", "unknown", "dropped", "conflicts", "in doubt"),
        [
            (
                one.name,
                *(f"{count:,}" for count in (one.steps, one.errors, one.unknown, one.dropped, one.conflicts)),
                "; ".join(one.reasons) or NOTHING,
            )
            for one in found
        ],
        "unknown: no answer came, so nobody can say whether it took effect. dropped: given up, since it was long due.",
    )


def outages(found: Sequence[LoadRow]) -> Table:
    """What waited while PostgreSQL was away."""
    return Table(
        ("load test", "PostgreSQL away", "most entries that waited", "oldest entry"),
        [
            (one.name, f"{one.outage_s:.1f} s", f"{one.most_waiting:,}", f"{one.longest_lag_s:.1f} s")
            for one in found
            if one.outage_s is not None
        ],
    )


def steps(found: Sequence[LoadTest]) -> Table:
    """The steps of the load tests that grow: which of them the system took."""
    return Table(
        ("outcome", "load test", "step", "steps/s, offered", "begun", "p95, ms", "generator's processor", "why"),
        [
            (
                "says nothing" if one.is_saturated else "taken" if one.is_taken else "not taken",
                test.load.name,
                f"{one.number}",
                f"{one.offered_per_s:,.0f}",
                f"{one.begun_per_s:,.0f}",
                f"{one.percentile_ms:,.2f}",
                f"{one.cpu * 100:.0f} %",
                one.why or NOTHING,
            )
            for test in found
            for one in test.verdict.knee
        ],
        "says nothing: the generator was at its own end, so what was slow may be the generator.",
    )


def laws(found: Sequence[Law]) -> Table:
    """The Universal Scalability Law of each subject, with 95 % intervals."""
    return Table(
        ("subject", "updates/s of one instance", "contention", "coherency", "most at", "note"),
        [
            (
                look(one.subject).words,
                _interval(one.one_per_s, ",.0f") if not one.note else NOTHING,
                _interval(one.contention, ".3f") if not one.note else NOTHING,
                _interval(one.coherency, ".4f") if not one.note else NOTHING,
                "not shown" if one.peak is None else f"{one.peak:.1f} instances",
                one.note or NOTHING,
            )
            for one in found
        ],
        "contention: the share of the work that only one instance can do at a time. coherency: what each pair of "
        "instances costs the other; above 0, more instances do less at some point.",
    )


def _interval(found: tuple[float, float, float], form: str) -> str:
    value, lower, upper = (format(one, form) for one in found)
    return f"{value} ({lower} to {upper})"
