"""What a violation looks like: the picture that the checker drew of the subject that is wrong on purpose."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING

from loadtests.judging.counterexample import inlined
from reports.figures.style import Picture, alone

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = "check_then_set"
_PATTERN = f"validation/subjects/{SUBJECT}/rounds/*/violation.svg"


def counterexample(folder: Path) -> Picture | None:
    """The first one of a run's folder; None: there is none, or it cannot be read."""
    for path in sorted(folder.glob(_PATTERN)):
        try:
            svg = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        if svg.lstrip().startswith("<svg") and svg.rstrip().endswith("</svg>"):
            return _picture(svg, path.relative_to(folder).as_posix())
    return None


def _picture(svg: str, file: str) -> Picture:
    said = svg.partition("<title>")[2].partition("</title>")[0]
    inner = inlined(svg).replace('role="img"', 'style="max-width: 100%; height: auto"', 1)
    title = "What a violation looks like"
    description = f"Operations of one session over time, those that contradict each other marked. {unescape(said)}"
    caption = (
        f"From {SUBJECT}, which reads, compares and then writes, and is in every report so that the checker is seen to"
        " notice. Bold and framed: the two operations that cannot both be right. Blue: acknowledged; dashed: nobody"
        " knows."
    )
    return alone(Picture(inner, title, description, caption, file), title)
