"""What all figures have in common: colours, type, and how one becomes an SVG within a page."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# Okabe and Ito's colours, which colour-blind readers can tell apart. Line styles and marks tell them apart, too.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
TARGET = RED
# On a dark screen a page may have a lighter one in its place.
_BLUE_OF_THE_PAGE = f"var(--blue, {BLUE.lower()})"
# Stands for the colour of the text around the picture: dark on white paper, light on a dark screen.
INK = "#808080"
# Inches: 460 points. A picture of this width can be read on a phone, and two stand side by side on a desk.
WIDTH = 6.4
# On a phone a picture is three quarters as large.
FONT_PT, SMALL_PT = 13, 12
# No line has more points: more cannot be seen, and make the page large.
POINTS = 400
# On a logarithmic axis of less than this, powers of ten are too few.
_DENSE = 300
# How much of the ink a shaded part of a picture has.
SHADE = 0.16


class Look(NamedTuple):
    """How a subject is drawn wherever it is."""

    words: str
    colour: str
    line: str
    mark: str


SUBJECTS = {
    "kairos": Look("Kairos", BLUE, "-", "o"),
    "bare": Look("bare redis-py", ORANGE, "--", "s"),
    "floor": Look("raw socket", GREEN, ":", "^"),
    "watch_multi": Look("WATCH/MULTI", PURPLE, "-.", "D"),
    "lock": Look("Lock", SKY, (0, (4, 1, 1, 1, 1, 1)), "v"),  # type: ignore[arg-type] # matplotlib knows no name of it
    "check_then_set": Look("unsafe set", RED, ":", "X"),
}
OTHER = Look("", INK, "-", "o")


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


def look(subject: str) -> Look:
    """How a subject is drawn; one that is not known, in ink and under its own name."""
    return SUBJECTS.get(subject, OTHER._replace(words=subject.replace("_", " ")))


@contextmanager
def style() -> Iterator[None]:
    """How figures are drawn within it."""
    # Text stays text: small, searchable, and in the reader's own font. The salt makes ids the same in every rendering.
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "kairos",
            "font.family": "sans-serif",
            "font.size": FONT_PT,
            "hatch.linewidth": 1.5,
            "path.simplify_threshold": 0.5,
        }
    ):
        yield


def canvas(height: float) -> Figure:
    """An empty figure, as wide as all of them and so many inches high; call it within `style`."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def drawn(figure: Figure, title: str, description: str, caption: str = "", file: str = "") -> Picture:
    """A figure as a picture, in the colour and the font of the text around it."""
    target = io.StringIO()
    figure.savefig(
        target, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    svg = target.getvalue()
    svg = _tidy(svg[svg.index("<svg") :]).replace(INK, "currentColor")
    svg = svg.replace(BLUE.lower(), _BLUE_OF_THE_PAGE)
    return alone(Picture(svg, title, description, caption, file), title)


def alone(picture: Picture, prefix: str) -> Picture:
    """The same with ids that begin with a prefix: two pictures on one page must not share one."""
    slug = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-") or "picture"
    used = set(re.findall(r"(?:url\(|href=[\"'])#([^)\"']+)", picture.svg))

    def renamed(found: re.Match[str]) -> str:
        return f"{found[1]}{slug}-{found[2]}" if found[2] in used else found[0]

    svg = re.sub(r"""(\bid=["']|url\(#|href=["']#)([^)"']+)""", renamed, picture.svg)
    return picture._replace(svg=svg)


def _tidy(svg: str) -> str:
    """Without what a page does not need or would be changed by."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # It is meant for a file, and would be a rule for the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r'(<svg[^>]*?) version="1.1">', r'\1 style="max-width: 100%; height: auto">', svg, count=1)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' (?:d|x|y|transform|points)="[^"]*"', _rounded, svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _rounded(attribute: re.Match[str]) -> str:
    """Places to a tenth of a point, which is less than anybody sees."""
    return re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), attribute[0])


def in_ink(axis: Axes) -> None:
    """Grid, ticks and frame in the colour of the text."""
    axis.grid(visible=True, which="major", color=INK, alpha=0.25, linewidth=0.6)
    axis.tick_params(colors=INK, which="both")
    for name, spine in axis.spines.items():
        spine.set_color(INK)
        spine.set_visible(name in {"left", "bottom"})


def heading(axis: Axes, text: str, *, key_rows: int = 0) -> None:
    """What the vertical axis has, with its unit: above it, where it can be read without turning one's head.

    Args:
        axis: what it is of.
        text: the words.
        key_rows: of the legend between the two (see `key`).
    """
    axis.set_title(text, loc="left", fontsize=FONT_PT, color=INK, pad=9 + 17 * key_rows)


def below(axis: Axes, text: str) -> None:
    """What the horizontal axis has, with its unit."""
    axis.set_xlabel(text, color=INK)


def logarithmic(axis: Axis) -> None:
    """A logarithmic axis with a label at each power of ten, and between them where that is not too much.

    Call it when all is drawn and the limits are set.
    """
    (axis.axes.set_yscale if axis.axis_name == "y" else axis.axes.set_xscale)("log")  # type: ignore[attr-defined]
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high / max(low, 1e-9) < _DENSE else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def number(value: float) -> str:
    """A number as people read it: three digits, and commas in large ones."""
    if abs(value) >= 1_000:
        return f"{round(value):,}"
    return f"{value:.3g}"


def tell(  # noqa: PLR0913 - where it is, what it says, and how far from there
    axis: Axes, x: float, y: float, text: str, *, dx: float = 0, dy: float = 0, **more: Any
) -> None:
    """A label beside what it is about, so many points from it."""
    settings: dict[str, Any] = {"fontsize": SMALL_PT, "color": INK, "ha": "left", "va": "center"}
    axis.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", **(settings | more))


def key(axis: Axes, columns: int = 3, entries: tuple[list[Any], list[str]] | None = None) -> None:
    """A legend above the axes, below their heading: for what has no room for labels beside it."""
    handles, labels = entries or axis.get_legend_handles_labels()
    settings: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (-0.02, 1.0),
        "ncols": columns,
        "frameon": False,
        "fontsize": SMALL_PT,
        "handlelength": 2.2,
        "columnspacing": 1.2,
        "borderpad": 0,
        "labelcolor": INK,
    }
    axis.legend(handles, labels, **settings)
