"""Rounds of an attack: processes that attempt and watch, a fault in the middle, and a quiet end that is looked at.

Each round has sessions of its own, and so is a history of its own that begins with their absence. Processes serve one
round after the other; those that were killed are replaced.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from loadtests import history
from loadtests.attack import exported
from loadtests.attack.attacker import Ended, started
from loadtests.attack.rounds import FaultFacts, Plan, ProcessFacts, Round, write_round
from loadtests.attack.team import Team
from loadtests.attack.workload import arrivals
from loadtests.environment import as_administrator
from loadtests.history import Kind
from loadtests.subjects.outside import is_outside, not_judged
from loadtests.subjects.registry import OF_KAIROS

if TYPE_CHECKING:
    from pathlib import Path

    from kairos_core import Settings
    from loadtests.attack.attacker import Process, Start
    from loadtests.faults.arenas import Arena
    from loadtests.history import History

# From when all are told to begin to when they do.
_LEAD_S = 0.1
_POLL_S = 0.05
_WATCH_TIMEOUT_S = 60.0
# Beyond the time that a call may take.
_PATIENCE_S = 20.0
_RIVALS_PATIENCE_S = 2.0
# How long a fault may take, healing included, before the instances of a round end by themselves.
_LONGEST_FAULT_S = 90.0
_REMOVALS = (Kind.TOLD_REMOVED, Kind.RESYNCHRONISED_ABSENT)


def run_round(arena: Arena, plan: Plan, start: Start = started) -> Path:
    """Run one round with processes of its own; its folder."""
    with Campaign(arena, start) as campaign:
        return campaign.run_round(plan)


class Campaign:
    """Rounds in one arena, with processes that serve all of them.

    Args:
        arena: where.
        start: starts a process.
    """

    def __init__(self, arena: Arena, start: Start = started) -> None:
        self._arena = arena
        self._team = Team(start)
        # Of the round at hand.
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        self._team.close()
        self._processes.clear()
        self._arena.instances.clear()

    def man(self, plan: Plan) -> None:
        """Have all processes that a round needs, as `run_round` does by itself."""
        plan.folder.mkdir(parents=True, exist_ok=True)
        self._processes = self._team.man(_settings(self._arena, plan), plan)
        self._arena.instances[:] = self._of("instance")

    def run_round(self, plan: Plan) -> Path:
        """Run one round; its folder."""
        plan.round_folder.mkdir(parents=True)
        self.man(plan)
        primaries = self._arena.acting()
        found = self._begin(plan)
        try:
            self._disturb(plan, found)
            self._gather(plan, found)
            self._look(plan, found)
            self._finish_watchers(plan, found)
            if not found.losses and primaries != self._arena.acting():
                # What it had acknowledged may be gone, and nobody knows since when.
                found.notes.append("a primary was replaced that nobody killed")
        finally:
            # Whatever went wrong: none goes on attempting where the next round begins.
            for process in self._processes:
                process.tell("finish")
        self._export(plan, found)
        self._prove(plan, found)
        write_round(plan.round_folder, found)
        for path in sorted(plan.round_folder.glob("*.history")):
            history.seal(path)
        return plan.round_folder

    def _of(self, role: str) -> list[Process]:
        return [process for process in self._processes if process.role == role]

    def _begin(self, plan: Plan) -> Round:
        """Tell all to begin, watchers first."""
        settings = self._arena.settings
        prefix = f"{plan.number}x{secrets.token_hex(4)}"
        for process in self._processes:
            process.number = plan.number_of(process.role, process.place)
            process.path = plan.round_folder / f"{process.number}.history"
        for process in self._of("watcher"):
            process.tell("watch", path=str(process.path), number=process.number, prefix=prefix)
        for process in self._of("watcher"):
            process.answer(_WATCH_TIMEOUT_S)
        begin_ns = time.monotonic_ns() + round(_LEAD_S * 1e9)
        for process in self._of("instance"):
            process.tell(
                "attack",
                path=str(process.path),
                number=process.number,
                place=process.place,
                prefix=prefix,
                seed=plan.seed,
                mix=msgspec.to_builtins(plan.mix),
                begin_ns=begin_ns,
                duration_s=plan.duration_s + (_LONGEST_FAULT_S if plan.is_open_end else 0.0),
                count=plan.count,
                rate=plan.rate,
            )
        return Round(
            number=plan.number,
            seed=plan.seed,
            subject=plan.subject,
            mutant=plan.mutant,
            mix=plan.mix,
            rate=plan.rate,
            count=plan.count,
            duration_s=plan.duration_s,
            arena=self._arena.kind,
            prefix=prefix,
            durability=settings.durability,
            session_ttl_ms=round(settings.session_ttl_s * 1000),
            receipt_ttl_ms=round(settings.receipt_ttl_s * 1000),
            timeout_ms=round(settings.timeout_s * 1000),
            not_judged=not_judged(plan.subject),
            begin_ns=begin_ns,
            processes=[
                ProcessFacts(number=process.number, role=process.role, place=process.place)
                for process in self._processes
            ],
        )

    def _disturb(self, plan: Plan, found: Round) -> None:
        """Let the fault happen, and be over, and let the instances go on for a while."""
        fault = plan.fault
        if fault is None:
            return
        _sleep_until(found.begin_ns + round(plan.fault_after_s * 1e9))
        began_ns = time.monotonic_ns()
        try:
            fault.begin(self._arena)
            # From when it struck: before that, it had things to look at.
            began_ns = fault.begin_ns
            _sleep_until(began_ns + round(fault.hold_s * 1e9))
        finally:
            fault.heal(self._arena)
            found.losses = fault.losses
        healed_ns = time.monotonic_ns()
        found.fault = FaultFacts(
            name=fault.name,
            parameters=dict(fault.parameters),
            begin_ns=began_ns,
            healed_ns=healed_ns,
            exercised=False,
            proof="",
        )
        if plan.is_open_end:
            _sleep_until(max(found.begin_ns + round(plan.duration_s * 1e9), healed_ns + round(plan.after_s * 1e9)))
            for process in self._of("instance"):
                process.tell("finish")

    def _gather(self, plan: Plan, found: Round) -> None:
        """Wait until the instances have attempted all that they were to; one that does not come to an end is killed."""
        after_s = 2 * self._arena.settings.timeout_s + _PATIENCE_S
        deadline = max(time.monotonic(), found.begin_ns / 1e9 + plan.duration_s) + after_s
        for process in self._of("instance"):
            facts = _facts(found, process)
            if plan.rate is not None:
                facts.planned = len(arrivals(plan.seed, process.place, plan.rate, plan.duration_s))
            try:
                answer = process.answer(deadline - time.monotonic())
            except Ended:
                facts.was_killed = True
                continue
            except TimeoutError as error:
                process.kill()
                facts.was_killed = True
                found.notes.append(str(error))
                continue
            facts.attempted, facts.shown = answer["attempted"], answer["shown"]
            _note(found, process, answer)

    def _look(self, plan: Plan, found: Round) -> None:
        """Have all sessions read, now that nobody writes any more."""
        (reader,) = self._of("reader")
        reader.tell(
            "read",
            path=str(reader.path),
            number=reader.number,
            prefix=found.prefix,
            sessions=plan.mix.sessions,
            timeout_s=plan.quiet_s,
        )
        try:
            answer = reader.answer(plan.quiet_s + _PATIENCE_S)
        except (Ended, TimeoutError) as error:
            reader.kill()
            _facts(found, reader).was_killed = True
            found.notes.append(f"the final states were not read: {error}")
            return
        if answer["missing"]:
            found.notes.append(f"the final states of {answer['missing']} sessions could not be read")
        _note(found, reader, answer)

    def _finish_watchers(self, plan: Plan, found: Round) -> None:
        """Wait until the watchers have heard of all final states, then end their watches."""
        (reader,) = self._of("reader")
        finals = _last_of_each(history.read(reader.path)) if reader.path.exists() else {}
        # What a rival's watcher missed it will never hear of.
        patience_s = plan.quiet_s if plan.subject in OF_KAIROS else min(plan.quiet_s, _RIVALS_PATIENCE_S)
        deadline = time.monotonic() + patience_s
        waiting = [process for process in self._of("watcher") if process.is_alive]
        while waiting and time.monotonic() < deadline:
            waiting = [process for process in waiting if process.is_alive and not _has_reached(process.path, finals)]
            if waiting:
                time.sleep(_POLL_S)
        for process in self._of("watcher"):
            process.tell("finish")
        for process in self._of("watcher"):
            try:
                _note(found, process, process.answer())
            except Ended:
                _facts(found, process).was_killed = True
            except TimeoutError as error:
                process.kill()
                _facts(found, process).was_killed = True
                found.notes.append(str(error))

    def _export(self, plan: Plan, found: Round) -> None:
        """Write down what the audit recorded, once it has recorded all."""
        if self._arena.pool is None or plan.subject not in OF_KAIROS:
            return
        is_drained = exported.wait_until_drained(self._arena.worker_settings, plan.quiet_s)
        if not is_drained:
            found.notes.append(f"the outbox was not drained within {plan.quiet_s:.0f} s")
        path = plan.round_folder / "audit.history"
        found.audit = exported.export(
            self._arena.settings, found.prefix, path, is_drained=is_drained, timeout_s=plan.quiet_s
        )

    def _prove(self, plan: Plan, found: Round) -> None:
        """Ask the fault whether it hit."""
        if plan.fault is None or found.fault is None:
            return
        paths = [process.path for process in self._of("instance") if process.path.exists()]
        records = history.join(map(history.read, paths))
        found.fault.exercised, found.fault.proof = plan.fault.prove(self._arena, records)


def _settings(arena: Arena, plan: Plan) -> Settings:
    """What the processes connect to, and as whom: the rivals need more than the core's account may do."""
    if plan.subject in OF_KAIROS:
        return arena.settings_for(proxied=plan.proxied or (plan.fault is not None and plan.fault.uses_proxy))
    # Of the rivals that are here, all rounds are calm.
    is_proxied = is_outside(plan.subject) and plan.fault is not None and plan.fault.uses_proxy
    settings = arena.settings_for(proxied=is_proxied)
    if arena.node is not None and not is_proxied:
        return msgspec.structs.replace(settings, redis_url=arena.node.url)
    return as_administrator(settings)


