"""What came of a validation, and what follows from it."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from loadtests.judging.verdict import Status
from loadtests.mutants.catch import CAUGHT, FAILED, GREEN, RED, SURVIVED, Caught

if TYPE_CHECKING:
    from pathlib import Path

# 1: the first.
FORMAT = 1
NAME = "validation.json"
# Violations that are lost or invented writes.
_LOST = ("lost", "one writer", "next version")
# A line of a terminal, less what it is indented by.
_WIDTH = 112


class SubjectResult(msgspec.Struct, kw_only=True):
    """What an attack on a subject showed; `seconds` with the judging, without the start of processes."""

    subject: str
    status: Status
    should_be_caught: bool
    seconds: float
    within_s: float | None
    counts: dict[str, int]
    sentence: str

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether the wrong one was caught in time, or a right one was not accused."""
        if self.should_be_caught:
            return self.status == Status.VIOLATION and (self.within_s is None or self.seconds <= self.within_s)
        return self.status == Status.VALID

    @property
    def line(self) -> str:
        """It in one line, and its sentence below."""
        attempts = f"{self.counts.get('attempted', 0):>7,} attempts"
        mark = "as it should be" if self.is_as_it_should_be else "NOT AS IT SHOULD BE"
        head = f"{self.subject:<16}{self.status:<10}{attempts}  {self.seconds:5.1f} s  {mark}"
        return _below(head, [self.sentence])


class RoundResult(msgspec.Struct, kw_only=True):
    """What a round showed.

    Attributes:
        number: names its folder.
        arena, subject, seed: of it; of a round without a fault, the arena says what kind of calm it was.
        fault: what befell it; empty: nothing.
        exercised, proof: whether that hit, and what shows it.
        status, counts: the verdict.
        losses_allowed: whether acknowledged writes could be lost by what happened.
        sentences: what contradicts what, or why there is no verdict.
        seconds: with the judging.
        recovery_s: from when the fault began to be undone to the next write that was acknowledged; None: there was
            none, or no fault.
        is_repeated: whether another round took its place, since it showed nothing.
    """

    number: int
    arena: str
    subject: str
    seed: int
    fault: str
    exercised: bool
    proof: str
    status: Status
    counts: dict[str, int]
    losses_allowed: bool
    sentences: list[str]
    seconds: float
    recovery_s: float | None = None
    is_repeated: bool = False

    @property
    def expected_losses(self) -> int:
        """Acknowledged writes that are gone where that could be."""
        return self.counts.get("lost (expected)", 0) if self.losses_allowed else 0

    @property
    def line(self) -> str:
        """It in one line, and its sentences below."""
        attempts = f"{self.counts.get('attempted', 0):>7,} attempts"
        again = "" if self.recovery_s is None else f", writes again after {_seconds(self.recovery_s)}"
        lost = f", {self.expected_losses:,} lost as expected" if self.losses_allowed else ""
        hit = "" if self.exercised else "  NOT EXERCISED"
        name = f"{self.number:03d} {self.subject:<13}{self.fault or self.arena:<24}"
        head = f"{name}{self.status:<10}{attempts}{again}{lost}{hit}"
        return _below(head, [*self.sentences, *([] if self.exercised else [self.proof])])


class FaultResult(msgspec.Struct, kw_only=True):
    """What all rounds with a fault in an arena showed.

    Attributes:
        fault, arena: which.
        rounds: how many there were, with those that were repeated.
        hit: in how many it hit.
        expected_losses: acknowledged writes that are gone where that could be.
        recovery_s: the slowest of those in which it hit; see `RoundResult`.
    """

    fault: str
    arena: str
    rounds: int
    hit: int
    expected_losses: int
    recovery_s: float | None

    @property
    def cell(self) -> str:
        """It in a few characters: how often it hit, the slowest recovery, and what was lost."""
        times = f"{self.hit}×" if self.hit == self.rounds else f"{self.hit} of {self.rounds}"
        recovery = "" if self.recovery_s is None else f" {_seconds(self.recovery_s)}"
        return times + recovery + (f" -{self.expected_losses:,}" if self.expected_losses else "")


