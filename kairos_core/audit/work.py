"""What a worker does with a job: drain its lanes, and settle what becomes of those that it could not.

An attempt that fails keeps its lanes' leases until the next one, so that a lane has one job however long PostgreSQL is
away. After the last it gives them back, says so in the log, and calls the alert's hook.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import psycopg
from redis import RedisError

from kairos_core.audit import alerts
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outage import Outage, is_store_away
from kairos_core.audit.outbox import LEASE_MS, Outbox
from kairos_core.audit.writer import AuditWriter
from kairos_core.errors import KairosError, one_line
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Seconds between the attempts of a job that failed.
RETRY_INTERVALS_S = [2, 4, 8, 16, 32]
# After this, a job gives way: what is left of its lanes is handed out again at once, evenly, and no job comes to its
# time limit for a million entries.
WORK_S = 20.0
# Less than a lease, which is to hold while PostgreSQL does not answer.
_CONNECT_TIMEOUT_S = 3.0
# RQ's scheduler looks once a second, and a worker may be busy.
_LATE_MS = LEASE_MS
# SQLSTATE classes of what passes by itself: connections, conflicts with others, resources, locks, operators.
TRANSIENT_CLASSES = ("08", "25P03", "40", "53", "55", "57")
# Of these, what one lane meets and another need not: a deadlock, a lock that somebody holds.
_OF_ONE_LANE = ("25P03", "40", "55")
# And what ends a connection; PostgreSQL says a last word, or none.
_LOST_CLASSES = ("08", "57")

_log = logging.getLogger("kairos.audit")


class DrainFailed(Exception):  # noqa: N818 - what happened, in the words of RQ's failed registry
    """A job could not drain all its lanes; the records are in the outbox."""


class Process:
    """What a worker process has from its first job to its last.

    Attributes:
        settings: of the process.
        outbox: its connection to the store.
        outage: what it says of a store that is away.
        stopping: set when the process is told to end: the batch at hand is the last.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.outbox = Outbox.connect(settings)
        self.outage = Outage("worker")
        self.stopping = threading.Event()
        self._writer: AuditWriter | None = None

    @property
    def has_writer(self) -> bool:
        """Whether there is a connection to PostgreSQL, which may be dead."""
        return self._writer is not None

    def writer(self) -> AuditWriter:
        """The connection to PostgreSQL, made where there is none."""
        if self._writer is None:
            timeout_s = min(self.settings.timeout_s, _CONNECT_TIMEOUT_S)
            self._writer = AuditWriter.connect(msgspec.structs.replace(self.settings, timeout_s=timeout_s))
        return self._writer

    def drop_writer(self) -> None:
        """Close the connection to PostgreSQL: after an error, nobody knows what state it is in."""
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()
        self._writer = None


@functools.cache
def this_process() -> Process:
    """This process, with the settings of its environment."""
    return Process(Settings.from_env())


def work(process: Process, lanes: Sequence[int], token: str, retries_left: int) -> int:
    """Drain these lanes, except those whose lease has passed to another; return the entries moved.

    Raises:
        DrainFailed: not all could be drained.
    """
    moved = 0
    failed: dict[int, Exception] = {}
    until = time.monotonic() + WORK_S

    def go_on(lane: int) -> bool:
        return not process.stopping.is_set() and time.monotonic() < until and process.outbox.hold(lane, token)

    for lane in _held(process, lanes, token, failed):
        try:
            moved += _drain(process, lane, functools.partial(go_on, lane))
            process.outbox.release(lane, token)
        except Exception as error:  # noqa: BLE001 - each is settled below
            process.drop_writer()
            failed[lane] = error
            if is_transient(error) and not _is_of_one_lane(error):
                # The others would meet the same. What is wrong with one lane, though, must not stop those behind it.
                failed |= dict.fromkeys(lanes[lanes.index(lane) + 1 :], error)
                break
        except BaseException:
            process.drop_writer()
            raise
    if failed:
        raise _settle(process, failed, token, retries_left)
    return moved


def _drain(process: Process, lane: int, go_on: Callable[[], bool]) -> int:
    """Drain a lane; where the connection was kept, and was lost since, over another one.

    After an outage every worker has a dead connection. Were each of them an attempt, they would use up those of a job
    when PostgreSQL is there again.
    """
    is_kept = process.has_writer
    try:
        return drain_lane(process.outbox, process.writer(), lane, go_on=go_on)
    except psycopg.Error as error:
        if not (is_kept and (error.sqlstate or _LOST_CLASSES[0]).startswith(_LOST_CLASSES)):
            raise
    process.drop_writer()
    return drain_lane(process.outbox, process.writer(), lane, go_on=go_on)


