"""Compare two runs: did this change make it better?

The exit status says. 0: no worse. 1: worse. 2: it could not be told, or could not be read.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.one_line import OneLineParser
from loadtests.ending import status_of
from reports.comparing import compared, sides, tables

if TYPE_CHECKING:
    import argparse


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.comparing", description=__doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="folder of the run before the change")
    parser.add_argument("after", type=Path, metavar="AFTER", help="folder of the run after it")
    return status_of(partial(_compare, parser.parse_args()), interrupted=lambda: "interrupted; nothing was written")


def _compare(options: argparse.Namespace) -> int:
    found = compared(*sides(options.after, options.before))
    for table in tables.every(found):
        print(table.explained(), end="\n\n")
    print(found.answer)
    return found.status


if __name__ == "__main__":
    sys.exit(main())
