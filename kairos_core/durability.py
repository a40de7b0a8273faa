"""How safe a write is when it is acknowledged (G11): what to ask the server after it, and what it answers. No I/O.

`memory`: in the primary's memory. `fsync`: on the primary's disk. That takes `appendfsync always`: under `everysec`,
Valkey 9.1.2 answers WAITAOF before the disk has the write (as Redis did before its pull request 13793). And
`no-appendfsync-on-rewrite` puts even `always` off while the file is written anew. So both are looked at after each
write, in the same round trip. `replicated`: in the memory of so many replicas, as WAIT counts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import msgspec

from kairos_core.errors import InvalidState, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal["memory", "fsync", "replicated"]
_LEVELS = ("memory", "fsync", "replicated")
_MOST_REPLICAS = 100

# What the server's configuration must say for a write to be on disk when it is answered.
FSYNC_NEEDS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
CONFIG_WORDS = ("CONFIG", "GET", *FSYNC_NEEDS)


class Durability(msgspec.Struct, frozen=True):
    """How safe a write is: as a wish, or as it was achieved.

    Attributes:
        level: memory, fsync or replicated.
        replicas: of `replicated`: how many replicas have it, besides the primary.
    """

    level: Level = "memory"
    replicas: int = 0

    MEMORY: ClassVar[Durability]
    FSYNC: ClassVar[Durability]
    REPLICATED: ClassVar[Durability]

    @classmethod
    def replicated(cls, replicas: int) -> Self:
        """In the memory of at least this many replicas."""
        return cls("replicated", replicas)

    @classmethod
    def parse(cls, value: object) -> Durability:
        """A wish from its text, `memory`, `fsync`, `replicated` or `replicated:N`; a Durability is one already.

        Raises:
            InvalidState: it is none.
        """
        if isinstance(value, Durability):
            wanted = value
        elif isinstance(value, str):
            level, colon, count = value.partition(":")
            # Not isdecimal alone, which other scripts' digits are, too.
            is_count = count.isascii() and count.isdecimal()
            if level not in _LEVELS or (colon and not (level == "replicated" and is_count)):
                raise InvalidState("durability: memory, fsync, replicated or replicated:N is needed")
            wanted = cls(level, int(count[:6]) if colon else int(level == "replicated"))  # type: ignore[arg-type]
        else:
            raise InvalidState("durability: a Durability or its text is needed")
        _check(wanted.level, wanted.replicas)
        return wanted

    def __str__(self) -> str:
        return f"{self.level}:{self.replicas}" if self.level == "replicated" else self.level


def _check(level: object, replicas: object) -> None:
    """Raise InvalidState where these make no Durability: one that a caller built has been checked by nobody."""
    # Types first: what a caller's class does when it is compared is anybody's guess.
    if not isinstance(level, str) or level not in _LEVELS or not isinstance(replicas, int):
        raise InvalidState("durability: memory, fsync, replicated or replicated:N is needed")
    low, high = (1, _MOST_REPLICAS) if level == "replicated" else (0, 0)
    if isinstance(replicas, bool) or not low <= replicas <= high:
        raise InvalidState(f"durability: of replicas, {low} to {high} can be asked for")


Durability.MEMORY = Durability("memory")
Durability.FSYNC = Durability("fsync")
Durability.REPLICATED = Durability("replicated", 1)


def questions(wanted: Durability, wait_s: float) -> tuple[tuple[str, ...], ...]:
    """The commands that follow a write on its connection, outside of any transaction; they wait `wait_s` at most."""
    wait_ms = str(max(1, int(wait_s * 1000)))
    if wanted.level == "fsync":
        return ("WAITAOF", "1", "0", wait_ms), CONFIG_WORDS
    if wanted.level == "replicated":
        return (("WAIT", str(wanted.replicas), wait_ms),)
    return ()


def achieved(wanted: Durability, answers: Sequence[Any]) -> tuple[Durability, str]:
    """What the answers to `questions` show, and why it is less than what was wanted (empty where it is not)."""
    for answer in answers:
        if isinstance(answer, BaseException):
            return Durability.MEMORY, one_line(answer)
    try:
        if wanted.level == "fsync":
            return _fsync_achieved(*answers)
        if wanted.level == "replicated":
            (count,) = answers
            reached = Durability.replicated(int(count)) if int(count) > 0 else Durability.MEMORY
            return reached, "" if count >= wanted.replicas else f"{count} of {wanted.replicas} replicas have it"
    except (TypeError, ValueError, AttributeError):
        return Durability.MEMORY, "the answer makes no sense"
    return Durability.MEMORY, ""


def _fsync_achieved(waited: Any, configuration: Any) -> tuple[Durability, str]:
    on_disk, _ = waited
    # The configuration first: it is also why a disk may be late.
    cause = fsync_lacks(configuration) or ("" if on_disk == 1 else "the disk did not have it in time")
    return (Durability.MEMORY if cause else Durability.FSYNC), cause


def fsync_lacks(configuration: Any) -> str:
    """What the answer to `CONFIG_WORDS` lacks for `fsync`; empty where nothing."""
    words = [word.decode() for word in configuration]
    found = dict(zip(words[::2], words[1::2], strict=True))
    lacking = [
        f"{name} is {found.get(name, 'unknown')}" for name, value in FSYNC_NEEDS.items() if found.get(name) != value
    ]
    return ", ".join(lacking)
