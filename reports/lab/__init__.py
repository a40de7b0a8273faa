"""What the notebooks call to show what was found, and to say what follows from it."""

from reports.lab import answers, tables
from reports.lab.answer import Answer
from reports.lab.read import Judged, drain, durability, judged, pictures, studied
from reports.lab.show import Shown, show

__all__ = [
    "Answer",
    "Judged",
    "Shown",
    "answers",
    "drain",
    "durability",
    "judged",
    "pictures",
    "show",
    "studied",
    "tables",
]
