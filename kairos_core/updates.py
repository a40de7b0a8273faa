"""Watching sessions: updates from other instances, as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core import messages, session
from kairos_core.errors import CorruptState, Stamp, StoreUnavailable
from kairos_core.ground import store_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from redis.client import PubSub

    from kairos_core.layout import Layout
    from kairos_core.session import SyncState
    from kairos_core.settings import Settings

_LONGEST_WAIT_S = 1.0
# Sessions whose latest version a watch remembers, about 200 bytes each.
_REMEMBERED = 1_000_000


class StateUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One write, as its watchers see it.

    Attributes:
        session_id: the session.
        incarnation: which life of the session id.
        version: the version that the write made.
        event_type: what the writer named it.
        operation_id: the write's id.
        occurred_at: the server's time of the write, aware, UTC.
        state: the state as written; None where the session was deleted.
    """

    session_id: str
    incarnation: int
    version: int
    event_type: str
    operation_id: str
    occurred_at: datetime
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


def _check_confirmation(message: dict[str, Any] | None) -> None:
    if message is None or message["type"] != "subscribe":
        raise StoreUnavailable("watch: the subscription was not confirmed in time")


class SessionWatch:
    """The updates of all sessions, in the order in which each session's were written.

    Pub/sub delivers at most once. A lost connection therefore ends the watch with StoreUnavailable instead of going on
    as if nothing had been missed: watch again, and read the sessions that matter.
    """

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._timeout_s = settings.timeout_s
        self._channels = layout.lane_channels
        self._latest: dict[str, Stamp] = {}
        # Blocking reads need a client of their own: a pool's socket timeout would cut them off.
        self._client = store_client(
            settings.redis_url,
            socket_timeout=None,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="kairos-watch",
        )
        self._pubsub: PubSub | None = None

    def __enter__(self) -> Self:
        """Subscribe; every write that begins after this is seen."""
        self._pubsub = self._client.pubsub()
        deadline = time.monotonic() + self._timeout_s
        try:
            self._pubsub.subscribe(*self._channels)
            for _ in self._channels:
                message = self._pubsub.get_message(timeout=max(0.0, deadline - time.monotonic()))
                _check_confirmation(message)
        except foreign.RedisError as error:
            self.close()
            raise StoreUnavailable(f"watch: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the watch."""
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None
        self._client.close()

    def __iter__(self) -> Iterator[StateUpdate]:
        while self._pubsub is not None:
            update = self.receive(_LONGEST_WAIT_S)
            if update is not None:
                yield update

    def receive(self, timeout_s: float) -> StateUpdate | None:
        """Wait for the next update; None where none came in time.

        Raises:
            StoreUnavailable: the connection was lost; updates may have been missed.
            CorruptState: a message was not one of ours; the watch goes on.
        """
        if self._pubsub is None:
            raise StoreUnavailable("watch: it is not open")
        deadline = time.monotonic() + timeout_s
        while (wait_s := deadline - time.monotonic()) >= 0:
            try:
                message = self._pubsub.get_message(timeout=wait_s)
            except foreign.RedisError as error:
                raise StoreUnavailable(f"watch: the connection was lost: {error}") from error
            if message is None:
                continue
            if message["type"] == "subscribe":
                # redis-py's only trace of a reconnect.
                raise StoreUnavailable("watch: the connection was lost and made again; updates may have been missed")
            update = decode_update(message["channel"].decode(), message["data"])
            if self._is_news(update):
                return update
        return None

    def _is_news(self, update: StateUpdate) -> bool:
        """Whether the update is newer than what was seen of its session."""
        stamp = Stamp(update.incarnation, update.version)
        if stamp <= self._latest.get(update.session_id, Stamp(0, 0)):
            return False
        # Kept for deleted sessions, too, or an old message would bring one back; the oldest news is forgotten first.
        self._latest.pop(update.session_id, None)
        self._latest[update.session_id] = stamp
        if len(self._latest) > _REMEMBERED:
            del self._latest[next(iter(self._latest))]
        return True
