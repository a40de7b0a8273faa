"""All runs on disk, the newest first, on one page: `runs/trend.html`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kairos_core.errors import ConfigurationError
from loadtests.whole import write_whole
from reports.figures.trend import load_of, trend
from reports.findings import NAME, PAGE, read_report
from reports.page import words
from reports.page.render import environment, number, picture_of, tally

if TYPE_CHECKING:
    from pathlib import Path

    from reports.findings import Report

TREND = "trend.html"
_DRAIN = "rows/s"


class Row(NamedTuple):
    """A run.

    Attributes:
        name: of its folder.
        page: where its page is, from the folder of all runs; empty: it has none.
        report: what it says.
    """

    name: str
    page: str
    report: Report


class Main(NamedTuple):
    """The numbers of a run that are followed; None: it does not have that one.

    Attributes:
        update_p50_ms, update_p95_ms, get_p95_ms, delivery_p50_ms: of one call.
        update_over_bare, get_over_bare: p50 over that of the same command through redis-py.
        drain_per_s: rows a second.
        turn_p99_ms: under load.
    """

    update_p50_ms: float | None
    update_p95_ms: float | None
    get_p95_ms: float | None
    update_over_bare: float | None
    get_over_bare: float | None
    delivery_p50_ms: float | None
    drain_per_s: float | None
    turn_p99_ms: float | None


def write_trend(runs: Path) -> Path:
    """Write the page of all runs.

    Args:
        runs: the folder of all runs.

    Returns:
        where it is.
    """
    rows, unreadable = _read(runs)
    load = load_of([row.report for row in rows])
    # How to read one is how to read all: it is said once.
    drawn = trend([row.report for row in rows]) if rows else []
    text = (
        environment()
        .get_template("trend.html")
        .render(
            rows=[(row, main_numbers(row.report, load), *_counts(row.report)) for row in rows],
            unreadable=unreadable,
            load=load,
            pictures={"trend": [picture._replace(caption="") for picture in drawn]},
            how_to=drawn[0].caption if drawn else "",
            picture=picture_of,
            number=number,
            linked=lambda text, *_: text,
            kind=words.kind,
            sign=words.sign,
            when=words.when,
        )
    )
    return write_whole(runs / TREND, text.encode())


def main_numbers(report: Report, load: str) -> Main:
    """The numbers of a run that are followed; `load` is the load test that they are taken from."""
    rows = {(row.operation, row.subject): row for row in report.latencies}
    update, get, delivery = (rows.get((name, "kairos")) for name in ("update_session", "get_session", "delivery"))
    update_over, get_over = (rows.get((name, "bare")) for name in ("update_session", "get_session"))
    turns = [row.p99_ms for row in report.loads if row.name == load]
    drains = [target.value for target in report.targets if target.unit == _DRAIN]
    return Main(
        update_p50_ms=update.p50 if update else None,
        update_p95_ms=update.p95 if update else None,
        get_p95_ms=get.p95 if get else None,
        update_over_bare=update_over.ratio if update_over else None,
        get_over_bare=get_over.ratio if get_over else None,
        delivery_p50_ms=delivery.p50 if delivery else None,
        drain_per_s=drains[0] if drains else None,
        turn_p99_ms=turns[0] if turns else None,
    )


def _counts(report: Report) -> tuple[str, str, str]:
    """Targets met, guarantees held, mutants caught, each of how many."""
    targets = tally(target.verdict for target in report.targets)
    guarantees = tally(guarantee.verdict for guarantee in report.guarantees)
    mutants = [row for row in report.mutants if row.mutant]
    caught = sum(row.is_well for row in mutants)
    return (
        f"{targets.held} of {targets.judged}",
        f"{guarantees.held} of {guarantees.judged}",
        f"{caught} of {len(mutants)}",
    )


def _read(runs: Path) -> tuple[list[Row], list[tuple[str, str]]]:
    """All runs that have a report, and of those that cannot be read the names and why."""
    rows, unreadable = [], []
    for folder in sorted(runs.iterdir()):
        if not (folder / NAME).is_file():
            continue
        try:
            report = read_report(folder)
        except ConfigurationError as error:
            unreadable.append((folder.name, str(error)))
            continue
        page = f"{quote(folder.name)}/{PAGE}" if (folder / PAGE).is_file() else ""
        rows.append(Row(folder.name, page, report))
    return sorted(rows, key=lambda row: (row.report.started_at, row.name), reverse=True), unreadable