def _sleep_until(moment_ns: int) -> None:
    time.sleep(max(0, moment_ns - time.monotonic_ns()) / 1e9)


def _facts(found: Round, process: Process) -> ProcessFacts:
    return next(facts for facts in found.processes if facts.number == process.number)


def _note(found: Round, process: Process, answer: dict[str, Any]) -> None:
    """Note what a process says of its subject that should not have been."""
    found.notes += [f"{process.role} {process.place}: {note}" for note in answer["notes"]]


def _last_of_each(records: History) -> dict[int, tuple[Kind, tuple[int, int]]]:
    """The last record that there is of each session: its kind and stamp."""
    reversed_ = records[::-1]
    _, firsts = np.unique(reversed_["session"], return_index=True)
    return {
        int(record["session"]): (Kind(record["kind"]), (int(record["incarnation"]), int(record["version"])))
        for record in reversed_[firsts]
    }


def _has_reached(path: Path, finals: dict[int, tuple[Kind, tuple[int, int]]]) -> bool:
    """Whether a watcher, as of its history so far, was told of these final states, or of later ones."""
    told = _last_of_each(history.read(path))
    for session, (_, stamp) in finals.items():
        kind, last = told.get(session, (Kind.TOLD_REMOVED, (0, 0)))
        if last < stamp or (stamp == (0, 0) and kind not in _REMOVALS):
            return False
    return True
