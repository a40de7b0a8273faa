"""Watching: what other instances write, as it happens, without ever going back and without losing the end.

Pub/sub delivers at most once, and a connection that is lost and made again tells nobody. So a watcher compares
versions: a gap, a lost connection or a message that cannot be read leads to a resynchronisation from the primary. And
since a connection can die without a sound, it asks for a sign of life whenever nothing was heard for a while.

Written once for both colours (see `transport.py`); what callers hold are the watches in `watches.py`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from datetime import datetime  # noqa: TC003 - who looks at the type's annotations must find it
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import messages, session
from kairos_core.errors import CorruptState, KairosError, Stamp, StoreUnavailable, one_line
from kairos_core.session import SyncState  # noqa: TC001 - likewise
from kairos_core.subscription import Subscription
from kairos_core.tracking import News, Tracker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from kairos_core.link import Link

# The event type of an update that stands for what was missed. A writer may name one so, too: that has an operation id.
RESYNCHRONISED = "resynchronised"

LONGEST_WAIT_S = 1.0
_AT_ONCE = 500

_log = logging.getLogger("kairos.watch")


class StateUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One write, as its watchers see it; or the state that a resynchronisation found.

    Attributes:
        session_id: the session.
        incarnation: which life of the session id.
        version: the version that the write made; where a resynchronisation found the session gone, the last known (with
            the incarnation: both 0 where the watch had heard nothing of it before).
        event_type: what the writer named it; `RESYNCHRONISED` where one or more writes were missed, or (the only case
            in which a version is lower than one before) where the store itself lost some in a failover.
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


def facts(found: StateUpdate | SyncState) -> dict[str, Any]:
    """What the log says of a version of a session, field by field."""
    return {"session_id": found.session_id, "incarnation": found.incarnation, "version": found.version}


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
    if state is not None and state.session_id != message.session_id:
        raise CorruptState(channel, "the state is another session's")
    return StateUpdate(
        session_id=message.session_id,
        incarnation=message.incarnation,
        version=message.version,
        event_type=message.event_type,
        operation_id=message.operation_id,
        occurred_at=occurred_at,
        state=state,
    )


class Feed:
    """What all watches share: a subscription that is kept alive."""

    def __init__(self, link: Link, channels: Sequence[tuple[str, int]]) -> None:
        self.subscription = Subscription(link, channels)
        self.observer = link.observer
        # Beyond twice the timeout, silence is no longer that of an idle server.
        self._deaf_after_s = 2 * link.timeout_s
        self._is_told_deaf = False
        self.is_closed = True
        self._is_connected = False
        self._receiving = link.transport.lock()
        self._ready: deque[Any] = deque()

    async def open(self) -> None:
        """Subscribe; every write that begins after this is seen.

        Raises:
            StoreUnavailable: it cannot begin.
        """
        await self.subscription.open()
        self._is_connected = True
        self.is_closed = False

    def close(self) -> None:
        """End the feed, from any thread or task; whoever waits in it is woken."""
        self.is_closed = True
        # One who is receiving closes the connection on the way out: nobody takes it from under anybody.
        self.subscription.wake()
        if not self._receiving.locked():
            self.subscription.close()

    async def _next(self, timeout_s: float) -> Any:
        """The next of what is ready; None where nothing came in time, or the feed was closed meanwhile."""
        if self.is_closed:
            raise StoreUnavailable("watch", "it is not open")
        deadline = time.monotonic() + timeout_s
        # One at a time, from the message to what follows from it: another would see the one before the other.
        if not await self._receiving.enter(deadline):
            return None
        try:
            while not self._ready and not self.is_closed:
                received = await self._receive_or_reconnect(deadline)
                if received is not None:
                    await self._take(*received)
                elif time.monotonic() >= deadline:
                    break
            return self._ready.popleft() if self._ready else None
        finally:
            self._receiving.leave()
            self._close_if_told_to()

    async def _take(self, channel: str, data: bytes) -> None:
        """Make what is ready of a message."""
        raise NotImplementedError

    def _close_if_told_to(self) -> None:
        if self.is_closed:
            self.subscription.close()

    async def _receive_or_reconnect(self, deadline: float) -> tuple[str, bytes] | None:
        while not self.is_closed:
            step = min(deadline, time.monotonic() + LONGEST_WAIT_S)
            try:
                if not self._is_connected:
                    if await self.subscription.reopen(step):
                        self._is_told_deaf = False
                        self.observer.watch_reconnected()
                        await self._after_reconnect()
                        # Only now: whoever is interrupted before must come back to it.
                        self._is_connected = True
                        return None
                    self._tell_if_deaf()
                elif (received := await self.subscription.receive(step)) is not None:
                    return received
            except KairosError as error:
                self._tell_if_deaf()
                if not self.is_closed:
                    _log.warning("%s", error, extra={"event": "watch_lost", "cause": one_line(error)})
                self._is_connected = False
            if time.monotonic() >= deadline:
                break
        return None

    def _tell_if_deaf(self) -> None:
        """Tell of a silence that is longer than an idle server's; once, until there is a connection again."""
        silence_s = self.subscription.silence_s
        if silence_s >= self._deaf_after_s and not self._is_told_deaf:
            self._is_told_deaf = True
            self.observer.watch_deaf(silence_s)

    async def _after_reconnect(self) -> None:
        """Make up for what may have been missed."""


