"""What all figures have in common: colours, type, and how one becomes an SVG within a page."""

from __future__ import annotations

import io
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart. Line styles and marks tell them apart, too.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
TARGET = RED
# Stands for the colour of the text around the picture: dark on white paper, light on a dark screen.
INK = "#808080"
# Inches: 460 points. A picture of this width can be read on a phone, and two stand side by side on a desk.
WIDTH = 6.4
FONT_PT = 11


class Picture(NamedTuple):
    """An SVG that notebooks show and pages inline.

    Attributes:
        svg: the element, without anything outside it.
        title: what it shows, in a few words; its heading.
        description: what is to be seen in it, in a sentence, for who does not see it.
        caption: how to read it, in a sentence or two.
        file: where its raw data is, relative to the run's folder; empty: nowhere.
    """

    svg: str
    title: str
    description: str
    caption: str = ""
    file: str = ""

    def _repr_html_(self) -> str:
        label, caption = escape(self.description, quote=True), escape(self.caption)
        return f'<figure role="img" aria-label="{label}">{self.svg}<figcaption>{caption}</figcaption></figure>'


@contextmanager
def style() -> Iterator[None]:
    """How figures are drawn within it."""
    # Text stays text: small, searchable, and in the reader's own font. The salt makes ids the same in every rendering.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "kairos", "font.family": "sans-serif", "font.size": FONT_PT}
    ):
        yield


def drawn(figure: Figure, title: str, description: str, caption: str = "", file: str = "") -> Picture:
    """A figure as a picture, in the colour of the text around it."""
    target = io.StringIO()
    figure.savefig(
        target, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    svg = target.getvalue()
    return Picture(svg[svg.index("<svg") :].replace(INK, "currentColor"), title, description, caption, file)


def in_ink(axis: Axes) -> None:
    """Grid, ticks and frame in the colour of the text."""
    axis.grid(visible=True, which="major", color=INK, alpha=0.25, linewidth=0.6)
    axis.tick_params(colors=INK, which="both")
    for spine in axis.spines.values():
        spine.set_color(INK)
