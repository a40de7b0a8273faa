"""The same sessions, compared and written by the server in one step."""

from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core import Settings
from loadtests.subjects.interface import AlreadyExists, Conflict, NotFound, OutcomeUnknown, Stored, Unavailable

# KEYS: the session, the counter of lives; ARGV: the life and the version that must be stored (none: no session may be;
# -1: any), the text to write (none: delete). Reply: whether it was done, the life and the version that are stored.
SCRIPT = """
local found = redis.call('HMGET', KEYS[1], 'life', 'version')
local life, version = tonumber(found[1]) or 0, tonumber(found[2]) or 0
if ARGV[1] ~= '-1' and (life ~= tonumber(ARGV[1]) or version ~= tonumber(ARGV[2])) then return {0, life, version} end
if not ARGV[3] then return {redis.call('DEL', KEYS[1]), life, version} end
if life == 0 then life = redis.call('INCR', KEYS[2]) end
redis.call('HSET', KEYS[1], 'life', life, 'version', version + 1, 'text', ARGV[3])
return {1, life, version + 1}
"""


class Sessions:
    """One hash for each session."""

    def __init__(self, settings: Settings) -> None:
        # Nothing is sent twice: a write that was applied, and is sent again, would be refused as a conflict.
        self._redis = redis.Redis.from_url(
            settings.redis_url,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
        )
        self._prefix = f"{settings.namespace}:mine"
        self._script = self._redis.register_script(SCRIPT)

    def create(self, session_id: str, text: str) -> Stored:
        is_done, stored = self._write(session_id, 0, 0, text)
        if not is_done:
            raise AlreadyExists(stored)
        return stored

    def get(self, session_id: str) -> Stored | None:
        life, version, text = self._ask(
            Unavailable, self._redis.hmget, self._key(session_id), "life", "version", "text"
        )
        return None if life is None else Stored(int(life), int(version), text)

    def update(self, session_id: str, held: Stored, text: str) -> Stored:
        is_done, stored = self._write(session_id, held.life, held.version, text)
        if not is_done:
            raise Conflict(stored) if stored.life else NotFound
        return stored

    def delete(self, session_id: str, held: Stored | None) -> bool:
        is_done, stored = self._write(session_id, *((-1, -1) if held is None else held[:2]))
        if not is_done and stored.life:
            raise Conflict(stored)
        return is_done

    def close(self) -> None:
        self._redis.close()

    def _write(self, session_id: str, life: int, version: int, *text: str) -> tuple[bool, Stored]:
        keys = [self._key(session_id), f"{self._prefix}:lives"]
        done, life, version = self._ask(OutcomeUnknown, self._script, keys, [life, version, *text])
        return done == 1, Stored(life, version, *(text or ("",)))

    def _ask(self, failed: type[Exception], call: Callable[..., Any], *words: Any) -> Any:
        try:
            return call(*words)
        except redis.RedisError as error:
            raise failed from error

    def _key(self, session_id: str) -> str:
        return f"{self._prefix}:{session_id}"
