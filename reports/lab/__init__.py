"""What the notebooks call to show what was found, and to say what follows from it."""

from reports.lab import answers, tables
from reports.lab.answer import Answer
from reports.lab.show import Shown, show

__all__ = ["Answer", "Shown", "answers", "show", "tables"]
