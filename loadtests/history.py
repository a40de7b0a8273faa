"""Histories: what every process of a run attempted and saw, one record per attempt.

A record is put down before its attempt begins and completed when it has ended, in a file that the process shares with
the system: one that is killed leaves behind all it had written down, and what it had begun has no end. Times are
`time.monotonic_ns()`, one clock for all processes of a machine.

Nothing here knows what is attempted, or what is right: see `attack` and `judging`.
"""

from __future__ import annotations

import enum
import gzip
import mmap
import os
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

History: TypeAlias = "np.ndarray[Any, np.dtype[np.void]]"

# 1: the first.
FORMAT = 1
# `end_ns` of what has not ended, or was never answered.
NEVER = 2**63 - 1


class Kind(enum.IntEnum):
    """What a record is about. The first group is attempted, the second is told to a watcher, the third is recorded."""

    CREATE = 1
    GET = 2
    UPDATE = 3
    # A whole `mutate_session`; what its function was shown are GETs of their own.
    MUTATE = 4
    DELETE = 5
    # A deletion of one version only.
    DELETE_IF = 6
    TOUCH = 7
    # What a watcher was told: of a write, of a removal, of a resynchronisation (a state that it read), of an absence.
    TOLD = 16
    TOLD_REMOVED = 17
    RESYNCHRONISED = 18
    RESYNCHRONISED_ABSENT = 19
    # A row of the audit: of a write, of a removal. Its times are none, but the row's place in its session's trail.
    RECORDED = 24
    RECORDED_REMOVED = 25


class Outcome(enum.IntEnum):
    """How an attempt ended."""

    # Begun and not ended, as of a process that was killed: it may have been applied.
    PENDING = 0
    OK = 1
    # Definitely not applied: the first answer was no, or nothing was sent.
    REFUSED = 2
    # It may have been applied, or may be yet.
    UNKNOWN = 3


class Error(enum.IntEnum):
    """What an attempt was answered instead of its result."""

    NONE = 0
    CONFLICT = 1
    NOT_FOUND = 2
    EXISTS = 3
    UNAVAILABLE = 4
    OUTCOME_UNKNOWN = 5
    BACKLOG_FULL = 6
    # Applied, and less safe than was asked for.
    DURABILITY = 7
    CORRUPT = 8
    OTHER = 9


# Stamps (incarnation, version) are 0, 0 where there are none, or none is known.
RECORD = np.dtype(
    [
        # Unique among all attempts of a run: the process's number in the upper 24 bits, a count in the lower 40.
        ("token", "<u8"),
        # The attempt whose write was seen; 0: not known. Of a write that was acknowledged, its own.
        ("writer", "<u8"),
        # What a write was derived from. A GET that has it is no attempt of its own, but what a mutation's function was
        # shown, and what its write is then derived from.
        ("expected_incarnation", "<i8"),
        ("expected_version", "<i8"),
        # What was written, read, or named in a refusal.
        ("incarnation", "<i8"),
        ("version", "<i8"),
        # When it should have begun, by the plan; 0: without one.
        ("planned_ns", "<i8"),
        ("start_ns", "<i8"),
        ("end_ns", "<i8"),
        # The session's number.
        ("session", "<u4"),
        # CRC-32 of the state that was written or read, without what the server assigns; 0: none.
        ("digest", "<u4"),
        # The process's number.
        ("process", "<u2"),
        ("kind", "u1"),
        ("outcome", "u1"),
        ("error", "u1"),
        ("reserved", "V3"),
    ]
)
_WHOLE = struct.Struct("<QQqqqqqqqIIHBBB3x")
assert _WHOLE.size == RECORD.itemsize  # noqa: S101 - of the module itself
# Behind the token and the writer.
_EXPECTED_AT = 16
# Behind those, what was expected, the stamp and the plan.
_START_AT = 56
_COUNT_BITS = 40
_GROWTH = 16_384
_SEALED = ".gz"
_MAGIC = b"kairos-history\0\0"
_HEADER = struct.Struct("<16sIIQ")


