"""Folders of load tests that nobody ran."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from loadtests.attack.rounds import AuditFacts, FaultFacts, write_round
from loadtests.history import RECORD, Kind, Outcome, token, write
from loadtests.judging.judge import RunVerdict
from loadtests.judging.verdict import Status, Verdict
from loadtests.load.facts import Moment, write_load
from loadtests.load.plan import plan
from loadtests.load.run import told_of
from loadtests.load.verdict import judge_load, write_load_verdict
from loadtests.scenarios import scenarios
from tests.made_load import Answer, made
from tests.made_round import made_round

if TYPE_CHECKING:
    import random

    from loadtests.history import History
    from loadtests.load.facts import Load
    from loadtests.load.plan import Step


def write_outage(folder: Path, profile: str, *, is_dropping: bool, is_busy: bool) -> None:
    """A load test without PostgreSQL for a while; in the quick profile two fifths as long."""
    shutil.copytree(_outage(profile, is_dropping=is_dropping, is_busy=is_busy), folder)


def write_capacity(folder: Path) -> None:
    """A load test that grows until the last step is too much."""
    shutil.copytree(_capacity(), folder)


def _kept(name: str) -> Path:
    """Where a folder may stay until this process ends: each is the same to the byte, and takes a second to make."""
    folder = tempfile.mkdtemp(prefix="kairos-made-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder, name)


@functools.cache
def _outage(profile: str, *, is_dropping: bool, is_busy: bool) -> Path:

    def system(_: Step, rng: random.Random) -> Answer:
        is_dropped = is_dropping and rng.random() < 0.05
        return Answer("dropped" if is_dropped else "ok", service_us=rng.lognormvariate(7.3, 0.3))

    time = 0.4 if profile == "quick" else 1.0
    return _write_load(_kept("audit_outage"), "audit_outage", time, 0.3, system, 0.9 if is_busy else 0.3)


@functools.cache
def _capacity() -> Path:
    time, size = 0.25, 0.2
    last_s = scenarios()["capacity"].scaled(time, size).step_s(7)[0]

    def system(step: Step, rng: random.Random) -> Answer:
        is_beyond = step.due_ns / 1e9 >= last_s
        return Answer(waiting_us=200_000.0 if is_beyond else 1.0, service_us=rng.lognormvariate(7.6, 0.3))

    return _write_load(_kept("capacity"), "capacity", time, size, system, 0.3)


def _write_load(folder: Path, name: str, time: float, size: float, system: Any, share: float) -> Path:
    folder.mkdir(parents=True)
    load, _ = made(scenarios()[name].scaled(time, size), system)
    load.name, load.time, load.size, load.began_at = name, time, size, f"2026-01-01T10:{len(name):02d}:00+00:00"
    for part in load.parts:
        part.cpu = [share] * len(part.cpu)
        part.histories, part.watchers = [part.place + 1], [part.place + 201]
    if load.outage is not None:
        load.moments = _moments(load)
    write_load(folder, load)
    found = made_round(begin_ns=load.begin_ns)
    if load.outage is not None:
        begin_ns, healed_ns = (load.begin_ns + round(at * 1e9) for at in (load.outage.from_s, load.outage.until_s))
        found.fault = FaultFacts(
            name="PostgreSQL stopped",
            parameters={},
            begin_ns=begin_ns,
            healed_ns=healed_ns,
            exercised=True,
            proof="500 entries waited",
        )
    rounds = folder / "rounds" / "001"
    rounds.mkdir(parents=True)
    records = _records(load)
    for process in np.unique(records["process"]).tolist():
        write(rounds / f"{process}.history.gz", records[records["process"] == process], process)
    writes = int((records["kind"] == Kind.UPDATE).sum())
    found.audit = AuditFacts(rows=writes, dead_letters=0, is_drained=True)
    write_round(rounds, found)
    counts = {
        "records": len(records),
        "sessions": 10,
        "attempted": 2 * writes,
        "acknowledged": 2 * writes,
        "audit rows": writes,
        "reads": writes,
        "unknown": 0,
    }
    counts |= {"writes acknowledged": writes, "lost (expected)": 0, "notifications": 2 * writes, "adopted": 0}
    verdict = Verdict(status=Status.VALID, counts=counts)
    (rounds / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    whole = RunVerdict(status=Status.VALID, rounds={1: verdict}, counts=counts)
    (folder / "verdict.json").write_bytes(msgspec.json.encode(whole))
    write_load_verdict(folder, judge_load(load, told_of(load, records)))
    return folder


def _moments(load: Load) -> list[Moment]:
    """Entries wait while PostgreSQL is away, and are gone a second after it is back."""
    outage = load.outage
    assert outage is not None
    length_s, found = outage.until_s - outage.from_s, []
    for half in range(int(2 * load.scenario.duration_s)):
        at_s = half / 2
        waited_s = at_s - outage.from_s if outage.from_s <= at_s < outage.until_s else 0.0
        share = waited_s / length_s
        found.append(Moment(at_s=at_s, waiting=5 + round(outage.most_waiting * share), lag_s=0.1 + waited_s, keys=500))
    return found


def _records(load: Load) -> History:
    """A write of each turn, and that the other process was told of it."""
    chance = np.random.default_rng(7)
    found = []
    for part in load.parts:
        due_ns = np.array([step.due_ns for step in plan(load.scenario, load.seed, part.place, len(load.parts))])
        count = len(due_ns)
        writes, told = np.zeros(count, RECORD), np.zeros(count, RECORD)
        tokens = np.array([token(part.place + 1, number) for number in range(1, count + 1)], np.uint64)
        took_ns = np.rint(1e6 * chance.lognormal(0.0, 0.3, count)).astype(np.int64)
        writes["token"] = writes["writer"] = told["writer"] = tokens
        other = 202 - part.place
        told["token"] = [token(other, number) for number in range(1, count + 1)]
        writes["start_ns"] = load.begin_ns + due_ns
        writes["end_ns"] = told["start_ns"] = told["end_ns"] = writes["start_ns"] + took_ns
        writes["process"], told["process"] = part.place + 1, other
        writes["kind"], told["kind"] = Kind.UPDATE, Kind.TOLD
        writes["outcome"] = told["outcome"] = Outcome.OK
        writes["session"] = told["session"] = 1 + np.arange(count) % 10
        found += [writes, told]
    return np.concatenate(found)
