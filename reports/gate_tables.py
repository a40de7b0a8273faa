"""What `make bench` shows: tables of a batch and of its changes, and what a verdict means in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.benchmarks import BENCHMARKS
from reports.gate import visible
from reports.statistics import BAND, Verdict, fires, smallest_visible
from reports.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.gate import Batch, Change, Judged


def times(batch: Batch) -> Table:
    """Percentiles of each subject, and the ratio of Kairos to it."""
    rows = []
    for operation in batch.operations:
        for subject in ("kairos", *BENCHMARKS[operation].all_companions):
            if subject not in batch.samples.get(operation, {}):
                continue
            own = batch.samples[operation].get("kairos", [])
            row = [operation if subject == "kairos" else "", subject]
            row += [
                f"{np.median(batch.per_run(operation, subject, name)) * 1e3:,.0f}" for name in ("p50", "p95", "p99")
            ]
            pooled = np.concatenate(batch.samples[operation][subject])
            row.append(f"{np.quantile(pooled, 0.999, method='inverted_cdf') * 1e3:,.0f}")
            comparable = subject != "kairos" and len(batch.samples[operation][subject]) == len(own)
            row.append(str(batch.comparison(operation, subject)) if comparable else "")
            rows.append(tuple(row))
    return Table(
        ("operation", "subject", "p50 µs", "p95 µs", "p99 µs", "p99.9 µs", "Kairos over it, p50 (95 % interval)"),
        rows,
        f"{batch.manifest['runs']} processes of {batch.manifest['rounds']:,} calls of each. p50 to p99: median of the "
        "processes; p99.9: of all calls.\nfloor: its bytes on a raw socket; bare: its command through redis-py; "
        "again: the operation itself; slowed: itself, slowed on purpose.",
    )


def visibility(batch: Batch) -> Table:
    """What a regression would have to be to be seen, and whether the one that was put in was."""
    rows: list[tuple[str, ...]] = []
    for operation in batch.operations:
        again = batch.comparison(operation, "again")
        fired = "fired" if fires(again) else ""
        slowed = str(batch.put_in(operation) or "")
        rows.append((operation, str(again), fired, f"{smallest_visible(again, BAND):.3f}", slowed))
    return Table(
        ("operation", "beside itself", "", "smallest visible", "slowed on purpose"),
        rows,
        "Ratios of p50. beside itself: 1 is fair. smallest visible: the regression that would have been seen 80 times "
        "in 100,\nbeside another subject of the same rounds.",
    )


def compared(found: Sequence[Change]) -> Table:
    """Each ratio beside the baseline's."""
    return Table(
        ("operation", "over", "baseline", "now", "now over baseline", "band", "smallest visible", ""),
        [
            (
                one.operation,
                one.subject,
                f"{one.before.ratio:.3f}",
                f"{one.now.ratio:.3f}",
                str(one.changed),
                f"{one.band:.3f}",
                f"{one.visible:.3f}",
                "more" if one.reason else "",
            )
            for one in found
        ],
        "Ratios of p50. more: beyond the band, and the interval excludes 1. An operation became slower only where both "
        "of its\nrows say more, in two batches: one alone changes with the state of the machine, too. So the larger of "
        "its two\nsmallest visible ones counts.",
    )


def told(judged: Judged, batch: Batch, found: Sequence[Change]) -> list[str]:
    """What the verdict means here, and what can be done about it; a line each."""
    if judged.verdict is Verdict.INVALID:
        return ["It could not be told: nothing is said of any operation. Measure again, on a quieter machine."]
    if judged.verdict is Verdict.FAIL:
        return [
            "These became slower than in the baseline. By your change? Compare with a baseline of the code before it.",
            "How, and how a slower one is made the baseline: docs/reading_a_report.md",
        ]
    tried = [one for operation in batch.operations if (one := batch.put_in(operation)) is not None]
    seen = sorted(visible(found).items(), key=lambda one: one[1])
    said = "Nothing was shown to be slower, and not enough could be seen: "
    if judged.verdict is Verdict.PASS:
        said = "Nothing became slower, as far as could be seen here: "
    if seen:
        ends = [f"{times:.2f} times ({operation})" for operation, times in (seen[0], seen[-1])]
        said += f"{' to '.join(dict.fromkeys(ends))} would have been, "
    lines = [f"{said}{sum(one.seen for one in tried)} of {len(tried)} that were slowed on purpose were."]
    if not all(one.seen for one in tried):
        lines.append("More can be seen on a quieter machine, and with PROFILE=full.")
    return lines


def busy(batch: Batch) -> list[str]:
    """That the machine did much else when the batch began, in a line; what a batch leaves behind is less."""
    machine = batch.manifest["machine"]
    load, cores = machine["load_average_before"][0], machine["cores"]
    if load <= 2 * cores:
        return []
    return [f"The machine was busy when this began: a load average of {load:.1f} with {cores} cores."]
