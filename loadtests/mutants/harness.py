"""A broken harness: one bug in what measures, which would let a broken core pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from loadtests.mutants.mutant import MisfitError, Mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_ROUNDED_TO_NS = 1_000_000


def _late_operations_skipped() -> None:
    from loadtests.attack import workload  # noqa: PLC0415 - numpy comes with it, which no other mutant needs

    def due(planned: Iterable[int], is_told_to_stop: Callable[[], bool]) -> Iterator[int]:
        for planned_ns in planned:
            wait_s = (planned_ns - time.monotonic_ns()) / 1e9
            if wait_s < 0:
                continue
            time.sleep(wait_s)
            if is_told_to_stop():
                return
            yield planned_ns

    if due.__code__.co_varnames[:2] != workload.due.__code__.co_varnames[:2]:
        raise MisfitError("the mutant no longer fits workload.due")
    # Within the function: a process of an attack has it by its name.
    workload.due.__code__ = due.__code__


def _timer_rounds() -> None:
    exact = time.monotonic_ns
    time.monotonic_ns = lambda: exact() // _ROUNDED_TO_NS * _ROUNDED_TO_NS


MUTANTS = (
    Mutant(
        "late_operations_skipped",
        "harness",
        "the generator leaves out what it is late for, and so what a slow core would have shown",
        _late_operations_skipped,
        "assumption",
    ),
    Mutant("timer_rounds", "harness", "times are rounded down to milliseconds", _timer_rounds, "assumption"),
)
