"""`make report`: measure, execute the notebooks, judge, write the page; the exit status is the verdict.

0: all targets met and all guarantees held. 1: one missed or broken. 2: it could not be told, or could not be run.
"""

from __future__ import annotations

import io
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.lifeline import end_with_parent
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.ending import status_of, unwind_on_termination
from loadtests.shown import short
from reports.children import MeasuringFailed
from reports.findings import PAGE
from reports.folders import INTERRUPTED, new_run
from reports.parts import measure_missing, profile_of, profiles
from reports.statistics import EXIT_STATUS

if TYPE_CHECKING:
    import argparse

DEFAULT = "quick"
# What the notebooks and the page take once all is measured, for the time that is left.
_THEN_S = 40.0


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports", description=__doc__)
    parser.add_argument("--profile", choices=[*profiles()], help=f"how much to measure ({DEFAULT})")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports" / "runs", help="folder of all runs")
    parser.add_argument("--run", type=Path, help="a run that is there: write its report again, and measure nothing")
    parser.add_argument("--measure", action="store_true", help="with --run: measure first what is missing in it")
    parser.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    options = parser.parse_args()
    unwind_on_termination()
    if options.end_with_stdin:
        end_with_parent()
    _take_any_text()
    return status_of(partial(_report, options), MeasuringFailed, interrupted=lambda: INTERRUPTED)


def _report(options: argparse.Namespace) -> int:
    is_new = options.run is None
    profile = options.profile or DEFAULT
    if is_new:
        folder = _new_run(options.runs, profile)
    else:
        folder = options.run.resolve()
        profile = options.profile or _stored(folder)
    if is_new or options.measure:
        measure_missing(folder, profile, _say, then_s=_THEN_S)
    try:
        return _written(folder, profile, is_newest=is_new)
    except BaseException:
        # Whatever it was: what was measured took its time, and is there.
        _say(f"kept in {short(folder)}; .venv/bin/python -m reports --run {short(folder)} writes its report")
        raise


def _new_run(runs: Path, profile: str) -> Path:
    """A folder for a new run, whose page can be written where the newest one always is."""
    if not os.access(ROOT / "reports", os.W_OK):
        raise ConfigurationError("reports", f"{ROOT / 'reports'}: the page cannot be written there")
    return new_run(runs.resolve(), profile)


def _stored(folder: Path) -> str:
    """The profile of a run that is there."""
    found = profile_of(folder)
    if found is None and not (folder / "parts.json").exists():
        raise ConfigurationError("--run", f"{folder}: holds no run")
    return found or DEFAULT


def _written(folder: Path, profile: str, *, is_newest: bool) -> int:
    """Write the report and tell it; the exit status that its verdict has."""
    # Jupyter takes its time to import, and what is wrong with a call is said before.
    from reports.build import build, publish  # noqa: PLC0415
    from reports.coverage import write_coverage  # noqa: PLC0415
    from reports.terminal import told  # noqa: PLC0415
    from reports.trend import write_trend  # noqa: PLC0415

    if is_newest:
        write_coverage(folder)
    built = build(folder, profile, _say)
    page = publish(built) if is_newest else folder / PAGE
    trend = write_trend(folder.parent)
    print("\n" + "\n".join(told(built.report)))
    print(f"\npage: {short(page)}   (this run: {short(folder)}; all runs: {short(trend)})")
    return EXIT_STATUS[built.report.verdict]


def _take_any_text() -> None:
    """A terminal that knows no check mark shows another sign, and the verdict is the exit status all the same."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
