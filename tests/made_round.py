"""A round that was never played, made by hand."""

from __future__ import annotations

from typing import Any

from loadtests.attack.rounds import Round
from loadtests.attack.workload import Mix


def made_round(**changed: Any) -> Round:
    """A round without a fault, of one second, on a store in memory.

    Args:
        changed: fields that are to be otherwise.
    """
    facts: dict[str, Any] = {
        "number": 1,
        "seed": 1,
        "subject": "kairos",
        "mutant": None,
        "mix": Mix(),
        "rate": None,
        "count": None,
        "duration_s": 1.0,
        "arena": "memory",
        "prefix": "made",
        "durability": "memory",
        "session_ttl_ms": 3_600_000,
        "receipt_ttl_ms": 60_000,
        "timeout_ms": 5_000,
        "begin_ns": 1,
        "processes": [],
    }
    return Round(**(facts | changed))
