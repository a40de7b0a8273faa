"""A process of the worker pool: `python -m kairos_core.audit.member [--log text|json] worker|scheduler`.

The pool starts it, nobody else. It is no command of `kairos`: it needs none of what that one shows things with, and it
ends with the pool, whose pipe is its standard input.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from kairos_core import logs
from kairos_core.errors import ConfigurationError
from kairos_core.lifeline import end_with_parent
from kairos_core.one_line import MISUSED, OneLineParser
from kairos_core.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from kairos_core.audit.pool import Role


def command(role: Role, log: str) -> list[str]:
    """The words after the interpreter's that start a member; its role is the last one.

    Args:
        role: what it is to do.
        log: how it writes its log, one of `logs.STYLES`.
    """
    return ["-m", "kairos_core.audit.member", "--log", log, role]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do a role's work until SIGTERM, SIGINT, or until standard input closes; return the exit status."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log)
    try:
        from kairos_core.audit import jobs  # noqa: PLC0415 - rq takes its time to import

        end_with_parent()
        run = jobs.run_worker if options.role == "worker" else jobs.run_scheduler
        run(Settings.from_env())
    except ConfigurationError as error:
        sys.stderr.write(f"kairos: {error}\n")
        return MISUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="kairos_core.audit.member", description="A process of the pool of `kairos worker`.")
    parser.add_argument("--log", choices=logs.STYLES, default="text", help="how it writes its log (default text)")
    parser.add_argument("role", choices=("worker", "scheduler"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
