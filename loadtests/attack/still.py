"""An arena in which nothing can be disturbed: the servers that the environment names, or embedded ones."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kairos_core.settings import servers_given
from loadtests.environment import as_worker, harness, make_accounts, new_namespace
from loadtests.worker import worker_pool

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from kairos_core import Settings


@dataclass
class StillArena:
    """See `rounds.Arena`."""

    settings: Settings
    worker_settings: Settings
    pool: subprocess.Popen[str] | None = None
    kind: str = "still"
    instances: list[Any] = field(default_factory=list)

    def settings_for(self, *, proxied: bool) -> Settings:
        """See `rounds.Arena`.

        Raises:
            LookupError: by way of a proxy, which is not here.
        """
        if proxied:
            raise LookupError("this arena has no proxy")
        return self.settings


@contextmanager
def still_arena(*, workers: int = 2, log: Path | None = None) -> Iterator[StillArena]:
    """An arena with so many workers; with none, there is no audit.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(harness(new_namespace("attack")))
        settings = found if servers_given() else make_accounts(found)
        arena = StillArena(settings, as_worker(settings))
        if workers:
            arena.pool = stack.enter_context(worker_pool(arena.worker_settings, workers, log))
        yield arena
