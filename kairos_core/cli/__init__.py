"""The command `kairos`, on typer and rich: the extra `cli`.

`program` runs a command and says in one line what is wrong with a call; `described` is what each command tells of
itself; `terminal` is how things are shown; `commands` puts them together, from one file for each command or family.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from kairos_core.one_line import MISUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the words after `kairos`; None: those of this process.

    Returns:
        Its exit status.
    """
    missing = [name for name in _NEEDED if not _is_there(name)]
    if missing:
        needed = f"the command needs {' and '.join(missing)}: pip install 'kairos[cli]'"
        sys.stderr.write(f"kairos: {needed}\n")
        return MISUSED
    from kairos_core.cli.program import run  # noqa: PLC0415 - only here it is known that it can be imported

    return run(sys.argv[1:] if arguments is None else list(arguments))


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
