"""The outbox in Redis: the queue of record between a write and its row."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from kairos_core import messages, session
from kairos_core.blocking import BlockingTransport
from kairos_core.commands import Command, load_script, pack
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.transport import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kairos_core.commands import Script
    from kairos_core.messages import Message
    from kairos_core.settings import Settings

T = TypeVar("T")

# A lease outlives a batch by far, and a killed worker's lane waits no longer than this.
LEASE_MS = 4_000

# What is read at first, and how many bytes of states make a batch.
_FIRST_READ = 16
_BATCH_BYTES = 8 * 2**20

_HOLD, _RELEASE = load_script("hold"), load_script("release")


# What an entry becomes: operation id, session id, incarnation, version, kind, event type, time, state.
Row: TypeAlias = "tuple[str, str, int, int, str, str, str, bytes]"


class Entry(NamedTuple):
    """One write that waits in an outbox.

    Attributes:
        entry_id: the stream's id of the entry.
        message: what the script recorded.
    """

    entry_id: bytes
    message: Message

    @property
    def size(self) -> int:
        """Bytes of the state."""
        return memoryview(self.message.body).nbytes

    @property
    def payload(self) -> bytes:
        """The message as JSON."""
        return messages.encode(self.message)

    def row(self) -> Row:
        """The first columns of `copy_events.sql`, in its order; the time in ISO 8601.

        Raises:
            ValueError, OverflowError: the time is none.
        """
        message = self.message
        occurred_at = _moment(message.updated_us)
        tail = (
            f',"incarnation":{message.incarnation},"version":{message.version}'
            f',"created_at":"{_moment(message.created_us)}","updated_at":"{occurred_at}"}}'
        )
        return (
            message.operation_id,
            message.session_id,
            message.incarnation,
            message.version,
            message.kind,
            message.event_type,
            occurred_at,
            bytes(message.body)[:-1] + tail.encode(),
        )


def _moment(microseconds: int) -> str:
    return f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06d}+00:00"


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    """The second that so many since 1970 are, in ISO 8601 and UTC: one for thousands of writes."""
    return session.moment(seconds * 1_000_000).isoformat()[:19]


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

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)


class Outbox:
    """Reads and trims the lanes' outboxes, and holds their leases."""

    def __init__(self, operations: Operations, layout: Layout) -> None:
        self._commands = operations.commands
        self._link = operations.link
        self._layout = layout

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Prepare connections of its own; nothing is sent yet."""
        return cls(Operations(settings, BlockingTransport), Layout(settings.namespace, settings.lanes))

    def close(self) -> None:
        """Close the connections."""
        self._link.close()

    def depths(self) -> list[int]:
        """The number of entries of each lane."""
        return run(self._link.call_many([self._commands.depth(lane) for lane in range(self._layout.lanes)]))

    def read_batch(self, lane: int, count: int, after: bytes | None = None) -> tuple[list[Entry | Unreadable], bool]:
        """As many of the oldest entries of a lane, or of those behind an entry, as are to be in memory at once.

        Returns:
            The entries, and whether there may be more.
        """
        found: list[Entry | Unreadable] = []
        size = 0
        while len(found) < count and size < _BATCH_BYTES:
            # States of a megabyte are met by a few of them, and not by a thousand.
            asked = min(_FIRST_READ if not found else 8 * len(found), count - len(found))
            some = self.read(lane, asked, found[-1].entry_id if found else after)
            found += some
            size += sum(entry.size for entry in some)
            if len(some) < asked:
                return found, False
        return found, True

    def read(self, lane: int, count: int, after: bytes | None = None) -> list[Entry | Unreadable]:
        """The oldest entries of a lane, or those behind an entry."""

        def read(reply: list[Any]) -> list[Entry | Unreadable]:
            return [_read(entry_id, dict(zip(words[::2], words[1::2], strict=True))) for entry_id, words in reply]

        first = "-" if after is None else b"(" + after
        return self._ask(self._layout.outboxes[lane], lane, read, "XRANGE", first, "+", "COUNT", str(count))

    def remove(self, lane: int, entry_ids: Sequence[bytes]) -> int:
        """Delete these entries, only after they were committed; return how many were there.

        Each by its id: after a failover to a server whose clock is behind, what nobody has read may stand before them.
        """
        return self._ask(self._layout.outboxes[lane], lane, int, "XDEL", *entry_ids)

    def waiting(self, lanes: Sequence[int]) -> tuple[int, float | None]:
        """How many entries wait in these lanes, and the age of the oldest in seconds; None where none waits."""
        depths = run(self._link.call_many([self._commands.depth(lane) for lane in lanes]))
        oldest = run(self._link.call_many([self._commands.oldest(lane) for lane in lanes]))
        now_ms = run(self._link.call(self._commands.clock(lanes[0])))
        made_ms = [milliseconds for milliseconds in oldest if milliseconds is not None]
        return sum(depths), max(0.0, (now_ms - min(made_ms)) / 1000) if made_ms else None

    def hold(self, lane: int, token: str, for_ms: int = LEASE_MS) -> bool:
        """Take a lane's lease, or have it end so many milliseconds from now; False where another holds it.

        It saves double work and no more: two drains of one lane are harmless.
        """
        return self._run_script(_HOLD, lane, token, str(for_ms))

    def release(self, lane: int, token: str) -> None:
        """Give the lease back, if it is still held."""
        self._run_script(_RELEASE, lane, token)

    def _run_script(self, script: Script, lane: int, *arguments: str) -> bool:
        key = self._layout.lease(lane)
        words = ("EVALSHA", script.sha, "1", key, *arguments)
        return run(self._link.call(Command(pack(words), bool, key, "", self._layout.slots[lane], None, script)))

    def _ask(self, key: str, lane: int, read: Callable[[Any], T], name: str, *words: str | bytes) -> T:
        return run(self._link.call(Command(pack((name, key, *words)), read, key, "", self._layout.slots[lane])))


def _read(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry | Unreadable:
    if b"m" not in fields:
        return Unreadable(entry_id, repr(fields).encode(), "the entry has no field m: none of Kairos' writers made it")
    try:
        return _entry(entry_id, fields)
    except ValueError as error:
        return Unreadable(entry_id, fields[b"m"], f"{type(error).__name__}: {session.explain(error)}")


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    return Entry(entry_id, messages.decode(fields[b"m"]))
