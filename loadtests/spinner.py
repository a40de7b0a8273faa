"""Processes that keep the host awake: `python -m loadtests.spinner SECONDS`.

A virtual machine whose processors have nothing to do is put to sleep by its host, and takes tens of microseconds to
wake, as long as a short call. A process of the class SCHED_IDLE spins only where nobody else wants the processor: it
takes next to no time from those who are measured, and the processor never sleeps.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from kairos_core.lifeline import end_with_parent
from loadtests.orders import Helper

if TYPE_CHECKING:
    from collections.abc import Iterator

_END_TIMEOUT_S = 1.0
_READY = "ready\n"


class NotPermittedError(RuntimeError):
    """This system does not let a process have idle priority; the message says why."""


@contextmanager
def host_awake(most_s: float) -> Iterator[list[int]]:
    """One spinner for each processor this process may use, until the context is left, or so long at the most.

    Yields:
        Their process ids.

    Raises:
        NotPermittedError: they cannot be given idle priority, and with any other they would take what is measured.
    """
    if not hasattr(os, "SCHED_IDLE"):
        raise NotPermittedError("this system has no idle priority")
    with ExitStack() as stack:
        helpers = []
        for _ in os.sched_getaffinity(0):
            helpers.append(Helper("loadtests.spinner", str(most_s)))
            # Nobody waits for one long that gets no processor: it is killed then.
            stack.callback(helpers[-1].close, _END_TIMEOUT_S)
        for helper in helpers:
            answer = helper.line()
            if answer != _READY:
                raise NotPermittedError(answer.strip())
        yield [helper.process.pid for helper in helpers]


def _take_idle_priority() -> str:
    """`ready`, or why not."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        # Not every container lets it.
        return f"idle priority: {error}"
    return _READY.strip()


def main() -> None:
    """Print `ready`, then spin for so many seconds, or until standard input closes; or print why not."""
    end_with_parent()
    deadline = time.monotonic() + float(sys.argv[1])
    answer = _take_idle_priority()
    print(answer, flush=True)
    while answer == _READY.strip() and time.monotonic() < deadline:
        pass


if __name__ == "__main__":
    main()
