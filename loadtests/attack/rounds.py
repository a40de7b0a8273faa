"""A round of an attack as it is asked for, and as it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from loadtests.attack.workload import Mix
from loadtests.scenarios import Scenario  # noqa: TC001 - msgspec reads it when it decodes
from loadtests.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from loadtests.faults.fault import Fault

# 1: the first.
FORMAT = 1
# Numbers of a round's processes: so many for each round, so that no two of a run have the same.
_NUMBERS = 64
_ROLES = {"instance": 0, "watcher": 40, "reader": 60}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A round as it is asked for.

    Attributes:
        folder: the run's; the round gets one of its own in it.
        number: the round's, from 1.
        seed: what everything random in it is drawn from.
        subject: of `subjects.registry`, or `package.module:Class`.
        mutant: what the core is broken with, or None.
        instances, watchers: how many.
        duration_s: how long the instances attempt; one after the other, they go on until the fault is over, too.
        count: how many steps each attempts, if that is done sooner; None: as many as it can.
        rate: steps per second and instance, planned from the seed; None: one after the other.
        mix: of the steps.
        fault: what happens, or None.
        proxied: whether the processes reach the store by way of the arena's proxy, also where no fault needs that.
        fault_after_s: when the fault begins.
        after_s: how long the instances go on once it is over, at the least.
        quiet_s: how long whatever is waited for at the end may take.
    """

    folder: Path
    number: int = 1
    seed: int = 1
    subject: str = "kairos"
    mutant: str | None = None
    instances: int = 8
    watchers: int = 1
    duration_s: float = 5.0
    count: int | None = None
    rate: float | None = None
    mix: Mix = Mix()
    fault: Fault | None = None
    proxied: bool = False
    fault_after_s: float = 1.0
    after_s: float = 1.0
    quiet_s: float = 30.0

    @property
    def round_folder(self) -> Path:
        """The round's folder."""
        return self.folder / "rounds" / f"{self.number:03d}"

    @property
    def is_open_end(self) -> bool:
        """Whether the instances are told when to end: they go on for as long as the fault takes."""
        return self.fault is not None and self.rate is None and self.count is None

    def number_of(self, role: str, place: int) -> int:
        """The number of one of the round's processes."""
        return self.number * _NUMBERS + _ROLES[role] + place


class ProcessFacts(msgspec.Struct, kw_only=True):
    """A process of a round.

    Attributes:
        number: as in its history.
        role: `instance`, `watcher` or `reader`; of a load test also `hand`, `closer` (who writes last) and `listener`
            (who watches single sessions).
        place: which of its role, from 1; what it attempted follows from this and the round's seed. Of a load test that
            of its instance, from 0.
        planned: how many steps it was to attempt; None: that was not planned, or it is no instance.
        attempted: how many it says it did; None: it did not live to say.
        shown: how many states the functions of its mutations were shown, each a GET in its history beside the steps.
        was_killed: whether it ended before its time.
    """

    number: int
    role: str
    place: int
    planned: int | None = None
    attempted: int | None = None
    shown: int | None = None
    was_killed: bool = False


class FaultFacts(msgspec.Struct, kw_only=True):
    """What happened in the middle of a round, when, and whether it hit."""

    name: str
    parameters: dict[str, Any]
    begin_ns: int
    healed_ns: int
    exercised: bool
    proof: str


class AuditFacts(msgspec.Struct, kw_only=True):
    """What was exported of the audit; `is_drained`: whether the outbox was empty before."""

    rows: int
    dead_letters: int
    is_drained: bool


class LoadPlace(msgspec.Struct, kw_only=True):
    """What an instance of a load test says that it did; what it was to do follows from scenario, seed and place.

    Attributes:
        place: which it is, from 0.
        begin_ns: when its plan began.
        planned: how many steps it had.
        begun, dropped: how many of them it did, and how many it gave up.
        attempted: how many attempts that was, with those beside the plan.
        histories: the numbers of its hands, which share its plan.
        closers: likewise of what it attempted beside it.
    """

    place: int
    begin_ns: int
    planned: int
    begun: int
    dropped: int
    attempted: int
    histories: list[int]
    closers: list[int] = []


