"""How long each operation took, and what Kairos takes over each rival in the same rounds."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from reports.evidence import LATENCY
from reports.findings import Latency
from reports.results import COMPANIONS, DRAIN, DURABILITY, words
from reports.tables import LEVELS

if TYPE_CHECKING:
    from reports.results import Run

KAIROS = "kairos"
# The subjects of the benchmark of durability are Kairos, too.
_LEVELS = {subject: f"Kairos, {level}" for subject, level, _ in LEVELS}


def latencies(run: Run) -> list[Latency]:
    """Each operation that was timed call by call: Kairos first, and its rivals behind it."""
    return [
        _latency(run, operation, subject)
        for operation, companions in COMPANIONS.items()
        if operation != DRAIN
        for subject in (KAIROS, *companions)
        if run.samples.get(operation, {}).get(subject)
    ]


def _latency(run: Run, operation: str, subject: str) -> Latency:
    p50, p95, p99 = (run.per_run(operation, subject, statistic) for statistic in ("p50", "p95", "p99"))
    ratio, lower, upper = _ratio(run, operation, subject)
    return Latency(
        operation=operation,
        subject=subject,
        name=_name(operation, subject),
        p50=median(p50),
        p95=median(p95),
        p99=median(p99),
        p50_smallest=min(p50),
        p50_largest=max(p50),
        file=LATENCY,
        ratio=ratio,
        ratio_lower=lower,
        ratio_upper=upper,
    )


def _ratio(run: Run, operation: str, subject: str) -> tuple[float | None, float | None, float | None]:
    """With its interval; nothing of Kairos itself, nor of one that does not have a result in each run."""
    subjects = run.samples[operation]
    if subject == KAIROS or len(subjects.get(KAIROS, ())) != len(subjects[subject]):
        return None, None, None
    found = run.compare(operation, subject)
    if not math.isfinite(found.upper):
        return found.ratio, None, None
    return found.ratio, found.lower, found.upper


def _name(operation: str, subject: str) -> str:
    if operation == DURABILITY:
        return _LEVELS.get(subject, subject)
    return "Kairos" if subject == KAIROS else words(operation, subject)
