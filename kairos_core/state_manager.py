"""RedisStateManager: the blocking shell over the operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from kairos_core.blocking import BlockingTransport
from kairos_core.observed import observed
from kairos_core.operations import Operations
from kairos_core.transport import run
from kairos_core.watches import MessageWatch, SessionWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kairos_core.durability import Durability
    from kairos_core.health import Health
    from kairos_core.observing import Observer
    from kairos_core.session import SyncState
    from kairos_core.settings import Settings


class RedisStateManager:
    """Creates, reads, updates and deletes sessions; one round trip each, and no state of its own.

    Any number of threads may share one manager, and any number of managers the store.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._commands = operations.commands
        self._call = operations.link.call_blocking

    @classmethod
    def connect(cls, settings: Settings, *, observer: Observer | None = None) -> Self:
        """Connect and check the ground.

        Args:
            settings: where the store is, and what a call may take.
            observer: who is told of each call, such as a `kairos_core.metrics.PrometheusObserver`; of several:
                `kairos_core.observing.Observers`. Without one, nothing is measured, and no time taken by it.

        Raises:
            ConfigurationError: a server cannot be reached, is too old, holds another layout, or cannot keep the
                durability that the settings ask for.
        """
        operations = Operations(settings, BlockingTransport, observer)
        manager = (cls if observer is None else observed(cls))(operations)
        try:
            run(operations.check())
        except BaseException:
            manager.close()
            raise
        return manager

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the sessions stay. A later call makes new ones."""
        self._operations.link.close()

    def create_session(
        self, state: SyncState, *, event_type: str = "created", durability: Durability | str | None = None
    ) -> SyncState:
        """Create a session.

        Args:
            state: incarnation and version are not looked at; the server assigns them.
            event_type: what watchers and the audit read, 1 to 50 characters from `[A-Za-z0-9._:-]`.
            durability: how safe it is to be before this returns, e.g. `"fsync"` or `Durability.replicated(2)`; None: as
                the settings say.

        Returns:
            The state as stored: version 1 of a new incarnation.

        Raises:
            SessionExists: with the stored version.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not created.
            OutcomeUnknown: it may have been created.
            DurabilityNotReached: it was created, and is not as safe as it was to be.
        """
        return self._call(self._commands.create(state, event_type, durability))

    def get_session(self, session_id: str) -> SyncState | None:
        """Read a session from the primary; None where there is none.

        Raises:
            InvalidState, StoreUnavailable: it was not read.
            CorruptState: the stored bytes are no state; they are left as they are.
        """
        return self._call(self._commands.get(session_id))

    def update_session(
        self, state: SyncState, *, event_type: str = "updated", durability: Durability | str | None = None
    ) -> SyncState:
        """Write a state back, if the stored (incarnation, version) is still the one it was derived from.

        Args:
            state: derived from one that was read or written; it is not changed.
            event_type: what watchers and the audit read, 1 to 50 characters from `[A-Za-z0-9._:-]`.
            durability: how safe it is to be before this returns, e.g. `"fsync"` or `Durability.replicated(2)`; None: as
                the settings say.

        Returns:
            The state as stored, one version on.

        Raises:
            VersionConflict: another writer was first; with the stored version.
            SessionNotFound: there is no such session.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not written.
            OutcomeUnknown: it may have been written.
            DurabilityNotReached: it was written, and is not as safe as it was to be.
        """
        return self._call(self._commands.update(state, event_type, durability))

    def mutate_session(  # noqa: PLR0913 - by name, but for the first two
        self,
        session_id: str,
        change: Callable[[SyncState], SyncState],
        *,
        event_type: str = "updated",
        attempts: int = 1_000,
        durability: Durability | str | None = None,
        known: SyncState | None = None,
    ) -> SyncState:
        """Read a session, change it, write it back; again where another writer was first.

        Where others write the session, too, the call after 32 that came one right after the other waits for up to
        32 ms, so that the others have their turn.

        Args:
            session_id: the session.
            change: given the stored state, returns the one to write; may be called several times.
            event_type: what watchers and the audit read.
            attempts: how often at most.
            durability: as in `update_session`.
            known: a state of this session that was read or written before, as it came from the last call or from a
                watch. It saves the read: `change` is tried on it first, and what that gives is written if `known` is
                still what is stored. Where it is not, the refusal brings what is stored, so it takes no more round
                trips than the read would have; but a refusal takes the server longer than a read, so this is for
                whoever mostly has the latest. What `change` raises of a `known` that is out of date does not count:
                it is called again with what is stored. The try on `known` is one of `attempts`.

        Returns:
            The state as stored.

        Raises:
            VersionConflict: others were first each time, or `timeout_s` is over.
            SessionNotFound: there is no such session.
            InvalidState, CorruptState, AuditBacklogFull, StoreUnavailable: it was not written.
            OutcomeUnknown: it may have been written.
            DurabilityNotReached: it was written, and is not as safe as it was to be.
        """
        return run(self._operations.mutate(session_id, change, event_type, attempts, durability, known=known))

    def get_sessions(self, session_ids: Iterable[str]) -> dict[str, SyncState | None]:
        """Read many sessions, in one pipeline for each server; None for each that does not exist. No snapshot.

        Raises:
            InvalidState, StoreUnavailable: they were not all read.
            CorruptState: the stored bytes of one are no state.
        """
        return run(self._operations.get_many(session_ids))

    def delete_session(
        self,
        session_id: str,
        *,
        if_unchanged: SyncState | None = None,
        event_type: str = "deleted",
        durability: Durability | str | None = None,
    ) -> bool:
        """Delete a session; False where there is none.

        Args:
            session_id: the session.
            if_unchanged: delete only this version of it; None: whatever its version.
            event_type: what watchers and the audit read.
            durability: as in `update_session`.

        Raises:
            VersionConflict: another version than `if_unchanged` is stored.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not deleted.
            OutcomeUnknown: it may have been deleted.
            DurabilityNotReached: it was deleted, and that is not as safe as it was to be.
        """
        return self._call(self._operations.delete(session_id, if_unchanged, event_type, durability))

    def touch_session(self, session_id: str) -> bool:
        """Let a session live for its full time from now on; False where there is none.

        Raises:
            InvalidState, StoreUnavailable: it was not touched.
            OutcomeUnknown: it may have been; touching again does no harm, and there is nothing to resolve.
        """
        return self._call(self._commands.touch(session_id))

    def resolve(self, operation_id: str) -> bool | None:
        """Settle a write that ended in OutcomeUnknown.

        True: it was applied. False: it was not, and never will be, even if it is still on its way. None: that can no
        longer be told, because it is longer ago than half of the receipts' time (`Settings.receipt_ttl_s`).

        Raises:
            InvalidState: this is not an operation's id.
            StoreUnavailable: it could not be asked.
        """
        return self._call(self._commands.resolve(operation_id))

    def broadcast_to_session(self, session_id: str, message: Any) -> int:
        """Send any JSON, which is not part of the state, to those who receive this session's messages.

        Returns:
            How many connections it was handed to; on a cluster, of those to the session's own server. It is kept
            nowhere: who does not listen now will not hear of it.

        Raises:
            InvalidState: it is no JSON, or more than 1 MiB of it.
            StoreUnavailable: it was not sent.
            OutcomeUnknown: it may have been, once or more often; there is nothing to resolve.
        """
        return self._call(self._commands.broadcast(session_id, message))

    def watch_session(self, session_id: str, *, since: SyncState | None = None) -> SessionWatch:
        """Receive the updates of one session, from when the context is entered; with a connection of its own.

        Args:
            session_id: the session, which need not exist yet.
            since: a state that was read before: what was written after it is received, too.
        """
        return SessionWatch(self._operations.session_feed(session_id, since))

    def watch_sessions(self) -> SessionWatch:
        """Receive the updates of all sessions, from when the context is entered; with a connection to each server."""
        return SessionWatch(self._operations.sessions_feed())

    def receive_messages(self, session_id: str) -> MessageWatch:
        """Receive what `broadcast_to_session` sends, from when the context is entered."""
        return MessageWatch(self._operations.message_feed(session_id))

    def health(self) -> Health:
        """How the store is: whether it can be reached, how fast, its role, memory and persistence, the audit's backlog.

        What cannot be asked is a problem in the answer, not an error.
        """
        return run(self._operations.health())
