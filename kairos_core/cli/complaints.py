"""What is said on standard error, one line each."""

from __future__ import annotations

import sys

import typer

from kairos_core.errors import one_line
from kairos_core.settings import unknown_variables


class Misused(typer.BadParameter):
    """What an option or an argument was given is none; its message quotes nothing of it."""


def complain(text: str) -> None:
    """Say what is wrong, on one line whatever the text."""
    print(f"kairos: {one_line(text)}", file=sys.stderr)


def warn_of_unknown_variables() -> None:
    """Tell of variables that begin like ours and that nobody reads."""
    for name, nearest in unknown_variables():
        hint = f": {nearest} is meant?" if nearest else ""
        complain(f"warning: {name} is set, and is no setting{hint}")
