"""`python -m loadtests.mutants.worker MUTANT COMMAND …`: the command `kairos` of a core that is broken in one way.

Of `worker`, the members of its pool are broken, too.
"""

from __future__ import annotations

import subprocess
import sys
import time

from kairos_core import cli
from kairos_core.settings import child_environment
from loadtests import mutants


def main(mutant: str, *arguments: str) -> int:
    """Run the command; its exit status."""
    mutants.apply(mutant)
    if arguments[0] == "worker":
        _break_members(mutant)
    return cli.main(arguments)


def _break_members(mutant: str) -> None:
    from kairos_core.audit import pool  # noqa: PLC0415 - rq takes its time to import

    def start(self: pool.Pool, role: str) -> pool._Member:
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.mutants.worker", mutant, f"_{role}"],
            stdin=subprocess.PIPE,
            env=child_environment(self._settings),
            start_new_session=True,
        )
        return pool._Member(role, process, time.monotonic())  # noqa: SLF001

    pool.Pool._start = start  # type: ignore[method-assign]  # noqa: SLF001


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
