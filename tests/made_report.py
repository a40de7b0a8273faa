"""A report with something of everything, made by hand: for tests of what is made of a report."""

from __future__ import annotations

from reports.figures.style import Picture
from reports.findings import (
    Counterexample,
    Coverage,
    FaultCell,
    FaultRow,
    Guarantee,
    Latency,
    Law,
    LoadRow,
    MutantRow,
    NotebookRun,
    PartRun,
    Report,
    Target,
    Validity,
)
from reports.statistics import Verdict

_TEXTS = {
    "G1": "Of any number of rivals one wins, the rest learn the stored version.",
    "G2": "What was answered is what every other instance reads next.",
    "G7": "Every acknowledged write is exactly one row, or a dead letter with the reason.",
    "G11": "An acknowledged write is as safe as was asked for, or the error says that it is not.",
}
_FAULTS = ("store killed", "worker stopped", "connections cut")
_VALIDATION = "validation/validation.json"


def made_report(**changed: object) -> Report:
    """A report in which all is well, but for one target that is not judged.

    Args:
        changed: fields that are to be otherwise.
    """
    facts: dict[str, object] = {
        "verdict": Verdict.PASS,
        "headline": "All 4 targets that are judged are met and all 4 guarantees held, through 3 faults and 4 mutants.",
        "reasons": [],
        "profile": "quick",
        "command": "make report PROFILE=quick",
        "made_at": "2026-03-01T12:09:10+00:00",
        "started_at": "2026-03-01T12:00:00+00:00",
        "finished_at": "2026-03-01T12:08:59+00:00",
        "commit": "0123abc",
        "targets": _targets(),
        "guarantees": _guarantees(),
        "validity": _validity(),
        "latencies": _latencies(),
        "faults": _faults(),
        "fault_cells": _fault_cells(),
        "mutants": _mutants(),
        "loads": [_load()],
        "laws": _laws(),
        "counterexample": _counterexample(),
        "coverage": _coverage(),
        "environment": [
            ("machine", "AMD EPYC, 2 cores, Linux 6.18"),
            ("store", "Valkey 9.1.2"),
            ("audit", "PostgreSQL 18.6"),
        ],
        "notes": ["The load tests' ratios are shown and not judged: full does."],
        "parts": _parts(),
        "notebooks": _notebooks(),
    }
    return Report(**{**facts, **changed})  # type: ignore[arg-type]


def made_pictures() -> dict[str, list[Picture]]:
    """Two pictures, as alike as those of matplotlib: the same ids, rules for all around them, and a clip."""
    svg = (
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="460pt" height="300pt" viewBox="0 0 460 300" '
        'xmlns="http://www.w3.org/2000/svg" version="1.1"><metadata>by whom</metadata>'
        '<defs><style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style></defs>'
        '<g id="figure_1"><defs><path id="m1" d="M0 0h3"/></defs><use xlink:href="#m1" x="9"/>'
        '<g clip-path="url(#c1)"><path d="M10 250L440 40" stroke="#0072B2" fill="none"/></g>'
        '<clipPath id="c1"><rect width="460" height="300"/></clipPath>'
        '<text x="10" y="20" fill="currentColor">p95 in ms</text></g></svg>'
    )
    return {
        "latency": [
            Picture(
                svg,
                "Percentile spectrum",
                'A curve that rises, under a "step"',
                "The step is the target.",
                "latency/run-01.npz",
            ),
            Picture(svg, "Percentile spectrum of deliveries", "A curve that rises", "Likewise."),
        ],
        "violation": [Picture(svg, "Two writes of one version", "Two boxes in red", "", "validation/validation.json")],
    }


def _validity() -> list[Validity]:
    return [
        Validity(
            what="get_session beside itself",
            seen="1.004 (0.991 to 1.017)",
            limit="within 2.5 % of 1",
            is_valid=True,
            file="latency/run-01.json",
        ),
        Validity(
            what="generator's processor, audit_outage",
            seen="41 %",
            limit="< 70 %",
            is_valid=True,
            file="load/audit_outage/load_verdict.json",
        ),
    ]


def _faults() -> list[FaultRow]:
    return [
        FaultRow(
            fault=fault,
            arena=arena,
            rounds=3,
            hit=3 - number,
            operations=41_234 + number,
            recovery_s=None if number else 0.0834,
            expected_losses=517 * number,
            file=f"validation/rounds/{number + 1:03d}",
        )
        for number, (fault, arena) in enumerate(zip(_FAULTS, ("fsync", "memory", "cluster"), strict=True))
    ]


def _fault_cells() -> list[FaultCell]:
    return [
        FaultCell(fault=fault, guarantee=name, verdict=Verdict.PASS, rounds=3, operations=41_234)
        for fault in _FAULTS
        for name in ("G2", "G7", "G11")
        if (fault, name) != ("worker stopped", "G11")
    ]


def _laws() -> list[Law]:
    return [
        Law(
            subject="kairos",
            one_per_s=(3_456.7, 3_301.2, 3_598.9),
            contention=(0.1234, 0.1012, 0.1456),
            coherency=(0.00321, 0.00111, 0.00555),
            peak=16.53,
            file="studies/instances.json",
        ),
        Law(
            subject="bare",
            one_per_s=(0, 0, 0),
            contention=(0, 0, 0),
            coherency=(0, 0, 0),
            peak=None,
            file="studies/instances.json",
            note="too few points",
        ),
    ]


