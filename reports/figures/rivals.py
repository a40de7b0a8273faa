"""Kairos beside what one would use instead: ratios, and how long an update takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reports.figures.forest import Line
from reports.figures.forest import forest as forest_of
from reports.figures.style import (
    INK,
    SHADE,
    SMALL_PT,
    Picture,
    below,
    canvas,
    drawn,
    in_ink,
    look,
    style,
)
from reports.results import OPERATIONS, words
from reports.statistics import BAND, fires

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.results import Run
    from reports.statistics import Comparison

FILES = "latency"
# Slowed on purpose: whether the comparison notices is a question of its own.
_NO_RIVAL = {"kairos", "slowed"}
_MEDIANS = ("kairos", "floor", "bare", "watch_multi", "lock")


class Row(NamedTuple):
    """One line of a forest plot.

    Attributes:
        operation: what was measured.
        subject: with what it is compared, by the name that it has in a run.
        compared: its ratio.
    """

    operation: str
    subject: str
    compared: Comparison


def rows(run: Run) -> list[Row]:
    """Each operation beside all that it was compared with."""
    found: list[Row] = []
    for operation in (name for name in OPERATIONS if name in run.samples):
        subjects = run.samples[operation]
        count = len(subjects.get("kairos", ()))
        # Itself first: it says how far the others can be trusted.
        order = sorted(set(subjects) - _NO_RIVAL, key=lambda name: (name != "again", name))
        whole = [subject for subject in order if count and len(subjects[subject]) == count]
        found.extend(Row(operation, subject, run.compare(operation, subject)) for subject in whole)
    return found


def ratios(run: Run) -> Picture | None:
    """The forest plot of a run; None where nothing can be compared."""
    found = rows(run)
    return forest(found) if found else None


def forest(found: Sequence[Row], band: float = BAND) -> Picture:
    """Ratios with their 95 % intervals, one below the other; what is within the shaded band is no difference.

    An operation beside itself has a hollow mark, and the colour of a missed target and a cross where that row fires.
    """
    lines = [
        Line(
            row.operation,
            short(row.operation, row.subject),
            row.compared,
            is_hollow=row.subject == "again" and not fires(row.compared),
            is_wrong=row.subject == "again" and fires(row.compared),
        )
        for row in found
    ]
    with style():
        figure = forest_of(
            lines, "\N{LEFTWARDS ARROW} faster, times as long (logarithmic), slower \N{RIGHTWARDS ARROW}", band
        )
        told = [f"{row.operation} over {words(row.operation, row.subject)} {row.compared}" for row in found]
        return drawn(
            figure,
            "Kairos over what one would use instead",
            f"Ratios of the p50, with 95 % intervals. {'; '.join(told)}.",
            "Left of 1 Kairos is faster. A bar that touches the shaded band is no difference. Hollow: the operation"
            " beside itself, which must lie at 1.",
            FILES,
        )


def short(operation: str, subject: str) -> str:
    """What an operation is compared with, in as few words as fit beside a plot."""
    return {"floor": "raw socket", "ping": "PING, raw socket"}.get(subject, words(operation, subject))


def medians(run: Run, operation: str = "update_session") -> Picture | None:
    """How long an operation takes, of each that does it: the median over runs of the p50, and its range."""
    subjects = [subject for subject in _MEDIANS if run.samples.get(operation, {}).get(subject)]
    if "kairos" not in subjects or len(subjects) == 1:
        return None
    seen = {subject: run.per_run(operation, subject, "p50") for subject in subjects}
    middle = {subject: float(np.median(values)) for subject, values in seen.items()}
    subjects.sort(key=middle.__getitem__)
    ours = middle["kairos"]
    with style():
        figure = canvas(0.42 * len(subjects) + 0.9)
        axis = figure.subplots()
        axis.axvspan(ours / BAND, ours * BAND, color=INK, alpha=2 * SHADE, linewidth=0)
        most = max(max(values) for values in seen.values())
        for place, subject in enumerate(subjects):
            shown, values = look(subject), seen[subject]
            axis.barh(
                place, middle[subject], height=0.6, color=shown.colour, alpha=0.85 if subject == "kairos" else 0.6
            )
            axis.plot([min(values), max(values)], [place, place], "-|", color=INK, linewidth=1.5, markersize=8)
            told = f"{middle[subject]:.3f} ms" + ("" if subject == "kairos" else f" · {middle[subject] / ours:.2f} ×")
            axis.annotate(
                told, (max(values), place), xytext=(6, 0), textcoords="offset points", va="center",
                fontsize=SMALL_PT, color=INK, fontweight="bold" if subject == "kairos" else "normal",
            )  # fmt: skip
        axis.set_yticks(range(len(subjects)), [look(subject).words for subject in subjects])
        axis.set_xlim(0, 1.5 * most)
        axis.invert_yaxis()
        below(axis, "p50 in milliseconds")
        in_ink(axis)
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        listed = "; ".join(
            f"{look(subject).words} {middle[subject]:.3f} ms ({min(seen[subject]):.3f} to {max(seen[subject]):.3f})"
            for subject in subjects
        )
        return drawn(
            figure,
            f"{operation}: the p50 of each",
            f"Median over {len(seen['kairos'])} runs of the p50 of {operation}, with the range of the runs. {listed}.",
            "Shorter is faster; the thin line is the range of the runs, × is over Kairos. What ends within the shaded"
            " band is as fast as Kairos.",
            FILES,
        )
