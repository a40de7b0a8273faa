"""Tables of a run, as text for a terminal and as HTML for a page: the same rows for both."""

from __future__ import annotations

from html import escape
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from reports import results
from reports.statistics import FEWEST_RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.results import Judgement, Run

# Never colour alone: each verdict has a sign and a word, too.
SIGNS = {"PASS": "✔", "FAIL": "✘", "INCONCLUSIVE": "?", "INVALID": "!"}
# What a cell says of what is not there.
NOTHING = "–"
# From here on decimals are noise.
_WHOLE = 1_000
# The subjects of the durability benchmark, and what each is.
LEVELS = (
    ("kairos", "memory", "the primary's memory"),
    ("fsync", "fsync", "its disk, too"),
    ("replicated", "replicated:1", "the memory of one replica, too"),
)


class Table(NamedTuple):
    """Rows of text under a head."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    caption: str = ""

    def text(self) -> str:
        """Columns of equal width."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def explained(self) -> str:
        """The caption, if there is one, and the columns below it."""
        return f"{self.caption}\n{self.text()}" if self.caption else self.text()

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.head)
        rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    word = text.rpartition(" ")[2]
    if word in SIGNS:
        return f'<td class="verdict {word.lower()}">{escape(text)}</td>'
    return f"<td>{escape(text)}</td>"


def signed(word: str) -> str:
    """A verdict's word with its sign."""
    return f"{SIGNS[word]} {word}"


def targets(run: Run) -> Table:
    """Each target with measured value, interval, margin and verdict."""
    return Table(
        ("verdict", "operation", "statistic", "measured", "target", "margin", "95 % bounds", "calls over the target"),
        [_target_row(judgement) for judgement in run.judgements],
        f"{run.manifest['runs']} runs of {run.manifest['rounds']:,} calls of each operation; each bound is one-sided, "
        "95 %, over the runs. PASS takes 10 runs, the bound below the target and, of a percentile, no more calls over "
        "the target than allowed. delivery: from before the update call to the callback in another process. drain: "
        "rows a worker moves from the outbox to PostgreSQL.",
    )


def _target_row(judgement: Judgement) -> tuple[str, ...]:
    measured, unit = judgement.measured, judgement.unit
    return (
        signed(judgement.verdict.value),
        judgement.operation,
        judgement.statistic,
        f"{_figure(measured.value)} {unit}",
        f"{'>' if unit == 'rows/s' else '<'} {judgement.limit:,g} {unit}",
        judgement.margin,
        f"{_figure(measured.lower)} to {_figure(measured.upper)}",
        NOTHING if judgement.counted is None else str(judgement.counted),
    )


def _figure(value: float) -> str:
    return f"{value:.3f}" if value < _WHOLE else f"{value:,.0f}"


def drain(run: Run) -> Table:
    """Rows a second of the drain, and of a bare COPY."""
    rows: list[tuple[str, ...]] = []
    for subject, label in (
        ("kairos", "drain, each row of another session"),
        ("copy", "bare COPY of the same rows"),
        ("live", "drain, 200 sessions in turn"),
        ("live_copy", "bare COPY of the same rows"),
    ):
        rates = sorted(run.drain_rates(subject)) if results.DRAIN in run.samples else []
        if rates:
            rows.append((label, f"{median(rates):,.0f} rows/s", f"{rates[0]:,.0f} to {rates[-1]:,.0f}"))
    return Table(("what", "median of the runs", "smallest to largest run"), rows)


def durability(run: Run) -> Table:
    """An update at each level of durability, and what that costs beside memory."""
    subjects = run.samples.get(results.DURABILITY, {})
    memory = len(subjects.get("kairos", ()))
    rows = []
    for subject, level, waits_for in LEVELS:
        runs = len(subjects.get(subject, ()))
        if not runs:
            continue
        row = [level, waits_for]
        for statistic in ("p50", "p95"):
            values = sorted(run.per_run(results.DURABILITY, subject, statistic))
            row.append(f"{median(values):.3f} ms ({values[0]:.3f} to {values[-1]:.3f})")
        if subject == "kairos" or runs != memory or runs < FEWEST_RUNS:
            row.append(NOTHING)
        else:
            cost = run.cost(subject)
            row.append(f"{cost.value:.2f} ({cost.lower:.2f} to {cost.upper:.2f})")
        rows.append(tuple(row))
    return Table(
        ("update_session at", "an answer waits for", "p50", "p95", "p50 ÷ memory"),
        rows,
        "Median of the runs (smallest to largest run); ratio: geometric mean over the runs (one-sided 95 % bounds). "
        "On embedded servers of this machine, one for each level, whatever store is given.",
    )


def environment(run: Run) -> Table:
    """The machine and the servers."""
    machine = run.manifest["machine"]
    before, after = machine["load_average_before"][0], run.manifest["load_average_after"][0]
    facts: Sequence[tuple[str, str]] = [
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"),
        ("servers", "given by the environment" if run.manifest["servers_given"] else "embedded, on this machine"),
        *((name, value) for name, value in run.manifest["servers"].items()),
        ("python", machine["python"]),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())),
        ("commit", machine["commit"]),
        ("load average", f"{before:.2f} before, {after:.2f} after"),
        ("measured", f"{run.manifest['started_at']} to {run.manifest['finished_at']}"),
    ]
    return Table(("what", "fact"), list(facts))
