"""Bare redis-py: the same command, by the method that redis-py has for it, on a client as its documentation shows it.

What Kairos would send is built before the time is taken, and what it would return is read afterwards: so redis-py is
spared the encoding and the decoding that Kairos does within its time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import redis

from kairos_core.health import read_server
from kairos_core.session import encode
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import redis.asyncio

    from kairos_core.commands import Command
    from kairos_core.layout import Layout

# The methods of redis-py for the commands of Kairos.
_METHODS = {"HMGET": "hmget", "EVALSHA": "evalsha", "PEXPIRE": "pexpire", "PUBLISH": "publish"}


def _method(name: object) -> str:
    # A command that is packed beforehand has its name as bytes.
    return _METHODS[name.decode() if isinstance(name, bytes) else str(name)]


class Same:
    """Any operation of Kairos that is one command, through redis-py.

    Args:
        client: redis.Redis, or redis.asyncio.Redis, whose calls are to be awaited.
        build: makes the command that Kairos would send.
        finish: hears what Kairos would have returned.
    """

    def __init__(self, client: Any, build: Callable[[], Command[Any]], finish: Callable[[Any], None]) -> None:
        self._client, self._build, self._finish = client, build, finish
        self._command: Command[Any] | None = None

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._command = self._build()
        name, *words = self._command.words
        return partial(getattr(self._client, _method(name)), *words)

    def finish(self, result: Any) -> None:
        """Read the reply as Kairos would, outside of the time measured."""
        if self._command is None:
            raise AssertionError("finish before prepare")
        self._finish(self._command.read(result))


class SameMany:
    """Several reads at once, in a pipeline of redis-py; its making is part of the call, as it is for its users."""

    def __init__(self, client: Any, commands: Sequence[Command[Any]]) -> None:
        self._client, self._commands = client, commands

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._ask

    def _ask(self) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        for command in self._commands:
            name, *words = command.words
            getattr(pipeline, _method(name))(*words)
        return pipeline.execute()

    def finish(self, result: Any) -> None:
        """Read the replies as Kairos would."""
        for command, reply in zip(self._commands, result, strict=True):
            if command.read(reply) is None:
                raise AssertionError("pipeline of HMGET: a session is gone")


class Mutate:
    """HMGET and, of what came, EVALSHA, through redis-py: nothing is decoded, and what is encoded was so before.

    Args:
        client: redis.Redis, or redis.asyncio.Redis.
        get: what `mutate_session` would read.
        update: what it would write, given what it should have read.
        state: as created.
    """

    def __init__(self, client: Any, get: Command[Any], update: Callable[[Any], Command[Any]], state: Any) -> None:
        self._client, self._get, self._update, self._state = client, get, update, state
        self._command: Command[Any] | None = None

    def prepare(self) -> Callable[[], Any]:
        """Both calls, to be timed as one."""
        self._command = self._update(self._state)
        _, key, *fields = self._get.words
        _, *words = self._command.words

        return partial(self._both, (key, *fields), words)

    def _both(self, read: Sequence[Any], written: Sequence[Any]) -> Any:
        self._client.hmget(*read)
        return self._client.evalsha(*written)

    def finish(self, result: Any) -> None:
        """Go on from what was written."""
        if self._command is None:
            raise AssertionError("finish before prepare")
        self._state = self._command.read(result)


class AwaitedMutate(Mutate):
    """The same of redis.asyncio."""

    async def _both(self, read: Sequence[Any], written: Sequence[Any]) -> Any:
        await self._client.hmget(*read)
        return await self._client.evalsha(*written)


class PublishUpdate:
    """PUBLISH of the bytes that an update would publish, one version on each time.

    Args:
        first: publishes the first version, when this is made.
        client: redis.Redis, or redis.asyncio.Redis, whose calls are to be awaited.
        layout: of the namespace in which it is published.
        session_id: whose update it would be.
    """

    def __init__(self, first: redis.Redis, client: Any, layout: Layout, session_id: str) -> None:
        body, _ = encode(sample_state(session_id))
        self._channel = layout.keys_of(session_id).lane_channel
        self._fields = {"i": session_id, "k": "update", "e": "updated", "o": "0" * 32, "n": 1_700_000_000_000_000}
        self._body = msgspec.Raw(body)
        self._publish, self._version = client.publish, 1
        first.publish(self._channel, self._message())

    def _message(self) -> bytes:
        now = 1_700_000_000_000_000
        return msgspec.json.encode({**self._fields, "v": self._version, "c": now, "u": now, "s": self._body})

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        self._version += 1
        return partial(self._publish, self._channel, self._message())

    def finish(self, result: object) -> None:
        """Check that there is one who hears it."""
        if result != 1:
            raise AssertionError(f"PUBLISH: {result} listened")


class Subscribe:
    """A connection, a SUBSCRIBE and its answer, through redis-py: what a watch of one session needs at the least.

    Args:
        client: redis.Redis, of its own: its connections are closed.
        channel: to subscribe to.
    """

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._client, self._channel = client, channel

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._subscribe

    def _subscribe(self) -> Any:
        subscription = self._client.pubsub()
        subscription.subscribe(self._channel)
        return subscription, subscription.get_message(timeout=10)

    def finish(self, result: Any) -> None:
        """Check the answer, and disconnect: each has a connection of its own, as a watch has."""
        subscription, answer = result
        subscription.close()
        self._client.connection_pool.disconnect()
        _expect_subscribed(answer)


class AwaitedSubscribe:
    """The same of redis.asyncio, to be awaited; `complete` runs what is left to be awaited."""

    def __init__(self, client: redis.asyncio.Redis, channel: str, complete: Callable[[Any], Any]) -> None:
        self._client, self._channel, self._complete = client, channel, complete

    def prepare(self) -> Callable[[], Awaitable[Any]]:
        """The call to time."""
        return self._subscribe

    async def _subscribe(self) -> Any:
        subscription = self._client.pubsub()
        await subscription.subscribe(self._channel)
        return subscription, await subscription.get_message(timeout=10)

    def finish(self, result: Any) -> None:
        """Check the answer, and disconnect."""
        subscription, answer = result
        self._complete(subscription.aclose())
        self._complete(self._client.connection_pool.disconnect())
        _expect_subscribed(answer)


def _expect_subscribed(answer: Any) -> None:
    if not answer or answer["type"] != "subscribe":
        raise AssertionError(f"SUBSCRIBE: {answer}")


class Health:
    """What `health` asks, through redis-py: INFO, TIME, the layout, and in pipelines the lanes' depths and oldest.

    Args:
        client: redis.Redis, or redis.asyncio.Redis, whose calls are to be awaited.
        layout: of the store.
    """

    def __init__(self, client: Any, layout: Layout) -> None:
        self._client, self._layout = client, layout

    def prepare(self) -> Callable[[], Any]:
        """The calls, to be timed as one."""
        return self._ask

    def _pipeline(self, command: str, *rest: object) -> Any:
        pipeline = self._client.pipeline(transaction=False)
        for key in self._layout.outboxes:
            getattr(pipeline, command)(key, *rest)
        return pipeline

    def _ask(self) -> Any:
        info = self._client.info()
        self._client.time()
        self._client.get(self._layout.layout_key)
        self._pipeline("xlen").execute()
        self._pipeline("xrange", "-", "+", 1).execute()
        self._client.time()
        return info

    def finish(self, result: Any) -> None:
        """Check that it is a server's answer."""
        if read_server("", 0.0, {name: str(value) for name, value in result.items()}).role != "master":
            raise AssertionError("INFO: not of a primary")


class AwaitedHealth(Health):
    """The same of redis.asyncio."""

    async def _ask(self) -> Any:
        info = await self._client.info()
        await self._client.time()
        await self._client.get(self._layout.layout_key)
        await self._pipeline("xlen").execute()
        await self._pipeline("xrange", "-", "+", 1).execute()
        await self._client.time()
        return info
