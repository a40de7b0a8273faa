from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from loadtests.temporary import temporary_folder
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


def test_a_folder_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    """What nobody holds any more goes; what somebody holds stays, and what may just have been made, or is not ours."""
    with ExitStack() as stack:
        held = stack.enter_context(temporary_folder("held", tmp_path))
        with temporary_folder("done", tmp_path) as done:
            (done / "log").touch()
        left, young = held.with_name("kairos-while-left-1"), held.with_name("kairos-while-young-1")
        for folder in (left, young, tmp_path / "other", tmp_path / "mine"):
            folder.mkdir()
        (left / "log").touch()
        link = held.with_name("kairos-while-link-1")
        link.symlink_to(tmp_path / "mine")
        for path in (held, left, link, tmp_path / "other"):
            os.utime(path, (0, 0), follow_symlinks=False)
        new = stack.enter_context(temporary_folder("new", tmp_path))
        assert {held, young, link, new, tmp_path / "mine", tmp_path / "other"} == set(tmp_path.iterdir())
    assert not held.exists()