class SessionFeed(Feed):
    """Updates of one session or of all, in the order in which each session's were written."""

    def __init__(
        self,
        link: Link,
        channels: Sequence[tuple[str, int]],
        read: Callable[[Iterable[str]], Awaitable[dict[str, SyncState | None]]],
        living: Callable[[], Awaitable[Iterable[str]]],
        since: SyncState | None = None,
    ) -> None:
        """Prepare a feed.

        Args:
            link: where to subscribe.
            channels: to what, each with its slot.
            read: reads sessions.
            living: the ids of the sessions that are watched and exist.
            since: a state whose successors are to be given, too.
        """
        super().__init__(link, channels)
        self._read = read
        self._living = living
        self._since = since
        self._tracker = Tracker()
        # Sessions that existed when the feed began, and of which nothing has been heard: their end must not be missed.
        self._unheard: set[str] = set()

    async def open(self) -> None:
        """Subscribe; every write that begins after this is seen, and where `since` was given, every one after that."""
        await super().open()
        try:
            self._unheard.update(await self._living())
            if self._since is not None:
                self._tracker.note(self._since.session_id, self._since.stamp, alive=True)
                await self._resynchronise([self._since.session_id])
        except BaseException:
            self.close()
            raise

    async def receive(self, timeout_s: float) -> StateUpdate | None:
        """Wait for the next update; None where none came in time, or the feed was closed meanwhile.

        Raises:
            StoreUnavailable: the feed is not open. A lost connection is made again instead.
        """
        update: StateUpdate | None = await self._next(timeout_s)
        return update

    async def _take(self, channel: str, data: bytes) -> None:
        try:
            update = decode_update(channel, data)
        except CorruptState as error:
            # Whose update it was cannot be read either.
            self.observer.watch_gap()
            _log.warning(
                "watch: a message on %s; resynchronising",
                error,
                extra={"event": "watch_message_unreadable", "channel": channel, "cause": error.cause},
            )
            await self._try_to_resynchronise(None)
            return
        self._unheard.discard(update.session_id)
        stamp = Stamp(update.incarnation, update.version)
        news = self._tracker.weigh(update.session_id, stamp)
        if news is News.GAP:
            self.observer.watch_gap()
            _log.warning(
                "watch: %s: updates before %s were missed; resynchronising",
                update.session_id,
                stamp,
                extra={"event": "watch_gap", **facts(update)},
            )
            await self._try_to_resynchronise([update.session_id])
        # Still news where the primary could not be asked, or answered before this write.
        if news is not News.OLD and self._tracker.note(update.session_id, stamp, alive=update.state is not None):
            self._ready.append(update)

    async def _try_to_resynchronise(self, session_ids: list[str] | None) -> None:
        """Resynchronise; where the primary cannot be asked, do it when there is a connection again."""
        # Until it is done: whoever is interrupted here must come back to it, as after a lost connection.
        self._is_connected = False
        try:
            await self._resynchronise(session_ids)
        except KairosError as error:
            cause = one_line(error)
            _log.warning("watch: %s", error, extra={"event": "watch_resynchronisation_failed", "cause": cause})
        else:
            self._is_connected = True
            self.observer.watch_resynchronised()

    async def _after_reconnect(self) -> None:
        await self._resynchronise(None)
        self.observer.watch_resynchronised()

    async def _resynchronise(self, session_ids: list[str] | None) -> None:
        """Read sessions from the primary, or all that live and all that lived, and make updates of what is new."""
        wanted = session_ids
        if wanted is None:
            wanted = list(dict.fromkeys([*await self._living(), *self._tracker.alive, *self._unheard]))
        for start in range(0, len(wanted), _AT_ONCE):
            found = await self._read_what_can_be(wanted[start : start + _AT_ONCE])
            for session_id, state in found.items():
                self._compare(session_id, state)

    async def _read_what_can_be(self, session_ids: list[str]) -> dict[str, SyncState | None]:
        """Read sessions; one whose stored bytes are corrupt is left out, and does not hide the others."""
        try:
            return await self._read(session_ids)
        except CorruptState as error:
            if len(session_ids) == 1:
                _log.error(
                    "watch: cannot resynchronise %s: %s",
                    session_ids[0],
                    error,
                    extra={"event": "watch_state_corrupt", "session_id": session_ids[0], "cause": error.cause},
                )
                return {}
        middle = len(session_ids) // 2
        found = await self._read_what_can_be(session_ids[:middle])
        return found | await self._read_what_can_be(session_ids[middle:])

    def _compare(self, session_id: str, state: SyncState | None) -> None:
        known = self._tracker.known(session_id)
        was_unheard = session_id in self._unheard
        self._unheard.discard(session_id)
        if state is not None:
            if known is not None and state.stamp < known.stamp:
                # What was read came after what is known, so the store has lost it: a failover to a replica that did not
                # have it yet. To hold on to it would be to pass over everything that is written from now on.
                _log.warning(
                    "watch: %s: the store has lost what came after %s",
                    session_id,
                    state.stamp,
                    extra={"event": "watch_store_went_back", **facts(state)},
                )
                self._tracker.go_back(session_id, state.stamp)
                self._ready.append(_found(session_id, state.stamp, state))
            elif self._tracker.note(session_id, state.stamp, alive=True):
                self._ready.append(_found(session_id, state.stamp, state))
        elif known is not None and known.alive:
            self._tracker.note(session_id, known.stamp, alive=False)
            self._ready.append(_found(session_id, known.stamp, None))
        elif known is None and was_unheard:
            self._ready.append(_found(session_id, Stamp(0, 0), None))


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


class MessageFeed(Feed):
    """The application messages of one session; what was sent while the connection was lost is lost."""

    async def receive(self, timeout_s: float) -> tuple[Any] | tuple[()]:
        """Wait for the next message: a tuple of it; an empty one where none came in time (a message may be null).

        Raises:
            StoreUnavailable: the feed is not open. A lost connection is made again instead.
        """
        message: tuple[Any] | None = await self._next(timeout_s)
        return () if message is None else message

    async def _take(self, channel: str, data: bytes) -> None:
        try:
            self._ready.append((msgspec.json.decode(data),))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            _log.warning(
                "watch: a message on %s is no JSON",
                channel,
                extra={"event": "watch_message_no_json", "channel": channel},
            )
