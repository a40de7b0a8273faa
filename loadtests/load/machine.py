"""What the system says of this machine and of processes on it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path


def boot() -> str:
    """What tells this machine, as it was started, from all others: its monotonic clock is that of no other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.uname().nodename


def own_memory_kb(pid: int | None = None) -> int:
    """The memory that is a process's own, neither files nor what it shares (RssAnon), in KiB; 0: there is none.

    Args:
        pid: of the process; None: this one.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    return 0


def wanted_s() -> float:
    """For how long this process has had a processor, or its main thread has waited for one, in seconds.

    Where others take the processors, a process that is late has used little of one (`/proc/self/schedstat`: time on the
    processor, time waiting for it in nanoseconds).
    """
    waited_ns = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        waited_ns = int(Path("/proc/self/schedstat").read_text().split()[1])
    return time.process_time() + waited_ns / 1e9
