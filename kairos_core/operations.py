"""What takes more than one command: written once for both managers (see `transport.py`)."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kairos_core import ground, health
from kairos_core.addresses import parse
from kairos_core.attempts import pauses
from kairos_core.commands import Commands
from kairos_core.errors import CorruptState, InvalidState, SessionNotFound, VersionConflict
from kairos_core.layout import Layout
from kairos_core.link import Link
from kairos_core.session import SyncState, check_session_id
from kairos_core.updates import MessageFeed, SessionFeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.commands import Command
    from kairos_core.durability import Durability
    from kairos_core.ground import Role
    from kairos_core.health import Health
    from kairos_core.settings import Settings


class Operations:
    """A link to the store, and all that a manager does over it.

    Attributes:
        commands: builds what takes one command.
        link: sends it.
    """

    def __init__(self, settings: Settings, transport_class: Any) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._settings = settings
        self._layout = Layout(settings.namespace, settings.lanes)
        self.commands = Commands(settings, self._layout)
        address = parse(settings.redis_url)
        self.link = Link.to(address, transport_class(address, settings.timeout_s), settings.timeout_s)

    async def check(self, role: Role = "core", *, lay_out: bool = True) -> None:
        """Refuse unsafe ground (G14), for an account that is to do what this role does.

        Args:
            role: whose account it is.
            lay_out: whether to write down how the store is laid out where nobody has yet.

        Raises:
            ConfigurationError: names the setting and the cause in one line.
        """
        await ground.check_store(self.link, self._layout, self._settings, role, lay_out=lay_out)

    async def health(self) -> Health:
        """How the store is."""
        return await health.examine(self.link, self.commands, self._layout, self._settings)

    async def mutate(
        self,
        session_id: str,
        change: Callable[[SyncState], Any],
        event_type: str,
        attempts: int,
        durability: Durability | str | None,
    ) -> SyncState:
        """Read, change, compare and set; again where another writer was first."""
        limit: object = attempts
        if not isinstance(limit, int) or limit < 1:
            raise InvalidState("attempts: a whole number, at least 1, is needed")
        if not callable(change):
            raise InvalidState("change: a function is needed")
        deadline = time.monotonic() + self._settings.timeout_s
        stored: SyncState | None = None
        for pause_s in pauses(attempts):
            state = stored or await self.link.call(self.commands.get(session_id))
            if state is None:
                raise SessionNotFound(session_id)
            changed = change(state)
            if inspect.isawaitable(changed):
                changed = await changed
            if isinstance(changed, SyncState) and (changed.session_id, changed.stamp) != (session_id, state.stamp):
                # Written, it would change another session than the one that was asked for, or another version of it.
                raise InvalidState(f"change: a state derived from the one it was given, of {session_id}, is needed")
            # What a refusal tells is of use at once; after a pause it would be out of date.
            tell_stored = pause_s == 0
            try:
                return await self.link.call(
                    self.commands.update(changed, event_type, durability, tell_stored=tell_stored)
                )
            except VersionConflict as conflict:
                if pause_s is None or time.monotonic() + pause_s > deadline:
                    raise
                stored = conflict.stored
            await self.link.transport.sleep(pause_s)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def get_many(self, session_ids: Iterable[str]) -> dict[str, SyncState | None]:
        """Read many sessions, in one pipeline for each server that has some."""
        if isinstance(session_ids, str) or not isinstance(session_ids, Iterable):
            raise InvalidState("session_ids: a list of ids, or the like, is needed")
        commands = [self.commands.get(found) for found in dict.fromkeys(map(check_session_id, session_ids))]
        states = await self.link.call_many(commands)
        return {command.session_id: state for command, state in zip(commands, states, strict=True)}

    async def living(self) -> list[str]:
        """The ids of all sessions that live, from the index of deadlines."""
        lanes = await self.link.call_many([self.commands.living(lane) for lane in range(self._settings.lanes)])
        return [session_id for lane in lanes for session_id in lane]

    def delete(
        self, session_id: str, if_unchanged: SyncState | None, event_type: str, durability: Durability | str | None
    ) -> Command[bool]:
        """The command that deletes a session, or only one version of it."""
        expected = None if if_unchanged is None else _known(session_id, if_unchanged, "if_unchanged").stamp
        return self.commands.delete(session_id, expected, event_type, durability)

    def session_feed(self, session_id: str, since: SyncState | None) -> SessionFeed:
        """The updates of one session."""
        keys = self._layout.keys_of(check_session_id(session_id))
        if since is not None:
            _known(session_id, since, "since")

        async def living() -> list[str]:
            try:
                state = (await self.get_many([session_id]))[session_id]
            except CorruptState:
                return [session_id]
            return [] if state is None else [session_id]

        channels = [(keys.session_channel, self._layout.slots[keys.lane])]
        return SessionFeed(self.link, channels, self.get_many, living, since)

    def sessions_feed(self) -> SessionFeed:
        """The updates of all sessions."""
        channels = list(zip(self._layout.lane_channels, self._layout.slots, strict=True))
        return SessionFeed(self.link, channels, self.get_many, self.living)

    def message_feed(self, session_id: str) -> MessageFeed:
        """The application messages of one session."""
        channel = self._layout.message_channel(check_session_id(session_id))
        return MessageFeed(self.link, [(channel, self._layout.slots[self._layout.lane_of(session_id)])])


def _known(session_id: str, state: object, name: str) -> SyncState:
    """A state of this session that was read or written before, or InvalidState."""
    if not isinstance(state, SyncState) or state.session_id != session_id:
        raise InvalidState(f"{name}: a state of this session, read or written before, is needed")
    return state
