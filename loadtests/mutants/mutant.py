"""What a mutant is, and how a script is broken."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import commands

if TYPE_CHECKING:
    from collections.abc import Callable


class Mutant(NamedTuple):
    """A broken variant, with one bug.

    Attributes:
        name: its name.
        guarantee: the number of the guarantee that it breaks; `harness` where it is what measures that is broken.
        bug: what is wrong with it, in a sentence.
        break_it: breaks this process.
        catcher: the check that is to notice it (see `catch.py`).
    """

    name: str
    guarantee: str
    bug: str
    break_it: Callable[[], None]
    catcher: str


class MisfitError(AssertionError):
    """What a mutant would replace is not there any more."""


def replaced(text: str, old: str, new: str, where: str) -> str:
    """The text with its one occurrence of `old` replaced.

    Raises:
        MisfitError: it does not occur exactly once.
    """
    if text.count(old) != 1:
        raise MisfitError(f"the mutant no longer fits {where}: {old!r} occurs {text.count(old)} times")
    return text.replace(old, new)


def edit(name: str, *changes: tuple[str, str]) -> None:
    """Replace pieces of a script, each of which occurs once: in this process from now on."""
    script: commands.Script = getattr(commands, name)
    text = script.text
    for old, new in changes:
        text = replaced(text, old, new, f"{script.name}.lua")
    setattr(commands, name, commands.Script(script.name, text, hashlib.sha1(text.encode()).hexdigest()))  # noqa: S324


def piece(name: str, start: str, end: str) -> str:
    """What stands in a script from the one text up to the other.

    Raises:
        MisfitError: they are not there.
    """
    text: str = getattr(commands, name).text
    if start not in text or end not in text:
        raise MisfitError(f"the mutant no longer fits {name}")
    first = text.index(start)
    return text[first : text.index(end, first)]


def edits(name: str, *changes: tuple[str, str]) -> Callable[[], None]:
    """What edits a script when it is called."""
    return lambda: edit(name, *changes)
