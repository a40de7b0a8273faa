"""Folders of runs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = "interrupted; servers, processes and what was half measured are removed"


def new_run(runs: Path, profile: str) -> Path:
    """A folder for a new run; tried before anything is measured, so that no result is lost for want of a place.

    Raises:
        ConfigurationError: nothing can be written there.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        # Two may start in one second.
        folder = Path(tempfile.mkdtemp(prefix=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{profile}-", dir=runs))
        folder.chmod(0o755)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError("--runs", f"{runs}: {error.strerror}") from error
    return folder


@contextmanager
def whole_or_gone(folder: Path, *, unless: str = "") -> Iterator[None]:
    """Remove a run's folder where what measures it does not end: half a run tells nothing.

    Args:
        folder: of the run.
        unless: a pattern of files that tell something by themselves; where there is one, the folder stays.
    """
    try:
        yield
    except BaseException:
        if not (unless and any(folder.glob(unless))):
            shutil.rmtree(folder, ignore_errors=True)
        raise