class Seen(NamedTuple):
    """What was written or read, or named in a refusal; what is not known is 0.

    Attributes:
        stamp: incarnation and version.
        writer: the token of the attempt that wrote it.
        digest: CRC-32 of the state, without what the server assigns.
    """

    stamp: tuple[int, int] = (0, 0)
    writer: int = 0
    digest: int = 0


NOTHING = Seen()


def token(process: int, count: int) -> int:
    """The token of a process's attempt."""
    return process << _COUNT_BITS | count


class Recorder:
    """Writes a process's history into a file.

    Args:
        path: of the file, which must not exist.
        process: the process's number, 1 to 65,535.
    """

    def __init__(self, path: Path, process: int) -> None:
        self.process = process
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(self._file, _HEADER.pack(_MAGIC, FORMAT, RECORD.itemsize, process))
        self._count = 0
        self._size = _HEADER.size
        self._grow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, cut to what was written."""
        self._memory.close()
        os.ftruncate(self._file, self._at(self._count))
        os.close(self._file)

    def next_token(self) -> int:
        """The token that the next attempt will have."""
        return token(self.process, self._count + 1)

    def begin(
        self, kind: Kind, session: int, *, expected: tuple[int, int] = (0, 0), digest: int = 0, planned_ns: int = 0
    ) -> int:
        """Put an attempt down, and the time; it begins right after. Returns its place, for `end`."""
        place = self._next_place()
        _WHOLE.pack_into(
            self._memory,
            self._at(place),
            token(self.process, place + 1),
            0,
            *expected,
            0,
            0,
            planned_ns,
            time.monotonic_ns(),
            NEVER,
            session,
            digest,
            self.process,
            kind,
            Outcome.PENDING,
            Error.NONE,
        )
        return place

    def began_ns(self, place: int) -> int:
        """When an attempt began, as it was put down."""
        (found,) = struct.unpack_from("<q", self._memory, self._at(place) + _START_AT)
        return int(found)

    def derive(self, place: int, expected: tuple[int, int]) -> None:
        """Put down what an attempt is derived from, where that is only known once it has begun."""
        struct.pack_into("<qq", self._memory, self._at(place) + _EXPECTED_AT, *expected)

    def end(self, place: int, outcome: Outcome, end_ns: int, seen: Seen = NOTHING, error: Error = Error.NONE) -> None:
        """Complete an attempt. Of one that may have been applied, `end_ns` is not kept: it may be applied later.

        Args:
            place: as `begin` returned it.
            outcome: how it ended.
            end_ns: when, as of right after it.
            seen: what was written or read, or named in a refusal.
            error: what it was answered instead of its result.
        """
        at = self._at(place)
        fields = list(_WHOLE.unpack_from(self._memory, at))
        fields[1] = seen.writer
        fields[4:6] = seen.stamp
        fields[8] = NEVER if outcome == Outcome.UNKNOWN else end_ns
        # A write's is that of what it was to write; of one that was refused, that of what is stored instead.
        fields[10] = seen.digest if outcome == Outcome.REFUSED else fields[10] or seen.digest
        fields[13:15] = (outcome, error)
        _WHOLE.pack_into(self._memory, at, *fields)

    def saw(  # noqa: PLR0913 - the parts of one record
        self,
        kind: Kind,
        session: int,
        seen: Seen,
        start_ns: int,
        end_ns: int,
        *,
        expected: tuple[int, int] = (0, 0),
    ) -> None:
        """Put down what was seen within an interval; `expected` only of a GET that a mutation's function was shown."""
        place = self._next_place()
        fields = (token(self.process, place + 1), seen.writer, *expected, *seen.stamp, 0, start_ns, end_ns)
        _WHOLE.pack_into(
            self._memory,
            self._at(place),
            *fields,
            session,
            seen.digest,
            self.process,
            kind,
            Outcome.OK,
            Error.NONE,
        )

    def _next_place(self) -> int:
        place = self._count
        if self._at(place + 1) > self._size:
            self._memory.close()
            self._grow()
        self._count += 1
        return place

    def _grow(self) -> None:
        self._size += _GROWTH * RECORD.itemsize
        os.ftruncate(self._file, self._size)
        self._memory = mmap.mmap(self._file, self._size)

    @staticmethod
    def _at(place: int) -> int:
        return _HEADER.size + place * RECORD.itemsize


