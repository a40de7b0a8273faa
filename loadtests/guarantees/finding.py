"""What a directed check is, and what it finds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from kairos_core import KairosError
from loadtests.checks import CheckResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings


class Finding(NamedTuple):
    """Whether it held, and what was seen, in a sentence with numbers."""

    passed: bool
    evidence: str


class Facts:
    """What was seen, one fact after the other."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._broken: list[str] = []

    def note(self, held: object, fact: str) -> None:
        """Note a fact, and whether it is as it should be."""
        (self._held if held else self._broken).append(fact)

    @property
    def finding(self) -> Finding:
        """What follows: the facts that should not be where there are some, else all."""
        return Finding(not self._broken, "; ".join(self._broken or self._held))


class Directed:
    """A question to the core that a random run would seldom ask.

    Attributes:
        name: the check.
        guarantee: the number of the guarantee it bears on.
        question: what is asked.
    """

    def __init__(self, look: Callable[[Settings], Finding], guarantee: str, question: str) -> None:
        self._look = look
        self.name = look.__name__
        self.guarantee = guarantee
        self.question = question

    def here(self, settings: Settings) -> CheckResult:
        """Ask it in this process. A core that answers with an error where it should not does not pass."""
        start = time.monotonic()
        try:
            found = self._look(settings)
        except KairosError as error:
            found = Finding(False, f"{type(error).__name__}: {error}")
        return self.result(*found, time.monotonic() - start)

    def result(self, passed: bool, evidence: str, duration_s: float) -> CheckResult:
        """What was found, as the result of this check."""
        return CheckResult(
            name=self.name,
            guarantee=self.guarantee,
            question=self.question,
            passed=passed,
            evidence=evidence,
            duration_s=round(duration_s, 3),
        )


def directed(guarantee: str, question: str) -> Callable[[Callable[[Settings], Finding]], Directed]:
    """Make a check of a function that looks."""
    return lambda look: Directed(look, guarantee, question)
