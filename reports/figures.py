"""Figures of a run, as inline SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.results import OPERATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from reports.results import Run

# Okabe and Ito's colours, which colour-blind readers can tell apart; the line styles tell them apart without colour.
_SUBJECTS = {
    "kairos": ("Kairos", "#0072B2", "-"),
    "bare": ("bare redis-py", "#E69F00", "--"),
    "floor": ("same bytes, raw socket", "#009E73", ":"),
}
_TARGET = "#D55E00"
_INK = "#808080"  # readable on white and on black
_POINTS = 400


class Picture(NamedTuple):
    """An SVG that notebooks show and pages inline."""

    svg: str
    description: str

    def _repr_html_(self) -> str:
        return f'<figure role="img" aria-label="{self.description}">{self.svg}</figure>'


def distributions(run: Run) -> Picture:
    """The latency distribution of each operation, with its targets as vertical lines."""
    operations = [name for name in OPERATIONS if name in run.samples]
    # Text stays text: small, searchable, and in the reader's own font. The salt makes ids the same in every rendering.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kairos", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 2.1 * len(operations) + 0.6), layout="constrained")
        axes = figure.subplots(len(operations), 1, sharex=True, squeeze=False)[:, 0]
        for axis, operation in zip(axes, operations, strict=True):
            _distribution(axis, run, operation)
        axes[-1].set_xlabel("latency in milliseconds (logarithmic)", color=_INK)
        handles, labels = axes[
            operations.index("get_session") if "get_session" in operations else 0
        ].get_legend_handles_labels()
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        for text in legend.get_texts():
            text.set_color(_INK)
        target = io.StringIO()
        figure.savefig(
            target, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = target.getvalue()
    return Picture(svg[svg.index("<svg") :], "Share of calls answered within a time, per operation, with target lines")


def _distribution(axis: Axes, run: Run, operation: str) -> None:
    shares = np.concatenate([np.linspace(0, 0.98, _POINTS), np.linspace(0.98, 1, _POINTS // 4)])
    for subject, (label, colour, style) in _SUBJECTS.items():
        if subject in run.samples[operation]:
            pooled = np.concatenate(run.samples[operation][subject])
            axis.plot(np.quantile(pooled, shares), shares * 100, style, color=colour, label=label, linewidth=1.6)
    for judgement in run.judgements:
        if judgement.operation == operation and judgement.unit == "ms":
            axis.axvline(judgement.limit, color=_TARGET, linewidth=1.2)
            axis.annotate(
                f"{judgement.statistic} target {judgement.limit:g} ms ",
                (judgement.limit, 50),
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
                color=_TARGET,
            )
    axis.set_xscale("log")
    axis.set_ylim(0, 100)
    axis.set_title(operation, loc="left", fontsize=10, color=_INK)
    axis.set_ylabel("% of calls", color=_INK)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(visible=True, which="major", color=_INK, alpha=0.25, linewidth=0.6)
    axis.tick_params(colors=_INK, which="both")
    for spine in axis.spines.values():
        spine.set_color(_INK)
