"""How long calls took: the slowest of them, their distribution, and whether the machine was the same all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from reports.figures.style import (
    FONT_PT,
    INK,
    POINTS,
    SHADE,
    SMALL_PT,
    TARGET,
    Picture,
    below,
    canvas,
    drawn,
    heading,
    in_ink,
    key,
    logarithmic,
    look,
    number,
    style,
    tell,
)
from reports.results import OPERATIONS
from reports.statistics import FAIR, SHARES, WIDEST_DRIFT
from reports.statistics import drift as wandered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from reports.results import Judgement, Run

SPECTRA = ("get_session", "update_session", "delivery", "create_session", "delete_session")
FILES = "latency"
# Ours last, so that it lies above the others.
_DRAWN = ("floor", "bare", "kairos")
_SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
# From so many calls on.
_CLOSE = 5_000


class Spectrum(NamedTuple):
    """How slow the slowest calls are.

    Attributes:
        x: 1 / (1 - p), rising, up to the number of calls.
        ms: the p of each; the last is the slowest call of all.
    """

    x: NDArray[np.float64]
    ms: NDArray[np.float64]


def spectrum(samples: NDArray[np.float64], points: int = POINTS // 2) -> Spectrum:
    """The percentiles of calls, up to the highest that so many can tell.

    Raises:
        ValueError: there are no calls.
    """
    if not len(samples):
        raise ValueError("no calls")
    x = np.geomspace(1, len(samples), points)
    ms = np.asarray(np.quantile(samples, 1 - 1 / x, method="inverted_cdf"), np.float64)
    # The percentile of the last place is the slowest but one: no picture may hide the slowest.
    ms[-1] = samples.max()
    return Spectrum(x, ms)


def spectra(run: Run) -> list[Picture]:
    """The percentile spectrum of each operation that users wait for, all with the same scale."""
    found = [name for name in SPECTRA if len(_pooled(run, name, "kairos"))]
    lines = {name: {who: spectrum(_pooled(run, name, who)) for who in _there(run, name)} for name in found}
    targets = {name: [one for one in run.judgements if one.operation == name and one.unit == "ms"] for name in found}
    every = [line.ms for of_it in lines.values() for line in of_it.values()]
    limits = [one.limit for some in targets.values() for one in some]
    if not every:
        return []
    lowest = 0.8 * min(float(ms.min()) for ms in every)
    highest = 3 * max([*limits, *(float(ms.max()) for ms in every)])
    return [_spectrum(run, name, lines[name], targets[name], (lowest, highest)) for name in found]


def _pooled(run: Run, operation: str, subject: str) -> NDArray[np.float64]:
    some = run.samples.get(operation, {}).get(subject, [])
    return np.concatenate(some) if some else np.empty(0)


def _there(run: Run, operation: str) -> list[str]:
    return [subject for subject in _DRAWN if len(_pooled(run, operation, subject))]


def _spectrum(
    run: Run, operation: str, lines: dict[str, Spectrum], targets: list[Judgement], y: tuple[float, float]
) -> Picture:
    with style():
        figure = canvas(3.5)
        axis = figure.subplots()
        for subject, line in lines.items():
            shown = look(subject)
            axis.plot(line.x, line.ms, linestyle=shown.line, color=shown.colour, linewidth=2, label=shown.words)
        for target in _steps(targets):
            _step(axis, target, y[1])
        axis.set_yscale("log")
        axis.set_ylim(*y)
        logarithmic(axis.yaxis)
        _shares(axis, max(line.x[-1] for line in lines.values()))
        heading(axis, "milliseconds (logarithmic)", key_rows=1)
        below(axis, "share of calls that are faster (more nines to the right)")
        in_ink(axis)
        key(axis, 3, _reversed(axis))
        calls = len(_pooled(run, operation, "kairos"))
        return drawn(
            figure,
            f"{operation}: how slow are the slowest calls?",
            _said(run, operation, calls, list(lines), targets),
            "To the right are ever slower calls: at 99 % the slowest in a hundred. Up to its percentile a line has to"
            " stay below the red step, which is the target. A line that climbs steeply at its right end has a tail.",
            FILES,
        )


def _reversed(axis: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    return handles[::-1], labels[::-1]


def _steps(targets: Sequence[Judgement]) -> list[Judgement]:
    """The targets that are drawn: those of percentiles; the mean is none, and is drawn where it is all there is."""
    return [one for one in targets if one.statistic in SHARES] or list(targets[:1])


def _step(axis: Axes, target: Judgement, top: float) -> None:
    """A target: flat at its limit up to its percentile, and open beyond it."""
    share = SHARES.get(target.statistic)
    # A mean is of no percentile: of calls like these, most of which are alike, it lies near the middle.
    until = 1 / (1 - (share if share is not None else 0.5))
    axis.plot([1, until], [target.limit, target.limit], color=TARGET, linewidth=1.8)
    if share is not None:
        axis.plot([until, until], [target.limit, top], color=TARGET, linewidth=1.8)
    words = f"target: {target.statistic} < {number(target.limit)} ms"
    # Within the step; what is no step is short, and lines may cross what stands beside it.
    tell(axis, 1, target.limit if share is not None else top, words, dx=4, dy=9 if share is not None else -9)


def _shares(axis: Axes, last: float) -> None:
    """The horizontal axis of a spectrum: 1 / (1 - p), labelled with p."""
    axis.set_xscale("log")
    axis.set_xlim(1, max(last, 10.0))
    shares = [share for share in _SHARES if 1 / (1 - share) <= max(last, 10.0) * 1.001]
    labels = [f"{share * 100:.6g} %" for share in shares]
    # The more nines there are, the nearer the first two come to each other.
    labels[0] = "0" if last > _CLOSE else labels[0]
    axis.set_xticks([1 / (1 - share) for share in shares], labels)
    axis.xaxis.set_minor_locator(NullLocator())


def _said(run: Run, operation: str, calls: int, subjects: list[str], targets: Sequence[Judgement]) -> str:
    told = []
    for subject in reversed(subjects):
        pooled = _pooled(run, operation, subject)
        p50, p95, p99 = (np.quantile(pooled, share, method="inverted_cdf") for share in SHARES.values())
        told.append(f"{look(subject).words}: p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f} ms")
    limits = [
        f"target: {one.statistic} below {number(one.limit)} ms, mean over the runs {one.measured.value:.3f} ms"
        for one in targets
    ]
    return f"Percentiles of {calls:,} calls of {operation}. {'; '.join([*told, *limits])}."


def distributions(run: Run) -> Picture | None:
    """The share of calls answered within a time, for each operation, with its targets as vertical lines."""
    operations = [name for name in OPERATIONS if _there(run, name)]
    if not operations:
        return None
    with style():
        figure = canvas(1.75 * len(operations) + 0.9)
        axes = figure.subplots(len(operations), 1, sharex=True, squeeze=False)[:, 0]
        for axis, operation in zip(axes, operations, strict=True):
            _distribution(axis, run, operation)
        logarithmic(axes[-1].xaxis)
        below(axes[-1], "milliseconds (logarithmic)")
        legend = figure.legend(*_reversed(axes[0]), loc="outside upper left", ncols=3, frameon=False, fontsize=SMALL_PT)
        for text in legend.get_texts():
            text.set_color(INK)
        middles = [
            f"{name} {np.quantile(_pooled(run, name, 'kairos'), 0.5, method='inverted_cdf'):.3f} ms"
            for name in operations
            if len(_pooled(run, name, "kairos"))
        ]
        return drawn(
            figure,
            "How the latencies are spread",
            f"Share of calls answered within a time. Half of Kairos' calls are answered within: {', '.join(middles)}.",
            "The further left and the steeper, the better. The red line is the target: it holds where the curve crosses"
            " it above its percentile.",
            FILES,
        )


def _distribution(axis: Axes, run: Run, operation: str) -> None:
    shares = np.concatenate([np.linspace(0, 0.98, POINTS // 2), np.linspace(0.98, 1, POINTS // 8)])
    for subject in _there(run, operation):
        shown, pooled = look(subject), _pooled(run, operation, subject)
        axis.plot(
            np.quantile(pooled, shares),
            shares * 100,
            linestyle=shown.line,
            color=shown.colour,
            label=shown.words,
            linewidth=1.8,
        )
    for judgement in run.judgements:
        if judgement.operation == operation and judgement.unit == "ms":
            axis.axvline(judgement.limit, color=TARGET, linewidth=1.4)
            side = 1 if judgement.statistic in SHARES else -1
            tell(axis, judgement.limit, 45, judgement.statistic, dx=3 * side, ha="left" if side > 0 else "right")
    axis.set_ylim(0, 101)
    axis.set_yticks([0, 50, 100])
    heading(axis, f"{operation}, % of calls")
    in_ink(axis)


def drift(run: Run) -> Picture | None:
    """Whether the machine was the same in all runs: the floor, and Kairos beside itself, run by run."""
    of_it = run.samples.get("get_session", {})
    if not of_it.get("floor"):
        return None
    floor = run.per_run("get_session", "floor", "p50")
    itself = _itself(run)
    factor = wandered(floor)
    with style():
        figure = canvas(3.9 if itself else 2.3)
        axes = figure.subplots(2 if itself else 1, 1, sharex=True, squeeze=False)[:, 0]
        shown = look("floor")
        runs = range(1, len(floor) + 1)
        axes[0].plot(runs, floor, linestyle=shown.line, marker=shown.mark, color=shown.colour, linewidth=1.6)
        axes[0].set_ylim(0, 1.35 * max(floor))
        heading(axes[0], "p50 of the same bytes on a raw socket, ms")
        told = f"halves differ {factor:.2f} times (at most {WIDEST_DRIFT:g}), runs {max(floor) / min(floor):.2f}"
        tell(axes[0], 1, 1.22 * max(floor), told)
        said = f"The p50 of the floor over {len(floor)} runs is {min(floor):.4f} to {max(floor):.4f} ms; {told}."
        if itself:
            said += _beside_itself(axes[1], itself)
        for axis in axes:
            in_ink(axis)
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        below(axes[-1], "run")
        return drawn(
            figure,
            "Was it the same machine all the time?",
            said,
            "Above: the cheapest thing that can be timed; if it wanders, the machine did. Below: Kairos over itself,"
            " timed in turns; it should be 1, and the shaded band is how far its median over the runs may be from it.",
            FILES,
        )


def _itself(run: Run) -> list[float]:
    of_it = run.samples.get("get_session", {})
    if not of_it.get("again") or len(of_it["again"]) != len(of_it.get("kairos", ())):
        return []
    ours, again = (run.per_run("get_session", subject, "p50") for subject in ("kairos", "again"))
    return [our / other for our, other in zip(ours, again, strict=True)]


def _beside_itself(axis: Axes, itself: Sequence[float]) -> str:
    middle, shown = float(np.median(itself)), look("kairos")
    axis.axhspan(1 / FAIR, FAIR, color=INK, alpha=SHADE, linewidth=0)
    axis.axhline(1.0, color=INK, linewidth=1)
    axis.plot(
        range(1, len(itself) + 1), itself, linestyle="", marker=shown.mark, color=shown.colour, markerfacecolor="none"
    )
    axis.plot([1, len(itself)], [middle, middle], color=shown.colour, linewidth=1.4)
    room = 1.25 * max(0.06, *(abs(one - 1) for one in itself))
    axis.set_ylim(1 - room, 1 + room)
    heading(axis, f"get_session over itself, × (median {middle:.3f})")
    axis.tick_params(labelsize=FONT_PT)
    return f" get_session over itself has a median of {middle:.3f}, from {min(itself):.3f} to {max(itself):.3f}."
