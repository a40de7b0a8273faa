"""The answer to a notebook's question: a word with its sign, and why in a sentence or two."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from reports.tables import SIGNS

# Where nothing has a limit that this profile can tell.
NOT_JUDGED = "shown, not judged"
# What else a comparison says: a sign, and as which verdict it is coloured.
_OTHERS = {
    "worse": ("✘", "FAIL"),
    "better": ("✔", "PASS"),
    "no difference shown": ("=", "PASS"),
    "it could not be told": ("?", "INCONCLUSIVE"),
    NOT_JUDGED: ("–", "unjudged"),
}


class Answer(NamedTuple):
    """A verdict, shown as a box in a notebook and as text elsewhere.

    Attributes:
        word: PASS, FAIL, INCONCLUSIVE or INVALID; of a comparison `worse`, `better` and so on.
        sentences: why.
    """

    word: str
    sentences: list[str]

    @property
    def sign(self) -> str:
        """Tells the words apart without reading them, and without colour."""
        return SIGNS[self.word] if self.word in SIGNS else _OTHERS[self.word][0]

    def __str__(self) -> str:
        return "\n".join([f"{self.sign} {self.word}", *self.sentences])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        colour = (self.word if self.word in SIGNS else _OTHERS[self.word][1]).lower()
        below = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences)
        return f'<div class="box {colour}"><strong>{self.sign} {escape(self.word)}</strong>{below}</div>'