def _held(process: Process, lanes: Sequence[int], token: str, failed: dict[int, Exception]) -> list[int]:
    """Those of the lanes that this job has, or can have, each for as long as a batch may take from now."""
    try:
        return [lane for lane in lanes if process.outbox.hold(lane, token)]
    except (RedisError, KairosError) as error:
        failed |= dict.fromkeys(lanes, error)
        return []


def _settle(process: Process, failed: dict[int, Exception], token: str, retries_left: int) -> DrainFailed:
    """Say what happened, and see to the leases: kept until the next attempt, given back after the last."""
    lanes = tuple(failed)
    error = next(iter(failed.values()))
    cause = describe(error)
    attempts = len(RETRY_INTERVALS_S) + 1
    if is_store_away(error):
        process.outage.begin(error)
    elif retries_left:
        place = f"attempt {attempts - retries_left} of {attempts}, again in {RETRY_INTERVALS_S[-retries_left]} s"
        facts = {"lanes": lanes, "cause": cause, "attempt": attempts - retries_left, "attempts": attempts}
        _tell(error, f"lanes {_named(lanes)}: {cause}; {place}", facts)
    if retries_left:
        _each(lanes, lambda lane: process.outbox.hold(lane, token, RETRY_INTERVALS_S[-retries_left] * 1000 + _LATE_MS))
    else:
        _give_up(process, lanes, cause, attempts)
        _each(lanes, lambda lane: process.outbox.release(lane, token))
    failure = DrainFailed(f"lanes {_named(lanes)}: {cause}")
    if not is_ours(error):
        # A mistake of the program: RQ keeps where it was made.
        failure.__cause__ = error
    return failure


def _give_up(process: Process, lanes: tuple[int, ...], cause: str, attempts: int) -> None:
    """Say that these lanes were tried as often as they are: in the log, and to the alert's hook."""
    entries, oldest_s = None, None
    with contextlib.suppress(RedisError, KairosError):
        entries, oldest_s = process.outbox.waiting(lanes)
    alert = alerts.Alert(
        namespace=process.settings.namespace,
        lanes=lanes,
        entries=entries,
        oldest_s=oldest_s,
        cause=cause,
        attempts=attempts,
    )
    _log.error("given up for now: %s", alert, extra={"event": "drain_given_up", **msgspec.structs.asdict(alert)})
    alerts.send(process.settings.alert, alert)


def _each(lanes: Sequence[int], do: Callable[[int], object]) -> None:
    """Do something to each lane's lease, as far as the store is there: a lease saves work, and no more."""
    with contextlib.suppress(RedisError, KairosError):
        for lane in lanes:
            do(lane)


def _tell(error: Exception, text: str, facts: Mapping[str, object]) -> None:
    extra = {"event": "drain_failed", **facts}
    # Not as a format: what PostgreSQL says may hold a % of its own.
    if is_transient(error):
        _log.warning("%s", text, extra=extra)
    else:
        _log.error("%s", text, exc_info=None if is_ours(error) else error, extra=extra)


def _named(lanes: Sequence[int]) -> str:
    return ", ".join(map(str, lanes))


def is_transient(error: BaseException) -> bool:
    """Whether an error of a drain passes by itself, as that of a server that is away, busy, or full does."""
    if isinstance(error, psycopg.Error):
        # Without a code, it is the connection that was lost.
        return error.sqlstate.startswith(TRANSIENT_CLASSES) if error.sqlstate else True
    # The pool had connected when it started: what was wrong with the settings then would have ended it.
    return isinstance(error, (RedisError, KairosError))


def _is_of_one_lane(error: BaseException) -> bool:
    """Whether an error that passes by itself says nothing of the lanes behind."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_OF_ONE_LANE)


def is_ours(error: BaseException) -> bool:
    """Whether an error is one that a drain may meet without there being a mistake in the program."""
    return isinstance(error, (psycopg.Error, RedisError, KairosError))


def describe(error: BaseException) -> str:
    """An error in one line, without the details that PostgreSQL adds: they quote the row, which holds a state."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return f"{type(error).__name__} ({error.sqlstate}): {one_line(error.diag.message_primary)}"
    return f"{type(error).__name__}: {one_line(error)}"
