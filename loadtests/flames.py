"""A flame graph as one SVG file: nothing is loaded, nothing is run, and a browser shows the rest on hovering."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH, _ROW, _MARGIN, _HEADER = 1200.0, 17.0, 10.0, 62.0
# Narrower ones are no more than a line.
_NARROWEST = 0.3
# Of a monospaced character at the size in which names are written.
_CHARACTER = 6.1
_STYLE = "text{font:10px ui-monospace,Menlo,Consolas,monospace}.title{font-size:14px}rect{stroke:#fff;stroke-width:.4}"


class Frame:
    """A function as it was called from others.

    Attributes:
        name: of the function, with where it is.
        kind: what it counts as, which decides its colour.
        seconds: in it, and in what it called.
        children: what it called, by name.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.seconds = 0.0
        self.children: dict[str, Frame] = {}

    def add(self, stack: Iterable[tuple[str, str]], seconds: float) -> None:
        """Add time that was spent under this frame.

        Args:
            stack: name and kind of those called, the outermost first.
            seconds: how long.
        """
        frame = self
        frame.seconds += seconds
        for name, kind in stack:
            frame = frame.children.setdefault(name, Frame(name, kind))
            frame.seconds += seconds

    def depth(self, least_s: float = 0.0) -> int:
        """How many frames of no less than so much time are above each other, this one included."""
        return 1 + max(
            (child.depth(least_s) for child in self.children.values() if child.seconds >= least_s), default=0
        )


def flame_graph(root: Frame, title: str, colours: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The picture.

    Args:
        root: all time; what it called stands above it.
        title: over the picture.
        colours: by kind, in the order of the legend.
        notes: a line each, under the title.
    """
    scale = (_WIDTH - 2 * _MARGIN) / root.seconds if root.seconds else 0.0
    rows = root.depth(_NARROWEST / scale) if scale else 1
    height = _HEADER + 13 * len(notes) + rows * _ROW + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" width="{_WIDTH:.0f}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH:.0f}" height="{height:.0f}" fill="#fff"/>',
        f'<text class="title" x="{_MARGIN}" y="22">{escape(title)}</text>',
    ]
    parts += [f'<text x="{_MARGIN}" y="{38 + 13 * number}">{escape(note)}</text>' for number, note in enumerate(notes)]
    across = _MARGIN
    for kind, colour in colours.items():
        line = 34 + 13 * len(notes)
        parts.append(f'<rect x="{across:.1f}" y="{line}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{across + 14:.1f}" y="{line + 9}">{escape(kind)}</text>')
        across += 28 + _CHARACTER * len(kind)
    _draw(root, _MARGIN, height - _MARGIN - _ROW, scale, root.seconds, colours, parts)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _draw(  # noqa: PLR0913, PLR0917 - a frame, its place, and what is the same for all
    frame: Frame,
    left: float,
    top: float,
    scale: float,
    total_s: float,
    colours: Mapping[str, str],
    parts: list[str],
) -> None:
    width = frame.seconds * scale
    if width < _NARROWEST:
        return
    said = f"{frame.name}: {frame.seconds / total_s:.1%} ({frame.kind})"
    parts.append(
        f'<g><title>{escape(said)}</title><rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}"'
        f' height="{_ROW - 1:.0f}" fill="{colours.get(frame.kind, "#ddd")}"/>'
    )
    room = int((width - 6) / _CHARACTER)
    if room >= 4:
        name = frame.name if len(frame.name) <= room else frame.name[: room - 1] + "…"
        parts.append(f'<text x="{left + 3:.2f}" y="{top + 11.5:.2f}">{escape(name)}</text>')
    parts.append("</g>")
    # By name, so that two pictures can be laid side by side.
    for child in sorted(frame.children.values(), key=lambda child: child.name):
        _draw(child, left, top - _ROW, scale, total_s, colours, parts)
        left += child.seconds * scale
