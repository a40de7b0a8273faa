"""What is wrong for a while is one line of the log, however often it is met."""

from __future__ import annotations

import logging
import sys
import threading

from redis import RedisError, ResponseError

from kairos_core.errors import OutcomeUnknown, StoreUnavailable, one_line

_log = logging.getLogger("kairos.audit")


class Outage:
    """Tells once of each thing that is wrong, until it is over."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._told: set[str] = set()
        # RQ's worker listens in a thread of its own, and meets the same outage.
        self._lock = threading.Lock()

    def begin(self, error: object, what: str = "") -> None:
        """Say what went wrong, unless it has been said.

        Args:
            error: what was raised.
            what: what goes by many errors and is one thing; that the store is away is one by itself.
        """
        cause = one_line(error)
        what = what or ("the store is away" if is_store_away(error) else "")
        with self._lock:
            is_new = (what or cause) not in self._told
            self._told.add(what or cause)
        if is_new:
            text = f"{what}: {cause}" if what else cause
            _log.warning("%s: %s", self._who, text, extra={"event": "outage", "who": self._who, "cause": text})

    def end(self) -> None:
        """What was wrong is over."""
        with self._lock:
            was_on = bool(self._told)
            self._told.clear()
        if was_on:
            _log.info("%s: goes on", self._who, extra={"event": "outage_over", "who": self._who})


class Hush(logging.Filter):
    """Takes what RQ says of a store that is away, a traceback at each try, and makes one line of it."""

    def __init__(self, outage: Outage) -> None:
        super().__init__()
        self._outage = outage

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged as it is."""
        # RQ logs an error where it handles it.
        error = sys.exc_info()[1]
        if not (record.name.startswith("rq") and is_store_away(error)):
            return True
        self._outage.begin(error)
        return False


def is_store_away(error: object) -> bool:
    """Whether an error says that the store, or the queue's server, was not there, rather than that it refused."""
    if isinstance(error, (StoreUnavailable, OutcomeUnknown)):
        return getattr(error, "code", None) is None
    return isinstance(error, RedisError) and not isinstance(error, ResponseError)
