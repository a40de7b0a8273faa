from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.attack.forks import Forks
from loadtests.faults.arenas import GIVEN, Arena

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings
    from loadtests.attack.attacker import Start


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts processes, which takes long unless they are forks."""
    with Forks() as forks:
        yield forks.start


@pytest.fixture
def arena(settings: Settings, worker_settings: Settings) -> Arena:
    """Where a test attacks; without workers."""
    return Arena(GIVEN, settings, worker_settings)
