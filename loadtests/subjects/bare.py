"""Bare redis-py, as its documentation shows it: what a service would use without Kairos, and with less in it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from kairos_core import session
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings

FIELDS = ("n", "v", "c", "u", "s")

# Compares and sets, and no more: no TTL, no receipt, no publishing, no outbox.
COMPARE_AND_SET = """
local stored = redis.call('HMGET', KEYS[1], 'n', 'v')
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'v', ARGV[2] + 1, 's', ARGV[3])
return 1
"""


def _store(client: redis.Redis, key: str) -> bytes:
    body, _ = session.encode(sample_state("bare"))
    now = 1_700_000_000_000_000
    client.hset(key, mapping={"n": now, "v": 1, "o": "0" * 32, "c": now, "u": now, "s": body})
    return body


class Get:
    """HMGET of the same fields; nothing is decoded."""

    def __init__(self, settings: Settings, name: str) -> None:
        client = redis.Redis.from_url(settings.redis_url)
        key = f"{settings.namespace}:bare:{name}"
        _store(client, key)
        self._get = partial(client.hmget, key, *FIELDS)

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return self._get

    def finish(self, result: Any) -> None:
        """Check that all fields came."""
        if None in result:
            raise AssertionError("bare HMGET: a field is missing")


class Update:
    """EVALSHA of a script that only compares and sets; nothing is encoded."""

    def __init__(self, settings: Settings, name: str) -> None:
        client = redis.Redis.from_url(settings.redis_url)
        key = f"{settings.namespace}:bare:{name}"
        self._body = _store(client, key)
        self._version = 1
        self._call = partial(client.evalsha, client.script_load(COMPARE_AND_SET), 1, key, 1_700_000_000_000_000)

    def prepare(self) -> Callable[[], Any]:
        """The call to time."""
        return partial(self._call, self._version, self._body)

    def finish(self, result: Any) -> None:
        """Check that it was set, and go on from there."""
        if result != 1:
            raise AssertionError("bare EVALSHA: refused")
        self._version += 1
