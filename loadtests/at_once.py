"""Processes that do the same thing at the same time, for so long: what is shared of studies of many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kairos_core.settings import child_environment
from loadtests.orders import Helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from kairos_core import Settings

_END_TIMEOUT_S = 10.0
# All processes begin by then, each in its turn told.
_AHEAD_S = 0.05
# Where one begins later than this share of the time, or this, the others were alone for too long.
_LATE_SHARE, _LATE_S = 0.1, 0.05
# On a machine that is busy, it is tried again.
_ATTEMPTS = 10


class StartedLateError(RuntimeError):
    """Processes that were to begin at the same time did not."""


def helpers_of(module: str, count: int, settings: Settings, stack: ExitStack) -> list[Helper]:
    """So many fresh processes that take orders; they end with the stack."""
    found = []
    for _ in range(count):
        # Apart: Ctrl-C would have each of them tell where it was, be it in the midst of an import.
        helper = Helper(module, environment=child_environment(settings), is_apart=True)
        stack.callback(helper.close, _END_TIMEOUT_S)
        found.append(helper)
    # All of them are told before the first is waited for.
    stack.callback(_dismiss, found)
    return found


def _dismiss(helpers: Sequence[Helper]) -> None:
    for helper in helpers:
        helper.dismiss()


def connect(helpers: Sequence[Helper], **arguments: Any) -> None:
    """Let all of them connect, each told its number besides.

    Raises:
        OrderError: one could not.
    """
    for number, helper in enumerate(helpers):
        helper.tell("connect", number=number, **arguments)
    for helper in helpers:
        helper.answer()


def at_once(
    helpers: Sequence[Helper], do: str, seconds: float, prepare: Callable[[int], dict[str, Any]] = lambda _: {}
) -> tuple[list[dict[str, Any]], int]:
    """Let all of them do it from one moment on, for so long; again where one began late.

    Args:
        helpers: the processes.
        do: the order; takes `start_at` (`time.monotonic`) and `seconds`, and answers how late it began, as `late_s`.
        seconds: how long.
        prepare: given the number of the attempt, returns the arguments of the order besides.

    Returns:
        Their answers, and the number of the attempt that they are of.

    Raises:
        StartedLateError: one began late each time.
        OrderError: one has ended, or could not do it.
    """
    latest_s = 0.0
    for attempt in range(_ATTEMPTS):
        arguments = prepare(attempt)
        start_at = time.monotonic() + _AHEAD_S
        for helper in helpers:
            helper.tell(do, start_at=start_at, seconds=seconds, **arguments)
        answers = [helper.answer() for helper in helpers]
        latest_s = max(answer["late_s"] for answer in answers)
        if latest_s <= max(_LATE_S, _LATE_SHARE * seconds):
            return answers, attempt
    raise StartedLateError(f"{do}: one of {len(helpers)} processes began {latest_s:.2f} s late, {_ATTEMPTS} times")


def wait_until_then(start_at: float) -> float:
    """Wait for the moment; how late it is by then, in seconds."""
    time.sleep(max(0.0, start_at - time.monotonic()))
    return time.monotonic() - start_at
