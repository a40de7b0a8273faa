"""What a run left behind, read: the latency benchmarks, the validation, the load tests, the studies, the coverage.

A run is one folder:

    manifest.json, checks.json, latency/    `python -m loadtests.measure`
    validation/                             `python -m loadtests validate`
    load/NAME/                              `python -m loadtests.load run NAME`
    studies/NAME.json                       `python -m loadtests.studies NAME`
    coverage.json                           `make coverage`, copied
    parts.json                              which of these were run, by what command, and how they ended
    notebooks/NAME.ipynb                    as they were executed
    report.json, report.html, summary.md    what follows from it

What cannot be read is a problem in a sentence and never an exception: the page must say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.load.facts import Load
    from loadtests.load.timeline import Timeline
    from loadtests.load.verdict import LoadVerdict
    from loadtests.studies.study import Result
    from loadtests.validation import Validation
    from reports.findings import Coverage, PartRun
    from reports.results import Run


class LoadTest(NamedTuple):
    """A load test of a run.

    Attributes:
        folder: of it.
        load: as it was.
        verdict: on its speed.
        correctness: VALID, VIOLATION or UNDECIDED.
        timeline: what was counted in each second, with the deliveries.
    """

    folder: Path
    load: Load
    verdict: LoadVerdict
    correctness: str
    timeline: Timeline


class Evidence:
    """What a run left behind.

    Attributes:
        folder: of the run.
        profile: quick or full.
    """

    folder: Path
    profile: str

    # Each is read when it is asked for first; None, or missing, where it is not there or cannot be read, which is then
    # among the problems.
    latency: Run | None
    validation: Validation | None
    loads: dict[str, LoadTest]
    studies: dict[str, Result]
    coverage: Coverage | None
    parts: list[PartRun]
    problems: list[str]


def load(folder: str | Path, profile: str = "quick", *parts: str) -> Evidence:
    """The run in a folder; these parts are measured first, in other processes, where they are not there yet.

    For notebooks: `load(folder, profile, "validation")`. A part is `latency`, `validation`, `load/NAME` or `studies`.

    Raises:
        ConfigurationError: it was written by another version, or with another profile.
        MeasuringFailed: it could not be measured.
    """
    raise NotImplementedError((folder, profile, parts))
