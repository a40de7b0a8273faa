"""A load test from its servers to its verdicts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from kairos_core.errors import ConfigurationError
from kairos_core.local import free_port
from kairos_core.settings import Settings, child_environment, servers_given
from loadtests import ROOT
from loadtests.attack.rounds import read_round
from loadtests.attack.still import still_arena
from loadtests.environment import as_administrator
from loadtests.faults.arenas import own_ground
from loadtests.judging.judge import judge, records_of
from loadtests.load.attendant import Attendant
from loadtests.load.delivery import deliveries, never_told
from loadtests.load.facts import LoadError, read_load, write_load
from loadtests.load.finish import finish, must_be_there, unlike
from loadtests.load.folders import round_folder
from loadtests.load.plan import Operation, plan
from loadtests.load.store import Store
from loadtests.load.timeline import Deliveries
from loadtests.load.verdict import judge_load, write_load_verdict
from loadtests.load.words import BEGUN, RUNNER, STORE_URL
from loadtests.subjects.registry import OF_KAIROS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.faults.arenas import Arena
    from loadtests.history import History
    from loadtests.judging.judge import RunVerdict
    from loadtests.load.facts import Load, Moment
    from loadtests.load.verdict import LoadVerdict
    from loadtests.scenarios import Scenario

# Reading ten thousand sessions, draining and exporting a million rows.
_FINISH_TIMEOUT_S = 120.0
# Beyond the time that receipts are kept.
_EXPIRY_S = 10.0
# Its deadlines, its outbox, and the like.
_KEYS_OF_A_LANE = 8
_POLL_S = 0.2
_END_TIMEOUT_S = 10.0
# Beyond the time of the plan: all that the process that leads waits for has a deadline, and these come to less.
_LONGEST_BESIDE_S = 600.0
# Of the end of Locust's log, where it ended too soon, so many letters.
_SAID = 300


class Verdicts(NamedTuple):
    """What a load test showed.

    Attributes:
        load: it.
        speed: the verdict on that.
        correctness: likewise; None: nobody could judge it.
        why: why not.
    """

    load: Load
    speed: LoadVerdict
    correctness: RunVerdict | None
    why: str = ""


class Asked(NamedTuple):
    """What is asked for.

    Attributes:
        name: of the scenario.
        scenario: as it is scaled.
        time, size: by what.
        subject: what is loaded.
        instances: processes.
        workers: of the audit's pool.
        seed: what everything random is drawn from; 0: another each time.
        folder: where the run goes.
        is_quiet: whether it is not shown how it goes.
    """

    name: str
    scenario: Scenario
    time: float
    size: float
    subject: str
    instances: int
    workers: int
    seed: int
    folder: Path
    is_quiet: bool


def run(asked: Asked) -> Verdicts:
    """Run a load test on the servers that the environment names, or on embedded ones.

    Raises:
        ConfigurationError: names the setting and the cause.
        LoadError: it came to no end.
    """
    if asked.scenario.audit_away is not None and servers_given():
        raise ConfigurationError("SCENARIO", f"{asked.name} stops PostgreSQL: it runs on embedded servers only")
    workers = asked.workers if asked.subject in OF_KAIROS else 0
    with _arena(asked.scenario, workers, asked.folder / "workers.log") as arena:
        # The rivals need more than the core's account may do.
        settings = arena.settings if asked.subject in OF_KAIROS else _anybody(arena)
        before = _look(arena, asked, -1.0)
        attendant = _attended(arena, asked, settings)
        load = _whole(asked.folder)
        load.memories, load.outage = attendant.memories, attendant.outage
        if before is not None:
            load.moments.insert(0, before)
        write_load(asked.folder, load)
        try:
            correctness = finish(
                asked.folder,
                load,
                settings,
                arena.worker_settings,
                has_audit=workers > 0,
                outage=attendant.fault,
                timeout_s=_FINISH_TIMEOUT_S,
            )
            _wait_for_receipts(arena, asked, load)
        except ConfigurationError as error:
            # A store that is gone by now has been too slow, whatever else it was.
            return Verdicts(load, judge_speed(asked.folder, load), None, f"nobody could look at the end: {error}")
        write_load(asked.folder, load)
    return Verdicts(load, judge_speed(asked.folder, load), correctness)


def judge_again(folder: Path) -> Verdicts:
    """Judge a stored run; one of a Locust that was started by itself is finished first.

    Raises:
        LoadError, RoundError, HistoryError: what is stored cannot be read.
        ConfigurationError: to finish it, the servers cannot be reached.
    """
    load = _whole(folder)
    stored = round_folder(folder)
    if (stored / "round.json").exists():
        load.notes += unlike(load, read_round(stored))
        return Verdicts(load, judge_speed(folder, load), judge(folder))
    settings = Settings.from_env()
    must_be_there(folder, load, settings)
    correctness = finish(folder, load, settings, settings, has_audit=True, outage=None, timeout_s=_FINISH_TIMEOUT_S)
    return Verdicts(load, judge_speed(folder, load), correctness)


def judge_speed(folder: Path, load: Load) -> LoadVerdict:
    """Judge what was counted, and how long it took until other processes were told; writes `load_verdict.json`."""
    records = records_of(round_folder(folder))
    verdict = judge_load(load, told_of(load, records), records)
    write_load_verdict(folder, verdict)
    return verdict


def told_of(load: Load, records: History) -> Deliveries | None:
    """How long it took until other processes were told; None where their clocks are not one."""
    if len({part.boot for part in load.parts}) != 1:
        return None
    own = {number: part.place for part in load.parts for number in (*part.histories, *part.watchers)}
    watchers = [number for part in load.parts for number in part.watchers]
    found = deliveries(records, watchers, own)
    missing_ns = never_told(records, watchers, own)
    return Deliveries(
        (np.concatenate([found.start_ns, missing_ns]) - load.begin_ns) / 1e9,
        np.concatenate([found.took_ms, np.full(len(missing_ns), np.inf)]),
    )


def _whole(folder: Path) -> Load:
    """A run that came to its end; of another, what was counted lies in its folder, and nothing follows from it."""
    load = read_load(folder)
    if not load.parts:
        raise LoadError(f"{folder}: it came to no end: {'; '.join(load.notes) or 'nobody knows why'}")
    return load


@contextmanager
def _arena(scenario: Scenario, workers: int, log: Path) -> Iterator[Arena]:
    if servers_given():
        with still_arena(workers=workers, log=log) as arena:
            yield arena
        return
    more = {} if scenario.receipt_ttl_s is None else {"receipt_ttl_s": scenario.receipt_ttl_s}
    with (
        own_ground() as ground,
        ground.arena("memory", workers=workers, timeout_s=Settings().timeout_s, **more) as arena,
    ):
        yield arena


def _anybody(arena: Arena) -> Settings:
    """The settings with an account that may do anything, where there is one."""
    url = arena.node.url if arena.node is not None else as_administrator(arena.settings).redis_url
    return msgspec.structs.replace(arena.settings, redis_url=url)


def _look(arena: Arena, asked: Asked, at_s: float) -> Moment | None:
    """How the store is, where Kairos is what is loaded."""
    if asked.subject not in OF_KAIROS:
        return None
    with closing(Store(_anybody(arena))) as store:
        return store.look(at_s)


def _wait_for_receipts(arena: Arena, asked: Asked, load: Load) -> None:
    """Note how the store is in the end; where that counts, once it has forgotten the receipts of all writes."""
    load.left, load.lane_keys = _left(load) + arena.settings.lanes, _KEYS_OF_A_LANE * arena.settings.lanes
    deadline = time.monotonic() + arena.settings.receipt_ttl_s + _EXPIRY_S
    while True:
        last = _look(arena, asked, (time.monotonic_ns() - load.begin_ns) / 1e9)
        is_as_before = last is None or last.keys <= load.moments[0].keys + load.left + load.lane_keys
        if load.scenario.max_growth is None or is_as_before or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    if last is not None:
        load.moments.append(last)


def _left(load: Load) -> int:
    """How many sessions the plans create and do not end."""
    steps = (step for part in load.parts for step in plan(load.scenario, load.seed, part.place, len(load.parts)))
    operations = Counter(step.operation for step in steps)
    return operations[Operation.CREATE] - operations[Operation.END]


def _attended(arena: Arena, asked: Asked, settings: Settings) -> Attendant:
    """Run Locust, and attend to what goes on beside it."""
    environment = child_environment(settings) | {RUNNER: "1", STORE_URL: _anybody(arena).redis_url}
    log = asked.folder / "locust.log"
    with log.open("w") as errors:
        # In a session of its own: Ctrl-C is for this process, which ends it.
        locust = subprocess.Popen(
            _command(asked),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            # How it goes is shown there; what Locust itself has to say is in the log.
            stderr=None,
            start_new_session=True,
        )
    try:
        with Attendant(arena, asked.scenario, locust.pid, asked.folder / BEGUN) as attendant:
            wait_for_end(locust, asked.scenario.duration_s + _LONGEST_BESIDE_S)
    finally:
        _end(locust)
    if not (asked.folder / "load.json").exists():
        said = " ".join(log.read_text().split())[-_SAID:]
        raise ConfigurationError("locust", f"ended with status {locust.returncode} before there was anything: {said}")
    return attendant


def wait_for_end(locust: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Wait for a process that has deadlines of its own for all that it does.

    Raises:
        LoadError: it is not over all the same: it was stopped, or hangs.
    """
    try:
        locust.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise LoadError(
            f"locust: not over after {timeout_s:.0f} s, which is longer than all that it waits for"
        ) from error


def _command(asked: Asked) -> list[str]:
    """How Locust is started."""
    # On this machine only, and on a port of its own: two load tests may run at once.
    host, port = "127.0.0.1", str(free_port())
    options = {
        "--locustfile": "loadtests/locustfile.py",
        "--processes": asked.instances,
        "--master-bind-host": host,
        "--master-bind-port": port,
        "--master-host": host,
        "--master-port": port,
        "--loglevel": "WARNING",
        "--logfile": asked.folder / "locust.log",
        "--html": asked.folder / "locust.html",
        "--scenario": asked.name,
        "--time": asked.time,
        "--size": asked.size,
        "--subject": asked.subject,
        "--seed": asked.seed,
        "--folder": asked.folder,
    }
    words = [str(word) for option in options.items() for word in option]
    quiet = ["--quiet"] if asked.is_quiet else []
    return [sys.executable, "-m", "locust", "--headless", "--only-summary", *quiet, *words]


def _end(locust: subprocess.Popen[bytes]) -> None:
    """End it and its children, whatever they do."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(locust.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            locust.wait(_END_TIMEOUT_S)
