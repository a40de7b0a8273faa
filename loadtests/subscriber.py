"""A process that notes when updates or messages arrive: `python -m loadtests.subscriber HOW [SESSION_ID]`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import redis
import redis.asyncio

from kairos_core import AsyncRedisStateManager, RedisStateManager, Settings
from kairos_core.layout import Layout
from kairos_core.lifeline import end_with_parent
from loadtests.subjects.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print `ready`, then a line per update or message: its version or number, and the time of its arrival.

    HOW: through Kairos (`kairos`, `kairos_async`) or redis-py (`bare`, `bare_async`), or on a raw socket (`wire`).
    With a session's id its messages, else the updates of all.
    """
    settings = Settings.from_env()
    end_with_parent()
    how, *rest = sys.argv[1:]
    listen: dict[str, Callable[[Settings, str | None], None]] = {
        "kairos": _watch,
        "kairos_async": lambda *given: asyncio.run(_watch_awaited(*given)),
        "bare": _subscribe,
        "bare_async": lambda *given: asyncio.run(_subscribe_awaited(*given)),
        "wire": _listen,
    }
    listen[how](settings, rest[0] if rest else None)


def _ready() -> None:
    os.write(1, b"ready\n")


def _say(version: int, arrival_s: float) -> None:
    os.write(1, b"%d %.9f\n" % (version, arrival_s))


def _version(data: bytes) -> int:
    """The version of a published update, or the number of a message."""
    content: dict[str, Any] = msgspec.json.decode(data)
    version: int = content["v"] if "v" in content else content["number"]
    return version


def _channels(settings: Settings, session_id: str | None) -> tuple[str, ...]:
    layout = Layout(settings.namespace, settings.lanes)
    return layout.lane_channels if session_id is None else (layout.message_channel(session_id),)


def _watch(settings: Settings, session_id: str | None) -> None:
    with RedisStateManager.connect(settings) as manager:
        if session_id is None:
            with manager.watch_sessions() as updates:
                _ready()
                for update in updates:
                    _say(update.version, time.monotonic())
        else:
            with manager.receive_messages(session_id) as messages:
                _ready()
                for message in messages:
                    arrival_s = time.monotonic()
                    _say(message["number"], arrival_s)


async def _watch_awaited(settings: Settings, session_id: str | None) -> None:
    async with AsyncRedisStateManager.connect(settings) as manager:
        if session_id is None:
            async with manager.watch_sessions() as updates:
                _ready()
                async for update in updates:
                    _say(update.version, time.monotonic())
        else:
            async with manager.receive_messages(session_id) as messages:
                _ready()
                async for message in messages:
                    arrival_s = time.monotonic()
                    _say(message["number"], arrival_s)


def _subscribe(settings: Settings, session_id: str | None) -> None:
    client = redis.Redis.from_url(settings.redis_url)
    channels = _channels(settings, session_id)
    with client.pubsub() as subscription:
        subscription.subscribe(*channels)
        for _ in channels:
            subscription.get_message(timeout=10)
        _ready()
        for message in subscription.listen():
            arrival_s = time.monotonic()
            _say(_version(message["data"]), arrival_s)


async def _subscribe_awaited(settings: Settings, session_id: str | None) -> None:
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    channels = _channels(settings, session_id)
    async with client.pubsub() as subscription:
        await subscription.subscribe(*channels)
        for _ in channels:
            await subscription.get_message(timeout=10)
        _ready()
        async for message in subscription.listen():
            arrival_s = time.monotonic()
            _say(_version(message["data"]), arrival_s)


def _listen(settings: Settings, session_id: str | None) -> None:
    wire = Wire(settings.redis_url)
    for channel in _channels(settings, session_id):
        wire.ask("SUBSCRIBE", channel)
    _ready()
    while True:
        try:
            data = wire.receive()
        except TimeoutError:
            continue
        arrival_s = time.monotonic()
        for message in (wire.parse(data), *wire.parse_rest()):
            _say(_version(message[2]), arrival_s)


if __name__ == "__main__":
    main()
