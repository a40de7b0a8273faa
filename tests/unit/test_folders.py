from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.folders import new_run, whole_or_gone

if TYPE_CHECKING:
    from pathlib import Path


def test_half_a_run_is_removed(tmp_path: Path) -> None:
    """What measures and does not end, be it by Ctrl-C, leaves no folder that looks like a run."""
    folder = new_run(tmp_path, "quick")
    (folder / "latency").mkdir()
    with pytest.raises(KeyboardInterrupt), whole_or_gone(folder, unless="*.json"):
        raise KeyboardInterrupt
    assert [] == list(tmp_path.iterdir())


def test_what_tells_something_by_itself_stays(tmp_path: Path) -> None:
    """A study that was done before the interruption is kept, and so is a run that ended."""
    folder = new_run(tmp_path, "quick")
    (folder / "contention.json").touch()
    with pytest.raises(KeyboardInterrupt), whole_or_gone(folder, unless="*.json"):
        raise KeyboardInterrupt
    with whole_or_gone(folder):
        pass
    assert (folder / "contention.json").exists()
