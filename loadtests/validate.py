"""The validation: attacks all subjects, lets faults befall the core, breaks it in every known way, and judges it all.

Four parts, in one folder:

- `subjects/NAME`: a run of one subject each. The one that loses updates must be caught, the others must not be accused.
- `rounds`: of the core, first each with a fault, in all kinds of arenas,
- then calm ones without, each with another seed.
- Mutants: which check caught which broken core; nothing is kept of them but what came of it.

`validation.json` holds what came of it, and `python -m loadtests judge FOLDER` judges the rounds again.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.settings import servers_given
from loadtests.attack.attacker import started
from loadtests.attack.campaign import Campaign
from loadtests.attack.forks import Forks
from loadtests.attack.manifest import manifest
from loadtests.attack.rounds import Plan, read_round, write_run
from loadtests.attack.workload import Mix
from loadtests.environment import harness, new_namespace
from loadtests.faults.arenas import Ground, given, own_ground
from loadtests.faults.schedule import fault as same_fault
from loadtests.faults.schedule import schedule
from loadtests.judging.judge import judge_round, records_of
from loadtests.judging.verdict import Status
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CAUGHT, GREEN, Caught, catch, status_of_mutants
from loadtests.subjects.registry import OF_KAIROS, SUBJECTS
from loadtests.validation import RoundResult, SubjectResult, Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loadtests.attack.attacker import Start
    from loadtests.faults.arenas import Arena
    from loadtests.faults.fault import Fault
    from loadtests.profiles import Profile

# What SyncKairos did; it must be caught within this.
WRONG = "check_then_set"
WRONG_WITHIN_S = 5.0
# A fault comes when the round has got going.
_FAULT_AFTER_S = 1.0
# Of the rounds in an arena, every so manieth is the asyncio manager's.
_EVERY_ASYNC = 3
# Rounds without a fault: with the usual time to live, and with one that ends sessions while others use theirs.
_CALM: dict[str, dict[str, float]] = {"calm": {}, "calm, short-lived": {"session_ttl_s": 0.4}}
# What the arenas are, for who reads along.
_ARENAS = {
    "fsync": "a server that has each write on its disk before it answers",
    "memory": "a server that has all in memory",
    "everysec": "a server whose disk may be a second behind",
    "sentinel": "a pair under Sentinel, that does not wait for its replica",
    "replicated": "a pair under Sentinel, that waits for its replica",
    "cluster": "a cluster with replicas, that does not wait for them",
    "given": "the servers that were given",
}
# What could not be told, or a fault that did not hit, is tried so often.
_ATTEMPTS = 2


class Validator:
    """Runs a validation, part by part.

    Attributes:
        found: what came of it so far.

    Args:
        profile: how much.
        name: the profile's.
        seed: what everything random is drawn from.
        folder: where everything is written; new.
        tell: told a line at a time.
    """

    def __init__(self, profile: Profile, name: str, seed: int, folder: Path, tell: Callable[[str], object]) -> None:
        self.found = Validation(profile=name, seed=seed, attempts_at_least=profile.attempts_at_least)
        self._profile = profile
        self._folder = folder
        self._tell = tell
        self._numbers = itertools.count(1)
        self._start: Start = started
        self._began = time.monotonic()

    def run(self) -> Validation:
        """Run all parts, the one after the other.

        Raises:
            ConfigurationError: the folder is there already, or a server cannot be reached.
        """
        start = self._began
        try:
            self._folder.mkdir(parents=True)
        except FileExistsError as error:
            raise ConfigurationError(
                "--folder", f"{self._folder} is there already: name one that is not, each run needs its own"
            ) from error
        try:
            with contextlib.ExitStack() as stack:
                ground = None if servers_given() else stack.enter_context(own_ground())
                self._start = stack.enter_context(Forks()).start
                self._attack_subjects(ground)
                self._attack_with_faults(ground)
                self._attack_calmly(ground)
            self._break()
        finally:
            if (self._folder / "rounds").exists():
                self._write_manifest(self._plan("kairos", self.found.seed, self._profile.round_s, number=1))
            self.found.seconds = round(time.monotonic() - start, 1)
            self.found.write(self._folder)
        return self.found

    @contextlib.contextmanager
    def _arena(self, ground: Ground | None, kind: str, **more: Any) -> Iterator[Arena]:
        """An arena of our own, or on the servers that were given; `more` are settings."""
        if ground is not None:
            with ground.arena(kind, **more) as arena:
                yield arena
            return
        with harness(new_namespace("validation")) as settings:
            changed = msgspec.structs.replace(settings, **more)
            with given(changed) as arena:
                yield arena

    def _attack_subjects(self, ground: Ground | None) -> None:
        """Attack each subject in the same way."""
        self._tell_part(1, "subjects: the same attack on each")
        with self._arena(ground, "memory") as arena:
            for name in SUBJECTS:
                result = self._attack_subject(arena, name)
                self.found.subjects.append(result)
                self._tell(f"  {result.line}")

    def _attack_subject(self, arena: Arena, name: str) -> SubjectResult:
        seconds = self._profile.subject_s if name != WRONG else min(self._profile.subject_s, WRONG_WITHIN_S / 2)
        # Watchers of a wrong one may wait for what never comes.
        patience: dict[str, Any] = {"quiet_s": 1.0} if name == WRONG else {}
        folder = self._folder / "subjects" / name
        plan = self._plan(name, self.found.seed, seconds, folder=folder, number=1, **patience)
        with Campaign(arena, self._start) as campaign:
            # Starting the processes is none of the attack's time.
            campaign.man(plan)
            start = time.monotonic()
            folder = campaign.run_round(plan)
            verdict = judge_round(folder, read_round(folder))
        self._write_manifest(plan)
        return SubjectResult(
            subject=name,
            status=verdict.status,
            should_be_caught=name == WRONG,
            seconds=round(time.monotonic() - start, 2),
            within_s=WRONG_WITHIN_S if name == WRONG else None,
            counts=verdict.counts,
            sentence=verdict.violations[0].sentence if verdict.violations else "; ".join(verdict.reasons[:1]),
        )

    def _attack_with_faults(self, ground: Ground | None) -> None:
        """Let every fault befall every arena that it fits, as often as the profile has rounds for it."""
        wanted = self._profile.rounds if ground else {"given": sum(self._profile.rounds.values())}
        for kind, count in wanted.items():
            self._tell_part(2, f"faults: {count} in arena {kind}, {_ARENAS[kind]}")
            with self._arena(ground, kind) as arena, Campaign(arena, self._start) as campaign:
                for subject, fault, seed in self._order(kind, count):
                    self._round_until_told(campaign, kind, subject, fault, seed)

    def _order(self, kind: str, count: int) -> list[tuple[str, Fault, int]]:
        """Subject, fault and seed of each round; those that need new processes come together."""
        found = []
        for place, fault in enumerate(schedule(self.found.seed, kind, count)):
            subject = OF_KAIROS[place % _EVERY_ASYNC == _EVERY_ASYNC - 1]
            found.append((subject, fault, self.found.seed + place))
        return sorted(found, key=lambda one: (one[0], one[1].uses_proxy))

    def _round_until_told(self, campaign: Campaign, kind: str, subject: str, fault: Fault, seed: int) -> None:
        for attempt in range(_ATTEMPTS):
            again = fault if attempt == 0 else same_fault(fault.name, seed + attempt, kind)
            plan = self._plan(subject, seed + 1_000 * attempt, self._profile.round_s, fault=again)
            result = self._round(campaign, plan, kind)
            self.found.rounds.append(result)
            self._tell(f"  {result.line}")
            if result.status == Status.VIOLATION or (result.status == Status.VALID and result.exercised):
                return
            result.is_repeated = attempt + 1 < _ATTEMPTS

    def _attack_calmly(self, ground: Ground | None) -> None:
        """Attack the core with other seeds, and nothing else: it is never to be accused.

        With every other seed, sessions end soon after their last write: so that they do, and none before its time.
        """
        self._tell_part(3, f"calm: {self._profile.calm_seeds} rounds without a fault, each with another seed")
        for place, (name, more) in enumerate(_CALM.items()):
            with self._arena(ground, "memory", **more) as arena, Campaign(arena, self._start) as campaign:
                for seed in range(place, self._profile.calm_seeds, len(_CALM)):
                    plan = self._plan("kairos", self.found.seed + seed, self._profile.calm_s)
                    result = self._round(campaign, plan, name)
                    self.found.rounds.append(result)
                    self._tell(f"  {result.line}")

    def _round(self, campaign: Campaign, plan: Plan, kind: str) -> RoundResult:
        start = time.monotonic()
        try:
            folder = campaign.run_round(plan)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rounds are run all the same
            # What the processes are doing is not known.
            campaign.close()
            return self._failed(plan, kind, f"it could not be run: {type(error).__name__}: {error}")
        found = read_round(folder)
        verdict = judge_round(folder, found)
        return RoundResult(
            number=plan.number,
            arena=kind,
            subject=plan.subject,
            seed=plan.seed,
            fault=found.fault.name if found.fault else "",
            exercised=found.fault is None or found.fault.exercised,
            proof=found.fault.proof if found.fault else "",
            status=verdict.status,
            counts=verdict.counts,
            losses_allowed=bool(found.losses),
            sentences=[one.sentence for one in verdict.violations[:5]] or list(verdict.reasons[:5]),
            seconds=round(time.monotonic() - start, 1),
            recovery_s=_recovery_s(plan, folder),
        )

    def _failed(self, plan: Plan, kind: str, reason: str) -> RoundResult:
        return RoundResult(
            number=plan.number,
            arena=kind,
            subject=plan.subject,
            seed=plan.seed,
            fault=plan.fault.name if plan.fault else "",
            exercised=plan.fault is None,
            proof="",
            status=Status.UNDECIDED,
            counts={},
            losses_allowed=False,
            sentences=[reason],
            seconds=0.0,
        )

    def _break(self) -> None:
        """Break the core in every known way, and see each noticed."""
        self._tell_part(
            4, f"mutants: {len(MUTANTS)} broken variants, each against the check that is meant to catch it,"
        )
        self._tell("  and these checks on the unbroken core, where they must be green")
        with harness(new_namespace("mutants")) as settings:
            self.found.mutants = catch(settings, MUTANTS, lambda one: self._tell(f"  {_shown(one)}"))
        self.found.mutants_status = status_of_mutants(self.found.mutants)

    def _tell_part(self, number: int, text: str) -> None:
        """Say what comes now, and how long it took until here."""
        self._tell(f"[{time.monotonic() - self._began:.0f} s, part {number} of 4] {text}")

    def _plan(self, subject: str, seed: int, seconds: float, fault: Fault | None = None, **more: Any) -> Plan:
        more.setdefault("folder", self._folder)
        return Plan(
            number=more.pop("number", 0) or next(self._numbers),
            seed=seed,
            subject=subject,
            instances=self._profile.instances,
            watchers=self._profile.watchers,
            duration_s=seconds,
            mix=Mix(sessions=self._profile.sessions),
            fault=fault,
            fault_after_s=_FAULT_AFTER_S,
            proxied=fault.uses_proxy if fault else False,
            **more,
        )

    def _write_manifest(self, plan: Plan) -> None:
        numbers = sorted(int(path.name) for path in (plan.folder / "rounds").iterdir())
        found = manifest(profile=self.found.profile, seed=plan.seed, subject=plan.subject, rounds=numbers)
        write_run(plan.folder, found)


def _recovery_s(plan: Plan, folder: Path) -> float | None:
    if plan.fault is None or not plan.fault.healed_ns:
        return None
    seconds: float | None = plan.fault.recovery_s(records_of(folder))
    return None if seconds is None else round(seconds, 3)


def _shown(one: Caught) -> str:
    return one.line if one.result in (CAUGHT, GREEN) else f"{one.line}: {one.evidence}"
