from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.whole import write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What was there gives way to all of what is new, and nothing else is left in the folder."""
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    assert path == write_whole(path, b"new")
    assert ["report.json"] == [found.name for found in tmp_path.iterdir()]
    assert b"new" == path.read_bytes()


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_what_cannot_be_written_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A disk that is full leaves the file of before as it was, and no half of the new one beside it."""
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    write = Path.write_bytes

    def full(self: Path, _: object) -> None:
        write(self, b"ne")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, fails, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert {"report.json": b"old"} == {found.name: found.read_bytes() for found in tmp_path.iterdir()}
