"""An arena for an attack alone: the servers that the environment names, or embedded ones."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kairos_core.settings import servers_given
from loadtests.environment import harness, make_accounts, new_namespace
from loadtests.faults.arenas import given

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.faults.arenas import Arena


@contextmanager
def still_arena(*, workers: int = 2, log: Path | None = None) -> Iterator[Arena]:
    """An arena with so many workers; with none, there is no audit.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    with harness(new_namespace("attack")) as found:
        settings = found if servers_given() else make_accounts(found)
        with given(settings, workers=workers, timeout_s=settings.timeout_s, log=log) as arena:
            yield arena
