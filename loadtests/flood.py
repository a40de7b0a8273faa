"""A process that writes as fast as it can what an audit is to record: `python -m loadtests.flood kairos|rq`.

It takes orders (see `orders.py`). `kairos` updates sessions; `rq` does so with WATCH and MULTI, and gives RQ a job for
each write, as a service would that has its audit from there.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from itertools import cycle, islice
from typing import TYPE_CHECKING

from kairos_core import RedisStateManager, Settings
from loadtests.orders import serve
from loadtests.subjects.kairos import Update

if TYPE_CHECKING:
    from loadtests.interleave import Operation

SESSIONS = 16


class _Actor:
    """What such a process can do; each public method is an order."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations

    def write(self, count: int) -> dict[str, float]:
        """Write so often, the sessions in turn; when that began and ended (`time.monotonic`)."""
        start = time.monotonic()
        for operation in islice(cycle(self._operations), count):
            operation.finish(operation.prepare()())
        return {"start_s": start, "end_s": time.monotonic()}


def _through_kairos(settings: Settings, stack: ExitStack) -> list[Operation]:
    manager = stack.enter_context(RedisStateManager.connect(settings))
    return [Update(manager, f"s{number}") for number in range(SESSIONS)]


def _with_jobs(settings: Settings, stack: ExitStack) -> list[Operation]:
    # Only this one needs RQ.
    from loadtests.subjects import rivals  # noqa: PLC0415
    from loadtests.subjects.alternatives import InTurn  # noqa: PLC0415
    from loadtests.subjects.jobs import Enqueue  # noqa: PLC0415
    from loadtests.subjects.watch_multi import WatchMulti  # noqa: PLC0415

    rival = WatchMulti(settings)
    stack.callback(rival.close)
    found: list[Operation] = []
    for number in range(SESSIONS):
        enqueue = Enqueue(settings, f"s{number}")
        stack.callback(enqueue.close)
        found.append(InTurn(rivals.Update(rival, f"s{number}"), enqueue))
    return found


def main() -> None:
    """Serve orders until standard input closes."""
    made = {"kairos": _through_kairos, "rq": _with_jobs}[sys.argv[1]]
    with ExitStack() as stack:
        serve(_Actor(made(Settings.from_env(), stack)))


if __name__ == "__main__":
    main()
