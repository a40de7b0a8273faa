"""Asking a server that may never answer, without waiting for it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Probe(Generic[T]):
    """A question that is asked in a thread of its own, once at a time, and whose answer is good for a while.

    A server that was stopped, and not ended, holds a thread until it goes on; whoever asks meanwhile waits no longer
    than to the deadline, and no second thread is begun.

    Args:
        ask: asks; may raise.
        keep_s: for how many seconds an answer, or what was raised, is given again.
    """

    def __init__(self, ask: Callable[[], T], keep_s: float) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None
        self._answered_at = 0.0

    def begin(self) -> Future[T]:
        """The answer that there is or that is on its way; asks where there is neither."""
        with self._lock:
            found = self._answer
            if found is None or (found.done() and time.monotonic() - self._answered_at > self._keep_s):
                found = Future()
                threading.Thread(target=self._run, args=(found,), daemon=True).start()
                # Only now: where no thread can be begun, the next one who asks tries again.
                self._answer = found
            return found

    def _run(self, answer: Future[T]) -> None:
        try:
            found = self._ask()
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer gets it
            self._answered_at = time.monotonic()
            answer.set_exception(error)
        else:
            self._answered_at = time.monotonic()
            answer.set_result(found)
