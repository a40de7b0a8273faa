"""RedisStateManager: the synchronous shell over the commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from kairos_core.attempts import pauses
from kairos_core.commands import Commands
from kairos_core.connection import Link, make_pool
from kairos_core.errors import InvalidState, SessionNotFound, VersionConflict
from kairos_core.ground import check_store
from kairos_core.layout import Layout
from kairos_core.session import check_session_id
from kairos_core.updates import MessageWatch, SessionWatch, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

    def mutate_session(
        self,
        session_id: str,
        change: Callable[[SyncState], SyncState],
        *,
        event_type: str = "updated",
        attempts: int = 100,
    ) -> SyncState:
        """Read a session, change it, write it back; again where another writer was first.

        Args:
            session_id: the session.
            change: given the stored state, returns the one to write; may be called several times.
            event_type: what watchers and the audit read.
            attempts: how often at most.

        Returns:
            The state as stored.

        Raises:
            VersionConflict: others were first each time, or `timeout_s` is over.
            SessionNotFound: there is no such session.
            InvalidState, CorruptState, AuditBacklogFull, StoreUnavailable: it was not written.
            OutcomeUnknown: it may have been written.
        """
        deadline = time.monotonic() + self._settings.timeout_s
        for pause_s in pauses(attempts):
            state = self.get_session(session_id)
            if state is None:
                raise SessionNotFound(session_id)
            try:
                return self.update_session(change(state), event_type=event_type)
            except VersionConflict:
                if pause_s is None or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
        raise InvalidState("attempts: at least 1 is needed")

    def get_sessions(self, session_ids: Iterable[str]) -> dict[str, SyncState | None]:
        """Read many sessions at once; None for each that does not exist. They are not one snapshot.

        Raises:
            InvalidState, StoreUnavailable: they were not all read.
            CorruptState: the stored bytes of one are no state.
        """
        commands = [self._commands.get(session_id) for session_id in dict.fromkeys(session_ids)]
        states = self._link.call_many(commands)
        return {command.session_id: state for command, state in zip(commands, states, strict=True)}

    def delete_session(
        self, session_id: str, *, if_unchanged: SyncState | None = None, event_type: str = "deleted"
    ) -> bool:
        """Delete a session; False where there is none.

        Args:
            session_id: the session.
            if_unchanged: delete only this version of it; None: whatever its version.
            event_type: what watchers and the audit read.

        Raises:
            VersionConflict: another version than `if_unchanged` is stored.
            InvalidState, AuditBacklogFull, StoreUnavailable: it was not deleted.
            OutcomeUnknown: it may have been deleted.
        """
        expected = None if if_unchanged is None else if_unchanged.stamp
        return self._link.call(self._commands.delete(session_id, expected, event_type))

    def touch_session(self, session_id: str) -> bool:
        """Let a session live for its full time from now on; False where there is none.

        Raises:
            InvalidState, StoreUnavailable: it was not touched.
        """
        return self._link.call(self._commands.touch(session_id))

    def resolve(self, operation_id: str) -> bool | None:
        """Settle a write that ended in OutcomeUnknown.

        True: it was applied. False: it was not, and never will be, even if it is still on its way. None: that can no
        longer be told, because it is longer ago than half of the receipts' time (`Settings.receipt_ttl_s`).

        Raises:
            InvalidState: this is not an operation's id.
            StoreUnavailable: it could not be asked.
        """
        return self._link.call(self._commands.resolve(operation_id))

    def broadcast_to_session(self, session_id: str, message: Any) -> int:
        """Send any JSON, which is not part of the state, to those who receive this session's messages.

        Returns:
            How many connections it was handed to. It is kept nowhere: who does not listen now will not hear of it.

        Raises:
            InvalidState: it is no JSON, or more than 1 MiB of it.
            StoreUnavailable: it may or may not have been sent.
        """
        return self._link.call(self._commands.broadcast(session_id, message))

    def watch_session(self, session_id: str, *, since: SyncState | None = None) -> SessionWatch:
        """Receive the updates of one session, from when the context is entered; with a connection of its own.

        Args:
            session_id: the session, which need not exist yet.
            since: a state that was read before: what was written after it is received, too.
        """
        keys = self._layout.keys_of(check_session_id(session_id))
        subscription = Subscription(self._settings, [keys.session_channel])
        return SessionWatch(subscription, self.get_sessions, lambda: [session_id], since)

    def watch_sessions(self) -> SessionWatch:
        """Receive the updates of all sessions, from when the context is entered; with a connection of its own."""
        subscription = Subscription(self._settings, self._layout.lane_channels)
        return SessionWatch(subscription, self.get_sessions, self._living)

    def receive_messages(self, session_id: str) -> MessageWatch:
        """Receive what `broadcast_to_session` sends, from when the context is entered."""
        channel = self._layout.message_channel(check_session_id(session_id))
        return MessageWatch(Subscription(self._settings, [channel]))

    def _living(self) -> list[str]:
        """The ids of all sessions that live, from the index of deadlines."""
        lanes = self._link.call_many([self._commands.living(lane) for lane in range(self._settings.lanes)])
        return [session_id for lane in lanes for session_id in lane]
