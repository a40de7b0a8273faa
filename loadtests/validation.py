"""What came of a validation, and what follows from it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from loadtests.judging.verdict import Status
from loadtests.mutants.catch import CAUGHT, GREEN, Caught

if TYPE_CHECKING:
    from pathlib import Path

# 1: the first.
FORMAT = 1
NAME = "validation.json"
# Violations that are lost or invented writes.
_LOST = ("lost", "one writer", "next version")


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
        """It in one line."""
        attempted = f"{self.counts.get('attempted', 0):>8,} attempted"
        mark = "as it should be" if self.is_as_it_should_be else "NOT AS IT SHOULD BE"
        text = f"{self.subject:<16}{self.status:<10}{attempted}  {self.seconds:5.1f} s  {mark}"
        return f"{text}: {self.sentence}" if self.sentence else text


class RoundResult(msgspec.Struct, kw_only=True):
    """What a round showed.

    Attributes:
        number: names its folder.
        arena, subject, seed: of it.
        fault: what befell it; empty: nothing.
        exercised, proof: whether that hit, and what shows it.
        status, counts: the verdict.
        losses_allowed: whether acknowledged writes could be lost by what happened.
        sentences: what contradicts what, or why there is no verdict.
        seconds: with the judging.
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
    is_repeated: bool = False

    @property
    def expected_losses(self) -> int:
        """Acknowledged writes that are gone where that could be."""
        return self.counts.get("lost (expected)", 0) if self.losses_allowed else 0

    @property
    def line(self) -> str:
        """It in one line, and one for each sentence."""
        attempted = f"{self.counts.get('attempted', 0):>8,} attempted"
        lost = f", {self.expected_losses:,} lost as expected" if self.losses_allowed else ""
        hit = "" if self.exercised else "  NOT EXERCISED"
        head = (
            f"{self.number:03d} {self.subject:<13}{self.fault or self.arena:<34}{self.status:<10}{attempted}{lost}{hit}"
        )
        return "\n      ".join([head, *self.sentences, *([] if self.exercised else [self.proof])])


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
        if any(one.status == Status.VIOLATION for one in self.rounds) or self.mutants_status == 1:
            return 1
        if not all(one.is_as_it_should_be or one.status == Status.UNDECIDED for one in self.subjects):
            return 1
        return 2 if self.doubts() else 0

    def doubts(self) -> list[str]:
        """What could not be told."""
        last = [one for one in self.rounds if not one.is_repeated]
        found = [f"round {one.number} is undecided" for one in last if one.status == Status.UNDECIDED]
        found += [f"round {one.number}: {one.fault} was not exercised" for one in last if not one.exercised]
        found += [f"{one.subject} is undecided" for one in self.subjects if one.status == Status.UNDECIDED]
        if not any(one.should_be_caught for one in self.subjects):
            found.append("no wrong subject was attacked")
        if self.mutants_status == 2 or not any(one.mutant for one in self.mutants):
            found.append("not all mutants could be run")
        if self.count("attempted") < self.attempts_at_least:
            found.append(f"{self.count('attempted'):,} attempts, where {self.attempts_at_least:,} were wanted")
        return found

    def count(self, name: str) -> int:
        """A count over all rounds."""
        return sum(one.counts.get(name, 0) for one in self.rounds)

    def summary(self) -> list[str]:
        """It in some lines."""
        violations = Counter[str]()
        for one in self.rounds:
            for name, number in one.counts.items():
                if name.startswith("violations: "):
                    violations[name.removeprefix("violations: ")] += number
        faults = {(one.arena, one.fault) for one in self.rounds if one.fault and one.exercised}
        controls = [one for one in self.mutants if not one.mutant]
        mutants = [one for one in self.mutants if one.mutant]
        slowest = max((one.seconds for one in mutants), default=0.0)
        allowed = sum(one.expected_losses for one in self.rounds)
        attempts = (
            f"{self.count('attempted'):,} operations attempted, {self.count('acknowledged'):,} acknowledged, in"
            f" {len(self.rounds)} rounds; {len(faults)} pairs of arena and fault exercised"
        )
        held = (
            f"{sum(violations[name] for name in _LOST)} acknowledged updates lost"
            f" ({allowed:,} where a store without durability was killed: expected),"
            f" {violations['audit']} audit rows missing or wrong, {violations['watcher']} watchers misled,"
            f" {sum(violations.values())} violations in all"
        )
        noticed = (
            f"{sum(one.result == CAUGHT for one in mutants)} of {len(mutants)} mutants caught, the slowest in"
            f" {slowest:.1f} s; {sum(one.result == GREEN for one in controls)} of {len(controls)} checks green on"
            " the unbroken core"
        )
        verdict = ("VALID", "VIOLATION", "UNDECIDED")[self.exit_status]
        return [attempts, held, noticed, *self.doubts(), f"{verdict}, after {self.seconds:.0f} s"]

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        (folder / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))
