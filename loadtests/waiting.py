"""Waiting for what somebody else brings about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What takes longer on a machine that is busy, too, does not come any more.
DEADLINE_S = 20.0
_POLL_S = 0.01


def wait_until(condition: Callable[[], object], timeout_s: float = DEADLINE_S, poll_s: float = _POLL_S) -> bool:
    """Whether the condition came true in time; it is looked at as often as this."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def wait_for(
    what: str, condition: Callable[[], object], timeout_s: float = DEADLINE_S, poll_s: float = _POLL_S
) -> None:
    """Wait until the condition is true; it is looked at as often as this.

    Raises:
        TimeoutError: it did not become so in time.
    """
    if not wait_until(condition, timeout_s, poll_s):
        raise TimeoutError(f"{what}: not within {timeout_s:g} s")
