"""`python -m loadtests.mutants.worker MUTANT COMMAND …`: the command `kairos` of a core that is broken in one way.

Of `worker`, the members of its pool are broken, too: each is this program with `member` as its command.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kairos_core.audit import member
from loadtests import mutants

if TYPE_CHECKING:
    from kairos_core.audit.pool import Pool, Role


def main(mutant: str, *arguments: str) -> int:
    """Run the command; its exit status."""
    mutants.apply(mutant)
    if arguments[0] == "member":
        return member.main(arguments[1:])
    if arguments[0] == "worker":
        _break_members(mutant)
    from kairos_core import cli  # noqa: PLC0415 - a member does without

    return cli.main(arguments)


def _break_members(mutant: str) -> None:
    from kairos_core.audit import pool  # noqa: PLC0415 - rq takes its time to import

    def command(self: Pool, role: Role) -> list[str]:
        _, _, *words = member.command(role, self._log_style)
        return ["-m", "loadtests.mutants.worker", mutant, "member", *words]

    pool.Pool._command = command  # type: ignore[method-assign]  # noqa: SLF001


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
