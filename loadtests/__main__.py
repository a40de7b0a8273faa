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
from loadtests.attack.campaign import Campaign
from loadtests.attack.forks import Forks
from loadtests.attack.manifest import manifest
from loadtests.attack.rounds import Plan, RoundError, read_round, round_folders, write_run
from loadtests.attack.still import still_arena
from loadtests.attack.workload import WEIGHTS, Mix
from loadtests.ending import status_of, unwind_on_termination
from loadtests.faults.arenas import GIVEN
from loadtests.faults.schedule import faults_on
from loadtests.history import HistoryError, Kind
from loadtests.judging.judge import judge, records_of
from loadtests.judging.verdict import Status
from loadtests.load.folders import RUNS, empty_folder
from loadtests.mutants import MUTANTS
from loadtests.profiles import profiles
from loadtests.shown import short
from loadtests.subjects.outside import has, is_outside
from loadtests.subjects.registry import OF_KAIROS, SUBJECTS, make_ready
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

    attacking = commands.add_parser("attack", help="attack one subject for a while, and judge it")
    attacking.add_argument(
        "--subject",
        default="kairos",
        help=f"what: {', '.join(SUBJECTS)}, or a state manager of yours as package.module:Class (%(default)s)",
    )
    attacking.add_argument(
        "--faults",
        action="store_true",
        help="and again for each fault that needs no knowledge of the subject: its way cut, delayed, deaf; its "
        "instances killed, stopped",
    )
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
    make_ready(options.subject)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kairos-attack-"))
    plans = _plans(options, folder)
    empty_folder(folder)
    workers = 2 if options.subject in OF_KAIROS else 0
    with (
        still_arena(workers=workers, log=folder / "workers.log") as arena,
        Forks() as forks,
        Campaign(arena, forks.start) as campaign,
    ):
        for plan in plans:
            campaign.run_round(plan)
    numbers = [plan.number for plan in plans]
    write_run(folder, manifest(profile="attack", seed=options.seed, subject=options.subject, rounds=numbers))
    print(f"stored in {folder}")
    return _tell(folder, judge(folder))


def _plans(options: argparse.Namespace, folder: Path) -> list[Plan]:
    """A round without a fault, and one for each fault that was asked for."""
    faults = faults_on(options.subject, options.seed, GIVEN) if options.faults else []
    is_watched = not is_outside(options.subject) or has(options.subject, "watch")
    weights = dict(WEIGHTS)
    if is_outside(options.subject) and not has(options.subject, "touch"):
        del weights["TOUCH"]
    return [
        Plan(
            folder=folder,
            number=number,
            seed=options.seed + number - 1,
            subject=options.subject,
            mutant=options.mutant,
            instances=options.instances,
            watchers=options.watchers if is_watched else 0,
            duration_s=options.seconds,
            # One after the other, they go on until a fault is over; by a plan they would not.
            rate=options.rate if fault is None else None,
            mix=Mix(sessions=options.sessions, weights=weights),
            fault=fault,
        )
        for number, fault in enumerate([None, *faults], 1)
    ]


def _tell(folder: Path, verdict: RunVerdict) -> int:
    """Print a verdict in some lines; its exit status."""
    is_missed = False
    for path in round_folders(folder):
        found = read_round(path)
        one = verdict.rounds[found.number]
        fault = f"{found.fault.name}, arena {found.arena}" if found.fault else "calm"
        is_missed |= found.fault is not None and not found.fault.exercised
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
        if found.fault is not None and not found.fault.exercised:
            print("\n".join(f"  {line}" for line in wrapped(found.fault.proof, "  ")))
    for line in dict.fromkeys(each for one in verdict.rounds.values() for each in one.not_judged):
        print("\n".join(wrapped(f"not judged: {line}", "  ")))
    counts = ", ".join(f"{name} {count:,}" for name, count in verdict.counts.items())
    print("\n".join(wrapped(f"{verdict.status}: {counts}", "  ")))
    # A fault that did not hit shows nothing, neither of a subject that withstood it nor of one that did not.
    return EXIT[Status.UNDECIDED] if is_missed and verdict.status == Status.VALID else EXIT[verdict.status]


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
