"""Broken variants of the core, and of what measures it, one bug each.

A check that none of them turns red has shown nothing. Each replaces pieces of one script or one function, in a process
of its own (`apply`), and names the check that is to notice it; `python -m loadtests.mutants` lets that check look.
"""

from __future__ import annotations

from loadtests.mutants import harness, managers, records, scripts, watching
from loadtests.mutants.mutant import MisfitError, Mutant

__all__ = ["MUTANTS", "MisfitError", "Mutant", "apply"]

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (*scripts.MUTANTS, *managers.MUTANTS, *watching.MUTANTS, *records.MUTANTS, *harness.MUTANTS)
}


def apply(name: str) -> None:
    """Break this process in one way.

    Raises:
        MisfitError: what it would replace is not there any more.
    """
    MUTANTS[name].break_it()
