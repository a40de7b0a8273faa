"""What takes more than one command: written once for both managers (see `transport.py`)."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kairos_core import ground, health
from kairos_core.addresses import parse
from kairos_core.attempts import Turns, pauses
from kairos_core.commands import Commands
from kairos_core.errors import CorruptState, InvalidState, SessionNotFound, VersionConflict
from kairos_core.layout import Layout
from kairos_core.link import Link
from kairos_core.observed import ObservedLink, ObservedSessionFeed
from kairos_core.observing import NOBODY, Observers
from kairos_core.session import SyncState, check_session_id
from kairos_core.updates import MessageFeed, SessionFeed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.commands import Command
    from kairos_core.durability import Durability
    from kairos_core.ground import Role
    from kairos_core.health import Health
    from kairos_core.observing import Observer
    from kairos_core.settings import Settings


class Operations:
    """A link to the store, and all that a manager does over it.

    Attributes:
        commands: builds what takes one command.
        link: sends it.
        observer: who is told of what is done.
    """

    def __init__(self, settings: Settings, transport_class: Any, observer: Observer | None = None) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._settings = settings
        self._layout = Layout(settings.namespace, settings.lanes)
        self.commands = Commands(settings, self._layout)
        self._turns = Turns()
        address = parse(settings.redis_url)
        transport = transport_class(address, settings.timeout_s)
        self.link: Link
        self.observer: Observer = NOBODY
        self._session_feed: type[SessionFeed] = SessionFeed
        if observer is None:
            self.link = Link.to(address, transport, settings.timeout_s)
        else:
            self.observer = observer if isinstance(observer, Observers) else Observers(observer)
            self.link = ObservedLink.to(address, transport, settings.timeout_s).observed_by(self.observer)
            self._session_feed = ObservedSessionFeed

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

    async def mutate(  # noqa: PLR0913 - what the managers' callers may say
        self,
        session_id: str,
        change: Callable[[SyncState], Any],
        event_type: str,
        attempts: int,
        durability: Durability | str | None,
        *,
        known: SyncState | None,
    ) -> SyncState:
        """Read, change, compare and set; again where another writer was first. What is known stands for the read."""
        _check_mutation(session_id, change, attempts, known)
        now_s = time.monotonic()
        deadline = now_s + self._settings.timeout_s
        if away_s := min(self._turns.pause_s(session_id, now_s), self._settings.timeout_s / 2):
            await self.link.transport.sleep(away_s)

        async def derived(state: SyncState, *, tell_stored: bool) -> Command[SyncState]:
            changed = change(state)
            if inspect.isawaitable(changed):
                changed = await changed
            _check_derived(session_id, state, changed)
            return self.commands.update(changed, event_type, durability, tell_stored=tell_stored)

        async def derived_from_known(state: SyncState) -> Command[SyncState]:
            try:
                return await derived(state, tell_stored=True)
            except Exception as error:  # noqa: BLE001 - what comes of a state that is out of date is not final
                state = await self._stored_instead(state, error)
            return await derived(state, tell_stored=True)

        stored, refused = known, False
        # The try on what is known is the first of the first burst: with one more, among rivals, more tries were
        # refused, and no more writes came through.
        for pause_s in pauses(attempts):
            state = stored or await self._stored(session_id)
            # What a refusal tells is of use at once; after a pause it would be out of date.
            write = await (derived_from_known(state) if state is known else derived(state, tell_stored=pause_s == 0))
            try:
                result = await self.link.call(write)
            except VersionConflict as conflict:
                refused = True
                if pause_s is None or time.monotonic() + pause_s > deadline:
                    raise
                stored = conflict.stored
                await self.link.transport.sleep(pause_s)
            else:
                self._turns.came_through(session_id, result.version, time.monotonic(), refused=refused)
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _stored(self, session_id: str) -> SyncState:
        """What is stored, or SessionNotFound."""
        state = await self.link.call(self.commands.get(session_id))
        if state is None:
            raise SessionNotFound(session_id)
        return state

    async def _stored_instead(self, known: SyncState, error: Exception) -> SyncState:
        """What is stored instead of what is known, or the error that came of this, where it is still stored."""
        state = await self._stored(known.session_id)
        if state.stamp == known.stamp:
            raise error
        return state

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
        return self._session_feed(self.link, channels, self.get_many, living, since)

    def sessions_feed(self) -> SessionFeed:
        """The updates of all sessions."""
        channels = list(zip(self._layout.lane_channels, self._layout.slots, strict=True))
        return self._session_feed(self.link, channels, self.get_many, self.living)

    def message_feed(self, session_id: str) -> MessageFeed:
        """The application messages of one session."""
        channel = self._layout.message_channel(check_session_id(session_id))
        return MessageFeed(self.link, [(channel, self._layout.slots[self._layout.lane_of(session_id)])])


def _check_mutation(session_id: str, change: object, attempts: object, known: object) -> None:
    if not isinstance(attempts, int) or attempts < 1:
        raise InvalidState("attempts: a whole number, at least 1, is needed")
    if not callable(change):
        raise InvalidState("change: a function is needed")
    if known is not None:
        _known(check_session_id(session_id), known, "known")


def _check_derived(session_id: str, state: SyncState, changed: object) -> None:
    """Raise InvalidState for what would change another session than was asked for, or another version of it."""
    if isinstance(changed, SyncState) and (changed.session_id, changed.stamp) != (session_id, state.stamp):
        raise InvalidState(f"change: a state derived from the one it was given, of {session_id}, is needed")


def _known(session_id: str, state: object, name: str) -> SyncState:
    """A state of this session that was read or written before, or InvalidState."""
    if not isinstance(state, SyncState) or state.session_id != session_id:
        raise InvalidState(f"{name}: a state of this session, read or written before, is needed")
    return state
