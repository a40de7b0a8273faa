"""Folders of runs."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from kairos_core.errors import ConfigurationError


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
