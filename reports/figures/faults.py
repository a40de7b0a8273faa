"""How soon writes go on after a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.figures.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL_PT,
    Picture,
    below,
    canvas,
    drawn,
    in_ink,
    key,
    number,
    style,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from loadtests.validation import FaultResult

# Each arena with its colour and mark; of others there is the last.
_ARENAS = {
    "fsync": (BLUE, "o"),
    "memory": (ORANGE, "s"),
    "everysec": (GREEN, "^"),
    "sentinel": (PURPLE, "D"),
    "replicated": (SKY, "v"),
    "cluster": (RED, "P"),
}
_OTHER = (INK, "X")
# Seconds; what is less is shown here, as nothing.
_LEAST_S = 1e-3
_NOTHING_S = 4e-4
_CAPTION = (
    "Each mark is the slowest of all rounds with that fault, from when the fault began to be undone to the next write"
    " that was acknowledged, in one kind of store (see the key). At the left edge: writes never stopped."
)
_FILE = "validation/validation.json"


def recoveries(faults: Sequence[FaultResult]) -> Picture | None:
    """The slowest return of writes after each fault, in each arena that it befell; None: there was none."""
    seen = [one for one in faults if one.hit and one.recovery_s is not None]
    if not seen:
        return None
    slowest: dict[str, float] = {}
    for one in seen:
        slowest[one.fault] = max(slowest.get(one.fault, 0.0), one.recovery_s or 0.0)
    order = sorted(slowest, key=lambda fault: -slowest[fault])
    arenas = list(dict.fromkeys(one.arena for one in sorted(seen, key=lambda one: _place(one.arena))))
    with style():
        figure = canvas(0.31 * len(order) + 1.5)
        axis = figure.subplots()
        for arena in arenas:
            colour, mark = _ARENAS.get(arena, _OTHER)
            of_it = [one for one in seen if one.arena == arena]
            # A little below each other, so that those of the same time can be told apart.
            step = 0.5 / max(1, len(arenas) - 1)
            y = [order.index(one.fault) - 0.25 * (len(arenas) > 1) + step * arenas.index(arena) for one in of_it]
            x = [_shown(one.recovery_s or 0.0) for one in of_it]
            axis.plot(x, y, mark, color=colour, markersize=8, alpha=0.9, label=arena, clip_on=False)
        _axes(axis, order, max(slowest.values()))
        key(axis, 3)
        return drawn(figure, "How soon do writes go on after a fault?", _said(faults, order, seen), _CAPTION, _FILE)


def _place(arena: str) -> int:
    return list(_ARENAS).index(arena) if arena in _ARENAS else len(_ARENAS)


def _shown(seconds: float) -> float:
    return seconds if seconds >= _LEAST_S else _NOTHING_S


def _axes(axis: Axes, order: Sequence[str], largest: float) -> None:
    axis.set_xscale("log")
    top = max(1.0, largest) * 2
    ticks = [_NOTHING_S, *(tick for tick in (1e-3, 1e-2, 0.1, 1, 10, 100) if tick <= top)]
    axis.set_xticks(ticks, ["0", *(number(tick) for tick in ticks[1:])])
    axis.minorticks_off()
    axis.set_xlim(_NOTHING_S, top)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(len(order) - 0.4, -0.6)
    below(axis, "seconds (logarithmic)")
    in_ink(axis)
    axis.tick_params(axis="y", length=0, labelsize=SMALL_PT, pad=9)


def _said(faults: Sequence[FaultResult], order: Sequence[str], seen: Sequence[FaultResult]) -> str:
    told = []
    for fault in order:
        of_it = [one for one in seen if one.fault == fault]
        told.append(f"{fault}: " + ", ".join(f"{one.recovery_s or 0.0:.3f} s ({one.arena})" for one in of_it))
    never = [f"{one.fault} ({one.arena})" for one in faults if one.hit and one.recovery_s is None]
    missed = [f"{one.fault} ({one.arena})" for one in faults if not one.hit]
    said = f"The slowest return of writes after each fault. {'; '.join(told)}."
    if never:
        said += f" No return was timed after: {', '.join(never)}."
    if missed:
        said += f" These did not hit: {', '.join(missed)}."
    return said
