"""Processes of the harness that take orders: a JSON object in a line for each, and one for its answer.

Such a process ends when its standard input closes, because whoever started it is done or was killed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from loadtests import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


class OrderError(RuntimeError):
    """The process ended before it answered, or could not do what it was told; the message says why."""


class Helper:
    """A handle to a process that takes orders.

    Args:
        module: which, as `python -m` takes it; its `main` calls `serve`.
        arguments: of its command line.
        environment: of the process; None: this one's.
        is_apart: whether it is in a session of its own: Ctrl-C is for whoever started it, who may have something to
            heal first.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, is_apart: bool = False
    ) -> None:
        self._module = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=is_apart,
        )
        # One thread may kill a server while another starts one.
        self._lock = threading.Lock()

    def tell(self, do: str, **arguments: Any) -> None:
        """Send an order without waiting for its answer; to one that has ended, nothing."""
        assert self.process.stdin is not None  # noqa: S101 - opened above
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)

    def line(self) -> str:
        """What it says next.

        Raises:
            OrderError: it has ended.
        """
        assert self.process.stdout is not None  # noqa: S101 - opened above
        line = self.process.stdout.readline()
        if not line:
            raise OrderError(f"{self._module} ended with status {self.process.wait()}")
        return line

    def answer(self) -> dict[str, Any]:
        """The answer to the oldest order that has none yet.

        Raises:
            OrderError: there is none, or that it could not be done.
        """
        answer: dict[str, Any] = json.loads(self.line())
        if "cause" in answer:
            raise OrderError(answer["cause"])
        return answer

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send an order and wait for its answer.

        Raises:
            OrderError: as for `answer`.
        """
        with self._lock:
            self.tell(do, **arguments)
            return self.answer()

    def dismiss(self) -> None:
        """Let it end when it is done, without waiting for that."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def close(self, timeout_s: float | None = None) -> None:
        """Let it end by itself; where that takes longer than this, at once."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(actor: object, *errors: type[Exception]) -> None:
    """Carry out orders until standard input closes.

    Args:
        actor: has a method for each order, which takes its arguments by name and returns the answer.
        errors: of these, who ordered is told the cause; others end the process.
    """
    # Who asked may be gone before it has its answer.
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            order = json.loads(line)
            try:
                answer = getattr(actor, order.pop("do"))(**order)
            except errors as error:
                answer = {"cause": getattr(error, "cause", str(error))}
            print(json.dumps(answer), flush=True)
