"""Folders of load tests: each run has one of its own, in which nothing else is."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

RUNS = ROOT / "loadtests" / "runs"
# A load test is a run of one round.
ROUND = 1
# What may be in the folder of a run that somebody else started, before it begins.
FROM_RUNNER = ("locust.log", "workers.log")


def new_run(name: str) -> Path:
    """A new folder for a run of this scenario.

    Raises:
        ConfigurationError: nothing can be written there.
    """
    try:
        RUNS.mkdir(parents=True, exist_ok=True)
        # Two may start in one second.
        return Path(tempfile.mkdtemp(prefix=f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-", dir=RUNS))
    except OSError as error:
        raise ConfigurationError("loadtests/runs", f"{error.strerror}") from error


def empty_folder(folder: Path, but: Collection[str] = ()) -> Path:
    """The folder, which is made where it is not there; what is left in it of another run would be taken for this one's.

    Raises:
        ConfigurationError: it has something else in it, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        there = sorted({path.name for path in folder.iterdir()} - set(but))
    except OSError as error:
        raise ConfigurationError("--folder", f"{folder}: {error.strerror}") from error
    if there:
        raise ConfigurationError("--folder", f"{folder} is not empty: {there[0]}; each run needs a folder of its own")
    return folder


def round_folder(folder: Path) -> Path:
    """Where a run's only round is, with the histories of its processes."""
    return folder / "rounds" / f"{ROUND:03d}"


@contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Remove a run's folder where nothing was counted in it: a run that was refused, or interrupted, leaves none."""
    try:
        yield
    except BaseException:
        if not (folder / "load.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
