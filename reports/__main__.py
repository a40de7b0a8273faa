"""`make report`: measure, judge, execute the notebooks, write the page; the exit status is the verdict.

0: all targets met and all checks held. 1: one missed or broken. 2: it could not be told, or could not be run.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.measure import PROFILES, unwind_on_termination
from reports import results, tables
from reports.folders import INTERRUPTED, new_run, whole_or_gone
from reports.statistics import EXIT_STATUS

COULD_NOT_RUN = 2


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="quick", help="how much to measure")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports" / "runs", help="folder of all runs")
    parser.add_argument("--run", type=Path, help="a run that is there: write its page again")
    options = parser.parse_args()
    unwind_on_termination()
    try:
        if options.run:
            return _report(results.Run(options.run.resolve()))
        folder = _new_run(options.runs, options.profile)
        with whole_or_gone(folder):
            run = results.load(folder, options.profile)
        return _report(run, newest=True)
    except ConfigurationError as error:
        print(f"kairos: {error}", file=sys.stderr)
    except results.MeasuringFailed as error:
        if error.status != COULD_NOT_RUN:
            print(f"kairos: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"kairos: {INTERRUPTED}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 - Python's own status for an error is 1, which would say that a target was missed
        traceback.print_exc()
    return COULD_NOT_RUN


def _new_run(runs: Path, profile: str) -> Path:
    """A folder for a new run, whose page can be written where the newest one always is."""
    folder = new_run(runs, profile)
    if not os.access(results.LATEST.parent, os.W_OK):
        raise ConfigurationError("reports", f"{results.LATEST.parent}: the page cannot be written there")
    return folder


def _report(run: results.Run, *, newest: bool = False) -> int:
    from reports.build import build, publish  # noqa: PLC0415 - Jupyter takes its time to import

    page, verdict = build(run, lambda text: print(text, flush=True))
    shown = publish(page) if newest else page
    print()
    print(tables.targets(run).text())
    for check in run.checks:
        print(f"{check.guarantee}  {tables.signed('PASS' if check.passed else 'FAIL')}  {check.name}: {check.evidence}")
    for problem in run.problems:
        print(f"cannot be trusted: {problem}")
    print(f"\n{tables.signed(verdict.value)}   {os.path.relpath(shown)}   (this run: {os.path.relpath(page.parent)})")
    return EXIT_STATUS[verdict]


if __name__ == "__main__":
    sys.exit(main())
