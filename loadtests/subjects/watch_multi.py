"""WATCH, MULTI, EXEC: the write is refused where the session changed since it was read, and all is tried again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import redis

from loadtests.history import Error
from loadtests.subjects.register import Refused
from loadtests.subjects.stored import Rival, Stored, reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable


class WatchMulti(Rival):
    """Compares in the client, and has the server compare again."""

    def exchange(self, session_id: str, decide: Callable[[Stored | None, int], Stored]) -> Stored:
        """See `Rival`."""
        deadline = time.monotonic() + self.timeout_s
        while time.monotonic() < deadline:
            with self.client.pipeline() as pipeline:
                with reading():
                    pipeline.watch(self.key(session_id), self.lives_key(session_id))
                    current = self.decode(pipeline.get(self.key(session_id)))
                    latest = 0 if current else int(pipeline.get(self.lives_key(session_id)) or 0)
                stored = decide(current, latest)
                pipeline.multi()
                self.write(pipeline, session_id, stored)
                pipeline.publish(self.channel, self.message(session_id, stored))
                try:
                    with writing():
                        pipeline.execute()
                except redis.WatchError:
                    continue
                return stored
        # The last answer was that another was first.
        raise Refused(Error.CONFLICT)
