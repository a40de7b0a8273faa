"""Every error that Kairos raises: one tree.

Each error says whether the operation definitely did not happen (`definite` is True: nothing changed) or may have
(`definite` is False). Where it did not, calling again does no harm, and may help or not: after StoreUnavailable and
AuditBacklogFull it may; after VersionConflict only with a state that was read anew, as `mutate_session` does; after
InvalidState, CorruptState and ConfigurationError only once what they name was mended. No message carries a password or
a state's content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from kairos_core.durability import Durability
    from kairos_core.session import SyncState


class Stamp(NamedTuple):
    """The identity of one version of a session: versions count within an incarnation, from 1."""

    incarnation: int
    version: int

    def __str__(self) -> str:
        return f"version {self.version} of incarnation {self.incarnation}"


class KairosError(Exception):
    """The root of all errors of Kairos."""

    definite: ClassVar[bool] = True


class ConfigurationError(KairosError):
    """A setting, or the server that it names, cannot be used.

    Attributes:
        setting: the name of the environment variable or argument at fault.
        cause: what is wrong with it, in one line.
    """

    def __init__(self, setting: str, cause: str) -> None:
        self.setting = setting
        self.cause = cause
        super().__init__(f"{setting}: {cause}")


class InvalidState(KairosError, ValueError):  # noqa: N818 - a public name, fixed by the design
    """A state, an id or an argument does not validate; nothing was sent, and the same call will fail again."""


class SessionExists(KairosError):  # noqa: N818
    """The session to be created exists already.

    Attributes:
        session_id: the session.
        current: the stored incarnation and version.
    """

    def __init__(self, session_id: str, current: Stamp) -> None:
        self.session_id = session_id
        self.current = current
        super().__init__(f"session {session_id} exists: {current}")


class SessionNotFound(KairosError):  # noqa: N818
    """The session does not exist, or no longer.

    Attributes:
        session_id: the session.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id} does not exist")


class VersionConflict(KairosError):  # noqa: N818
    """Another writer was first; the write was refused, and will be again unless it is derived from what is stored.

    Attributes:
        session_id: the session.
        expected: what the caller's state was derived from.
        current: what is stored.
        stored: the state that is stored, where the server told it with its refusal (`mutate_session`); else None.
    """

    def __init__(self, session_id: str, expected: Stamp, current: Stamp, stored: SyncState | None = None) -> None:
        self.session_id = session_id
        self.expected = expected
        self.current = current
        self.stored = stored
        super().__init__(f"session {session_id}: expected {expected}, stored is {current}")


class CorruptState(KairosError):  # noqa: N818
    """Stored bytes do not decode; they were left as they are, and reading them again will fail again.

    Attributes:
        key: the Redis key.
        cause: what is wrong with the bytes, without the bytes.
    """

    def __init__(self, key: str, cause: str) -> None:
        self.key = key
        self.cause = cause
        super().__init__(f"{key}: {cause}")


class StoreUnavailable(KairosError):  # noqa: N818
    """The store could not be reached, or refused; the operation was not applied, and may be tried again.

    Attributes:
        subject: the session or key that was asked for.
        cause: what went wrong.
        code: the first word of the server's refusal, such as OOM; None where it said nothing.
    """

    def __init__(self, subject: str, cause: str, code: str | None = None) -> None:
        self.subject = subject
        self.cause = cause
        self.code = code
        super().__init__(f"{subject}: {cause}")


class OutcomeUnknown(KairosError):  # noqa: N818
    """A write was sent and its answer never came: it may have been applied or not.

    Attributes:
        session_id: the session.
        operation_id: the write's id, under which its receipt is kept.
    """

    definite: ClassVar[bool] = False

    def __init__(self, session_id: str, operation_id: str, cause: str) -> None:
        self.session_id = session_id
        self.operation_id = operation_id
        super().__init__(f"session {session_id}, operation {operation_id}: no answer ({cause})")


class AuditBacklogFull(KairosError):  # noqa: N818
    """The lane's outbox is at its limit; the write was refused, so that no record need be dropped.

    It may be tried again once a worker has drained the lane.

    Attributes:
        lane: the lane.
        depth: the entries that wait in its outbox.
    """

    def __init__(self, lane: int, depth: int) -> None:
        self.lane = lane
        self.depth = depth
        super().__init__(f"the outbox of lane {lane} holds {depth} entries: is a worker running?")


class DurabilityNotReached(KairosError):  # noqa: N818
    """A write was applied, and is not as safe as it was to be: not on disk, or not on so many replicas.

    It is stored, announced and recorded like any other, and may become as safe later. Do not send it again.

    Attributes:
        session_id: the session.
        operation_id: the write's id.
        wanted: the `Durability` that was asked for.
        achieved: the one that was reached in time.
        result: what the call would have returned: the state as stored; of a deletion, True.
        cause: what is lacking.
    """

    definite: ClassVar[bool] = False

    def __init__(  # noqa: PLR0913 - facts, by name
        self,
        session_id: str,
        operation_id: str,
        *,
        wanted: Durability,
        achieved: Durability,
        result: SyncState | bool,
        cause: str,
    ) -> None:
        self.session_id = session_id
        self.operation_id = operation_id
        self.wanted = wanted
        self.achieved = achieved
        self.result = result
        self.cause = cause
        super().__init__(
            f"session {session_id}, operation {operation_id}: applied, but not as safe as wanted ({wanted}): {cause}"
        )


def one_line(error: object) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
