"""What the tests reach of the core, on its way into a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from coverage import CoverageData

from kairos_core.errors import ConfigurationError
from reports.coverage import CORE, Stored, digest_of, measured, write_coverage
from reports.evidence import Evidence
from tests.made_run import coverage

if TYPE_CHECKING:
    from pathlib import Path

_MANAGERS = ("kairos_core/state_manager.py",)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A core of two files."""
    folder = tmp_path / "core"
    (folder / "scripts").mkdir(parents=True)
    (folder / "manager.py").write_text("one = 1\n")
    (folder / "scripts" / "write.lua").write_text("return 1\n")
    return folder


@pytest.fixture
def stored(tmp_path: Path, core: Path) -> Path:
    """What was measured of it."""
    found = Stored(**msgspec.structs.asdict(coverage("of the tests")), digest=digest_of(core))
    path = tmp_path / "stored.json"
    path.write_bytes(msgspec.json.encode(found))
    return path


def test_what_was_measured_is_of_this_core(tmp_path: Path, core: Path, stored: Path) -> None:
    """A run takes along what was measured, and says that it is of the core as it is."""
    write_coverage(tmp_path, stored=stored, core=core)
    evidence = Evidence(tmp_path)
    assert evidence.coverage == coverage("of the tests", is_of_this=True)
    assert [] == evidence.problems


@pytest.mark.parametrize("name", ["manager.py", "scripts/write.lua", "new.py"])
def test_of_another_core_it_is_said(tmp_path: Path, core: Path, stored: Path, name: str) -> None:
    """One byte of any file, or one file more, and what was measured is of another core."""
    with (core / name).open("a") as file:
        file.write("\n")
    write_coverage(tmp_path, stored=stored, core=core)
    assert Evidence(tmp_path).coverage == coverage("of the tests", is_of_this=False)


def test_a_file_of_another_name_is_another_core(core: Path) -> None:
    """Names count, and what Python compiled does not."""
    before = digest_of(core)
    (core / "__pycache__").mkdir()
    (core / "__pycache__" / "manager.pyc").write_bytes(b"compiled")
    assert before == digest_of(core)
    (core / "manager.py").rename(core / "managers.py")
    assert before != digest_of(core)


def test_without_a_measurement_there_is_none(tmp_path: Path) -> None:
    """Where nothing was measured, a run has no coverage, which is no problem."""
    write_coverage(tmp_path, stored=tmp_path / "stored.json")
    assert [] == list(tmp_path.iterdir())


def test_what_cannot_be_read_is_a_problem_of_the_run(tmp_path: Path) -> None:
    """A measurement that is broken is not left out in silence."""
    stored = tmp_path / "stored.json"
    stored.write_bytes(b'{"commit": 1}')
    write_coverage(tmp_path, stored=stored)
    evidence = Evidence(tmp_path)
    assert evidence.coverage is None
    assert ["coverage.json"] == [problem.split()[0] for problem in evidence.problems]


def test_coverage_is_what_coverage_says(tmp_path: Path) -> None:
    """Of one file that was run from its first line to its last and nothing else, only its own share is large."""
    path = tmp_path / ".coverage"
    data = CoverageData(basename=str(path))
    line_by_line = [(line, line + 1) for line in range(1, 1_000)]
    data.add_arcs({str(CORE / "state_manager.py"): line_by_line, str(CORE / "audit" / "jobs.py"): [(-1, 1)]})
    data.write()
    found = measured(_MANAGERS, digest_of(), path)
    assert found.is_of_this
    assert set(found.files) >= {"kairos_core/state_manager.py", "kairos_core/audit/jobs.py"}
    assert 50 < found.files["kairos_core/state_manager.py"] == found.managers_percent
    assert 0 < found.missing < found.lines
    assert 0 < found.all_percent < found.managers_percent
    assert 0 == found.audit_percent


def test_a_core_that_changed_meanwhile_is_not_told_of(tmp_path: Path) -> None:
    """What was tested is of no one core, if that was changed while the tests ran."""
    with pytest.raises(ConfigurationError, match="changed while it was tested"):
        measured(_MANAGERS, "another", tmp_path / ".coverage")


def test_of_nothing_nothing_is_told(tmp_path: Path) -> None:
    """Without data there is an error and no coverage of 0 %."""
    with pytest.raises(ConfigurationError, match="nothing was measured"):
        measured(_MANAGERS, digest_of(), tmp_path / ".coverage")
