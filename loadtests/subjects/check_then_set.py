"""What SyncKairos does: read, compare, write, publish, in separate steps. Two may both find what they expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

from loadtests.subjects.register import Unknown
from loadtests.subjects.stored import Rival, Stored, reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable


class CheckThenSet(Rival):
    """Compares in the client."""

    def exchange(self, session_id: str, decide: Callable[[Stored | None, int], Stored]) -> Stored:
        """See `Rival`."""
        with reading():
            current = self.decode(self.client.get(self.key(session_id)))
            latest = 0 if current else int(self.client.get(self.lives_key(session_id)) or 0)
        stored = decide(current, latest)
        with writing():
            self.write(self.client, session_id, stored)
        try:
            self.client.publish(self.channel, self.message(session_id, stored))
        except (redis.RedisError, OSError) as error:
            raise Unknown from error
        return stored
