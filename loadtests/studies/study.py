"""What all studies share: a question, the points that answer it, and the file in which they are kept.

A study measures and does not judge: it writes what was seen, and `reports` says what that means. Its subjects take
turns within each repetition, so that a point is compared with those that were measured beside it, and a repetition has
fresh processes and connections, since that is the unit over which intervals are taken.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from kairos_core.errors import ConfigurationError
from loadtests.measure import machine_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# 1: NAME.json as `Result`; where samples are kept, NAME.npz has them in nanoseconds, by "subject/x/repetition/what".
FORMAT = 1
# How much is measured, from the least on. `brief` is for a report that has little time: it is `quick`, but for the
# study of instances, which then leaves out what nothing is judged by. `report_full` is `full` with shorter times.
PROFILES = ("brief", "quick", "report_full", "full")
# Of stores whose outboxes nothing drains while they are written to: none is to be full.
OUTBOX_LIMIT = 10_000_000
# In a folder of studies: the names of those that were asked for.
ASKED = "asked.json"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one subject at one place of the axis, in one repetition.

    Attributes:
        subject: who was measured, such as `kairos` or `watch_multi`.
        x: the place on the axis: participants, sessions, processes, writers, watchers, lanes, or a name.
        repetition: which of the repetitions, from 1 on; points of one repetition were measured beside each other.
        values: what was seen, by a name that ends in its unit: `p50_ms`, `useful_per_s`, `attempts_per_write`.
    """

    subject: str
    x: int | str
    repetition: int
    values: dict[str, float]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A study that was run.

    Attributes:
        format: the version of this format.
        study: its name.
        question: what it answers.
        axis: what `x` is, with its unit.
        profile: of `PROFILES`.
        repetitions: how often each point was measured.
        points: what was seen.
        facts: the machine, the servers and what else the numbers depend on.
        started_at: when it began, ISO 8601 in UTC.
        finished_at: when it ended.
        notes: what a reader has to know, in sentences.
    """

    format: int
    study: str
    question: str
    axis: str
    profile: str
    repetitions: int
    points: list[Point]
    facts: dict[str, Any]
    started_at: str
    finished_at: str
    notes: list[str]


class Bench(NamedTuple):
    """What a study is given.

    Attributes:
        profile: of `PROFILES`: how much it measures.
        say: tells the reader of progress, a line at a time.
        keep: takes samples in nanoseconds that are to be stored beside the points, under a key.
        note: takes a sentence that a reader has to know.
    """

    profile: str
    say: Callable[[str], object]
    keep: Callable[[str, Sequence[int]], object]
    note: Callable[[str], object]

    @property
    def is_quick(self) -> bool:
        """Whether it is to be done within a minute or so."""
        return self.profile in {"brief", "quick"}

    @property
    def is_of_a_report(self) -> bool:
        """Whether it is to have all repetitions, each of them short."""
        return self.profile == "report_full"

    @property
    def is_brief(self) -> bool:
        """Whether it is to be done in even less."""
        return self.profile == "brief"


class Study(NamedTuple):
    """One question.

    Attributes:
        name: of its files and on the command line.
        question: what it answers.
        axis: what `x` is, with its unit.
        measure: yields the points; starts the servers and processes that it needs, and ends them.
    """

    name: str
    question: str
    axis: str
    measure: Callable[[Bench], list[Point]]


def percentiles_ms(samples_ns: Sequence[int] | np.ndarray[Any, Any]) -> dict[str, float]:
    """p50 to p99.9, mean and count of samples; only those that so many samples can tell."""
    array = np.asarray(samples_ns, dtype=np.float64) / 1e6
    found = {"mean_ms": float(array.mean()), "count": float(len(array))}
    for name, share, fewest in (("p50", 0.5, 2), ("p95", 0.95, 20), ("p99", 0.99, 100), ("p99_9", 0.999, 1_000)):
        if len(array) >= fewest:
            found[f"{name}_ms"] = float(np.quantile(array, share, method="inverted_cdf"))
    return found


def run(study: Study, profile: str, folder: Path, say: Callable[[str], object]) -> Result:
    """Measure, and write the result to `folder`: its samples first, so that a study that has points is whole."""
    started = datetime.now(UTC)
    samples: dict[str, np.ndarray[Any, Any]] = {}
    notes: list[str] = []

    def keep(key: str, values_ns: Sequence[int]) -> None:
        samples[key] = np.asarray(values_ns, dtype=np.int64)

    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"machine": machine_facts()}
    points = study.measure(Bench(profile, say, keep, notes.append))
    facts["load_average_after"] = list(os.getloadavg())
    result = Result(
        format=FORMAT,
        study=study.name,
        question=study.question,
        axis=study.axis,
        profile=profile,
        repetitions=max((point.repetition for point in points), default=0),
        points=points,
        facts=facts,
        started_at=started.isoformat(timespec="seconds"),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=notes,
    )
    if samples:
        # numpy's own keywords, not ours: typed as flags.
        np.savez_compressed(folder / f"{study.name}.npz", **samples)  # type: ignore[arg-type]
    written = json.dumps(msgspec.to_builtins(result), indent=1)
    (folder / f"{study.name}.json").write_text(written + "\n", encoding="utf-8")
    return result


def ask(folder: Path, names: Sequence[str]) -> None:
    """Note which studies are to be in a folder, before the first is measured: so one that never ended is missed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ASKED).write_text(json.dumps(sorted({*asked(folder), *names})) + "\n", encoding="utf-8")


def asked(folder: Path) -> list[str]:
    """The studies that are to be in a folder; none where nobody has noted it.

    Raises:
        ConfigurationError: the note cannot be read.
    """
    try:
        return msgspec.json.decode((folder / ASKED).read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError("--folder", f"{folder}: {ASKED} cannot be read: {error}") from error


def read(file: Path) -> Result:
    """A result from its file.

    Raises:
        ValueError: it is none, or of another format.
    """
    found = msgspec.json.decode(file.read_bytes(), type=Result)
    if found.format != FORMAT:
        raise ValueError(f"{file}: format {found.format}, this version reads {FORMAT}")
    return found