class Validation(msgspec.Struct, kw_only=True):
    """What a validation showed.

    Attributes:
        format: of the file.
        profile, seed: as it was asked for.
        attempts_at_least: with fewer in the rounds, too little was shown.
        subjects, rounds, mutants: what each showed.
        mutants_status: 0: all mutants were caught, and all checks are green; 1: not so; 2: not all could be run.
        seconds: it took.
    """

    format: int = FORMAT
    profile: str
    seed: int
    attempts_at_least: int
    subjects: list[SubjectResult] = []
    rounds: list[RoundResult] = []
    mutants: list[Caught] = []
    mutants_status: int = 2
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0: all is well; 1: something is wrong; 2: something could not be told."""
        if self.wrongs():
            return 1
        return 2 if self.doubts() else 0

    @property
    def status(self) -> Status:
        """What the exit status says, as a word."""
        return (Status.VALID, Status.VIOLATION, Status.UNDECIDED)[self.exit_status]

    def wrongs(self) -> list[str]:
        """What is wrong."""
        found = [
            f"round {one.number} ({f'{one.fault}, ' if one.fault else ''}{one.arena}) is a violation"
            for one in self.rounds
            if one.status == Status.VIOLATION
        ]
        found += [
            f"{one.subject} was {'not caught in time' if one.should_be_caught else 'accused'}"
            for one in self.subjects
            if not one.is_as_it_should_be and one.status != Status.UNDECIDED
        ]
        for one in self.mutants:
            if one.result == SURVIVED:
                found.append(f"mutant {one.mutant} survived the check {one.check}: {one.bug}")
            if one.result == RED:
                found.append(f"the check {one.check} is red on the unbroken core: {one.evidence}")
        if self.mutants_status == 1 and not any(one.result in (SURVIVED, RED) for one in self.mutants):
            found.append("a mutant survived, or a check is red on the unbroken core")
        return found

    def doubts(self) -> list[str]:
        """What could not be told."""
        last = [one for one in self.rounds if not one.is_repeated]
        found = [f"round {one.number} is undecided" for one in last if one.status == Status.UNDECIDED]
        found += [f"round {one.number}: {one.fault} was not exercised" for one in last if not one.exercised]
        found += [f"{one.subject} is undecided" for one in self.subjects if one.status == Status.UNDECIDED]
        if not any(one.should_be_caught for one in self.subjects):
            found.append("no wrong subject was attacked")
        failed = [
            f"{one.mutant or 'the unbroken core'} could not be run against {one.check}: {one.evidence}"
            for one in self.mutants
            if one.result == FAILED
        ]
        found += failed
        if not failed and (self.mutants_status == 2 or not any(one.mutant for one in self.mutants)):
            found.append("not all mutants could be run")
        if self.count("attempted") < self.attempts_at_least:
            found.append(f"{self.count('attempted'):,} attempts, where {self.attempts_at_least:,} were wanted")
        return found

    def count(self, name: str) -> int:
        """A count over all rounds."""
        return sum(one.counts.get(name, 0) for one in self.rounds)

    def faults(self) -> list[FaultResult]:
        """What each fault did in each arena that it befell, in the order in which they first came."""
        found: dict[tuple[str, str], FaultResult] = {}
        for one in self.rounds:
            if not one.fault:
                continue
            new = FaultResult(fault=one.fault, arena=one.arena, rounds=0, hit=0, expected_losses=0, recovery_s=None)
            result = found.setdefault((one.fault, one.arena), new)
            result.rounds += 1
            result.hit += one.exercised
            result.expected_losses += one.expected_losses
            if one.exercised and one.recovery_s is not None:
                result.recovery_s = max(one.recovery_s, result.recovery_s or 0.0)
        return list(found.values())

    def matrix(self) -> list[str]:
        """The faults by the arenas; nothing where there were none."""
        faults = self.faults()
        cells = {(one.fault, one.arena): one.cell for one in faults}
        arenas = list(dict.fromkeys(one.arena for one in faults))
        rows = [["", *arenas]]
        rows += [
            [fault, *(cells.get((fault, arena), "·") for arena in arenas)]
            for fault in dict.fromkeys(one.fault for one in faults)
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if arenas else []

    def summary(self) -> list[str]:
        """It in some lines, the last of which is what came of it."""
        violations = Counter[str]()
        for one in self.rounds:
            for name, number in one.counts.items():
                if name.startswith("violations: "):
                    violations[name.removeprefix("violations: ")] += number
        controls = [one for one in self.mutants if not one.mutant]
        mutants = [one for one in self.mutants if one.mutant]
        slowest = max((one.seconds for one in mutants), default=0.0)
        allowed = sum(one.expected_losses for one in self.rounds)
        parts = [
            self._of_subjects(),
            (
                f"attempts: {self.count('attempted'):,}, of them {self.count('acknowledged'):,} acknowledged, in"
                f" {len(self.rounds)} rounds"
            ),
            (
                f"lost: {sum(violations[name] for name in _LOST)} acknowledged updates, and {allowed:,} as expected,"
                " where the store may lose them"
            ),
            (
                f"found: {violations['audit']} audit rows missing or wrong, {violations['watcher']} watchers misled,"
                f" {sum(violations.values())} violations in all"
            ),
            (
                f"mutants: {sum(one.result == CAUGHT for one in mutants)} of {len(mutants)} caught, the slowest in"
                f" {slowest:.1f} s; {sum(one.result == GREEN for one in controls)} of {len(controls)} checks green on"
                " the unbroken core"
            ),
        ]
        wrongs = [f"wrong: {text}" for text in self.wrongs()]
        doubts = [f"in doubt: {text}" for text in self.doubts()]
        told = [line for text in (*parts, *wrongs, *doubts) for line in wrapped(text, "    ")]
        end = ("all of it held", "something is wrong", "something could not be told")[self.exit_status]
        return [*self._of_faults(), *told, f"{self.status}: {end}, after {self.seconds:.0f} s"]

    def _of_faults(self) -> list[str]:
        faults = self.faults()
        hit, rounds = sum(one.hit for one in faults), sum(one.rounds for one in faults)
        head = f"faults: {hit} of {rounds} hit; how often each, the slowest return of writes, -writes lost as expected"
        return [head, *(f"  {line}" for line in self.matrix())]

    def _of_subjects(self) -> str:
        caught = [one for one in self.subjects if one.should_be_caught and one.is_as_it_should_be]
        sound = [one for one in self.subjects if not one.should_be_caught]
        told = [f"{one.subject} caught within {one.seconds:.1f} s" for one in caught]
        told.append(f"{sum(one.is_as_it_should_be for one in sound)} of {len(sound)} sound ones found sound")
        return f"subjects: {', '.join(told)}"

    def write(self, folder: Path) -> None:
        """Write it into a run's folder, what follows from it first."""
        follows = {"status": self.status, "wrongs": self.wrongs(), "doubts": self.doubts(), "faults": self.faults()}
        stored = msgspec.to_builtins(self)
        text = msgspec.json.encode({"format": stored.pop("format"), **follows, **stored})
        (folder / NAME).write_bytes(msgspec.json.format(text, indent=2))


def read_validation(folder: Path) -> Validation:
    """What a run's folder holds.

    Raises:
        ValueError: it holds none, or one of another format.
    """
    try:
        found = msgspec.json.decode((folder / NAME).read_bytes(), type=Validation)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{folder}: {NAME} cannot be read: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"{folder}: {NAME} of format {found.format}, this version reads {FORMAT}")
    return found


def wrapped(text: str, indent: str) -> list[str]:
    """A text in lines that a terminal shows as they are, those after the first one indented."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _seconds(number: float) -> str:
    return f"{number:.{1 if number >= 1 else 2}f} s"


def _below(head: str, sentences: list[str]) -> str:
    return "\n      ".join([head, *(line for text in sentences for line in wrapped(text, "  "))])
