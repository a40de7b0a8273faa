"""A batch of entries made ready for PostgreSQL, and the plan of what is to be recorded of it. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from kairos_core.audit import chain
from kairos_core.audit.outbox import Entry, Unreadable
from kairos_core.session import ID_NEEDS, match_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

_OPERATION_ID = re.compile(r"\A[0-9a-f]{32}\Z")
# A session, its incarnation and version.
Version: TypeAlias = tuple[str, int, int]


class Ready(NamedTuple):
    """An entry that can be recorded.

    Attributes:
        entry: what was read.
        occurred_at: when the write happened, in ISO 8601.
        digest: what the chain holds of it.
        line: its line for `copy_events.sql` in COPY's text format, but for what is known only when it is recorded.
    """

    entry: Entry
    occurred_at: str
    digest: bytes
    line: bytes

    @property
    def version(self) -> Version:
        """Which version of which session it is."""
        message = self.entry.message
        return message.session_id, message.incarnation, message.version


class Batch(NamedTuple):
    """Entries of one lane's outbox, in its order.

    Attributes:
        ready: those that can be recorded.
        unreadable: those that cannot.
    """

    ready: list[Ready]
    unreadable: list[Unreadable]

    def add(self, entries: Iterable[Entry | Unreadable]) -> None:
        """Make further entries ready."""
        for entry in entries:
            if isinstance(entry, Unreadable):
                self.unreadable.append(entry)
                continue
            try:
                self.ready.append(_ready(entry))
            except (ValueError, OverflowError, RecursionError) as error:
                reason = f"{type(error).__name__}: {error}"
                self.unreadable.append(Unreadable(entry.entry_id, entry.payload, reason))

    def halves(self) -> tuple[Batch, Batch]:
        """The two halves of a batch of several entries, without those that cannot be recorded."""
        middle = len(self.ready) // 2
        return Batch(self.ready[:middle], []), Batch(self.ready[middle:], [])


def prepare(entries: Iterable[Entry | Unreadable]) -> Batch:
    """Make a batch of what was read from an outbox."""
    batch = Batch([], [])
    batch.add(entries)
    return batch


def _ready(entry: Entry) -> Ready:
    row = entry.row()
    operation_id, session_id, incarnation, version, kind, event_type, occurred_at, snapshot = row
    if _OPERATION_ID.match(operation_id) is None:
        raise ValueError("the operation id is not 32 hexadecimal digits")
    if match_id(session_id) is None:
        raise ValueError(f"the session id is none: {ID_NEEDS}")
    digest = chain.digest(row[:5], entry.message.updated_us, snapshot, event_type)
    head = (
        f"{operation_id}\t{_escaped(session_id)}\t{incarnation}\t{version}\t{_escaped(kind)}\t{_escaped(event_type)}"
        f"\t{occurred_at}\t"
    )
    # JSON has line ends and tabs between its words only; its own escapes are doubled, since COPY takes one off.
    state = snapshot.replace(b"\\", b"\\\\").replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\t", b" ")
    return Ready(entry, occurred_at, digest, head.encode() + state)


def _escaped(text: str) -> str:
    """A text as COPY's text format writes it (PostgreSQL documentation, COPY, "Text Format")."""
    if text.isalnum():
        return text
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class Head(NamedTuple):
    """How far a session is recorded.

    Attributes:
        incarnation: its latest incarnation.
        version: the latest version of that.
        length: rows of its chain.
        chain_hash: the hash of the last of them.
    """

    incarnation: int
    version: int
    length: int
    chain_hash: bytes


NOTHING = Head(0, 0, 0, chain.NO_HASH)


class Refused(NamedTuple):
    """An entry that contradicts what is recorded, and how."""

    entry: Entry
    reason: str


class Plan(NamedTuple):
    """What is to be done with a batch.

    Attributes:
        record: what is new, in the order of versions.
        refused: what contradicts a row that is recorded, or an entry before it.
    """

    record: list[Ready]
    refused: list[Refused]


def plan(
    ready: Sequence[Ready],
    operations: Mapping[str, tuple[Version, datetime]],
    versions: Mapping[Version, UUID],
) -> Plan:
    """Tell what is new from what is recorded already, and from what contradicts it.

    A version has one operation, and an operation one version: where a second one claims either, it is refused.

    Args:
        ready: the entries.
        operations: of their operations those that are recorded, by id in 32 hexadecimal digits: as what, and of when.
        versions: of their versions those that are recorded: for which operation.
    """
    found = Plan([], [])
    by_version = {version: operation.hex for version, operation in versions.items()}
    by_operation = {operation: version for operation, (version, _) in operations.items()}
    for one in ready:
        operation, version = one.entry.message.operation_id, one.version
        writer, claimed = by_version.get(version, operation), by_operation.get(operation, version)
        if writer != operation:
            reason = f"version {version[2]} of session {version[0]} is recorded for operation {writer}"
            found.refused.append(Refused(one.entry, reason))
        elif claimed != version or not _is_of(one, operations.get(operation)):
            reason = f"operation {operation} is recorded as version {claimed[2]} of session {claimed[0]}"
            found.refused.append(Refused(one.entry, reason))
        elif version not in by_version and operation not in by_operation:
            by_version[version], by_operation[operation] = operation, version
            found.record.append(one)
    found.record.sort(key=lambda one: one.version[1:])
    return found


def _is_of(one: Ready, recorded: tuple[Version, datetime] | None) -> bool:
    """Whether the row that is recorded of its operation, if any is, is of the time of the entry."""
    return recorded is None or chain.microseconds(recorded[1]) == one.entry.message.updated_us


def lines(record: Sequence[Ready], heads: Mapping[str, Head], recorded_at: datetime) -> Iterator[bytes]:
    """The lines of the rows, each at the end of its session's chain."""
    recorded_us = chain.microseconds(recorded_at)
    middle = f"\t{recorded_at.isoformat()}\t\\\\x".encode()
    tails: dict[str, tuple[int, bytes]] = {}
    for one in record:
        session_id = one.entry.message.session_id
        head = tails.get(session_id) or heads.get(session_id, NOTHING)[2:]
        position, chain_hash = head[0] + 1, chain.following(head[1], one.digest, recorded_us)
        tails[session_id] = position, chain_hash
        yield b"%s\t%d%s%s\n" % (one.line, position, middle, chain_hash.hex().encode())


def older(ready: Iterable[Ready], heads: Mapping[str, Head]) -> list[Version]:
    """Those versions that are not newer than what is recorded of their session: they may be recorded themselves."""
    found: list[Any] = []
    for one in ready:
        version = one.version
        if version[1:] <= heads.get(version[0], NOTHING)[:2]:
            found.append(version)
    return found