class LoadFacts(msgspec.Struct, kw_only=True):
    """A load test, as what was attempted is made again from.

    Attributes:
        scenario: as it was scaled.
        seed: what everything random was drawn from.
        places: all instances.
        boots: of the machines that anything of the round was recorded on: with more than one, there are several clocks.
    """

    scenario: Scenario
    seed: int
    places: list[LoadPlace]
    boots: list[str] = []


class Round(msgspec.Struct, kw_only=True):
    """A round as it was: `round.json`. Times are `time.monotonic_ns()`.

    Attributes:
        format: of this file and what is beside it.
        number, seed, subject, mutant, mix, rate, count, duration_s: as it was asked for.
        arena: the name of where it took place.
        prefix: what the ids of its sessions begin with.
        durability, session_ttl_ms, receipt_ttl_ms, timeout_ms: as the instances' settings say.
        begin_ns: when the instances began.
        processes: all that took part.
        fault: what happened, or None.
        losses: when acknowledged writes may have been lost, and why.
        audit: None: there was none.
        load: of a load test; None: it was an attack.
        notes: what did not go as it should, so that there is no verdict that all is well.
        not_judged: what nobody could see of this subject, so that no verdict says anything of it.
    """

    format: int = FORMAT
    number: int
    seed: int
    subject: str
    mutant: str | None
    mix: Mix
    rate: float | None
    count: int | None
    duration_s: float
    arena: str
    prefix: str
    durability: str
    session_ttl_ms: int
    receipt_ttl_ms: int
    timeout_ms: int
    begin_ns: int
    processes: list[ProcessFacts]
    fault: FaultFacts | None = None
    losses: list[dict[str, Any]] = []
    audit: AuditFacts | None = None
    load: LoadFacts | None = None
    notes: list[str] = []
    not_judged: list[str] = []


class Run(msgspec.Struct, kw_only=True):
    """A run of some rounds: `run.json`.

    Attributes:
        format: of this file and what is beside it.
        profile: how much was asked for.
        seed, subject: of all its rounds.
        command: what it was started with.
        versions: of the software.
        rounds: their numbers.
    """

    format: int = FORMAT
    profile: str
    seed: int
    subject: str
    command: list[str]
    versions: dict[str, str]
    rounds: list[int]


def write_run(folder: Path, found: Run) -> None:
    """Write `run.json`."""
    write_whole(folder / "run.json", msgspec.json.format(msgspec.json.encode(found), indent=2))


def round_folders(folder: Path) -> list[Path]:
    """The rounds of a run, in their order; a round's folder is a run of one.

    Raises:
        RoundError: there are none.
    """
    if (folder / "round.json").exists():
        return [folder]
    found = sorted(path.parent for path in (folder / "rounds").glob("*/round.json"))
    if not found:
        raise RoundError(f"{folder}: no rounds")
    return found


def write_round(folder: Path, found: Round) -> None:
    """Write `round.json`."""
    write_whole(folder / "round.json", msgspec.json.format(msgspec.json.encode(found), indent=2))


class RoundError(ValueError):
    """A folder holds no round, or one of another format."""


def read_round(folder: Path) -> Round:
    """Read `round.json`.

    Raises:
        RoundError: names the folder and what is wrong with it.
    """
    try:
        data = (folder / "round.json").read_bytes()
        version = msgspec.json.decode(data, type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise RoundError(f"{folder}: a round of format {version}, where this version reads format {FORMAT}")
        return msgspec.json.decode(data, type=Round)
    except (OSError, msgspec.MsgspecError) as error:
        raise RoundError(f"{folder}: {error}") from error
