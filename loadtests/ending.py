"""How a program ends: in peace where it is told to, and with a 1 only where something was shown to be wrong."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

COULD_NOT_RUN = 2
INTERRUPTED_STATUS = 128 + signal.SIGINT


def status_of(
    run: Callable[[], int], *expected: type[Exception], name: str = "kairos", interrupted: Callable[[], str]
) -> int:
    """The status that a program ends with: what `run` returns, or 2 where it raises.

    Args:
        run: the program, once its words are read.
        expected: errors of which the sentence is enough, besides those of settings and of the system (a disk that is
            full, a folder that is not ours). One with a `status` of 2 is of another process, which has said why.
        name: of the program, before the sentence.
        interrupted: what became of all by Ctrl-C or SIGTERM, for one line.
    """
    told: tuple[type[Exception], ...] = (ConfigurationError, OSError, *expected)
    try:
        return run()
    except BrokenPipeError:
        # Whoever read is gone: the program knows what a shell wants to hear of that.
        raise
    except told as error:
        if getattr(error, "status", None) != COULD_NOT_RUN:
            print(f"{name}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: {interrupted()}", file=sys.stderr)
        return INTERRUPTED_STATUS
    except SystemExit as end:
        # A termination unwinds as this, and whoever sent it wants to know what became of all, too.
        if end.code == 128 + signal.SIGTERM:
            print(f"{name}: {interrupted()}", file=sys.stderr)
        raise
    except Exception:  # noqa: BLE001 - Python's own status for an error is 1, which would say that something is wrong
        traceback.print_exc()
    return COULD_NOT_RUN


def unwind_on_termination() -> None:
    """Let the first SIGTERM or SIGINT unwind like an error, so that servers and traces are removed, in peace."""

    def unwind(number: int, _: object) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, unwind)
