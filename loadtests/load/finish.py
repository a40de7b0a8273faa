"""The quiet end of a load test: its final states are read, its audit is written down, and what was seen is judged."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from loadtests import history
from loadtests.attack import exported
from loadtests.attack.manifest import manifest
from loadtests.attack.rounds import LoadFacts, LoadPlace, ProcessFacts, Round, write_round, write_run
from loadtests.attack.workload import Mix
from loadtests.environment import as_administrator
from loadtests.history import Kind, Outcome, Recorder
from loadtests.judging.judge import judge, records_of
from loadtests.load.facts import LoadError
from loadtests.load.folders import ROUND, round_folder
from loadtests.load.machine import boot
from loadtests.load.plan import plan
from loadtests.subjects.outside import not_judged, told_of
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import Refused, Unknown, session_name
from loadtests.subjects.registry import LOADABLE, OF_KAIROS, subject_named

if TYPE_CHECKING:
    from pathlib import Path

    from kairos_core import Settings
    from loadtests.attack.rounds import FaultFacts
    from loadtests.history import History
    from loadtests.judging.judge import RunVerdict
    from loadtests.load.facts import Load

_AUDIT = "audit"
_READER = "reader"
_PACKAGES = ("locust", "hdrhistogram")
# Of the sessions that were ended, so many are looked at.
_ENDED_READ = 500
# Where nothing leaves the outbox for so long, nobody drains it.
_STALLED_S = 20.0
# Between two attempts to read what cannot be read.
_PAUSE_S = 0.05


def finish(  # noqa: PLR0913 - what is known of a run
    folder: Path,
    load: Load,
    settings: Settings,
    worker_settings: Settings,
    *,
    has_audit: bool,
    outage: FaultFacts | None,
    timeout_s: float,
) -> RunVerdict:
    """Finish a load test whose processes have all ended: what is stored afterwards can be judged at any time.

    Reads the final states, waits until the outbox is drained, writes down what the audit has, `round.json` and
    `run.json`, seals the histories, and judges. Where a server cannot be reached, it can be done again.

    Args:
        folder: of the run, with the histories of its processes in `rounds/001`.
        load: what is known of it.
        settings: of the subject.
        worker_settings: of who may look at the outbox.
        has_audit: whether workers drain into PostgreSQL.
        outage: what befell the servers, or None.
        timeout_s: how long reading, draining and exporting may take, each.

    Raises:
        ConfigurationError: a server cannot be reached.
    """
    stored = round_folder(folder)
    stored.mkdir(parents=True, exist_ok=True)
    found = _round(load, settings, outage)
    reader = ProcessFacts(number=1 + max((one.number for one in found.processes), default=0), role=_READER, place=0)
    found.processes.append(reader)
    for name in (reader.number, _AUDIT):
        # Of an attempt to finish that came to no end.
        (stored / f"{name}.history").unlink(missing_ok=True)
    _read(stored, load, found, settings, timeout_s)
    if has_audit and load.subject in OF_KAIROS:
        is_drained = exported.wait_until_drained(worker_settings, timeout_s, _STALLED_S)
        if not is_drained:
            found.notes.append("the outbox was not drained: does `kairos worker` run, on this store and namespace?")
        path = stored / f"{_AUDIT}.history"
        found.audit = exported.export(settings, load.prefix, path, is_drained=is_drained, timeout_s=timeout_s)
    write_round(stored, found)
    run = manifest(
        profile=load.name,
        seed=load.seed,
        subject=load.subject,
        rounds=[ROUND],
        command=load.command,
        packages=_PACKAGES,
    )
    write_run(folder, run)
    for path in sorted(stored.glob("*.history")):
        history.seal(path)
    return judge(folder)


def must_be_there(folder: Path, load: Load, settings: Settings) -> None:
    """See that a store has any of the sessions that were written last, which nobody ends: it is that of the run.

    Where nothing of it was read before, another store and one that lost all cannot be told apart.

    Raises:
        LoadError: it has none, or does not answer.
        ConfigurationError: it cannot be reached.
    """
    closers = [number for part in load.parts for number in part.closers]
    records = records_of(round_folder(folder))
    written = np.isin(records["process"], closers) & (records["outcome"] == Outcome.OK)
    last = np.unique(records["session"][written]).tolist()
    with closing(subject_named(load.subject, LOADABLE)(_own(load, settings))) as register:
        try:
            is_there = any(register.get(session_name(load.prefix, session)) is not None for session in last)
        except (Refused, Unknown) as error:
            raise LoadError(f"{folder}: it is not finished, and its store does not answer: {error!r}") from error
    if last and not is_there:
        raise LoadError(f"{folder}: it is not finished, and the store that the environment names has nothing of it")


def unlike(load: Load, found: Round) -> list[str]:
    """In what a round is not that of a load test, in sentences: then what was counted and what was seen are of two.

    Args:
        load: what was counted.
        found: the round that is stored beside it.
    """
    wanted = _facts(load)
    there = [one for one in found.processes if one.role != _READER]
    pairs = {
        "seed": (found.seed, load.seed),
        "subject": (found.subject, load.subject),
        "prefix of its sessions": (found.prefix, load.prefix),
        "beginning": (found.begin_ns, load.begin_ns),
        "scenario": (found.load and found.load.scenario, load.scenario),
        "part of a process": (found.load and found.load.places, _places(load)),
        "set of processes": (there, wanted),
    }
    return [
        f"the round is not of this load test: it has another {what}" for what, (of, our) in pairs.items() if of != our
    ]


def _round(load: Load, settings: Settings, outage: FaultFacts | None) -> Round:
    """The round as it was, but for what its end shows."""
    notes = [
        *load.notes,
        *(f"process {part.place}: {note}" for part in load.parts for note in (*part.notes, *part.doubts)),
    ]
    return Round(
        number=ROUND,
        seed=load.seed,
        subject=load.subject,
        mutant=None,
        mix=Mix(sessions=load.scenario.sessions),
        rate=None,
        count=None,
        duration_s=load.scenario.duration_s,
        arena="load",
        prefix=load.prefix,
        durability=settings.durability,
        session_ttl_ms=round(settings.session_ttl_s * 1000),
        receipt_ttl_ms=round(settings.receipt_ttl_s * 1000),
        timeout_ms=round(settings.timeout_s * 1000),
        begin_ns=load.begin_ns,
        processes=_facts(load),
        fault=outage,
        load=LoadFacts(
            scenario=load.scenario,
            seed=load.seed,
            places=_places(load),
            # What is read here is read by this machine's clock.
            boots=sorted({load.boot, boot(), *(part.boot for part in load.parts)}),
        ),
        notes=notes,
        not_judged=not_judged(load.subject),
    )


def _places(load: Load) -> list[LoadPlace]:
    return [
        LoadPlace(
            place=part.place,
            begin_ns=part.begin_ns,
            planned=part.planned,
            begun=part.begun,
            dropped=part.dropped,
            attempted=part.attempted,
            histories=part.histories,
            closers=part.closers,
        )
        for part in load.parts
    ]


def _facts(load: Load) -> list[ProcessFacts]:
    return [
        ProcessFacts(number=number, role=role, place=part.place)
        for part in load.parts
        for role, numbers in (
            ("hand", part.histories),
            ("closer", part.closers),
            ("watcher", part.watchers),
            ("listener", part.listeners),
        )
        for number in numbers
    ]


def _read(folder: Path, load: Load, found: Round, settings: Settings, timeout_s: float) -> None:
    """Read the final states, now that nobody writes any more, as the last process of the round."""
    number = found.processes[-1].number
    sessions = _to_be_read(folder, load, found)
    missing = 0
    with (
        closing(subject_named(load.subject, LOADABLE)(_own(load, settings))) as register,
        Recorder(folder / f"{number}.history", number) as recorder,
    ):
        recorded = Recorded(register, recorder, load.prefix)
        deadline = time.monotonic() + timeout_s
        for session in sessions:
            while recorded.get(session).outcome != Outcome.OK:
                if time.monotonic() > deadline:
                    missing += 1
                    break
                time.sleep(_PAUSE_S)
        found.notes += [f"reader: {note}" for note in told_of(register)]
    if missing:
        found.notes.append(f"the final states of {missing} sessions could not be read")


def _own(load: Load, settings: Settings) -> Settings:
    """Of who reads: the rivals need more than the core's account may do."""
    return settings if load.subject in OF_KAIROS else as_administrator(settings)


def _to_be_read(folder: Path, load: Load, found: Round) -> list[int]:
    """All sessions that may be there, planned or not, and some of those that were ended: rising."""
    attempts = _attempts(folder, found)
    ended = np.isin(attempts["kind"], (Kind.DELETE, Kind.DELETE_IF)) & (attempts["outcome"] == Outcome.OK)
    gone = set(np.unique(attempts["session"][ended]).tolist())
    known = set(np.unique(attempts["session"]).tolist())
    places = len(load.parts)
    planned = {step.session for part in load.parts for step in plan(load.scenario, load.seed, part.place, places)}
    rng = random.Random(f"{load.seed}/ended")  # noqa: S311 - not a secret
    some = rng.sample(sorted(gone), min(len(gone), _ENDED_READ))
    return sorted(((known | planned) - gone) | set(some))


def _attempts(folder: Path, found: Round) -> History:
    """What was attempted, by all whose history is there."""
    paths = [folder / f"{one.number}.history" for one in found.processes if one.role in {"hand", "closer"}]
    return history.join(history.read(path) for path in paths if path.exists())
