from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.errors import ConfigurationError
from loadtests.load import folders
from loadtests.load.folders import FROM_RUNNER, empty_folder, gone_if_empty, new_run


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """What another run left would be judged with this one's: such a folder is refused, but for a log that begins it."""
    (tmp_path / "locust.log").touch()
    assert tmp_path == empty_folder(tmp_path, FROM_RUNNER)
    with pytest.raises(ConfigurationError, match=r"--folder: .* is not empty: locust\.log"):
        empty_folder(tmp_path)


@pytest.mark.parametrize("name", ["/proc/none", "/dev/null/none"])
def test_where_nothing_can_be_written(name: str) -> None:
    """The setting is named, and the cause."""
    with pytest.raises(ConfigurationError, match=f"--folder: {name}: [A-Z]"):
        empty_folder(Path(name))


def test_a_run_that_was_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder stays of a run in which nothing was counted; one with a result does."""
    monkeypatch.setattr(folders, "RUNS", tmp_path / "runs")
    found = [new_run("baseline"), new_run("baseline")]
    (found[0] / "load.json").touch()
    for folder in found:
        with pytest.raises(KeyboardInterrupt), gone_if_empty(folder):
            raise KeyboardInterrupt
    assert [True, False] == [folder.exists() for folder in found]
