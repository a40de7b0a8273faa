"""What the rivals share: bare redis-py, one JSON text per session, and a channel on which they publish.

Each rival is one way to read, decide and write: `exchange`. Nothing is sent again by itself, so that a write whose
answer did not come is known to be one of which nothing is known.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.session import SyncState, SyncStatus
from loadtests.history import Error, Kind, Seen
from loadtests.subjects.register import Held, Notice, Refused, Shown, Unknown, digest_of, payload, token_of, written_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kairos_core import Settings

# Of the counter of a session's lives, which must outlive the session.
LIVES_TTL_MS = 86_400_000


class Stored(msgspec.Struct, frozen=True):
    """What is stored of a session, and published.

    Attributes:
        incarnation: which life of the session's id.
        version: 1 at its creation, one more with each write.
        writer: the token of the attempt that wrote it.
        state: as its caller gave it; None: the session was deleted.
    """

    incarnation: int
    version: int
    writer: str
    state: SyncState | None

    @property
    def seen(self) -> Seen:
        """Its stamp, writer and digest."""
        digest = 0 if self.state is None else digest_of(self.state)
        return Seen((self.incarnation, self.version), token_of(self.writer), digest)


class _Published(msgspec.Struct, frozen=True):
    session_id: str
    stored: Stored


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Stored).decode
_decode_published = msgspec.json.Decoder(_Published).decode


class Rival:
    """A subject without Kairos."""

    def __init__(self, settings: Settings) -> None:
        self.client = redis.Redis.from_url(
            settings.redis_url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
        self.timeout_s = settings.timeout_s
        self.ttl_ms = max(1, round(settings.session_ttl_s * 1000))
        self.channel = f"{settings.namespace}:rival:u"
        self._prefix = f"{settings.namespace}:rival"

    def exchange(self, session_id: str, decide: Callable[[Stored | None, int], Stored]) -> Stored:
        """Read, decide and write.

        Args:
            session_id: the session.
            decide: given what is stored and the session's latest incarnation, returns what to store (without a state:
                nothing), or raises Refused.
        """
        raise NotImplementedError

    def key(self, session_id: str) -> str:
        """Where a session is stored."""
        return f"{self._prefix}:{session_id}"

    def lives_key(self, session_id: str) -> str:
        """Where a session's latest incarnation is stored."""
        return f"{self._prefix}:{session_id}:lives"

    def message(self, session_id: str, stored: Stored) -> bytes:
        """What is published of a write."""
        return _encode(_Published(session_id, stored))

    def decode(self, text: Any) -> Stored | None:
        """What is stored, as redis-py gave it."""
        return None if text is None else _decode(text)

    def write(self, client: Any, session_id: str, stored: Stored) -> None:
        """Store, by a client or into a pipeline."""
        if stored.version == 1:
            client.set(self.lives_key(session_id), stored.incarnation, px=LIVES_TTL_MS)
        if stored.state is None:
            client.delete(self.key(session_id))
        else:
            client.set(self.key(session_id), _encode(stored), px=self.ttl_ms)

    def create(self, session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""

        def decide(current: Stored | None, latest: int) -> Stored:
            if current is not None:
                raise Refused(Error.EXISTS, current.seen.stamp)
            life = max(latest + 1, time.time_ns() // 1000)
            return Stored(life, 1, written_by(token), payload(session_id, token, status))

        return _held(self.exchange(session_id, decide))

    def get(self, session_id: str) -> Held | None:
        """See `Register`."""
        with reading():
            stored = self.decode(self.client.get(self.key(session_id)))
        return None if stored is None else _held(stored)

    def update(self, held: Held, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        session_id = held.state.state.session_id

        def decide(current: Stored | None, _: int) -> Stored:
            return _next(_compared(current, held), payload(session_id, token, status), token)

        return _held(self.exchange(session_id, decide))

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`."""
        del known

        def decide(current: Stored | None, _: int) -> Stored:
            found = _compared(current, None)
            shown(found.seen)
            return _next(found, payload(session_id, token), token)

        return _held(self.exchange(session_id, decide))

    def delete(self, session_id: str, token: int, held: Held | None) -> bool:
        """See `Register`."""

        def decide(current: Stored | None, _: int) -> Stored:
            return _next(_compared(current, held), None, token)

        try:
            self.exchange(session_id, decide)
        except Refused as refused:
            if refused.absent:
                return False
            raise
        return True

    def touch(self, session_id: str) -> bool:
        """See `Register`."""
        with writing():
            return bool(self.client.pexpire(self.key(session_id), self.ttl_ms))

    def watch(self) -> _Watch:
        """See `Register`."""
        return _Watch(self.client, self.channel)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def _held(stored: Stored) -> Held:
    return Held(stored.seen, stored)


def _compared(current: Stored | None, held: Held | None) -> Stored:
    if current is None:
        raise Refused(Error.NOT_FOUND, absent=True)
    if held is not None and current.seen.stamp != held.seen.stamp:
        raise Refused(Error.CONFLICT, current.seen.stamp)
    return current


def _next(current: Stored, state: SyncState | None, token: int) -> Stored:
    return Stored(current.incarnation, current.version + 1, written_by(token), state)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Nothing was written yet: what fails here was definitely not applied."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Refused(Error.UNAVAILABLE) from error


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """What fails here may have been applied, unless the server said no."""
    try:
        yield
    except redis.WatchError:
        raise
    except redis.ResponseError as error:
        raise Refused(Error.UNAVAILABLE) from error
    except (redis.RedisError, OSError) as error:
        raise Unknown from error


class _Watch:
    """Hears what is published. A connection that was lost is made again, and what was missed stays missed."""

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._subscription = client.pubsub(ignore_subscribe_messages=True)
        self._channel = channel

    def __enter__(self) -> Self:
        self._subscription.subscribe(self._channel)
        deadline = time.monotonic() + 10
        while not self._subscription.subscribed and time.monotonic() < deadline:
            self._subscription.get_message(timeout=0.1)
        # The answer to the subscription, which is ignored.
        self._subscription.get_message(timeout=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    def receive(self, timeout_s: float) -> Notice | None:
        """See `Watcher`."""
        message = self._subscription.get_message(timeout=timeout_s)
        received_ns = time.monotonic_ns()
        if message is None:
            return None
        found = _decode_published(message["data"])
        kind = Kind.TOLD if found.stored.state is not None else Kind.TOLD_REMOVED
        return Notice(found.session_id, kind, found.stored.seen, received_ns, received_ns)