class HistoryError(ValueError):
    """A file is no history, or one of another format."""


def seal(path: Path) -> Path:
    """Compress a history that nobody writes any more; its file gives way to one with `.gz` behind its name."""
    sealed = path.with_name(path.name + _SEALED)
    half = sealed.with_name(sealed.name + ".half")
    records = read(path)
    header = path.read_bytes()[: _HEADER.size]
    with gzip.open(half, "wb", compresslevel=1) as file:
        file.write(header)
        file.write(records.tobytes())
    half.replace(sealed)
    path.unlink()
    return sealed


def write(path: Path, records: History, process: int = 0) -> None:
    """Put records into a file of their own, as those of the audit; compressed where the name ends in `.gz`."""
    data = _HEADER.pack(_MAGIC, FORMAT, RECORD.itemsize, process) + records.tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == _SEALED else data)


def read(path: Path) -> History:
    """The records of one process, in the order in which they were begun; sealed or not.

    Raises:
        HistoryError: names the file and what is wrong with it.
    """
    data = path.read_bytes()
    if path.suffix == _SEALED:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise HistoryError(f"{path}: not a history: {error}") from error
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise HistoryError(f"{path}: not a history")
    _, found, size, _ = _HEADER.unpack_from(data)
    if (found, size) != (FORMAT, RECORD.itemsize):
        raise HistoryError(f"{path}: a history of format {found}, where this version reads format {FORMAT}")
    whole = (len(data) - _HEADER.size) // RECORD.itemsize
    records: History = np.frombuffer(data, RECORD, whole, _HEADER.size)
    # A process that was killed leaves room that it did not use, behind all that it did; or half of what it put down,
    # of an attempt that it had then not begun.
    used = (records["token"] != 0) & (records["kind"] != 0)
    kept: History = records if used.all() else records[used]
    return kept


def join(histories: Iterable[History]) -> History:
    """The histories of several processes as one."""
    found: list[History] = list(histories)
    whole: History = np.concatenate([*found, np.empty(0, RECORD)])
    return whole


def describe(record: Any, origin_ns: int = 0) -> str:
    """A record in words: `p3 update of session 7, from (5, v2) to (5, v3) by 3.12, ok, 0.012031 s to 0.012048 s`.

    Args:
        record: one of a history, or what has the same names.
        origin_ns: what times are told from.
    """
    kind = Kind(int(record["kind"]))
    parts = [f"p{int(record['process'])} {kind.name.lower().replace('_', ' ')} of session {int(record['session'])}"]
    parts += [part for part in (_stamps(record), _answer(record, kind)) if part]
    if kind in {Kind.RECORDED, Kind.RECORDED_REMOVED}:
        return ", ".join([*parts, f"row {int(record['start_ns'])}"])
    return ", ".join([*parts, f"{seconds(record['start_ns'], origin_ns)} to {seconds(record['end_ns'], origin_ns)}"])


def seconds(moment_ns: int, origin_ns: int = 0) -> str:
    """A time as people read it, to the microsecond."""
    return "never" if int(moment_ns) == NEVER else f"{(int(moment_ns) - origin_ns) / 1e9:.6f} s"


def name_of(found: int) -> str:
    """A token as people read it: the process and its count."""
    return f"{found >> _COUNT_BITS}.{found & ((1 << _COUNT_BITS) - 1)}"


def _stamps(record: Any) -> str:
    expected, stamp = (
        (int(record[f"{prefix}incarnation"]), int(record[f"{prefix}version"])) for prefix in ("expected_", "")
    )
    parts = [f"from ({expected[0]}, v{expected[1]})" if any(expected) else ""]
    parts += [f"{'to' if any(expected) else 'at'} ({stamp[0]}, v{stamp[1]})" if any(stamp) else ""]
    parts += [f"by {name_of(int(record['writer']))}" if record["writer"] else ""]
    return " ".join(part for part in parts if part)


def _answer(record: Any, kind: Kind) -> str:
    if kind >= Kind.TOLD:
        return ""
    error = Error(int(record["error"]))
    outcome = Outcome(int(record["outcome"])).name.lower()
    return outcome if error == Error.NONE else f"{outcome} ({error.name.lower().replace('_', ' ')})"
