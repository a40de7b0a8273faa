"""Ends a process when the one that started it is gone, however that ended.

The parent holds a pipe to the child's standard input. The operating system closes it with the parent, also where that
was killed and could tell nobody.
"""

from __future__ import annotations

import os
import signal
import threading


def end_with_parent() -> None:
    """Send this process SIGTERM once its standard input closes."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    # Not through sys.stdin, whose lock the interpreter wants back when it ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
