"""Watching: what other instances write, as it happens, without ever going back and without losing the end.

Pub/sub delivers at most once, and a connection that is lost and made again tells nobody. So a watcher compares
versions: a gap, a lost connection or a message that cannot be read leads to a resynchronisation from the primary. And
since a connection can die without a sound, it asks for a sign of life whenever nothing was heard for a while.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import msgspec
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core import messages, session
from kairos_core.errors import CorruptState, KairosError, Stamp, StoreUnavailable
from kairos_core.ground import store_client
from kairos_core.tracking import News, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from redis.client import PubSub

    from kairos_core.session import SyncState
    from kairos_core.settings import Settings

RESYNCHRONISED = "resynchronised"

_LONGEST_WAIT_S = 1.0
_LONGEST_PAUSE_S = 1.0
_AT_ONCE = 500

_log = logging.getLogger("kairos.watch")


class StateUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One write, as its watchers see it; or the state that a resynchronisation found.

    Attributes:
        session_id: the session.
        incarnation: which life of the session id.
        version: the version that the write made; where a resynchronisation found the session gone, the last known.
        event_type: what the writer named it; `resynchronised` where one or more writes were missed.
        operation_id: the write's id; empty after a resynchronisation.
        occurred_at: the server's time of the write, aware, UTC; None where a resynchronisation found the session gone.
        state: the state as written; None where the session was deleted or expired.
    """

    session_id: str
    incarnation: int
    version: int
    event_type: str
    operation_id: str
    occurred_at: datetime | None
    state: SyncState | None


def decode_update(channel: str, data: bytes) -> StateUpdate:
    """Read a published message.

    Raises:
        CorruptState: names the channel.
    """
    try:
        message = messages.decode(data)
        body = bytes(message.body)
        stamp = Stamp(message.incarnation, message.version)
        state = None if body == b"null" else session.decode(body, stamp, message.created_us, message.updated_us)
        occurred_at = session.moment(message.updated_us)
    except (ValueError, OverflowError) as error:
        raise CorruptState(channel, session.explain(error)) from error
    return StateUpdate(
        session_id=message.session_id,
        incarnation=message.incarnation,
        version=message.version,
        event_type=message.event_type,
        operation_id=message.operation_id,
        occurred_at=occurred_at,
        state=state,
    )


class Subscription:
    """A subscription to channels that knows when it lost its connection, and when it is deaf.

    Attributes:
        reconnects: how often the connection was lost and made again.
    """

    def __init__(self, settings: Settings, channels: Sequence[str]) -> None:
        self.reconnects = 0
        self._timeout_s = settings.timeout_s
        self._channels = channels
        # Blocking reads need a client of their own: a pool's socket timeout would cut them off.
        self._client = store_client(
            settings.redis_url,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="kairos-watch",
        )
        self._pubsub: PubSub | None = None
        self._heard_at = time.monotonic()
        self._asked_at: float | None = None

    @property
    def silence_s(self) -> float:
        """Seconds since the server last gave a sign of life; beyond twice the timeout the subscription is deaf."""
        return time.monotonic() - self._heard_at

    def open(self) -> None:
        """Subscribe; what is published after this is heard.

        Raises:
            StoreUnavailable: the server cannot be reached.
        """
        pubsub = self._client.pubsub()
        deadline = time.monotonic() + self._timeout_s
        try:
            pubsub.subscribe(*self._channels)
            for _ in self._channels:
                message = pubsub.get_message(timeout=max(0.0, deadline - time.monotonic()))
                if message is None or message["type"] != "subscribe":
                    pubsub.close()
                    raise StoreUnavailable("watch: the subscription was not confirmed in time")
        except foreign.RedisError as error:
            pubsub.close()
            raise StoreUnavailable(f"watch: {error}") from error
        self._pubsub = pubsub
        self._heard_at, self._asked_at = time.monotonic(), None

    def close(self) -> None:
        """End the subscription."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
        self._client.close()

    def receive(self, timeout_s: float) -> tuple[str, bytes] | None:
        """The next message and its channel; None where none came in time.

        Raises:
            StoreUnavailable: the connection was lost, or is deaf: open it again.
        """
        if self._pubsub is None:
            raise StoreUnavailable("watch: it is not open")
        deadline = time.monotonic() + timeout_s
        while True:
            wait_s = min(deadline, self._next_check()) - time.monotonic()
            try:
                message = self._pubsub.get_message(timeout=max(0.0, wait_s))
            except foreign.RedisError as error:
                raise StoreUnavailable(f"watch: the connection was lost: {error}") from error
            if message is not None:
                self._heard_at, self._asked_at = time.monotonic(), None
                if message["type"] == "message":
                    return message["channel"].decode(), message["data"]
                if message["type"] == "subscribe":
                    # redis-py's only trace of a connection that it lost and made again.
                    raise StoreUnavailable("watch: the connection was lost and made again")
            elif time.monotonic() >= self._next_check():
                self._check()
            elif time.monotonic() >= deadline:
                return None

    def _next_check(self) -> float:
        return (self._heard_at if self._asked_at is None else self._asked_at) + self._timeout_s

    def _check(self) -> None:
        """Ask for a sign of life; where one was asked for and did not come, the subscription is deaf."""
        if self._asked_at is not None:
            raise StoreUnavailable(f"watch: deaf: no sign of life for {self.silence_s:.1f} s")
        self._asked_at = time.monotonic()
        try:
            if self._pubsub is not None:
                self._pubsub.ping()
        except foreign.RedisError as error:
            raise StoreUnavailable(f"watch: the connection was lost: {error}") from error

    def reopen(self, deadline: float) -> bool:
        """Make the connection again, with growing pauses; False where the deadline came first."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
        pause_s = 0.01
        while True:
            try:
                self.open()
            except StoreUnavailable:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                time.sleep(min(left_s, random.uniform(0, pause_s)))  # noqa: S311 - not a secret
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self.reconnects += 1
                return True


