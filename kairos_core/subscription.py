"""A subscription to channels that knows when it lost a connection, and when it is deaf.

Pub/sub delivers at most once, and redis-py's own PubSub makes a lost connection again and says so only by another
`subscribe` message. Here no connection is ever made again behind the reader's back. On a cluster, channels are sharded:
each lane's are with the server that has its slot, so there is a connection to each of those servers.
"""

from __future__ import annotations

import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

import hiredis
from redis import exceptions as foreign

from kairos_core.attempts import Attempts, Refused
from kairos_core.commands import Command
from kairos_core.errors import StoreUnavailable
from kairos_core.transport import SHORTEST_WAIT_S, UNREADABLE, BrokenChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.addresses import Endpoint
    from kairos_core.link import Link
    from kairos_core.transport import Channel

_SUBJECT = "watch"
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0
_pack: Any = hiredis.pack_command  # its stub wants exactly one word
_PING: bytes = _pack(("PING",))
# What a connection may fail with.
_FAILURES = (OSError, foreign.RedisError, *UNREADABLE)


class _Line:
    """One connection, and when the server at its other end was last heard."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.heard_at = time.monotonic()
        self.asked_at: float | None = None

    def hear(self) -> None:
        self.heard_at, self.asked_at = time.monotonic(), None

    @property
    def waits_since(self) -> float:
        return self.heard_at if self.asked_at is None else self.asked_at


class Subscription:
    """Channels, with a connection to each server that they are with.

    Attributes:
        reconnects: how often the connections were lost and made again.
    """

    def __init__(self, link: Link, channels: Sequence[tuple[str, int]]) -> None:
        """Prepare a subscription to channels, each with its slot; nothing is sent yet."""
        self.reconnects = 0
        self._link = link
        self._channels = channels
        self._lines: dict[Channel, _Line] = {}
        self._is_complete = False
        self._heard_at = time.monotonic()
        # What came while something else was waited for: the confirmation of other channels, a sign of life.
        self._early: deque[tuple[str, bytes]] = deque()

    @property
    def silence_s(self) -> float:
        """Seconds since the most silent server gave a sign of life; beyond twice the timeout it is not heard."""
        # Where one server cannot be reached, the connections to the others are no sign of life.
        heard = [line.heard_at for line in self._lines.values()] if self._is_complete else []
        return time.monotonic() - min(heard, default=self._heard_at)

    async def open(self) -> None:
        """Subscribe; what is published after this is heard. Where servers may take each other's place, until they have.

        Raises:
            StoreUnavailable: a server cannot be reached, or does not let this account listen.
        """
        deadline = time.monotonic() + self._link.timeout_s
        command = Command(_pack(("SUBSCRIBE",)), bool, _SUBJECT, "", 0)
        attempts = Attempts(command, deadline, patient=not self._link.route.is_final)
        while (failure := await self._try_to_open(deadline)) is not None:
            await self._link.transport.sleep(attempts.after(failure, sent=False))

    async def _try_to_open(self, deadline: float) -> Refused | foreign.RedisError | None:
        """Subscribe; return why that failed."""
        self._early.clear()
        try:
            for node, slots in (await self._link.nodes(slot for _, slot in self._channels)).items():
                names = [name for name, slot in self._channels if slot in set(slots)]
                await self._open_line(node, names, self._link.until(deadline))
        except (Refused, *_FAILURES) as error:
            self.close()
            if isinstance(error, Refused | foreign.RedisError):
                return error
            return foreign.ConnectionError(str(error) or "the subscription was not confirmed in time")
        except BaseException:
            self.close()
            raise
        self._is_complete = True
        return None

    async def _open_line(self, node: Endpoint, names: list[str], deadline: float) -> None:
        try:
            await self._subscribe(node, names, deadline)
        except _FAILURES:
            # Or it would be tried again and again, and nobody asked who has its place.
            self._link.route.suspect(node)
            raise

    async def _subscribe(self, node: Endpoint, names: list[str], deadline: float) -> None:
        channel = await self._link.open(node, deadline - time.monotonic())
        self._lines[channel] = _Line(channel)
        if self._link.route.is_cluster:
            # Channels of different slots must not stand in one command.
            data = b"".join(_pack(("SSUBSCRIBE", name)) for name in names)
        else:
            data = _pack(("SUBSCRIBE", *names))
        await channel.send(data, deadline)
        confirmed = 0
        while confirmed < len(names):
            reply = await channel.receive(deadline)
            if isinstance(reply, hiredis.ReplyError):
                self._link.heed(str(reply), node)
                raise Refused(str(reply))
            kind = _kind(reply)
            if kind in (b"subscribe", b"ssubscribe"):
                confirmed += 1
            elif (message := _message(reply)) is not None:
                self._early.append(message)
            else:
                raise foreign.ConnectionError("what came was no confirmation")

    def close(self) -> None:
        """End the subscription."""
        self._heard_at, self._is_complete = time.monotonic() - self.silence_s, False
        lines, self._lines = self._lines, {}
        for channel in lines:
            channel.close()

    def wake(self) -> None:
        """Let whoever waits in `receive` find that the connection is gone."""
        for channel in list(self._lines):
            channel.wake()

    async def receive(self, deadline: float) -> tuple[str, bytes] | None:
        """The next message and its channel; None where none came by the deadline (of `time.monotonic`).

        Raises:
            StoreUnavailable: a connection was lost, or is deaf: open the subscription again.
        """
        if not self._lines:
            raise StoreUnavailable(_SUBJECT, "it is not open")
        while True:
            # Also where one server has much to say: it must not hide that another one is deaf.
            if time.monotonic() >= self._due():
                await self._check_signs_of_life()
            if self._early:
                return self._early.popleft()
            came = await self._receive_any(list(self._lines), min(deadline, self._due()))
            if came is not None:
                if (message := self._take(*came)) is not None:
                    return message
            elif time.monotonic() >= deadline:
                return None

    def _due(self) -> float:
        """When the most silent server is to be asked for a sign of life, or counts as deaf."""
        return min(line.waits_since for line in self._lines.values()) + self._link.timeout_s

    async def _receive_any(self, channels: list[Channel], until: float) -> tuple[Channel, Any] | None:
        try:
            return await self._link.transport.receive_any(channels, until)
        except BrokenChannel as error:
            self._lose(error.channel, f"the connection was lost: {error}", error)

    def _take(self, channel: Channel, reply: Any) -> tuple[str, bytes] | None:
        """Note that something came; the message and its channel, where it is one."""
        # Another thread may have ended the watch meanwhile.
        if channel in self._lines:
            self._lines[channel].hear()
        if (message := _message(reply)) is None and _kind(reply) != b"pong":
            # A cluster took the channel away (sunsubscribe), or the server refuses to go on.
            self._lose(channel, "the server ended the subscription", None)
        return message

    async def _check_signs_of_life(self) -> None:
        """Ask for one where nothing was heard for a while; where that was asked for and did not come, it is deaf."""
        now = time.monotonic()
        quiet = [line for line in self._lines.values() if now >= line.waits_since + self._link.timeout_s]
        for line in quiet:
            if line.asked_at is not None:
                # It may have come, and nobody looked: whoever receives has had other things to do.
                came = await self._receive_any([line.channel], time.monotonic() + SHORTEST_WAIT_S)
                if came is None:
                    self._lose(line.channel, f"deaf: no sign of life for {now - line.heard_at:.1f} s", None)
                if (message := self._take(*came)) is not None:
                    self._early.append(message)
                continue
            line.asked_at = now
            try:
                await line.channel.send(_PING, now + self._link.timeout_s)
            except _FAILURES as error:
                self._lose(line.channel, f"the connection was lost: {error}", error)
        if quiet and not self._link.route.is_final:
            await self._check_places()

    async def _check_places(self) -> None:
        """A server may answer, and be no longer the one that the writers write to."""
        try:
            await self._link.renew()
            nodes = await self._link.nodes(slot for _, slot in self._channels)
        except foreign.RedisError:
            # Nobody can say; the next silence asks again.
            return
        if set(nodes) != {line.channel.node for line in self._lines.values()}:
            raise StoreUnavailable(_SUBJECT, "the channels are with another server now")

    def _lose(self, channel: Channel, cause: str, error: BaseException | None) -> NoReturn:
        self._link.route.suspect(channel.node)
        raise StoreUnavailable(_SUBJECT, cause) from error

    async def reopen(self, deadline: float) -> bool:
        """Make the connections again, with growing pauses; False where the deadline came first."""
        self.close()
        pause_s = _FIRST_PAUSE_S
        while True:
            if await self._try_to_open(time.monotonic() + self._link.timeout_s) is None:
                self.reconnects += 1
                return True
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            await self._link.transport.sleep(min(left_s, random.uniform(0, pause_s)))  # noqa: S311 - not a secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _kind(reply: Any) -> Any:
    # Where a connection listens to nothing any more, a PING is answered by the plain word.
    if reply == b"PONG":
        return b"pong"
    return reply[0] if isinstance(reply, list) and reply else None


def _message(reply: Any) -> tuple[str, bytes] | None:
    match reply:
        case [b"message" | b"smessage", bytes(channel), bytes(data)]:
            return channel.decode(errors="replace"), data
    return None
