"""`python -m loadtests`: attacks a subject, judges what was stored, shows it.

Exit status 0: all is well; 1: a violation; 2: undecided, or not as it is used.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kairos_core.errors import ConfigurationError
from loadtests import history
from loadtests.attack.campaign import run_round
from loadtests.attack.forks import Forks
from loadtests.attack.manifest import manifest
from loadtests.attack.rounds import Plan, RoundError, read_round, round_folders, write_run
from loadtests.attack.still import still_arena
from loadtests.attack.workload import Mix
from loadtests.history import HistoryError
from loadtests.judging.judge import judge, records_of
from loadtests.judging.verdict import Status
from loadtests.measure import unwind_on_termination
from loadtests.profiles import profiles
from loadtests.subjects.registry import OF_KAIROS, SUBJECTS
from loadtests.validate import Validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.judging.judge import RunVerdict

EXIT = {Status.VALID: 0, Status.VIOLATION: 1, Status.UNDECIDED: 2}
_TOLD = 5
RUNS = Path(__file__).resolve().parent / "runs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (ConfigurationError, HistoryError, RoundError, OSError) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("loadtests: interrupted", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    commands = parser.add_subparsers(required=True)

    validating = commands.add_parser(
        "validate", help="attack everything, disturb it, break it, and judge what was seen"
    )
    validating.add_argument("--profile", choices=profiles(), default="quick")
    validating.add_argument("--seed", type=int, help="what all is drawn from; none: another one each time")
    validating.add_argument(
        "--folder", type=Path, help="where the run is stored; none: in a new folder of loadtests/runs"
    )
    validating.set_defaults(run=_validate)

    judging = commands.add_parser("judge", help="judge a stored run again")
    judging.add_argument("folder", type=Path, metavar="RUN")
    judging.set_defaults(run=_judge)

    showing = commands.add_parser("show", help="show the records of a stored run, in the order in which they began")
    showing.add_argument("folder", type=Path, metavar="RUN")
    showing.add_argument("--round", type=int, help="of one round")
    showing.add_argument("--session", type=int, help="of one session")
    showing.set_defaults(run=_show)

    attacking = commands.add_parser("attack", help="attack a subject for a while, and judge it")
    attacking.add_argument("--subject", choices=SUBJECTS, default="kairos")
    attacking.add_argument("--mutant", help="break the core in this way")
    attacking.add_argument("--seconds", type=float, default=5.0)
    attacking.add_argument("--instances", type=int, default=8)
    attacking.add_argument("--watchers", type=int, default=1)
    attacking.add_argument("--rate", type=float, help="attempts per second and instance; none: as many as they can")
    attacking.add_argument("--sessions", type=int, default=Mix().sessions)
    attacking.add_argument("--seed", type=int, default=1)
    attacking.add_argument("--folder", type=Path, help="where the run is stored; none: in a new folder")
    attacking.set_defaults(run=_attack)
    return parser


def _validate(options: argparse.Namespace) -> int:
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = options.folder or RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.profile}"
    print(f"{options.profile} validation, seed {seed}, in {folder}", flush=True)
    validator = Validator(
        profiles()[options.profile], options.profile, seed, folder, lambda line: print(line, flush=True)
    )
    found = validator.run()
    print("\n".join(found.summary()))
    return found.exit_status


def _judge(options: argparse.Namespace) -> int:
    return _tell(judge(options.folder))


def _show(options: argparse.Namespace) -> int:
    rounds = [(folder, read_round(folder)) for folder in round_folders(options.folder)]
    shown = [(folder, found) for folder, found in rounds if options.round in (None, found.number)]
    if not shown:
        raise RoundError(f"{options.folder}: no round {options.round}")
    for folder, found in shown:
        print(
            f"round {found.number}: {found.subject}, seed {found.seed}, {found.fault.name if found.fault else 'calm'}"
        )
        records = records_of(folder)
        if options.session is not None:
            records = records[records["session"] == options.session]
        for record in records[np.argsort(records["start_ns"], kind="stable")]:
            print(history.describe(record, found.begin_ns))
    return 0


def _attack(options: argparse.Namespace) -> int:
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kairos-attack-"))
    plan = Plan(
        folder=folder,
        seed=options.seed,
        subject=options.subject,
        mutant=options.mutant,
        instances=options.instances,
        watchers=options.watchers,
        duration_s=options.seconds,
        rate=options.rate,
        mix=Mix(sessions=options.sessions),
    )
    folder.mkdir(parents=True, exist_ok=True)
    workers = 2 if options.subject in OF_KAIROS else 0
    with still_arena(workers=workers, log=folder / "workers.log") as arena, Forks() as forks:
        run_round(arena, plan, forks.start)
    write_run(folder, manifest(plan, "attack", [plan.number]))
    print(folder)
    return _tell(judge(folder))


def _tell(verdict: RunVerdict) -> int:
    """Print a verdict in some lines; its exit status."""
    for number, one in verdict.rounds.items():
        print(f"round {number}: {one.status}")
        for violation in one.violations[:_TOLD]:
            print(f"  {violation.rule}: {violation.sentence}")
        for reason in one.reasons[:_TOLD]:
            print(f"  {reason}")
    print(f"{verdict.status}: {', '.join(f'{name} {count}' for name, count in sorted(verdict.counts.items()))}")
    return EXIT[verdict.status]


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
