"""A made run, read once, for the tests of what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reports.evidence import Evidence
from tests.judged_runs import put
from tests.made_run import made_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound run; nobody writes into it."""
    return made_run(tmp_path_factory.mktemp("judging") / "run")


@pytest.fixture(scope="session")
def made_evidence(made_folder: Path) -> Evidence:
    """It, read once for all."""
    evidence = Evidence(made_folder)
    evidence.read_all()
    return evidence


@pytest.fixture
def sound(made_folder: Path, made_evidence: Evidence) -> Evidence:
    """What it left behind; a test may put something else in the place of a part."""
    evidence = Evidence(made_folder)
    put(evidence, latency=made_evidence.latency, loads=dict(made_evidence.loads), studies=dict(made_evidence.studies))
    put(evidence, contradictions=made_evidence.contradictions)
    return evidence
