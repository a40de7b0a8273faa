"""Sessions in Redis as many services begin: GET, compare, SET."""

import json

import redis

from kairos_core import Settings
from loadtests.subjects.interface import AlreadyExists, Conflict, NotFound, Stored


class Sessions:
    """One JSON text for each session."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(settings.redis_url, decode_responses=True)
        self._prefix = settings.namespace

    def create(self, session_id: str, text: str) -> Stored:
        if self.get(session_id) is not None:
            raise AlreadyExists
        return self._set(session_id, Stored(self._next_life(), 1, text))

    def get(self, session_id: str) -> Stored | None:
        found = self._redis.get(self._key(session_id))
        return None if found is None else Stored(*json.loads(found))

    def update(self, session_id: str, held: Stored, text: str) -> Stored:
        self._compare(session_id, held)
        return self._set(session_id, Stored(held.life, held.version + 1, text))

    def delete(self, session_id: str, held: Stored | None) -> bool:
        if held is not None:
            self._compare(session_id, held)
        return self._redis.delete(self._key(session_id)) > 0

    def close(self) -> None:
        self._redis.close()

    def _compare(self, session_id: str, held: Stored) -> None:
        current = self.get(session_id)
        if current is None:
            raise NotFound
        if current[:2] != held[:2]:
            raise Conflict(current)

    def _next_life(self) -> int:
        return self._redis.incr(f"{self._prefix}:mine:lives")

    def _set(self, session_id: str, stored: Stored) -> Stored:
        self._redis.set(self._key(session_id), json.dumps(stored))
        return stored

    def _key(self, session_id: str) -> str:
        return f"{self._prefix}:mine:{session_id}"
