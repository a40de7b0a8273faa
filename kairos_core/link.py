"""The one place where a command meets a connection.

A command is packed, sent and its reply parsed by hiredis, over connections that redis-py made (see `blocking.py`). What
redis-py's clients would do besides is done here for what Kairos needs: the right server of several, bounded retries
under one deadline with the same operation id, so that a write takes effect once, and how safe a write is. Written once
for both colours (see `transport.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import hiredis
from redis import exceptions as foreign

from kairos_core.addresses import parse
from kairos_core.attempts import Attempts, Refused
from kairos_core.commands import pack
from kairos_core.durability import achieved, questions
from kairos_core.errors import DurabilityNotReached, KairosError
from kairos_core.observing import NOBODY
from kairos_core.session import with_durability
from kairos_core.topology import not_the_primary, redirection, route_to
from kairos_core.transport import SHORTEST_WAIT_S, UNREADABLE, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kairos_core.addresses import Address, Endpoint
    from kairos_core.commands import Command
    from kairos_core.durability import Durability
    from kairos_core.observing import Observer
    from kairos_core.topology import Route
    from kairos_core.transport import Channel, Transport

T = TypeVar("T")
# Commands that are sent before their replies are read; what the server holds back meanwhile stays small.
_AT_ONCE = 500
# Of the time that is left, what the server may wait for a disk or for replicas: its answer needs the rest.
_SERVERS_SHARE = 0.8
# A refused write needs no disk and no replicas; its connection is kept if their answer comes as soon as this.
_AFTER_REFUSAL_S = 0.05
# Of the time that is left, what one of several servers may take to say where the others are.
_SHARE_OF_ONE = 3
_ASKING = pack(("ASKING",))
_ROLE = pack(("ROLE",))
_APPLIED = 0


class _Failed(NamedTuple):
    """How an attempt failed."""

    error: Refused | foreign.RedisError
    # Whether any of the command may have reached the server.
    sent: bool
    # Whom to ask instead, this once.
    instead: Endpoint | None


class _Late(NamedTuple):
    """The answers that did not come after a write that did."""

    cause: BaseException


class Link:
    """Sends commands and reads their replies, over as many connections as there are calls at the same time.

    Attributes:
        observer: who is told of what watches meet (`ObservedLink` tells more).
    """

    observer: Observer = NOBODY

    def __init__(self, transport: Transport, route: Route, timeout_s: float) -> None:
        self.transport = transport
        self.timeout_s = timeout_s
        self.route = route
        # Last in, first out. A list's append and pop are atomic, so no lock is needed.
        self._idle: dict[Endpoint, list[Channel]] = {}
        self._home: object = None
        self._blocks = transport.blocks

    @classmethod
    def to(cls, address: Address | str, transport: Transport, timeout_s: float) -> Self:
        """A link to where an address leads; nothing is sent yet."""
        found = parse(address) if isinstance(address, str) else address
        return cls(transport, route_to(found, transport.one_server), timeout_s)

    def close(self) -> None:
        """Close all connections that are not in use; a later call makes new ones."""
        idle, self._idle = self._idle, {}
        for channels in idle.values():
            for channel in channels:
                channel.close()

    async def call(self, command: Command[T], *, patient: bool = True) -> T:
        """Send a command, again if need be and within `timeout_s`, and return what it reads from the reply.

        Args:
            command: what to send.
            patient: False: a failure is not tried again.

        Raises:
            StoreUnavailable: it was definitely not applied.
            OutcomeUnknown: a write was sent and no answer came, or none that makes sense.
            DurabilityNotReached: a write was applied, and is not as safe as it was to be.
            KairosError: what the command reads from a refusal.
        """
        if self._blocks and patient:
            return self.call_blocking(command)
        deadline = time.monotonic() + self.timeout_s
        return _result(command, await self._attempt(command, deadline, patient=patient), deadline)

    def call_blocking(self, command: Command[T]) -> T:
        """As `call`, where the transport blocks: for the path of every call.

        Nearly always the first attempt on a connection of the stock is all there is. It is made here by itself, since
        the coroutines of what follows otherwise take longer than all the rest; whatever is different goes that way.
        """
        deadline = time.monotonic() + self.timeout_s
        route = self.route
        node = route.node(command.slot)
        if node is None or command.durability is not None or (channel := self._from_stock(node)) is None:
            return _result(command, run(self._attempt(command, deadline)), deadline)
        until = deadline if route.is_final else self.until(deadline)
        try:
            reply = channel.ask(command.packed, until)
            self._give_back(channel)
        except BaseException as error:  # noqa: BLE001 - raised again where it is no failure of the attempt
            failed = self._lost(node, channel, error)
        else:
            if not isinstance(reply, hiredis.ReplyError):
                return _read(command, reply, deadline)
            failed = self._refused(node, reply)
        return _result(command, run(self._attempt(command, deadline, failed)), deadline)

    async def call_many(self, commands: Sequence[Command[T]], *, patient: bool = True) -> list[T]:
        """Send reads, many at once to each server, and return what each reads from its reply; all within `timeout_s`.

        Writes, too, where it does no harm to send one again. Those to one slot are sent in their order; where one is
        not answered, those after it may be applied before it.

        Raises:
            StoreUnavailable: they were not all answered.
            KairosError: what a command reads from its reply.
        """
        deadline = time.monotonic() + self.timeout_s
        replies: dict[int, Any] = {}
        waiting = list(range(len(commands)))
        # Those whose script the server did not know.
        in_full: set[int] = set()
        attempts: Attempts | None = None
        while waiting:
            first = about = commands[waiting[0]]
            failure: Refused | foreign.RedisError | None = None
            sent = False
            try:
                node = await self._node(first.slot, deadline)
                part = [number for number in waiting if self.route.node(commands[number].slot) == node][:_AT_ONCE]
                packed = [
                    commands[number].with_script_text() if number in in_full else commands[number].packed
                    for number in part
                ]
                came, failure = await self._exchange_many(node, packed, self.until(deadline))
                for number, reply in zip(part, came, strict=False):
                    if _is_answer(reply):
                        replies[number] = reply
                    elif self.heed(str(reply), node) is not None:
                        # Its slot is on the move, and it is with the other server already: asked for by itself.
                        replies[number] = await self._attempt(commands[number], deadline, patient=patient)
                    else:
                        failure, sent, about = Refused(str(reply)), True, commands[number]
                        if failure.code == "NOSCRIPT" and about.script is not None:
                            in_full.add(number)
            except BaseException as error:  # noqa: BLE001 - raised again where it is no failure of the attempt
                failure = _translated(error)
            waiting = [number for number in waiting if number not in replies]
            if failure is not None and waiting:
                attempts = attempts or self.attempts(first, deadline, patient=patient)
                attempts.about(about)
                await self.transport.sleep(attempts.after(failure, sent=sent))
        return [_read(command, replies[number], deadline) for number, command in enumerate(commands)]

    async def nodes(self, slots: Iterable[int]) -> dict[Endpoint, list[int]]:
        """The servers that have these slots now, each with its own.

        Raises:
            foreign.RedisError: that could not be found out.
        """
        deadline = time.monotonic() + self.timeout_s
        found: dict[Endpoint, list[int]] = {}
        for slot in slots:
            found.setdefault(await self._node(slot, deadline), []).append(slot)
        return found

    async def renew(self) -> None:
        """Ask where the servers are, also where that is known; on one server there is nothing to ask.

        Raises:
            foreign.RedisError: nobody could say.
        """
        if self.route.candidates():
            await self._learn(time.monotonic() + self.timeout_s)

    def until(self, deadline: float) -> float:
        """When to give a server up that says nothing: half way to the deadline where another may have its place."""
        return deadline if self.route.is_final else (time.monotonic() + deadline) / 2

    async def open(self, node: Endpoint, time_left_s: float) -> Channel:
        """Make a connection of one's own to a server of this link.

        Raises:
            foreign.RedisError, OSError: it could not be made, or the server is not what the route took it for.
        """
        channel = await self.transport.open(node, time_left_s)
        if self.route.must_prove:
            try:
                _check_role(await channel.exchange(_ROLE, time.monotonic() + max(SHORTEST_WAIT_S, time_left_s)))
            except BaseException:
                channel.close()
                raise
        return channel

    async def _attempt(
        self, command: Command[Any], deadline: float, failed: _Failed | None = None, *, patient: bool = True
    ) -> Any:
        """The reply to a command, sent as often as its time allows; `failed`: the first attempt, if it was made."""
        attempts: Attempts | None = None
        asked: Endpoint | None = None
        while True:
            if failed is not None:
                attempts = attempts or self.attempts(command, deadline, patient=patient)
                await self.transport.sleep(attempts.after(failed.error, sent=failed.sent))
                asked = failed.instead
            channel: Channel | None = None
            node = asked or self.route.node(command.slot)
            try:
                node = node or await self._node(command.slot, deadline)
                until = deadline if self.route.is_final else self.until(deadline)
                channel = self._from_stock(node) or await self.open(node, until - time.monotonic())
                packed = attempts.packed if attempts else command.packed
                if asked is None and command.durability is None:
                    reply = channel.ask(packed, until)
                    if not self._blocks:
                        reply = await reply
                    first = reply
                    self._give_back(channel)
                else:
                    reply = await _exchange_more(channel, packed, command.durability, until, asking=bool(asked))
                    first = reply[0]
                    self._give_back_if_done(channel, reply)
            except BaseException as error:  # noqa: BLE001 - raised again where it is no failure of the attempt
                failed = self._lost(node, channel, error)
            else:
                if not isinstance(first, hiredis.ReplyError):
                    return first if command.durability is None else reply
                failed = self._refused(node, first)

    def attempts(self, command: Command[Any], deadline: float, *, patient: bool) -> Attempts:
        """The attempts of a call whose first one failed."""
        return Attempts(command, deadline, patient=patient)

    def _lost(self, node: Endpoint | None, channel: Channel | None, error: BaseException) -> _Failed:
        """What follows from an attempt that ended without a reply; what is no failure of it is raised as it is."""
        # A reply may still be under way: nobody may read it as the answer to another command.
        if channel is not None:
            channel.close()
        failure = _translated(error)
        if node is not None:
            self.route.suspect(node)
        return _Failed(failure, channel is not None, None)

    def _refused(self, node: Endpoint, reply: hiredis.ReplyError) -> _Failed:
        """What follows from a refusal."""
        return _Failed(Refused(str(reply)), True, self.heed(str(reply), node))

    def heed(self, refusal: str, node: Endpoint) -> Endpoint | None:
        """What a refusal says of where things are: note it; return whom to ask instead, this once (ASK)."""
        code = refusal.partition(" ")[0]
        if code in ("MOVED", "ASK"):
            found = redirection(refusal, node)
            if found is not None and code == "ASK":
                return found[1]
            if found is not None:
                self.route.moved(*found)
            elif code == "MOVED":
                # It does not say where to: ask the others.
                self.route.suspect(node)
        elif not_the_primary(code):
            self.route.suspect(node)
            # The address may lead elsewhere by now; a connection leads where it led.
            for channel in self._idle.pop(node, []):
                channel.close()
        return None

    async def _node(self, slot: int, deadline: float) -> Endpoint:
        node = self.route.node(slot)
        if node is None:
            await self._learn(deadline)
            node = self.route.node(slot)
        if node is None:
            raise foreign.ConnectionError(f"no node of the cluster has slot {slot}")
        return node

    async def _learn(self, deadline: float) -> None:
        """Ask one candidate after the other where the servers are."""
        cause = "nobody to ask"
        for candidate in self.route.candidates():
            left_s = (deadline - time.monotonic()) / _SHARE_OF_ONE
            channel: Channel | None = None
            try:
                channel = await self.transport.open(candidate, left_s, to_sentinel=self.route.must_prove)
                reply = await channel.exchange(pack(self.route.question), time.monotonic() + left_s)
            except (OSError, foreign.RedisError, *UNREADABLE) as error:
                cause = str(error) or type(error).__name__
                self.route.suspect(candidate)
                continue
            finally:
                if channel is not None:
                    channel.close()
            if self.route.learn(reply, candidate):
                return
            cause = str(reply) if isinstance(reply, hiredis.ReplyError) else f"{candidate.host} does not know"
        raise foreign.ConnectionError(f"where the primary is could not be found out: {cause}")

    def _from_stock(self, node: Endpoint) -> Channel | None:
        """A connection to a server, on which nothing is under way; None where there is none."""
        home = self.transport.home()
        if home is not self._home and home != self._home:
            former, self._idle, self._home = self._idle, {}, home
            for channel in (channel for channels in former.values() for channel in channels):
                channel.abandon()
        while True:
            try:
                channel = self._idle[node].pop()
            except (KeyError, IndexError):
                return None
            if channel.is_quiet():
                return channel
            channel.close()

    def _give_back(self, channel: Channel) -> None:
        try:
            self._idle[channel.node].append(channel)
        except KeyError:
            self._idle[channel.node] = [channel]

    def _give_back_if_done(self, channel: Channel, replies: list[Any]) -> None:
        if isinstance(replies[-1], _Late):
            # The answers may still come.
            channel.close()
        else:
            self._give_back(channel)

    async def _exchange_many(
        self, node: Endpoint, packed: list[bytes], deadline: float
    ) -> tuple[list[Any], foreign.RedisError | None]:
        """Send commands at once; the replies that came, in order, and why they are not all."""
        channel: Channel | None = None
        replies: list[Any] = []
        try:
            channel = self._from_stock(node) or await self.open(node, deadline - time.monotonic())
            await channel.send(b"".join(packed), deadline)
            for _ in packed:
                replies.append(await channel.receive(deadline))  # noqa: PERF401 - what came before a failure is kept
            self._give_back(channel)
        except BaseException as error:  # noqa: BLE001 - raised again where it is no failure of the attempt
            if channel is not None:
                channel.close()
            failure = _translated(error)
            self.route.suspect(node)
            return replies, failure
        return replies, None


async def _exchange_more(
    channel: Channel, packed: bytes, wanted: Durability | None, deadline: float, *, asking: bool
) -> list[Any]:
    """Send a command with what belongs to it; its reply, and those to the questions of how safe it is.

    Raises:
        OSError: no reply came to the command itself.
    """
    more = questions(wanted, (deadline - time.monotonic()) * _SERVERS_SHARE) if wanted is not None else ()
    sent = [packed, *map(pack, more)]
    await channel.send(b"".join([_ASKING, *sent] if asking else sent), deadline)
    if asking:
        await channel.receive(deadline)
    replies = [await channel.receive(deadline)]
    applied = isinstance(replies[0], list) and replies[0][:1] == [_APPLIED]
    until = deadline if applied else min(deadline, time.monotonic() + _AFTER_REFUSAL_S)
    try:
        for _ in more:
            replies.append(await channel.receive(until))  # noqa: PERF401 - what came before a failure is kept
    except (OSError, *UNREADABLE) as error:
        replies.append(_Late(error))
    return replies


def _check_role(reply: Any) -> None:
    """Raise foreign.ConnectionError where the server that the sentinels named is no primary, or does not say."""
    if isinstance(reply, hiredis.ReplyError):
        raise foreign.ConnectionError(f"the server does not tell its role: {reply}")
    if not isinstance(reply, list) or reply[:1] != [b"master"]:
        raise foreign.ConnectionError("the server that the sentinels named is no primary")


def _is_answer(reply: Any) -> bool:
    return not isinstance(reply, hiredis.ReplyError)


def _translated(error: BaseException) -> foreign.RedisError:
    """How the attempt failed; what is no failure of the attempt (an interruption, a mistake) is raised as it is."""
    if isinstance(error, foreign.RedisError):
        return error
    if isinstance(error, TimeoutError):
        return foreign.TimeoutError("no answer in time")
    if isinstance(error, (OSError, *UNREADABLE)):
        return foreign.ConnectionError(f"the connection was lost: {error}")
    raise error


def _result(command: Command[T], reply: Any, deadline: float) -> T:
    """What a command reads from its reply, or from all of them where more than one was asked for."""
    if command.durability is None:
        return _read(command, reply, deadline)
    return _judged(command, command.durability, reply, deadline)


def _read(command: Command[T], reply: Any, deadline: float) -> T:
    try:
        return command.read(reply)
    except KairosError:
        raise
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Attempts(command, deadline).unreadable(error) from error


def _judged(command: Command[T], wanted: Durability, replies: list[Any], deadline: float) -> T:
    """What a write reads from its reply, with how safe it is.

    Raises:
        DurabilityNotReached: less than was wanted.
    """
    result = _read(command, replies[0], deadline)
    if replies[0][0] != _APPLIED:
        return result
    answers = [_translated(reply.cause) if isinstance(reply, _Late) else reply for reply in replies[1:]]
    reached, lacking = achieved(wanted, answers)
    result = with_durability(result, reached)
    if lacking:
        raise DurabilityNotReached(
            command.session_id,
            command.operation_id or "",
            wanted=wanted,
            achieved=reached,
            # Only writes ask for more than the reply: they return a state, or whether they deleted one.
            result=result,  # type: ignore[arg-type]
            cause=lacking,
        )
    return result
