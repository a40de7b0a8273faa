"""Results of studies that nobody ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loadtests.studies import study
from loadtests.studies.study import Point, Result

if TYPE_CHECKING:
    from pathlib import Path

STARTED, FINISHED = "2026-01-01T10:00:00+00:00", "2026-01-01T10:05:00+00:00"


def write_studies(folder: Path, profile: str) -> None:
    """The studies `instances` and `contention`: Kairos scales best, and loses nothing."""
    folder.mkdir(parents=True)
    repetitions = 3 if profile == "quick" else 10
    grown = {"kairos": 6_000.0, "kairos_changed": 5_000.0, "bare": 4_000.0}
    points = [
        Point(
            subject=subject,
            x=count,
            repetition=repetition,
            values={
                "updates_per_s": one
                * count
                / (1 + 0.1 * (count - 1) + 0.01 * count * (count - 1))
                * _jitter(repetition),
                "generator_us_per_update": 60.0,
                "server_us_per_update": 70.0,
            },
        )
        for subject, one in grown.items()
        for count in (1, 2, 3, 4, 6, 8)
        for repetition in range(1, repetitions + 1)
    ]
    _write_study(folder, "instances", "How does throughput grow with processes?", "processes", points, profile)
    useful = {"kairos": 4_000.0, "kairos_read_first": 2_500.0, "watch_multi": 900.0, "lock": 700.0}
    useful["check_then_set"] = 3_000.0
    contended = [
        Point(
            subject=subject,
            x=writers,
            repetition=repetition,
            values={
                "useful_per_s": each * _jitter(repetition),
                "attempts_per_write": 1.0 + writers / 8,
                "slowest_share": 0.8 * _jitter(repetition),
                "lost": 500.0 if subject == "check_then_set" else 0.0,
            },
        )
        for subject, each in useful.items()
        for writers in (1, 2, 8, 32)
        for repetition in range(1, repetitions + 1)
    ]
    _write_study(folder, "contention", "How many writes of one session come through?", "writers", contended, profile)
    study.ask(folder, ["instances", "contention"])


def _jitter(repetition: int) -> float:
    return 1 + 0.01 * (repetition % 3 - 1)


def _write_study(folder: Path, name: str, question: str, axis: str, points: list[Point], profile: str) -> None:
    found = Result(
        format=study.FORMAT,
        study=name,
        question=question,
        axis=axis,
        profile=profile,
        repetitions=max(point.repetition for point in points),
        points=points,
        facts={"machine": {"cpu": "a processor", "cores": 2}},
        started_at=STARTED,
        finished_at=FINISHED,
        notes=["All processes share the cores with the server."],
    )
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(found))
