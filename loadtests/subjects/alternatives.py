"""What a user would pick instead, for a session's state: redis-py alone, and with it the ways to compare and set.

All store and publish the same state as Kairos' operations do, of which each is one call on a state that is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import redis

from kairos_core import RedisStateManager, SyncState
from kairos_core.session import to_json
from loadtests.states import sample_state
from loadtests.subjects import rivals
from loadtests.subjects.jobs import Enqueue
from loadtests.subjects.kairos import Get, Update
from loadtests.subjects.watch_multi import WatchMulti
from loadtests.subjects.wire import Ping, Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from kairos_core import Settings
    from loadtests.interleave import Operation

_decode = msgspec.json.Decoder(SyncState).decode


class RedisGet:
    """GET of the state's JSON, decoding included."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        client.set(key, to_json(sample_state("get")))
        self._client, self._key = client, key

    def prepare(self) -> Callable[[], SyncState]:
        """The call to time."""
        return self._call

    def _call(self) -> SyncState:
        text: Any = self._client.get(self._key)
        return _decode(text)

    def finish(self, result: SyncState) -> None:
        """Check that it is the state."""
        if result.session_id != "get":
            raise AssertionError(f"GET: {result.session_id}")


class RedisSet:
    """SET of the state's JSON with a TTL, encoding included: the last writer wins, whoever that is."""

    def __init__(self, client: redis.Redis, key: str, ttl_ms: int) -> None:
        self._client, self._key, self._ttl_ms = client, key, ttl_ms
        self._state = sample_state("set")

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._call

    def _call(self) -> Any:
        return self._client.set(self._key, to_json(self._state), px=self._ttl_ms)

    def finish(self, result: Any) -> None:
        """Check that it was set."""
        if result is not True:
            raise AssertionError(f"SET: {result!r}")


class InTurn:
    """Two operations, one after the other, as one call."""

    def __init__(self, first: Operation, second: Operation) -> None:
        self._first, self._second = first, second

    def prepare(self) -> Callable[[], tuple[Any, Any]]:
        """The two calls to time."""
        first, second = self._first.prepare(), self._second.prepare()
        return lambda: (first(), second())

    def finish(self, result: tuple[Any, Any]) -> None:
        """Check both."""
        self._first.finish(result[0])
        self._second.finish(result[1])


def states(settings: Settings, _: object, stack: ExitStack) -> dict[str, Operation]:
    """Reading and writing a state, by "what/subject"; see `loadtests.turns`."""
    manager = stack.enter_context(RedisStateManager.connect(settings))
    client = stack.enter_context(redis.Redis.from_url(settings.redis_url))
    name = f"{settings.namespace}:alone"
    others = {subject: made(settings) for subject, made in rivals.RIVALS.items()}
    for rival in others.values():
        stack.callback(rival.close)
    wire = Wire(settings.redis_url)
    stack.callback(wire.close)
    return {
        "floor/ping": Ping(wire),
        "get/kairos": Get(manager, "get"),
        "get/redis_py": RedisGet(client, f"{name}:get"),
        "update/kairos": Update(manager, "update"),
        # Were this one another, nothing of the run could be trusted.
        "update/kairos_again": Update(manager, "again"),
        "update/redis_py": RedisSet(client, f"{name}:set", round(settings.session_ttl_s * 1e3)),
        **{f"update/{subject}": rivals.Update(rival, subject) for subject, rival in others.items()},
    }


def audited(settings: Settings, _: object, stack: ExitStack) -> dict[str, Operation]:
    """A write that is to be recorded, by "audited_update/subject"; see `loadtests.turns`."""
    manager = stack.enter_context(RedisStateManager.connect(settings))
    rival = WatchMulti(settings)
    stack.callback(rival.close)
    alone, behind = Enqueue(settings, "alone"), Enqueue(settings, "behind")
    stack.callback(alone.close)
    stack.callback(behind.close)
    return {
        "audited_update/kairos": Update(manager, "audited"),
        "audited_update/rq_enqueue": alone,
        "audited_update/watch_multi_and_rq": InTurn(rivals.Update(rival, "behind"), behind),
    }
