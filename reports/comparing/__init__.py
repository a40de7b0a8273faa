"""Two runs side by side: what became slower, faster, broken or whole again, and what would have been seen."""

from reports.comparing import tables
from reports.comparing.changes import Word
from reports.comparing.runs import Side, earlier, sides
from reports.comparing.verdict import Compared, compared, picture

__all__ = ["Compared", "Side", "Word", "compared", "earlier", "picture", "sides", "tables"]
