"""`python -m loadtests.load`: runs a load test from its servers to its verdicts, and judges a stored one again.

Exit status 0: fast enough, and right; 1: one of them not; 2: it could not be told, or run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.lifeline import end_with_parent
from kairos_core.one_line import OneLineParser
from loadtests.attack.rounds import RoundError
from loadtests.ending import status_of, unwind_on_termination
from loadtests.history import HistoryError
from loadtests.load.facts import LoadError
from loadtests.load.folders import empty_folder, gone_if_empty, new_run
from loadtests.load.numbers import MOST_PLACES
from loadtests.load.run import Asked, judge_again, run
from loadtests.load.summary import summary
from loadtests.load.verdict import exit_status
from loadtests.scenarios import offered, scenario_named
from loadtests.shown import short
from loadtests.subjects.registry import LOADABLE, make_ready

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from loadtests.load.run import Verdicts

_TOLD = 5
_MOST = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = _parser().parse_args(arguments)
    return status_of(
        lambda: int(options.do(options)),
        LoadError,
        HistoryError,
        RoundError,
        name="load",
        interrupted=lambda: "interrupted; servers and processes are removed",
    )


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m loadtests.load", description=__doc__)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run", help="run a load test, and judge it")
    running.add_argument("scenario", nargs="?", default="", help="which; `list` has all of them")
    running.add_argument("--time", type=float, default=1.0, help="so many times its time (%(default)s)")
    running.add_argument("--size", type=float, default=1.0, help="with so many times its sessions (%(default)s)")
    running.add_argument("--instances", type=int, default=2, help="processes of the service (%(default)s)")
    running.add_argument("--workers", type=int, default=2, help="processes that drain the audit (%(default)s)")
    running.add_argument(
        "--subject",
        default="kairos",
        help=f"what: {', '.join(LOADABLE)}, or a state manager of yours as package.module:Class (%(default)s)",
    )
    running.add_argument("--seed", type=int, default=0, help="what all is drawn from; 0: another each time")
    running.add_argument("--folder", type=Path, help="where the run goes; none: a new folder of loadtests/runs")
    running.add_argument("--quiet", action="store_true", help="do not show how it goes")
    running.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    running.set_defaults(do=_run)
    judging = commands.add_parser("judge", help="judge a stored run again")
    judging.add_argument("folder", type=Path, metavar="RUN", help="a folder of loadtests/runs")
    judging.set_defaults(do=lambda options: _tell(options.folder, judge_again(options.folder)))
    listing = commands.add_parser("list", help="list the load tests")
    listing.set_defaults(do=_list)
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.end_with_stdin:
        end_with_parent()
    make_ready(options.subject, LOADABLE)
    scenario = scenario_named(options.scenario).scaled(options.time, options.size)
    for name, count, most in (("INSTANCES", options.instances, MOST_PLACES), ("--workers", options.workers, _MOST)):
        if not 1 <= count <= most:
            raise ConfigurationError(name, f"{count}: from 1 to {most}")
    if scenario.subject not in ("", options.subject):
        raise ConfigurationError("SCENARIO", f"{options.scenario} is of the subject {scenario.subject} alone")
    if options.seed < 0:
        raise ConfigurationError("SEED", f"{options.seed}: a number from 0 on")
    # Locust runs elsewhere.
    folder = empty_folder(options.folder.resolve()) if options.folder else new_run(options.scenario)
    asked = Asked(
        name=options.scenario,
        scenario=scenario,
        time=options.time,
        size=options.size,
        subject=options.subject,
        instances=options.instances,
        workers=options.workers,
        seed=options.seed,
        folder=folder,
        is_quiet=options.quiet,
    )
    print(f"{options.scenario}: {scenario.about}", flush=True)
    print(f"{scenario.duration_s:.0f} s, {options.instances} instances, in {short(folder)}", flush=True)
    with gone_if_empty(folder):
        found = run(asked)
    return _tell(folder, found)


def _tell(folder: Path, found: Verdicts) -> int:
    doubts = [found.why] if found.why else []
    for one in found.correctness.rounds.values() if found.correctness else ():
        doubts += [f"{each.rule}: {each.sentence}" for each in one.violations[:_TOLD]]
        doubts += one.reasons[:_TOLD]
        doubts += [f"not judged: {each}" for each in one.not_judged]
    status = found.correctness.status if found.correctness else None
    print("\n".join(summary(found.speed, status, doubts)))
    print(f"stored in {short(folder)}")
    return exit_status(found.speed, status)


def _list(_: argparse.Namespace) -> int:
    for name, scenario in offered().items():
        print(f"{name:18} {scenario.about}")
    return 0


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
