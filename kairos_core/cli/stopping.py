"""An order to end, for a command that runs until it is told to."""

from __future__ import annotations

import signal
import threading


def stop_on_signals() -> threading.Event:
    """What is set by Ctrl-C or SIGTERM, which no longer end the process themselves."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