class _Watch:
    """What all watches share: a context, an iterator, a callback loop, and a connection that is kept alive."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._closed = threading.Event()
        self._closed.set()
        self._is_connected = False
        self._receiving = threading.Lock()

    def __enter__(self) -> Self:
        """Subscribe; every write that begins after this is seen."""
        try:
            self._subscription.open()
        except BaseException:
            self._subscription.close()
            raise
        self._is_connected = True
        self._closed.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch; a loop in another thread ends within a second."""
        self._closed.set()
        # A thread that is receiving closes the connection itself, on its way out: nobody takes it from under it.
        if self._receiving.acquire(blocking=False):
            self._subscription.close()
            self._receiving.release()

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self._subscription.reconnects

    @property
    def silence_s(self) -> float:
        """Seconds since the server last gave a sign of life.

        An idle server gives one every `Settings.timeout_s`, so beyond twice that the watch is deaf, not the server
        silent; it is trying to connect again then.
        """
        return self._subscription.silence_s

    def _receive(self, deadline: float) -> tuple[str, bytes] | None:
        """The next message; None where none came in time, or after a lost connection was made again."""
        if self._closed.is_set():
            raise StoreUnavailable("watch: it is not open")
        with self._receiving:
            try:
                return self._receive_or_reconnect(deadline)
            finally:
                if self._closed.is_set():
                    self._subscription.close()

    def _receive_or_reconnect(self, deadline: float) -> tuple[str, bytes] | None:
        while not self._closed.is_set():
            step = min(deadline, time.monotonic() + _LONGEST_WAIT_S)
            try:
                if not self._is_connected:
                    if self._subscription.reopen(step):
                        self._is_connected = True
                        self._after_reconnect()
                        return None
                elif (received := self._subscription.receive(max(0.0, step - time.monotonic()))) is not None:
                    return received
            except KairosError as error:
                _log.warning("%s", error)
                self._is_connected = False
            if time.monotonic() >= deadline:
                break
        return None

    def _after_reconnect(self) -> None:
        """Make up for what may have been missed."""


