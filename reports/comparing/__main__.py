"""Compare two runs: did this change make it better?

The exit status says. 0: no worse. 1: worse. 2: it could not be told, or could not be read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from reports.comparing import compared, sides, tables

_UNREADABLE = 2


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.comparing", description=__doc__)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="folder of the run before the change")
    parser.add_argument("after", type=Path, metavar="AFTER", help="folder of the run after it")
    options = parser.parse_args()
    try:
        found = compared(*sides(options.after, options.before))
    except ConfigurationError as error:
        print(f"kairos: {error}", file=sys.stderr)
        return _UNREADABLE
    for table in tables.every(found):
        print(table.explained(), end="\n\n")
    print(found.answer)
    return found.status


if __name__ == "__main__":
    sys.exit(main())
