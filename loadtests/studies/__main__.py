"""`python -m loadtests.studies NAME ... --folder F`: run studies and write their results as files."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from kairos_core.errors import ConfigurationError
from kairos_core.lifeline import end_with_parent
from loadtests.ending import unwind_on_termination
from loadtests.studies.registry import STUDIES
from loadtests.studies.study import PROFILES, ask, run


def main() -> int:
    """Run from the command line; status 2 where it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.studies", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*STUDIES, []], help="which; all, if none is named")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    options = parser.parse_args()
    unwind_on_termination()
    if options.end_with_stdin:
        end_with_parent()
    try:
        names = options.names or [*STUDIES]
        ask(options.folder, names)
        for name in names:
            begun = time.monotonic()
            run(STUDIES[name], options.profile, options.folder, lambda text: print(text, flush=True))
            print(f"study     {name}: done in {time.monotonic() - begun:.0f} s", flush=True)
    except (ConfigurationError, OSError) as error:
        # Of the system's errors, above all that a disk is full.
        print(f"kairos: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
