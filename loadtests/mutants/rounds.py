"""Short attacks on mutants, judged by the checker.

`history`: the instances and the watcher are broken; `drain`: the workers are; `assumption`: what measures is.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from loadtests.attack.campaign import Campaign
from loadtests.attack.forks import Forks
from loadtests.attack.rounds import Plan, read_round
from loadtests.attack.workload import Mix
from loadtests.faults.arenas import GIVEN, Arena
from loadtests.judging.judge import judge_round
from loadtests.judging.verdict import Status
from loadtests.servers.worker import worker_pool
from loadtests.temporary import temporary_folder

if TYPE_CHECKING:
    from kairos_core import Settings
    from loadtests.judging.verdict import Verdict

# Few sessions, much old, and deletions: rivals meet soon.
_MIX = Mix(
    sessions=12,
    old=0.15,
    weights={"CREATE": 4.0, "GET": 30.0, "UPDATE": 40.0, "MUTATE": 10.0, "DELETE": 4.0, "DELETE_IF": 6.0, "TOUCH": 4.0},
)
_INSTANCES = 4
_SECONDS = 1.2
# Steps per second and instance, of the round that is planned: some are late on any machine.
_RATE = 500.0
# What the quiet end may take; a watcher that is never told takes all of it.
_QUIET_S = 6.0


class Look(NamedTuple):
    """What became of one look at a mutant, or at the unbroken core.

    Attributes:
        is_noticed: whether something is wrong with it, by the check.
        is_clean: whether nothing is, by the check; neither: it cannot be told.
        evidence: in a sentence.
    """

    is_noticed: bool
    is_clean: bool
    evidence: str


class Attacks:
    """Attacks on one server, with one worker pool for all of them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = stack.enter_context(temporary_folder("mutants"))
            self._start = stack.enter_context(Forks()).start
            self._arena = Arena(GIVEN, self._settings, self._settings)
            self._arena.pool = stack.enter_context(worker_pool(self._settings, log=self._folder / "workers.log"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def history(self, mutant: str | None, seed: int) -> Look:
        """As many steps as four instances can make, judged."""
        return _seen(self._judged(self._arena, Plan(folder=self._folder, seed=seed, mutant=mutant)))

    def drain(self, mutant: str | None, seed: int) -> Look:
        """The same, with workers of its own that are broken."""
        plan = Plan(folder=self._folder, seed=seed)
        if mutant is None:
            return _seen(self._judged(self._arena, plan))
        # Whole workers in the same namespace would do the work.
        own = msgspec.structs.replace(self._settings, namespace=f"{self._settings.namespace}_{mutant[:8]}{seed}")
        arena = Arena(GIVEN, own, own)
        with worker_pool(own, log=self._folder / "workers.log", mutant=mutant) as arena.pool:
            return _seen(self._judged(arena, plan))

    def assumption(self, mutant: str | None, seed: int) -> Look:
        """Planned steps: whether what was recorded can be judged at all."""
        verdict = self._judged(self._arena, Plan(folder=self._folder, seed=seed, mutant=mutant, rate=_RATE))
        doubts = [reason for reason in verdict.reasons if reason.startswith("assumption") or "planned" in reason]
        is_noticed = verdict.status == Status.UNDECIDED and bool(doubts)
        return Look(is_noticed, verdict.status == Status.VALID, doubts[0] if doubts else _told(verdict))

    def _judged(self, arena: Arena, plan: Plan) -> Verdict:
        plan = msgspec.structs.replace(
            plan,
            number=next(self._numbers),
            instances=_INSTANCES,
            duration_s=_SECONDS,
            mix=_MIX,
            quiet_s=_QUIET_S,
        )
        with Campaign(arena, self._start) as campaign:
            folder = campaign.run_round(plan)
        return judge_round(folder, read_round(folder))


def _seen(verdict: Verdict) -> Look:
    return Look(verdict.status == Status.VIOLATION, verdict.status == Status.VALID, _told(verdict))


def _told(verdict: Verdict) -> str:
    if verdict.violations:
        first = verdict.violations[0]
        return f"{first.rule}: {first.sentence}"
    if verdict.reasons:
        return verdict.reasons[0]
    return ", ".join(f"{name} {count}" for name, count in verdict.counts.items())
