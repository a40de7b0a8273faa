"""Where directed checks are asked for: a process that forks one of its own for each.

`python -m loadtests.guarantees` takes orders (see `orders.py`), each the name of a check, and answers with its result,
or with why it could not be run. To start Python anew for each would take longer than most checks.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Self

import msgspec

from kairos_core import Settings
from loadtests.checks import CheckResult
from loadtests.orders import Helper, OrderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from loadtests.guarantees.finding import Directed

# Beyond this, a check has come to no end.
TIMEOUT_S = 60


class CheckError(RuntimeError):
    """A check could not be run; the message says why."""


class Desk:
    """A handle to the process."""

    def __init__(self) -> None:
        self._helper = Helper("loadtests.guarantees")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.close()

    def ask(self, check: str, settings: Settings, mutant: str | None = None) -> CheckResult:
        """Let a check look, at a core that is broken in one way if `mutant` names it.

        Raises:
            CheckError: it could not be run.
        """
        try:
            answer = self._helper.ask(check, mutant=mutant, environment=settings.to_env())
        except OrderError as error:
            raise CheckError(f"{check}: {error}") from error
        return msgspec.convert(answer, CheckResult)


def serve(checks: Mapping[str, Directed]) -> None:
    """Answer orders until standard input closes."""
    for line in sys.stdin:
        order = json.loads(line)
        check = checks[order["do"]]
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            # Ends this process, whatever it waits for.
            signal.alarm(TIMEOUT_S)
            _answer(check, order)
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) == -signal.SIGALRM:
            taken_s = time.monotonic() - start
            _say(msgspec.to_builtins(check.result(False, f"it came to no end within {TIMEOUT_S} s", taken_s)))
        elif code != 0:
            _say({"cause": f"its process ended with status {code}"})


def _answer(check: Directed, order: dict[str, Any]) -> None:
    """Run a check in this process, say what it found, and end."""
    from loadtests import mutants  # noqa: PLC0415 - they know the checks' names

    # A broken core has much to say, and nobody asks.
    logging.disable()
    try:
        os.environ.update(order["environment"])
        if order["mutant"] is not None:
            mutants.apply(order["mutant"])
        _say(msgspec.to_builtins(check.here(Settings.from_env())))
    except BaseException as error:  # noqa: BLE001 - this process must not read the next order
        traceback.print_exc()
        _say({"cause": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    # At once, so that a child's line is whole, and its parent's copy of the buffer empty.
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
