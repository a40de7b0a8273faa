"""What is done to replies on their way, and what is heard on the channels."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import msgspec

from kairos_core import RedisStateManager
from loadtests.environment import admin
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from kairos_core import Settings

PATIENCE_S = 20.0


def nothing() -> None:
    """What is done where nothing is."""


def drop_replies(proxy: Proxy, count: int, meanwhile: Callable[[], object] = nothing) -> None:
    """Let the next `count` writes be applied, drop their replies, and do something after the first of these."""
    left = itertools.count(count, -1)
    in_write = threading.Event()
    todo = [meanwhile]

    def on_request(data: bytes) -> bytes:
        if b"EVAL" in data:
            in_write.set()
        return data

    def on_reply(data: bytes) -> bytes | None:
        if not in_write.is_set() or next(left) <= 0:
            return data
        in_write.clear()
        if todo:
            todo.pop()()
        return None

    proxy.on_request, proxy.on_reply = on_request, on_reply


def pass_all(proxy: Proxy) -> None:
    """Let everything pass again."""
    proxy.on_request = proxy.on_reply = lambda same: same


@contextmanager
def through(settings: Settings, timeout_s: float) -> Iterator[tuple[Proxy, RedisStateManager]]:
    """A proxy before the store, and a manager behind it; the server knows all of its scripts."""
    with RedisStateManager.connect(settings) as manager:
        state = manager.update_session(manager.create_session(sample_state("warm")))
        manager.delete_session(state.session_id)
    with Proxy(settings.redis_url) as proxy:
        found = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=timeout_s)
        with RedisStateManager.connect(found) as manager:
            yield proxy, manager


class Ear:
    """Hears every channel of a namespace, without Kairos."""

    def __init__(self, settings: Settings) -> None:
        self._client: redis.Redis = admin(settings)
        self._settings = settings
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)
        self._heard.psubscribe(f"{settings.namespace}:*")
        # The subscription itself.
        self.heard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heard.close()
        self._client.close()

    def heard(self) -> list[tuple[str, bytes]]:
        """What was published since the last call, each with its channel.

        Raises:
            TimeoutError: what was published just now does not come.
        """
        mark = secrets.token_hex(8).encode()
        found: list[tuple[str, bytes]] = []
        deadline = time.monotonic() + PATIENCE_S
        is_marked = False
        while time.monotonic() < deadline:
            message = self._heard.get_message(timeout=0.05)
            if message is None:
                if not is_marked:
                    # Only once the subscription is there.
                    is_marked = self._client.publish(f"{self._settings.namespace}:mark", mark) > 0
            elif message["data"] == mark:
                return found
            else:
                found.append((message["channel"].decode(), message["data"]))
        raise TimeoutError("a message did not come")
