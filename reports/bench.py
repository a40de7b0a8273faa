"""`make bench`: time every operation, compare with the baseline, and fail on what became slower, and did so twice.

0: nothing became slower. 1: something did, in two batches. 2: it could not be told, or could not be run.

What is compared, and why: `reports/gate.py`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.benchmarks import GATED
from loadtests.ending import COULD_NOT_RUN, status_of, unwind_on_termination
from loadtests.measure import BENCHMARK_PROFILES
from loadtests.whole import write_whole
from reports.children import MeasuringFailed, run_to_its_end
from reports.folders import INTERRUPTED, new_run, whole_or_gone
from reports.gate import BASELINE, SECOND, Batch, changes, elsewhere, judge, read_baseline, slower
from reports.gate_tables import busy, compared, times, told, visibility
from reports.statistics import EXIT_STATUS
from reports.tables import signed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def measure(folder: Path, profile: str, operations: Sequence[str]) -> Batch:
    """Measure a batch, in another process.

    Raises:
        MeasuringFailed: it could not be measured.
    """
    command = [sys.executable, "-m", "loadtests.measure", str(folder), "--profile", profile, "--benchmarks"]
    status = run_to_its_end([*command, "--end-with-stdin", "--operations", *operations])
    if status != 0:
        raise MeasuringFailed(status)
    return Batch(folder)


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.bench", description=__doc__)
    parser.add_argument("--profile", choices=sorted(BENCHMARK_PROFILES), default="quick", help="how much to measure")
    parser.add_argument("--operations", nargs="+", choices=GATED, default=GATED, metavar="NAME", help="which; all")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports" / "runs", help="folder of all runs")
    parser.add_argument("--run", type=Path, help="a run that is there: judge it again")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="what to compare with")
    parser.add_argument("--write-baseline", action="store_true", help="let later runs be compared with this one")
    options = parser.parse_args()
    unwind_on_termination()
    return status_of(partial(_bench, options), MeasuringFailed, interrupted=lambda: INTERRUPTED)


def _bench(options: argparse.Namespace) -> int:
    # Before anything is measured: whether there is something to compare with.
    baseline = None if options.write_baseline else read_baseline(options.baseline)
    if options.run:
        first = Batch(options.run.resolve())
    else:
        folder = new_run(options.runs, f"bench-{options.profile}")
        with whole_or_gone(folder):
            first = measure(folder, options.profile, options.operations)
    report = _Report(first.folder)
    report.add(_tables(first))
    if baseline is None:
        return _write_baseline(first, options.baseline)
    second, found = None, []
    if not first.problems:
        found = changes(first, baseline)
        whose = f"{os.path.relpath(options.baseline)}, commit {baseline.commit}, {baseline.finished_at}"
        report.add(f"Compared with {whose}.\n{compared(found).explained()}")
        second = _second(first, slower(found), report, measures=not options.run)
    judged = judge(first, second, baseline)
    facts = {"verdict": judged.verdict.value, "reasons": judged.reasons, "elsewhere": elsewhere(first, baseline)}
    (first.folder / "bench.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    places = [f"compared with a baseline of another place: {line}" for line in facts["elsewhere"]]
    report.add("\n".join([*places, *judged.reasons, *busy(first), *told(judged, first, found)]))
    report.add(f"{signed(judged.verdict.value)}   {os.path.relpath(first.folder)}")
    return EXIT_STATUS[judged.verdict]


class _Report:
    """What is said on the terminal, and stored beside what was measured."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "bench.txt"
        self._file.write_text("", encoding="utf-8")

    def add(self, text: str) -> None:
        """A paragraph."""
        print(f"\n{text}", flush=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n\n")


def _tables(batch: Batch) -> str:
    shown = times(batch).explained()
    if not batch.problems or all("beside itself" in problem for problem in batch.problems):
        shown += f"\n\n{visibility(batch).explained()}"
    return shown


def _second(first: Batch, suspects: Sequence[str], report: _Report, *, measures: bool) -> Batch | None:
    """The batch of what is slower in the first: measured at once, or found where it was."""
    folder = first.folder / SECOND
    if not suspects:
        return None
    if not measures and not folder.exists():
        return None
    report.add(f"slower in one batch: {', '.join(suspects)}; measured once more ...")
    second = measure(folder, first.manifest["profile"], suspects) if measures else Batch(folder)
    report.add(visibility(second).explained())
    return second


def _write_baseline(batch: Batch, file: Path) -> int:
    if batch.problems:
        print(*batch.problems, "cannot be trusted: the baseline stays as it is", sep="\n", file=sys.stderr)
        return COULD_NOT_RUN
    lost = _operations_of(file) - set(batch.operations)
    if lost:
        raise ConfigurationError("--write-baseline", f"{file}: it would lose {', '.join(sorted(lost))}: measure all")
    write_whole(file, msgspec.json.format(msgspec.json.encode(batch.baseline())) + b"\n")
    print("", *busy(batch), f"written: {os.path.relpath(file)}", sep="\n")
    return 0


def _operations_of(file: Path) -> set[str]:
    """Of which operations a file has ratios; none where it is no baseline."""
    try:
        return set(read_baseline(file).ratios)
    except ConfigurationError:
        return set()


if __name__ == "__main__":
    sys.exit(main())
