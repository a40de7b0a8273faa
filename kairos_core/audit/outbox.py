"""The outbox in Redis: the queue of record between a write and its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kairos_core import messages, session
from kairos_core.ground import store_client
from kairos_core.layout import Layout

if TYPE_CHECKING:
    from datetime import datetime

    import redis

    from kairos_core.messages import Message
    from kairos_core.settings import Settings

# A lease outlives a batch by far, and a killed worker's lane waits no longer than this.
LEASE_MS = 4_000

# KEYS 1 lease; ARGV 1 token. Deletes the lease if it is still this token's.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# KEYS 1 lease; ARGV 1 token, 2 ms. Takes the lease or extends it; 0 where it is another's.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Entry(NamedTuple):
    """One write that waits in an outbox.

    Attributes:
        entry_id: the stream's id of the entry.
        message: what the script recorded.
    """

    entry_id: bytes
    message: Message

    @property
    def payload(self) -> bytes:
        """The message as JSON."""
        return messages.encode(self.message)

    def row(self) -> tuple[str, str, int, int, str, str, datetime, str]:
        """The values of `copy_batch.sql`, in its order."""
        message = self.message
        return (
            message.operation_id,
            message.session_id,
            message.incarnation,
            message.version,
            message.kind,
            message.event_type,
            session.moment(message.updated_us),
            self.snapshot().decode(),
        )

    def snapshot(self) -> bytes:
        """The full state as JSON."""
        message = self.message
        tail = (
            f',"incarnation":{message.incarnation},"version":{message.version}'
            f',"created_at":"{session.moment(message.created_us).isoformat()}"'
            f',"updated_at":"{session.moment(message.updated_us).isoformat()}"}}'
        )
        return bytes(message.body)[:-1] + tail.encode()


class Unreadable(NamedTuple):
    """An entry of an outbox that is none of ours, or no longer.

    Attributes:
        entry_id: the stream's id of the entry.
        payload: its fields, as they are.
        reason: why it cannot be read.
    """

    entry_id: bytes
    payload: bytes
    reason: str


class Outbox:
    """Reads and trims the lanes' outboxes, and holds their leases."""

    def __init__(self, client: redis.Redis, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Open a client of its own; nothing is sent yet."""
        client = store_client(
            settings.redis_url, protocol=2, client_name="kairos-audit", socket_timeout=settings.timeout_s
        )
        return cls(client, Layout(settings.namespace, settings.lanes))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def depths(self) -> list[int]:
        """The number of entries of each lane."""
        pipeline = self._client.pipeline(transaction=False)
        for key in self._layout.outboxes:
            pipeline.xlen(key)
        depths: list[int] = pipeline.execute()
        return depths

    def read(self, lane: int, count: int) -> list[Entry | Unreadable]:
        """The oldest entries of a lane."""
        found: Any = self._client.xrange(self._layout.outboxes[lane], count=count)
        return [_read(entry_id, fields) for entry_id, fields in found]

    def remove_through(self, lane: int, entry_id: bytes) -> int:
        """Delete all entries up to and including this one; only after they were committed. Returns how many."""
        # Ids rise, and entries are read from the oldest on, so nothing unread stands before the last one read.
        milliseconds, _, sequence = entry_id.partition(b"-")
        next_id = b"%s-%d" % (milliseconds, int(sequence) + 1)
        removed: int = self._client.xtrim(self._layout.outboxes[lane], minid=next_id, approximate=False)
        return removed

    def hold(self, lane: int, token: str) -> bool:
        """Take or extend the lease of a lane; False where another holds it.

        It saves double work and no more: two drains of one lane are harmless.
        """
        return bool(self._hold(keys=[self._layout.lease(lane)], args=[token, LEASE_MS]))

    def release(self, lane: int, token: str) -> None:
        """Give the lease back, if it is still held."""
        self._release(keys=[self._layout.lease(lane)], args=[token])


def _read(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry | Unreadable:
    try:
        return _entry(entry_id, fields)
    except (KeyError, ValueError) as error:
        payload = fields.get(b"m", repr(fields).encode())
        return Unreadable(entry_id, payload, f"{type(error).__name__}: {session.explain(error)}")


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(entry_id, messages.decode(fields[b"m"]))
