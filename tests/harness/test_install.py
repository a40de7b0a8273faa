"""`.ci/install.py`, by which `make setup` installs the lock in two processes."""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING, Any

import pytest

from loadtests import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The script's names."""
    return runpy.run_path(str(ROOT / ".ci" / "install.py"), run_name="install")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_parts_are_the_lock(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: int
) -> None:
    """Each requirement of the lock, with all of its hashes, is installed by one process, and nothing else is."""
    commands: list[tuple[list[str], ...]] = []

    def note(*found: list[str]) -> int:
        commands.append(found)
        # What fails is not built upon.
        return 3

    monkeypatch.setitem(script["install"].__globals__, "side_by_side", note)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert 3 == script["install"](processes)
    (pips,) = commands
    assert processes == len(pips)
    for command in pips:
        assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(command)
    parts = [script["requirements"](file.read_text(encoding="utf-8")) for file in sorted(tmp_path.iterdir())]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert processes == len(parts)
    assert sorted(script["requirements"](lock)) == sorted(found for part in parts for found in part)
    assert lock == "".join(script["requirements"](lock))
    assert len([line for line in lock.splitlines() if not line.startswith(" ")]) == sum(map(len, parts))


@pytest.mark.parametrize("statuses", [(3, 0), (0, 3)])
def test_one_that_fails_is_a_failure(script: dict[str, Any], statuses: tuple[int, ...]) -> None:
    """A set-up of which one process failed ends with that process's status, whichever it is."""
    assert 3 == script["side_by_side"](
        *([sys.executable, "-S", "-c", f"raise SystemExit({status})"] for status in statuses)
    )
