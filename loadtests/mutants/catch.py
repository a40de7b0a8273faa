"""Runs each mutant against the check that is to notice it, and the same check on the unbroken core.

In real processes, against real servers. A mutant whose check needs luck is looked at again with other seeds, up to
three times, and so is nothing else: a check that is red on the unbroken core is red.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from loadtests import checks
from loadtests.guarantees import GUARANTEES, Desk
from loadtests.mutants import MUTANTS
from loadtests.mutants.rounds import Attacks, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kairos_core import Settings
    from loadtests.checks import Check

ATTEMPTS = 3
# How many directed checks are asked for at a time.
_DESKS = 2
CAUGHT, SURVIVED, GREEN, RED, FAILED = "caught", "SURVIVED", "green", "RED", "could not run"
# Those whose steps are drawn.
_ATTACKS = ("history", "drain", "assumption")
_CHECKS: dict[str, Check] = {check.__name__: check for check in checks.CHECKS[:-1]}
# A check, and what it is to look at: a mutant, or the unbroken core.
_Step: TypeAlias = "tuple[str, str | None]"
CATCHERS = (*_ATTACKS, *GUARANTEES, *_CHECKS)


class Caught(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mutant, or of the unbroken core.

    Attributes:
        mutant: its name; empty: the unbroken core.
        guarantee: the number of the guarantee that it breaks; empty likewise.
        bug: what is wrong with it.
        check: what looked at it.
        result: `caught` or `SURVIVED`, of the unbroken core `green` or `RED`; or `could not run`.
        attempts: how often it was looked at.
        seconds: how long that took.
        evidence: what was seen.
    """

    mutant: str
    guarantee: str
    bug: str
    check: str
    result: str
    attempts: int
    seconds: float
    evidence: str

    @property
    def line(self) -> str:
        """It in one line."""
        name = self.mutant or "(the unbroken core)"
        again = f" at attempt {self.attempts}" if self.attempts > 1 else ""
        return f"{self.guarantee:<8}{name:<30}{self.check:<40}{self.seconds:>6.1f} s  {self.result}{again}"


def status_of_mutants(found: Iterable[Caught]) -> int:
    """0: all mutants were caught, and all checks are green; 1: not so; 2: something could not be run."""
    results = {one.result for one in found}
    if FAILED in results:
        return 2
    return int(bool(results & {SURVIVED, RED}))


def catch(settings: Settings, names: Iterable[str], tell: Callable[[Caught], object] = lambda _: None) -> list[Caught]:
    """Run these mutants, and each of their checks on the unbroken core.

    Args:
        settings: of servers on which the account may do anything; what is left there begins with the namespace.
        names: of the mutants.
        tell: told of each once it is done.

    Returns:
        What became of each, by its check, the unbroken core first.
    """
    by_check: dict[str, list[str]] = {name: [] for name in CATCHERS}
    for name in names:
        by_check[MUTANTS[name].catcher].append(name)
    attacks = {check: by_check.pop(check) for check in _ATTACKS}
    found: list[Caught] = []
    lock = threading.Lock()

    def note(one: Caught) -> None:
        with lock:
            found.append(one)
            tell(one)

    attacking, asking = _steps(attacks), _steps(by_check)
    # Attacks want the processors, and the others mostly wait: side by side, all take hardly longer than the attacks.
    with ThreadPoolExecutor(1 + _DESKS) as pool:
        running = [pool.submit(_attack, settings, attacking, note)]
        numbers = itertools.count(1)
        running += [pool.submit(_direct, settings, asking, numbers, note) for _ in range(_DESKS)]
        try:
            for one in running:
                one.result()
        finally:
            # Whoever is interrupted waits for what is being looked at, and for no more.
            attacking.clear()
            asking.clear()
    return sorted(found, key=lambda one: (CATCHERS.index(one.check), one.mutant))


def _steps(by_check: dict[str, list[str]]) -> deque[_Step]:
    """Each check that has mutants, first on the unbroken core, and then on each of these."""
    return deque((check, name) for check, names in by_check.items() if names for name in [None, *names])


def _taken(steps: deque[_Step]) -> Iterator[_Step]:
    """One after the other, until none is left, whoever takes them."""
    with suppress(IndexError):
        while True:
            yield steps.popleft()


def _direct(settings: Settings, steps: deque[_Step], numbers: Iterator[int], note: Callable[[Caught], None]) -> None:
    with Desk() as desk:

        def look(check: str, mutant: str | None, _: int) -> Look:
            own = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{next(numbers)}")
            result = _CHECKS[check](own, mutant) if check in _CHECKS else desk.ask(check, own, mutant)
            return Look(not result.passed, result.passed, result.evidence)

        for check, mutant in _taken(steps):
            note(looked_at(mutant, check, partial(look, check, mutant), 1))


def _attack(settings: Settings, steps: deque[_Step], note: Callable[[Caught], None]) -> None:
    if not steps:
        return
    with Attacks(settings) as attacks:
        for check, mutant in _taken(steps):
            note(looked_at(mutant, check, partial(getattr(attacks, check), mutant), ATTEMPTS if mutant else 1))


def looked_at(name: str | None, check: str, look: Callable[[int], Look], attempts: int) -> Caught:
    """Look at a mutant, or at the unbroken core, until it is noticed."""
    start = time.monotonic()
    attempt, evidence = 0, ""
    try:
        for attempt in range(1, attempts + 1):
            found = look(attempt)
            evidence = found.evidence
            if found.is_noticed:
                break
        words = (GREEN, RED) if name is None else (SURVIVED, CAUGHT)
        is_first = found.is_clean if name is None else not found.is_noticed
        result = words[0] if is_first else words[1]
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are looked at all the same
        result, evidence = FAILED, f"{type(error).__name__}: {error}"
    mutant = MUTANTS[name] if name else None
    return Caught(
        mutant=name or "",
        guarantee=mutant.guarantee if mutant else "",
        bug=mutant.bug if mutant else "",
        check=check,
        result=result,
        attempts=attempt,
        seconds=round(time.monotonic() - start, 3),
        evidence=evidence,
    )
