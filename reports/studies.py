"""`make studies`: how cost grows, and what a user would pick instead: run the studies, show them and judge their bars.

The exit status is the verdict. 0: all bars are met, or there are none. 1: one is missed. 2: it could not be told, or
could not be run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.ending import status_of, unwind_on_termination
from loadtests.studies.registry import STUDIES
from loadtests.studies.study import asked, read
from reports.children import MeasuringFailed, run_to_its_end
from reports.folders import INTERRUPTED, new_run, whole_or_gone
from reports.statistics import EXIT_STATUS, Verdict, overall
from reports.study_bars import PointMissingError, bars, judged
from reports.study_tables import tables_of, verdicts
from reports.tables import signed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from loadtests.studies.study import Result

_WHOLE_BEFORE = "kairos: what was done before is whole: --folder "
# What can be done about a verdict; nothing about a PASS.
_ADVICE = {
    Verdict.INCONCLUSIVE: "Too near to the bar for how much the repetitions differ: measure again, on a quieter machine"
    " or with PROFILE=full (10 repetitions).",
    Verdict.FAIL: "A bar is missed by more than the repetitions differ. The bars were set on a quiet machine.",
}


def read_all(folder: Path, names: Sequence[str]) -> list[Result]:
    """The results of these studies; without names, of all that were asked for, and that are there.

    Raises:
        ConfigurationError: one is not there or cannot be read.
    """
    begun = asked(folder)
    wanted = names or [name for name in STUDIES if name in begun or (folder / f"{name}.json").exists()]
    if not wanted:
        raise ConfigurationError("--folder", f"{folder}: holds no result of a study")
    found = []
    for name in wanted:
        try:
            found.append(read(folder / f"{name}.json"))
        except (OSError, ValueError) as error:
            raise ConfigurationError("--folder", f"{folder}: {name} cannot be read: {error}") from error
        if found[-1].study != name:
            raise ConfigurationError("--folder", f"{folder}: {name}.json is of the study {found[-1].study}")
    return found


def run_studies(names: Sequence[str], profile: str, folder: Path) -> None:
    """Measure, in another process.

    Raises:
        MeasuringFailed: it could not be measured.
    """
    command = [sys.executable, "-m", "loadtests.studies", *names, "--profile", profile, "--folder", str(folder)]
    status = run_to_its_end([*command, "--end-with-stdin"])
    if status != 0:
        raise MeasuringFailed(status)


def report(results: Sequence[Result], folder: Path) -> Verdict | None:
    """Print and write all tables, and judge the bars; None where there is none.

    Raises:
        PointMissingError: a study does not have what is to be judged.
    """
    texts = []
    for result in results:
        texts.append(f"{result.study}: {result.question} ({result.profile})\n")
        texts += [f"{table.explained()}\n" for table in tables_of(result)]
        texts += [*result.notes, ""]
    by_name = {result.study: result for result in results}
    found = [judged(bar, by_name[bar.study]) for bar in bars(by_name)]
    if found:
        texts.append(verdicts(found).explained())
    verdict = overall([one.verdict for one in found]) if found else None
    if verdict in _ADVICE:
        texts += ["", _ADVICE[verdict]]
    text = "\n".join(texts)
    (folder / "studies.txt").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n")
    return verdict


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.studies", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which, of {', '.join(STUDIES)}; none is named: all of them"
    )
    parser.add_argument("--profile", choices=("quick", "full"), default="quick", help="how much to measure")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports" / "runs", help="folder of all runs")
    parser.add_argument("--folder", type=Path, help="results that are there: show and judge them, measure nothing")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - STUDIES.keys())
    if unknown:
        parser.error(f"there is no study {unknown[0]}; there are {', '.join(STUDIES)}")
    unwind_on_termination()
    begun: list[Path] = []

    def interrupted() -> str:
        kept = [folder for folder in begun if folder.exists()]
        return "\n".join([INTERRUPTED, *(f"{_WHOLE_BEFORE}{os.path.relpath(folder)}" for folder in kept)])

    return status_of(lambda: _studies(options, begun), MeasuringFailed, PointMissingError, interrupted=interrupted)


def _studies(options: argparse.Namespace, begun: list[Path]) -> int:
    folder: Path = options.folder or new_run(options.runs, f"studies-{options.profile}")
    if options.folder is None:
        begun.append(folder)
        # A study that was done before is whole, and can be shown.
        with whole_or_gone(folder, unless="*.json"):
            run_studies(options.names, options.profile, folder)
    verdict = report(read_all(folder, options.names), folder)
    print(f"{signed(verdict.value) if verdict else 'measured; there is no bar to meet'}   {os.path.relpath(folder)}")
    return EXIT_STATUS[verdict] if verdict else 0


if __name__ == "__main__":
    sys.exit(main())
