"""A server for each level of durability, to measure side by side what each costs.

Whatever store the environment names, these are servers of their own on this machine: no single configuration can be all
three, and what a write costs without a file is only told by a server that has none.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.settings import LocalSettings
from loadtests.servers.valkeys import LaunchError, valkeys

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names the servers to a process that is to use those of another.
VARIABLE = "KAIROS_BENCHMARK_LEVELS"


@contextmanager
def level_servers() -> Iterator[dict[str, str]]:
    """Addresses by level: a plain server, one that answers when its disk has a write, and one with a replica.

    Raises:
        ConfigurationError: they could not be started.
    """
    named = os.environ.get(VARIABLE)
    if named:
        yield json.loads(named)
        return
    try:
        with valkeys(LocalSettings.from_env().folder) as launcher:
            plain, disk = launcher.start(), launcher.start("appendonly yes", "appendfsync always")
            primary = launcher.start()
            launcher.replica_of(primary)
            launcher.wait_for_replica(primary)
            yield {"memory": plain.url, "fsync": disk.url, "replicated": primary.url}
    except (LaunchError, TimeoutError) as error:
        raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"the servers for durability: {error}") from error


def file_system(folder: str) -> str:
    """The type of file system that a folder is on, such as ext4, or `?`: where it is tmpfs, no disk is waited for."""
    path = Path(folder).resolve()
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "?"
    over = [(len(Path(where).parts), kind) for _, where, kind, *_ in mounts if path.is_relative_to(where)]
    # Of several at one place, the last one is seen.
    return max(reversed(over), key=lambda found: found[0], default=(0, "?"))[1]
