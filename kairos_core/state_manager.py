"""RedisStateManager: the synchronous shell over the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kairos_core.commands import Commands
from kairos_core.connection import Link, make_pool
from kairos_core.ground import check_store
from kairos_core.layout import Layout
from kairos_core.updates import SessionWatch

if TYPE_CHECKING:
    from kairos_core.session import SyncState
    from kairos_core.settings import Settings


class RedisStateManager:
    """Creates, reads, updates and deletes sessions; one round trip each, and no state of its own.

    Any number of threads may share one manager, and any number of managers the store.
    """

    def __init__(self, settings: Settings, link: Link) -> None:
        self._settings = settings
        self._layout = Layout(settings.namespace, settings.lanes)
        self._commands = Commands(settings, self._layout)
        self._link = link

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Connect and check the ground.

        Raises:
            ConfigurationError: the server cannot be reached, is too old, or holds another layout.
        """
        pool = make_pool(settings)
        manager = cls(settings, Link(pool, settings.timeout_s))
        try:
            check_store(pool, manager._layout)
        except BaseException:
            manager.close()
            raise
        return manager

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the sessions stay."""
        self._link.close()

    def create_session(self, state: SyncState, *, event_type: str = "created") -> SyncState:
        """Create a session.

        Args:
            state: incarnation and version are not looked at; the server assigns them.
            event_type: what watchers and the audit read, 1 to 50 characters from `[A-Za-z0-9._:-]`.

        Returns:
            The state as stored: version 1 of a new incarnation.

        Raises:
            SessionExists: with the stored version.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not created.
            OutcomeUnknown: it may have been created.
        """
        return self._link.call(self._commands.create(state, event_type))

    def get_session(self, session_id: str) -> SyncState | None:
        """Read a session from the primary; None where there is none.

        Raises:
            InvalidState, StoreUnavailable: it was not read.
            CorruptState: the stored bytes are no state; they are left as they are.
        """
        return self._link.call(self._commands.get(session_id))

    def update_session(self, state: SyncState, *, event_type: str = "updated") -> SyncState:
        """Write a state back, if the stored (incarnation, version) is still the one it was derived from.

        Args:
            state: derived from one that was read or written; it is not changed.
            event_type: what watchers and the audit read, 1 to 50 characters from `[A-Za-z0-9._:-]`.

        Returns:
            The state as stored, one version on.

        Raises:
            VersionConflict: another writer was first; with the stored version.
            SessionNotFound: there is no such session.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not written.
            OutcomeUnknown: it may have been written.
        """
        return self._link.call(self._commands.update(state, event_type))

    def delete_session(self, session_id: str, *, event_type: str = "deleted") -> bool:
        """Delete a session, whatever its version; False where there is none.

        Raises:
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not deleted.
            OutcomeUnknown: it may have been deleted.
        """
        return self._link.call(self._commands.delete(session_id, event_type))

    def watch_sessions(self) -> SessionWatch:
        """Receive the updates of all sessions, from when the context is entered; with a connection of its own.

        Use it as a context manager, and iterate over what it gives.
        """
        return SessionWatch(self._settings, self._layout)
