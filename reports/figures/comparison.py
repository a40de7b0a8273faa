"""Two runs side by side: what each operation takes now over what it took before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reports.figures.forest import Line, forest
from reports.figures.style import Picture, drawn, style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import Enum

    from reports.statistics import Comparison

_WORSE = "worse"


class Changed(Protocol):
    """What became of an operation; `reports.comparing` says so."""

    @property
    def operation(self) -> str:
        """Which."""
        ...

    @property
    def changed(self) -> Comparison:
        """How many times as much it is now."""
        ...

    @property
    def band(self) -> float:
        """What a change must exceed."""
        ...

    @property
    def word(self) -> Enum:
        """What that means; its value is in words."""
        ...


def comparison(found: Sequence[Changed], file: str = "") -> Picture | None:
    """After over before, with 95 % intervals; None: the runs share no operation.

    The shaded band is the widest of all: what lies within it is no difference of any of them.
    """
    if not found:
        return None
    band = max(one.band for one in found)
    groups: dict[str, list[Changed]] = {}
    for one in found:
        groups.setdefault(str(one.word.value), []).append(one)
    lines = [
        Line(word, one.operation, one.changed, is_hollow=word not in {_WORSE, "better"}, is_wrong=word == _WORSE)
        for word, some in groups.items()
        for one in some
    ]
    with style():
        figure = forest(
            lines, "\N{LEFTWARDS ARROW} faster, after over before (logarithmic), slower \N{RIGHTWARDS ARROW}", band
        )
        told = [f"{one.operation} {one.changed} times, {one.word.value}" for one in found]
        return drawn(
            figure,
            "After over before",
            f"How many times as long each operation takes after the change, beside bare redis-py in the same runs, with"
            f" 95 % intervals; less than {band:.3f} times is no change. {'; '.join(told)}.",
            "Left of 1 it became faster, right of it slower; what touches the shaded band is no difference. A cross is"
            " what became worse.",
            file,
        )
