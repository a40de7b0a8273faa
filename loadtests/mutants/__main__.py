"""`python -m loadtests.mutants [NAME …]`: whether each mutant is noticed by the check that is meant for it.

Exit status 0: all are, and their checks are green on the unbroken core; 1: one is not, or a check is red; 2: something
could not be run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests.ending import unwind_on_termination
from loadtests.environment import harness, new_namespace
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT, GREEN, Caught, catch, status_of_mutants

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = OneLineParser(prog="python -m loadtests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; none: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found into a file, too")
    parser.add_argument("--evidence", action="store_true", help="say what was seen, also where all is as it should be")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - MUTANTS.keys())
    if unknown:
        parser.error(f"no such mutant: {', '.join(unknown)}")
    if options.list:
        for mutant in MUTANTS.values():
            print(f"{mutant.guarantee:<8}{mutant.name:<30}{mutant.bug}")
        return 0
    start = time.monotonic()
    try:
        with harness(new_namespace("mutants")) as settings:
            found = catch(settings, options.names or MUTANTS, lambda one: _tell(one, evidence=options.evidence))
    except ConfigurationError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    mutants = [one for one in found if one.mutant]
    controls = [one for one in found if not one.mutant]
    print(
        f"{sum(one.result == CAUGHT for one in mutants)} of {len(mutants)} mutants caught,"
        f" {sum(one.result == GREEN for one in controls)} of {len(controls)} checks green on the unbroken core,"
        f" {time.monotonic() - start:.0f} s"
    )
    return status_of_mutants(found)


def _tell(one: Caught, *, evidence: bool) -> None:
    print(one.line, flush=True)
    if evidence or one.result not in (CAUGHT, GREEN):
        print(f"        {one.evidence}", flush=True)


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
