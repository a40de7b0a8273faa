"""The latencies of a load test as a table: rows, CSV and HTML. No I/O."""

from __future__ import annotations

import csv
import html
import io
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from loadtests.load.histograms import Histograms

# The columns, and how people read them.
TITLES = {
    "operation": "Operation",
    "outcome": "Outcome",
    "part": "Part",
    "count": "Count",
    "beyond": "Beyond",
    "mean_ms": "Mean (ms)",
    "p50_ms": "p50 (ms)",
    "p90_ms": "p90 (ms)",
    "p95_ms": "p95 (ms)",
    "p99_ms": "p99 (ms)",
    "p999_ms": "p99.9 (ms)",
    "longest_ms": "Longest (ms)",
}
_TEXTS = 3
# No colours: those of the page about it, which may be dark or light, and is light without its scripts.
_SECTION = "padding:1.5rem;font:14px/1.4 system-ui,sans-serif;overflow-x:auto"
_TABLE = "border-collapse:collapse;white-space:nowrap;font-variant-numeric:tabular-nums"
_CELL = "padding:.25rem .75rem;border-bottom:1px solid #8888;text-align:"


class Row(msgspec.Struct, frozen=True):
    """The latencies of one name (see `histograms.Name`), in milliseconds to the microsecond.

    Attributes:
        beyond: how many were longer than the longest that is told apart: the true longest is more than `longest_ms`.
    """

    operation: str
    outcome: str
    part: str
    count: int
    beyond: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    longest_ms: float

    def texts(self) -> list[str]:
        """As it is shown: milliseconds with three decimals."""
        values = msgspec.structs.astuple(self)
        return [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]

    def sortable(self) -> dict[str, str | int]:
        """The texts by the names of their columns, where the order of texts is the order of the values.

        Locust's page would show 0.110 as 0.11. It sorts what it shows, and HTML does not show leading spaces.
        """
        values = msgspec.structs.asdict(self)
        return {name: f"{value:>12.3f}" if isinstance(value, float) else value for name, value in values.items()}

    def by_column(self) -> dict[str, str | int | float]:
        """Each value by the name of its column."""
        return msgspec.structs.asdict(self)


def table(found: Histograms) -> list[Row]:
    """A row for each name of which anything was counted, by operation, outcome and part."""
    rows = []
    for name in found:
        histogram = found[name]
        # Nothing took no time: a row of zeros would read as very fast.
        if len(histogram):
            values = [histogram.mean_ms(), *map(histogram.at_ms, (0.5, 0.9, 0.95, 0.99, 0.999)), histogram.longest_ms()]
            rows.append(Row(*name, len(histogram), histogram.beyond, *(round(value, 3) for value in values)))
    return rows


def as_csv(rows: list[Row]) -> str:
    """The rows under the names of their columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(TITLES)
    writer.writerows(row.texts() for row in rows)
    return text.getvalue()


def as_html(rows: list[Row], verdict: str) -> str:
    """A section that is read without scripts: the verdict, where there is one (else ""), and the table."""
    said = f'<pre style="font:inherit;white-space:pre-wrap">{html.escape(verdict)}</pre>' if verdict else ""
    head = _cells("th", list(TITLES.values()))
    body = "".join(f"<tr>{_cells('td', row.texts())}</tr>" for row in rows)
    if not rows:
        body = f'<tr><td colspan="{len(TITLES)}">Nothing was counted.</td></tr>'
    return (
        f'<section id="kairos-latencies" style="{_SECTION}"><h2>Latencies by operation, outcome and part</h2>{said}'
        f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>'
    )


def _cells(tag: str, texts: list[str]) -> str:
    """Texts to the left, numbers to the right."""
    return "".join(
        f'<{tag} style="{_CELL}{"left" if place < _TEXTS else "right"}">{html.escape(text)}</{tag}>'
        for place, text in enumerate(texts)
    )
