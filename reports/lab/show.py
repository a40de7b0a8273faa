"""Shows what a cell has: tables and pictures, one or many, or that there is none."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOTHING = "Nothing was measured of it in this run."


class Shown(NamedTuple):
    """Things below each other."""

    things: list[object]

    def __str__(self) -> str:
        return "\n\n".join(_text(thing) for thing in self.things) or _NOTHING

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "\n".join(_html(thing) for thing in self.things) or f"<p>{_NOTHING}</p>"


def show(*things: object) -> Shown:
    """Tables, pictures, sentences, lists of these, and None for what is not there: below each other in one cell."""
    return Shown(list(_flat(things)))


def _flat(things: Iterable[object]) -> Iterable[object]:
    for thing in things:
        # A table and a picture are tuples themselves.
        if isinstance(thing, list):
            yield from _flat(thing)
        elif thing is not None:
            yield thing


def _html(thing: object) -> str:
    made = getattr(thing, "_repr_html_", None)
    if made is None:
        return f"<p>{escape(str(thing))}</p>"
    title = getattr(thing, "title", "")
    return (f"<h3>{escape(str(title))}</h3>" if title else "") + str(made())


def _text(thing: object) -> str:
    explained = getattr(thing, "explained", None)
    if explained is not None:
        return str(explained())
    return str(getattr(thing, "description", thing))