def _counterexample() -> Counterexample:
    return Counterexample(
        subject="check_then_set",
        sentence="Both made the same version: p66 update of session 1, from (…, v8) to (…, v9) by 66.54, ok",
        violations=1_213,
        lost=1_209,
        operations=9_876,
        picture="validation/subjects/check_then_set/rounds/001/violation.svg",
        file="validation/subjects/check_then_set/rounds/001/verdict.json",
    )


def _coverage() -> Coverage:
    return Coverage(
        commit="0123abc",
        is_of_this=True,
        all_percent=94.36,
        managers_percent=96.18,
        audit_percent=91.47,
        lines=6_543,
        missing=369,
        files={"kairos_core/state.py": 98.76, "kairos_core/audit/drain.py": 87.65},
        file="coverage.json",
    )


def _parts() -> list[PartRun]:
    return [
        PartRun(name="latency", command="python -m loadtests.measure", status=0, seconds=114.2),
        PartRun(
            name="load/audit_outage", command="python -m loadtests.load run audit_outage", left_out="servers given"
        ),
    ]


def _notebooks() -> list[NotebookRun]:
    return [
        NotebookRun(
            name="01_latency",
            question="Are the targets met?",
            seconds=7.89,
            cells=9,
            cells_run=9,
            error=None,
            file="notebooks/01_latency.ipynb",
        )
    ]


def _targets() -> list[Target]:
    return [
        Target(
            source="latency",
            what="update_session p95",
            unit="ms",
            value=0.29876,
            lower=0.28123,
            upper=0.31987,
            interval="one-sided bounds over runs",
            limit=10.0,
            is_below=True,
            calls=3_000,
            over=1,
            allowed=130,
            verdict=Verdict.PASS,
            file="latency/run-01.json",
        ),
        Target(
            source="latency",
            what="drain",
            unit="rows/s",
            value=23_456.7,
            lower=21_111.1,
            upper=25_555.5,
            limit=12_000,
            is_below=False,
            verdict=Verdict.PASS,
            file="latency/run-01.json",
        ),
        Target(
            source="latency",
            what="get_session p50 over bare",
            unit="×",
            value=0.6543,
            lower=0.6321,
            upper=0.6789,
            limit=0.8,
            is_below=True,
            verdict=Verdict.PASS,
            file="latency/run-01.json",
        ),
        Target(
            source="coverage",
            what="coverage of the core",
            unit="%",
            value=94.36,
            limit=80,
            is_below=False,
            verdict=Verdict.PASS,
            file="coverage.json",
        ),
        Target(
            source="study",
            what="useful writes a second over WATCH/MULTI, 8 writers",
            unit="×",
            value=4.321,
            lower=3.987,
            upper=4.765,
            limit=3,
            is_below=False,
            verdict=None,
            file="studies/contention.json",
            note="not judged here: full does",
        ),
    ]


def _guarantees() -> list[Guarantee]:
    return [
        Guarantee(
            number=number,
            text=text,
            verdict=Verdict.PASS,
            file=_VALIDATION,
            operations=123_456 + place,
            rounds=12 + place,
            faults=10 + place,
            checks=3 + place,
            checks_held=3 + place,
            mutants=7 + place,
            mutants_caught=7 + place,
            sentences=[f"{2_000 + place:,} increments, none lost"],
        )
        for place, (number, text) in enumerate(_TEXTS.items())
    ]


def _latencies() -> list[Latency]:
    return [
        Latency(
            operation=operation,
            subject=subject,
            name=name,
            p50=0.1837 * factor,
            p95=0.2519 * factor,
            p99=0.4381 * factor,
            p50_smallest=0.1713 * factor,
            p50_largest=0.2071 * factor,
            file="latency/run-01.json",
            ratio=None if subject == "kairos" else 1 / factor,
            ratio_lower=None if subject == "kairos" else 0.97 / factor,
            ratio_upper=None if subject == "kairos" else 1.03 / factor,
        )
        for operation in ("get_session", "update_session")
        for subject, name, factor in (
            ("kairos", "Kairos", 1.0),
            ("floor", "same bytes, raw socket", 0.4),
            ("bare", "bare redis-py", 1.5),
            ("again", "itself (A/A)", 1.001),
        )
    ]


def _mutants() -> list[MutantRow]:
    return [
        MutantRow(
            mutant=mutant,
            guarantee=guarantee,
            bug=bug,
            check="history",
            result=result,
            attempts=attempts,
            seconds=1.234 + attempts,
            evidence=f"{attempts} attempts in",
            is_well=True,
        )
        for attempts, (mutant, guarantee, bug, result) in enumerate(
            (
                ("", "", "", "green"),
                ("cas_in_two_steps", "G1", "compares in a step of its own", "caught"),
                ("cached_reads", "G2", "reads from a cache of its own", "caught"),
                ("deletes_before_commit", "G7", "deletes before it commits", "caught"),
                ("wait_of_another", "G11", "lets WAIT speak for another connection", "caught"),
            ),
            start=1,
        )
    ]


def _load() -> LoadRow:
    return LoadRow(
        name="audit_outage",
        about="PostgreSQL is away for eight seconds while turns go on.",
        verdict=Verdict.PASS,
        correctness="VALID",
        reasons=[],
        seconds=41.5,
        instances=6,
        offered_per_s=398.7,
        done_per_s=396.4,
        p50_ms=0.5432,
        p95_ms=1.765,
        p99_ms=3.987,
        p999_ms=21.98,
        longest_ms=48.76,
        steps=16_543,
        errors=5,
        unknown=13,
        dropped=17,
        conflicts=31,
        busiest=0.4123,
        outage_s=8.021,
        most_waiting=3_287,
        longest_lag_s=8.765,
        file="load/audit_outage/load.json",
    )
