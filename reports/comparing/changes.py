"""What became of each operation, guarantee, mutant and load test between two runs; pure, but for reading them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from loadtests.judging.verdict import Status
from loadtests.mutants.catch import CAUGHT, FAILED, GREEN
from reports.judging.guarantees import guarantees
from reports.statistics import Comparison, Verdict, band_of, change, smallest_visible
from reports.tables import NOTHING

if TYPE_CHECKING:
    from reports.comparing.runs import Side
    from reports.evidence import LoadTest


class Word(Enum):
    """What became of something."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "no difference shown"
    UNCLEAR = "unclear"


class Speed(NamedTuple):
    """How fast an operation is beside bare redis-py, before and now.

    Attributes:
        operation: which.
        before, now: Kairos' p50 over bare redis-py's.
        band: what a change must exceed: how far the operation was from itself, in either run.
        floor: the same change of the ratio to the same bytes on a raw socket; None: that was not measured.
    """

    operation: str
    before: Comparison
    now: Comparison
    band: float
    floor: Comparison | None

    @property
    def changed(self) -> Comparison:
        """How many times as much it is now."""
        return change(self.now, self.before)

    @property
    def visible(self) -> float:
        """How many times as long it would have to take to be seen, 80 times in 100, by both yardsticks."""
        return max(smallest_visible(one, self.band) for one in (self.changed, self.floor) if one is not None)

    @property
    def word(self) -> Word:
        """Slower takes both yardsticks: one alone moves with the state of the machine, too.

        Of two runs of the same code one ratio was a tenth larger, with an interval that excluded 1; the other was not.
        """
        changed = self.changed
        if changed.lower > 1 and changed.ratio > self.band:
            return self._unless_alone(Word.WORSE, is_shared=self.floor is None or self.floor.ratio > self.band)
        if changed.upper < 1 and changed.ratio < 1 / self.band:
            return self._unless_alone(Word.BETTER, is_shared=self.floor is None or self.floor.ratio < 1 / self.band)
        return Word.SAME

    def _unless_alone(self, word: Word, *, is_shared: bool) -> Word:
        if is_shared or self.floor is None:
            return word
        floor, as_much = self.floor, self.changed.ratio
        shows_none = not floor.excludes_one or 1 / self.band < floor.ratio < self.band
        # The raw socket had room for no such change and shows none itself; else the two contradict each other.
        return Word.SAME if shows_none and not floor.lower <= as_much <= floor.upper else Word.UNCLEAR


def speeds(before: Side, after: Side) -> list[Speed]:
    """Of each operation that both runs timed beside bare redis-py."""
    found = []
    for operation in after.operations:
        then, now = before.ratio(operation, "bare"), after.ratio(operation, "bare")
        if then is None or now is None:
            continue
        itself = [side.ratio(operation, "again") for side in (before, after)]
        floors = [side.ratio(operation, "floor") for side in (before, after)]
        floor = change(floors[1], floors[0]) if floors[0] and floors[1] else None
        band = max(band_of(one) for one in itself if one is not None)
        found.append(Speed(operation, then, now, band, floor))
    return found


def missing(before: Side, after: Side) -> list[str]:
    """Operations that one of the two timed and the other did not."""
    ours, theirs = set(after.operations), set(before.operations)
    return [f"{name}: only the run before has it" for name in sorted(theirs - ours)] + [
        f"{name}: only the run after has it" for name in sorted(ours - theirs)
    ]


class Turned(NamedTuple):
    """Something that is right or wrong, and was not the same before.

    Attributes:
        what: in words.
        before, now: how it was, and is.
        word: whether that is worse.
    """

    what: str
    before: str
    now: str
    word: Word


def turned(what: str, before: str, now: str, *, good: frozenset[str], open_: frozenset[str]) -> Turned | None:
    """What became of it; None: nothing.

    Args:
        what: in words.
        before: what it was.
        now: what it is.
        good: the words that say that all is well.
        open_: those that say that nobody knows.
    """
    if before == now or (before in good and now in good):
        return None
    if now in good:
        word = Word.BETTER if before not in open_ else Word.SAME
    else:
        # What was never told before is told now: that it is wrong is worse than not to know.
        word = Word.UNCLEAR if now in open_ else Word.WORSE
    return Turned(what, before, now, word)


def turned_mutants(before: Side, after: Side) -> list[Turned]:
    """Mutants that were caught and are not now, or the other way round; and their checks on the core as it is."""
    good, open_ = frozenset({CAUGHT, GREEN}), frozenset({FAILED, NOTHING})
    results = [
        {
            f"mutant {one.mutant}" if one.mutant else f"{one.check} on the core as it is": one.result
            for one in (side.evidence.validation.mutants if side.evidence.validation else [])
        }
        for side in (before, after)
    ]
    if not (results[0] and results[1]):
        return []
    names = list(dict.fromkeys([*results[1], *results[0]]))
    found = [
        turned(name, results[0].get(name, NOTHING), results[1].get(name, NOTHING), good=good, open_=open_)
        for name in names
    ]
    return [one for one in found if one is not None]


class LoadPair(NamedTuple):
    """A load test of both runs.

    Attributes:
        name: of the scenario.
        before, now: the tests.
        unlike: why their times are not set side by side; empty: they are.
    """

    name: str
    before: LoadTest
    now: LoadTest
    unlike: str


def load_pairs(before: Side, after: Side) -> list[LoadPair]:
    """The load tests that both have."""
    theirs = before.evidence.loads
    return [
        LoadPair(name, theirs[name], now, _unlike(theirs[name], now))
        for name, now in after.evidence.loads.items()
        if name in theirs
    ]


def _unlike(before: LoadTest, now: LoadTest) -> str:
    for what in ("time", "size", "subject"):
        then, here = getattr(before.load, what), getattr(now.load, what)
        if then != here:
            return f"{what} {then} before, {here} now"
    return "" if len(before.load.parts) == len(now.load.parts) else "another number of processes"


def turned_loads(pairs: list[LoadPair]) -> list[Turned]:
    """What the checker said of their histories, where that is not the same."""
    good, open_ = frozenset({str(Status.VALID)}), frozenset({str(Status.UNDECIDED)})
    found = [
        turned(f"histories of {pair.name}", pair.before.correctness, pair.now.correctness, good=good, open_=open_)
        for pair in pairs
    ]
    return [one for one in found if one is not None]


def turned_guarantees(before: Side, after: Side) -> list[Turned]:
    """Guarantees whose verdict is another now, of those that both runs had anything to say of."""
    good, open_ = frozenset({Verdict.PASS.value}), frozenset({Verdict.INCONCLUSIVE.value})
    found = []
    for then, now in zip(guarantees(before.evidence), guarantees(after.evidence), strict=True):
        one = turned(f"{now.number}, {now.text}", then.verdict.value, now.verdict.value, good=good, open_=open_)
        if one is not None:
            found.append(one)
    return found
