"""What a run left behind, read: the latency benchmarks, the validation, the load tests, the studies, the coverage.

A run is one folder:

    manifest.json, checks.json, latency/    `python -m loadtests.measure`
    validation/                             `python -m loadtests validate`
    load/NAME/                              `python -m loadtests.load run NAME`
    studies/NAME.json                       `python -m loadtests.studies NAME`
    coverage.json                           `make coverage`, copied
    parts.json                              which of these were run, by what command, and how they ended
    said/NAME.txt                           all that such a command said
    notebooks/NAME.ipynb                    as they were executed
    report.json, report.html, summary.md    what follows from it

What cannot be read is a problem in a sentence and never an exception: the page must say so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from kairos_core.errors import ConfigurationError
from loadtests.history import HistoryError
from loadtests.judging.judge import RunVerdict, records_of
from loadtests.judging.verdict import Status
from loadtests.load.facts import Load, LoadError, read_load
from loadtests.load.run import told_of
from loadtests.load.timeline import Deliveries, Timeline
from loadtests.load.verdict import LoadVerdict, read_load_verdict
from loadtests.studies.study import Result, read
from loadtests.validation import Validation, read_validation
from reports.agreement import Contradiction, contradictions
from reports.findings import Coverage, PartRun
from reports.results import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATENCY, VALIDATION, LOAD, STUDIES = "latency", "validation", "load", "studies"
PARTS, COVERAGE = "parts.json", "coverage.json"
_T = TypeVar("_T")


class LoadTest(NamedTuple):
    """A load test of a run.

    Attributes:
        folder: of it.
        load: as it was.
        verdict: on its speed.
        correctness: VALID, VIOLATION or UNDECIDED.
        timeline: what was counted in each second, with the deliveries.
        judged: all that the judge found in its history; None: nobody judged it.
        deliveries: of its updates; None: they are not known.
        records: how many its histories hold.
    """

    folder: Path
    load: Load
    verdict: LoadVerdict
    correctness: str
    timeline: Timeline
    judged: RunVerdict | None = None
    deliveries: Deliveries | None = None
    records: int = 0


class Evidence:
    """What a run left behind; each part is read when it is asked for first.

    Attributes:
        folder: of the run.
        problems: what is there and cannot be read, in sentences; all of them once `read_all` was called.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []

    def read_all(self) -> None:
        """Read every part, so that all problems are known."""
        _ = self.latency, self.validation, self.loads, self.studies, self.coverage, self.parts, self.contradictions

    @cached_property
    def latency(self) -> Run | None:
        """The latency benchmarks and the checks between instances."""
        return self._read(LATENCY, lambda: _run(self.folder)) if (self.folder / "manifest.json").exists() else None

    @cached_property
    def validation(self) -> Validation | None:
        """What attacks, faults and mutants showed."""
        folder = self.folder / VALIDATION
        return self._read(VALIDATION, lambda: read_validation(folder)) if folder.exists() else None

    @cached_property
    def loads(self) -> dict[str, LoadTest]:
        """The load tests by their scenarios, in the order in which they were run."""
        found = {}
        for folder in sorted((self.folder / LOAD).glob("*/"), key=_age):
            name = f"{LOAD}/{folder.name}"
            test = self._read(name, lambda folder=folder: _load_test(folder))  # type: ignore[misc]
            if test is not None:
                found[folder.name] = test
        return found

    @cached_property
    def studies(self) -> dict[str, Result]:
        """The studies by their names."""
        found = {}
        for path in sorted((self.folder / STUDIES).glob("*.json")):
            if path.name == "asked.json":
                continue
            result = self._read(f"{STUDIES}/{path.stem}", lambda path=path: _study(path))  # type: ignore[misc]
            if result is not None:
                found[path.stem] = result
        return found

    @cached_property
    def coverage(self) -> Coverage | None:
        """How much of the core the tests reach, where that was measured."""
        return self._decoded(COVERAGE, Coverage)

    @cached_property
    def parts(self) -> list[PartRun]:
        """What was run."""
        return self._decoded(PARTS, list[PartRun]) or []

    @cached_property
    def contradictions(self) -> list[Contradiction]:
        """Where its files do not fit together; load tests are judged again for it, which takes seconds."""
        return contradictions(self)

    def _decoded(self, name: str, kind: type[_T]) -> _T | None:
        path = self.folder / name
        return self._read(name, lambda: msgspec.json.decode(path.read_bytes(), type=kind)) if path.exists() else None

    def _read(self, name: str, read_it: Callable[[], _T]) -> _T | None:
        try:
            return read_it()
        except (ConfigurationError, LoadError, HistoryError, OSError, ValueError) as error:
            self.problems.append(f"{name} cannot be read: {error}")
            return None


def moment(text: str) -> datetime:
    """A time of ISO 8601, in UTC; one that says no zone is meant so.

    Raises:
        ValueError: it is none.
    """
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _run(folder: Path) -> Run:
    found = Run(folder)
    for name in ("started_at", "finished_at"):
        _check_moment(found.manifest.get(name))
    return found


def _study(path: Path) -> Result:
    found = read(path)
    for text in (found.started_at, found.finished_at):
        _check_moment(text)
    return found


def _check_moment(text: object) -> None:
    """What says no time is from before that was written down; what says a wrong one is not to be trusted."""
    if text:
        moment(str(text))


def _age(folder: Path) -> str:
    """When a load test began, for sorting; of one that cannot be read, last."""
    try:
        return read_load(folder).began_at
    except LoadError:
        return "~"


def _load_test(folder: Path) -> LoadTest:
    load, verdict = read_load(folder), read_load_verdict(folder)
    _check_moment(load.began_at)
    path = folder / "verdict.json"
    judged = msgspec.json.decode(path.read_bytes(), type=RunVerdict) if path.exists() else None
    correctness = str(judged.status) if judged else str(Status.UNDECIDED)
    records = records_of(folder / "rounds" / "001")
    deliveries = told_of(load, records)
    timeline = Timeline(load.seconds, deliveries)
    return LoadTest(folder, load, verdict, correctness, timeline, judged, deliveries, len(records))
