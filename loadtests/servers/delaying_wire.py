"""What the delaying server and its clients say to each other: requests, replies and notices, in bytes. No I/O."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple


class Do(enum.IntEnum):
    """What is asked for."""

    CREATE = 1
    GET = 2
    UPDATE = 3
    DELETE = 4
    TOUCH = 5
    # From its reply on, the connection bears notices.
    WATCH = 6


class Answer(enum.IntEnum):
    """What it came to."""

    DONE = 1
    ABSENT = 2
    CONFLICT = 3
    EXISTS = 4


class Asked(NamedTuple):
    """A request; on the wire its session's id follows it.

    Attributes:
        do: see Do.
        length: of the id in bytes.
        sent_ns: when it was sent (`time.monotonic_ns`).
        incarnation, version: what must be stored; 0, 0: anything.
        writer, digest: what is written.
    """

    do: int
    length: int
    sent_ns: int
    incarnation: int
    version: int
    writer: int
    digest: int


class Answered(NamedTuple):
    """The reply.

    Attributes:
        answer: see Answer.
        incarnation, version, writer, digest: what is stored now, or that it was deleted; 0: nothing.
    """

    answer: int
    incarnation: int = 0
    version: int = 0
    writer: int = 0
    digest: int = 0


class Told(NamedTuple):
    """A notice of a write; on the wire its session's id follows it.

    Attributes:
        do: CREATE, UPDATE or DELETE.
        length: of the id in bytes.
        incarnation, version, writer, digest: what was written; of a deletion the digest is 0.
    """

    do: int
    length: int
    incarnation: int
    version: int
    writer: int
    digest: int


WRITES = (Do.CREATE, Do.UPDATE, Do.DELETE)
ASKED = struct.Struct("<BHqqqQI")
ANSWERED = struct.Struct("<BqqQI")
TOLD = struct.Struct("<BHqqQI")
