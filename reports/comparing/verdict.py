"""What follows from two runs: worse, better, no difference shown, or that it could not be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reports.comparing.changes import (
    LoadPair,
    Speed,
    Turned,
    Word,
    load_pairs,
    missing,
    speeds,
    turned_guarantees,
    turned_loads,
    turned_mutants,
)
from reports.comparing.runs import Difference, Side, differences
from reports.figures.comparison import comparison
from reports.lab.answer import Answer
from reports.statistics import BLIND

if TYPE_CHECKING:
    from reports.figures.style import Picture

UNTOLD = "it could not be told"
_STATUS = {Word.WORSE.value: 1, UNTOLD: 2}


class Compared(NamedTuple):
    """Two runs side by side.

    Attributes:
        before, after: which.
        unlike: in what they differ besides the code; then no time is judged.
        problems: why one of them cannot be trusted, or has what the other has not.
        speeds: of the operations.
        turned: what became right or wrong.
        loads: the load tests that both have.
    """

    before: Side
    after: Side
    unlike: list[Difference]
    problems: list[str]
    speeds: list[Speed]
    turned: list[Turned]
    loads: list[LoadPair]

    @property
    def is_one(self) -> bool:
        """Whether both are halves of one run, so that nothing was changed between them."""
        return self.after.is_half

    @property
    def obstacles(self) -> list[str]:
        """Why no time of one is set against one of the other."""
        return [*(f"{one.what}: {one.before} before, {one.after} now" for one in self.unlike), *self.problems]

    @property
    def answer(self) -> Answer:
        """Whether it became better."""
        worse, unclear, better = (self._named(word) for word in (Word.WORSE, Word.UNCLEAR, Word.BETTER))
        told = [f"Worse: {one}." for one in worse] + [f"Unclear: {one}." for one in unclear]
        told += [f"Better: {one}." for one in better]
        if worse:
            return Answer(Word.WORSE.value, [*told, *self._hindered()])
        if self.obstacles or unclear or not self.speeds:
            return Answer(UNTOLD, [*self._hindered(), *told] or ["Neither run has operations that both timed."])
        if self.blind:
            return Answer(UNTOLD, [*told, f"Too little could be seen: {'; '.join(self.blind)}."])
        word = Word.BETTER if better else Word.SAME
        chance = ["Nothing was changed between the two halves: so far apart they are by chance."] if self.is_one else []
        return Answer(word.value, [*told, *chance, self.seen])

    @property
    def status(self) -> int:
        """What a program ends with. 0: no worse. 1: worse. 2: it could not be told."""
        return _STATUS.get(self.answer.word, 0)

    @property
    def blind(self) -> list[str]:
        """The operations that might take twice as long unseen."""
        return [
            f"{one.operation} might take {one.visible:.2f} times as long unseen"
            for one in self.speeds
            if one.visible > BLIND
        ]

    @property
    def seen(self) -> str:
        """Which slowdown would have been seen."""
        seen = sorted((one.visible, one.operation) for one in self.speeds)
        ends = dict.fromkeys(f"{times:.2f} times as long ({operation})" for times, operation in (seen[0], seen[-1]))
        return f"A slowdown would have been seen 80 times in 100 from {' to '.join(ends)} on."

    def _hindered(self) -> list[str]:
        found = self.obstacles
        return [f"No time is judged, since the two are not alike: {'; '.join(found)}."] if found else []

    def _named(self, word: Word) -> list[str]:
        found = [f"{one.what} was {one.before} and is {one.now}" for one in self.turned if one.word is word]
        if self.obstacles:
            return found
        return [_sentence(one) for one in self.speeds if one.word is word] + found


def _sentence(speed: Speed) -> str:
    floor = "" if speed.floor is None else f"; over the raw socket {speed.floor}"
    return f"{speed.operation} takes {speed.changed} times as long, measured by bare redis-py{floor}"


def compared(before: Side, after: Side) -> Compared:
    """Compare two runs, or the two halves of one."""
    problems = [f"{side.name}: {problem}" for side in (before, after) for problem in _problems(side)]
    loads, turns = ([], []) if after.is_half else (load_pairs(before, after), turned_guarantees(before, after))
    if not after.is_half:
        turns += [*turned_mutants(before, after), *turned_loads(loads)]
    found = speeds(before, after)
    problems += missing(before, after)
    return Compared(before, after, differences(before, after), list(dict.fromkeys(problems)), found, turns, loads)


def picture(found: Compared) -> Picture | None:
    """The change of each operation with its interval, beside the band; None: no operation was timed by both."""
    return comparison(found.speeds)


def _problems(side: Side) -> list[str]:
    run = side.evidence.latency
    if run is None:
        return side.evidence.problems or ["it has no latency benchmarks"]
    return run.problems
