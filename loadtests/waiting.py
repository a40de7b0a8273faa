"""Waiting for what somebody else brings about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# What takes longer on a machine that is busy, too, does not come any more.
DEADLINE_S = 20.0
_POLL_S = 0.01


def wait_until(condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def wait_for(what: str, condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Wait until the condition is true.

    Raises:
        TimeoutError: it did not become so in time.
    """
    if not wait_until(condition, timeout_s):
        raise TimeoutError(f"{what}: not within {timeout_s:g} s")
