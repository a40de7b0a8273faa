"""`python -m loadtests`: attacks, judges what the processes saw, stores it, and shows it.

Exit status 0: all is well; 1: a violation, or a mutant that nobody noticed; 2: something could not be told or run.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kairos_core.lifeline import end_with_parent
from kairos_core.one_line import OneLineParser
from loadtests import history
from loadtests.attack.campaign import run_round
from loadtests.attack.forks import Forks
from loadtests.attack.manifest import manifest
from loadtests.attack.rounds import Plan, RoundError, read_round, round_folders, write_run
from loadtests.attack.still import still_arena
from loadtests.attack.workload import Mix
from loadtests.ending import status_of
from loadtests.history import HistoryError, Kind
from loadtests.judging.judge import judge, records_of
from loadtests.judging.verdict import Status
from loadtests.measure import unwind_on_termination
from loadtests.mutants import MUTANTS
from loadtests.profiles import profiles
from loadtests.shown import short
from loadtests.subjects.registry import OF_KAIROS, SUBJECTS
from loadtests.validate import Validator
from loadtests.validation import wrapped

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from loadtests.attack.rounds import Round
    from loadtests.judging.judge import RunVerdict

EXIT = {Status.VALID: 0, Status.VIOLATION: 1, Status.UNDECIDED: 2}
_TOLD = 5
# What a shell says of a program that wrote to whom nobody reads any more, as in `show RUN | head`.
_BROKEN_PIPE = 141
RUNS = Path(__file__).resolve().parent / "runs"
_RUN = "a folder of loadtests/runs, one of its subjects/NAME, or one of its rounds/NNN"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = _parser().parse_args(arguments)

    def run() -> int:
        status: int = options.run(options)
        sys.stdout.flush()
        return status

    try:
        return status_of(run, HistoryError, RoundError, name="loadtests", interrupted=lambda: "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m loadtests", description=__doc__)
    commands = parser.add_subparsers(required=True)

    validating = commands.add_parser(
        "validate", help="attack all subjects, let faults befall the core, break it, and judge what was seen"
    )
    validating.add_argument(
        "--profile", choices=profiles(), default="quick", help="how much; quick: about 2 minutes, full: about 20"
    )
    validating.add_argument(
        "--seed", type=int, help="what faults and attempts are drawn from; none: another one each time"
    )
    validating.add_argument(
        "--folder", type=Path, help="where the run is stored; none: in a new folder of loadtests/runs"
    )
    validating.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    validating.set_defaults(run=_validate)

    judging = commands.add_parser("judge", help="judge a stored run again")
    judging.add_argument("folder", type=Path, metavar="RUN", help=_RUN)
    judging.set_defaults(run=_judge)

    showing = commands.add_parser("show", help="show the records of a stored run, in the order in which they began")
    showing.add_argument("folder", type=Path, metavar="RUN", help=_RUN)
    showing.add_argument("--round", type=int, help="its number; none: all rounds")
    showing.add_argument("--session", type=int, help="its number; none: all sessions")
    showing.set_defaults(run=_show)

    attacking = commands.add_parser("attack", help="attack one subject for a while, without a fault, and judge it")
    attacking.add_argument("--subject", choices=SUBJECTS, default="kairos", help="what (%(default)s)")
    attacking.add_argument(
        "--mutant",
        choices=MUTANTS,
        metavar="NAME",
        help="break the core in this way; `python -m loadtests.mutants --list` has all names",
    )
    attacking.add_argument("--seconds", type=float, default=5.0, help="for how long (%(default)s)")
    attacking.add_argument("--instances", type=int, default=8, help="processes that attempt (%(default)s)")
    attacking.add_argument("--watchers", type=int, default=1, help="processes that watch (%(default)s)")
    attacking.add_argument("--rate", type=float, help="attempts per second and instance; none: as many as they can")
    attacking.add_argument("--sessions", type=int, default=Mix().sessions, help="that they share (%(default)s)")
    attacking.add_argument("--seed", type=int, default=1, help="what the attempts are drawn from (%(default)s)")
    attacking.add_argument(
        "--folder", type=Path, help="where the run is stored; none: in a new folder of the system's for temporary files"
    )
    attacking.set_defaults(run=_attack)
    return parser


def _validate(options: argparse.Namespace) -> int:
    if options.end_with_stdin:
        end_with_parent()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = short(options.folder or RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.profile}")
    print(f"{options.profile} validation, seed {seed}, in {folder}", flush=True)
    validator = Validator(
        profiles()[options.profile], options.profile, seed, folder, lambda line: print(line, flush=True)
    )
    found = validator.run()
    *lines, verdict = found.summary()
    print("\n".join(["", *lines]))
    print(f"stored in {folder}: validation.json has it all, rounds/NNN what each process saw")
    suspects = sorted(
        (one for one in found.rounds if one.status != Status.VALID), key=lambda one: one.status != Status.VIOLATION
    )
    if suspects:
        path = f"{folder}/rounds/{suspects[0].number:03d}"
        print(f"look next: .venv/bin/python -m loadtests judge {path}")
        print(f"      and: .venv/bin/python -m loadtests show {path} --session N")
        if suspects[0].status == Status.VIOLATION:
            print(f"      and: {path}/violation.svg")
    if found.mutants_status:
        print("look next: .venv/bin/python -m loadtests.mutants --evidence NAME")
    print(verdict)
    return found.exit_status


def _judge(options: argparse.Namespace) -> int:
    return _tell(options.folder, judge(options.folder))


def _show(options: argparse.Namespace) -> int:
    rounds = [(folder, read_round(folder)) for folder in round_folders(options.folder)]
    shown = [(folder, found) for folder, found in rounds if options.round in (None, found.number)]
    if not shown:
        raise RoundError(f"{options.folder}: no round {options.round}")
    is_there = False
    for folder, found in shown:
        print(
            f"round {found.number}: {found.subject}, seed {found.seed}, {found.fault.name if found.fault else 'calm'}"
        )
        records = records_of(folder)
        if options.session is not None:
            records = records[records["session"] == options.session]
        is_there |= len(records) > 0
        # Rows of the audit have a place, and no time: they come last.
        is_row = np.isin(records["kind"], (Kind.RECORDED, Kind.RECORDED_REMOVED))
        events = _events(found)
        for record in records[np.lexsort((records["start_ns"], is_row))]:
            while events and (record["start_ns"] > events[0][0] or record["kind"] >= Kind.RECORDED):
                print("\n".join(wrapped(events.pop(0)[1], "--- ")))
            print(history.describe(record, found.begin_ns))
        for _, text in events:
            print("\n".join(wrapped(text, "--- ")))
    if not is_there:
        raise RoundError(f"{options.folder}: nobody saw anything of session {options.session}")
    return 0


def _events(found: Round) -> list[tuple[int, str]]:
    """What befell a round, in order, to be read between its records."""
    events = [(int(loss["at_ns"]), f"may lose writes: {loss['why']}") for loss in found.losses]
    if found.fault is not None:
        hit = "" if found.fault.exercised else ", NOT EXERCISED"
        events.append((found.fault.begin_ns, f"{found.fault.name}{hit}: {found.fault.proof}"))
        events.append((found.fault.healed_ns, f"{found.fault.name}: all is as before"))
    return [(at_ns, f"--- {history.seconds(at_ns, found.begin_ns)} {text}") for at_ns, text in sorted(events)]


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
    write_run(folder, manifest(profile="attack", seed=plan.seed, subject=plan.subject, rounds=[plan.number]))
    print(f"stored in {folder}")
    return _tell(folder, judge(folder))


def _tell(folder: Path, verdict: RunVerdict) -> int:
    """Print a verdict in some lines; its exit status."""
    for path in round_folders(folder):
        found = read_round(path)
        one = verdict.rounds[found.number]
        fault = f"{found.fault.name}, arena {found.arena}" if found.fault else "calm"
        print(f"round {found.number}: {one.status:<9}  {one.counts.get('attempted', 0):>9,} attempts  {fault}")
        for violation in one.violations[:_TOLD]:
            print("\n".join(f"  {line}" for line in wrapped(f"{violation.rule}: {violation.sentence}", "  ")))
        for reason in one.reasons[:_TOLD]:
            print("\n".join(f"  {line}" for line in wrapped(reason, "  ")))
        left = sum(count for name, count in one.counts.items() if name.startswith("violations: "))
        left -= min(_TOLD, len(one.violations))
        if left:
            print(f"  and {left:,} more: {short(path)}/verdict.json")
        if one.violations:
            print(f"  a picture of the first: {short(path)}/violation.svg")
    counts = ", ".join(f"{name} {count:,}" for name, count in verdict.counts.items())
    print("\n".join(wrapped(f"{verdict.status}: {counts}", "  ")))
    return EXIT[verdict.status]


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
