"""The broken variants, and what noticed each; between them the same checks on the core as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.mutants.catch import CAUGHT, GREEN
from reports.findings import MutantRow

if TYPE_CHECKING:
    from loadtests.validation import Validation


def mutant_rows(validation: Validation) -> list[MutantRow]:
    """By their check, the core as it is first."""
    return [
        MutantRow(
            mutant=one.mutant,
            guarantee=one.guarantee,
            bug=one.bug,
            check=one.check,
            result=one.result,
            attempts=one.attempts,
            seconds=one.seconds,
            evidence=one.evidence,
            is_well=one.result == (CAUGHT if one.mutant else GREEN),
        )
        for one in validation.mutants
    ]