class SessionWatch(_Watch):
    """Updates of one session or of all, in the order in which each session's were written.

    Use it as a context manager; then iterate over it, or call `receive` or `run`.
    """

    def __init__(
        self,
        subscription: Subscription,
        read: Callable[[Iterable[str]], dict[str, SyncState | None]],
        living: Callable[[], Iterable[str]],
        since: SyncState | None = None,
    ) -> None:
        super().__init__(subscription)
        self._read = read
        self._living = living
        self._since = since
        self._tracker = Tracker()
        self._ready: deque[StateUpdate] = deque()

    def __enter__(self) -> Self:
        """Subscribe; every write that begins after this is seen, and where `since` was given, every one after that."""
        super().__enter__()
        if self._since is not None:
            self._tracker.note(self._since.session_id, self._since.stamp, alive=True)
            try:
                self._resynchronise([self._since.session_id])
            except BaseException:
                self.close()
                raise
        return self

    def __iter__(self) -> Iterator[StateUpdate]:
        while not self._closed.is_set():
            update = self.receive(_LONGEST_WAIT_S)
            if update is not None:
                yield update

    def run(self, callback: Callable[[StateUpdate], object]) -> None:
        """Call back with each update until the watch is closed; what the callback raises is logged and ends nothing."""
        for update in self:
            try:
                callback(update)
            except Exception:  # noqa: BLE001 - whatever a service's callback does, the next update is delivered
                _log.exception("watch: the callback failed on version %d of %s", update.version, update.session_id)

    def receive(self, timeout_s: float) -> StateUpdate | None:
        """Wait for the next update; None where none came in time.

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready:
            received = self._receive(deadline)
            if received is not None:
                self._take(*received)
            elif time.monotonic() >= deadline or self._closed.is_set():
                break
        return self._ready.popleft() if self._ready else None

    def _take(self, channel: str, data: bytes) -> None:
        try:
            update = decode_update(channel, data)
        except CorruptState as error:
            # Whose update it was cannot be read either.
            _log.warning("watch: a message on %s; resynchronising", error)
            self._try_to_resynchronise(None)
            return
        stamp = Stamp(update.incarnation, update.version)
        news = self._tracker.weigh(update.session_id, stamp)
        if news is News.GAP:
            _log.warning("watch: %s: updates before %s were missed; resynchronising", update.session_id, stamp)
            self._try_to_resynchronise([update.session_id])
        # Still news where the primary could not be asked, or answered before this write.
        if news is not News.OLD and self._tracker.note(update.session_id, stamp, alive=update.state is not None):
            self._ready.append(update)

    def _try_to_resynchronise(self, session_ids: list[str] | None) -> None:
        """Resynchronise; where the primary cannot be asked, do it when there is a connection again."""
        try:
            self._resynchronise(session_ids)
        except KairosError as error:
            _log.warning("watch: %s", error)
            self._is_connected = False

    def _after_reconnect(self) -> None:
        self._resynchronise(None)

    def _resynchronise(self, session_ids: list[str] | None) -> None:
        """Read sessions from the primary, or all that live and all that lived, and make updates of what is new."""
        wanted = session_ids
        if wanted is None:
            wanted = list(dict.fromkeys([*self._living(), *self._tracker.alive]))
        for start in range(0, len(wanted), _AT_ONCE):
            for session_id, state in self._read_what_can_be(wanted[start : start + _AT_ONCE]).items():
                self._compare(session_id, state)

    def _read_what_can_be(self, session_ids: list[str]) -> dict[str, SyncState | None]:
        """Read sessions; one whose stored bytes are corrupt is left out, and does not hide the others."""
        try:
            return self._read(session_ids)
        except CorruptState as error:
            if len(session_ids) == 1:
                _log.error("watch: cannot resynchronise %s: %s", session_ids[0], error)
                return {}
        middle = len(session_ids) // 2
        return self._read_what_can_be(session_ids[:middle]) | self._read_what_can_be(session_ids[middle:])

    def _compare(self, session_id: str, state: SyncState | None) -> None:
        known = self._tracker.known(session_id)
        if state is not None:
            if self._tracker.note(session_id, state.stamp, alive=True):
                self._ready.append(_found(session_id, state.stamp, state))
        elif known is not None and known.alive:
            self._tracker.note(session_id, known.stamp, alive=False)
            self._ready.append(_found(session_id, known.stamp, None))


def _found(session_id: str, stamp: Stamp, state: SyncState | None) -> StateUpdate:
    return StateUpdate(
        session_id=session_id,
        incarnation=stamp.incarnation,
        version=stamp.version,
        event_type=RESYNCHRONISED,
        operation_id="",
        occurred_at=state.updated_at if state is not None else None,
        state=state,
    )


class MessageWatch(_Watch):
    """The application messages of one session; what was sent while the connection was lost is lost."""

    def __iter__(self) -> Iterator[Any]:
        while not self._closed.is_set():
            received = self.receive(_LONGEST_WAIT_S)
            if received:
                yield received[0]

    def receive(self, timeout_s: float) -> tuple[Any] | tuple[()]:
        """Wait for the next message: a tuple of it; an empty one where none came in time (a message may be null).

        Raises:
            StoreUnavailable: the watch is not open. A lost connection is made again instead.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            received = self._receive(deadline)
            if received is not None:
                try:
                    return (msgspec.json.decode(received[1]),)
                except (msgspec.MsgspecError, RecursionError, ValueError):
                    _log.warning("watch: a message on %s is no JSON", received[0])
            elif time.monotonic() >= deadline or self._closed.is_set():
                return ()
