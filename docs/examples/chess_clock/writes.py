"""What a browser asked for, written to the store: each ends in a state, or in one error that says what to do."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from kairos_core import DurabilityNotReached, OutcomeUnknown, SessionNotFound, SyncState

from . import rules, spoken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from kairos_core import AsyncRedisStateManager

    from .tables import StoreClock

# Of each wish but the end of a turn, which has a number: its rule, and the name that watchers and the audit read.
_RULES = {
    spoken.Start: (rules.started, "game.started"),
    spoken.Pause: (rules.paused, "game.paused"),
    spoken.Resume: (rules.resumed, "game.resumed"),
    spoken.OfferDraw: (rules.draw_offered, "draw.offered"),
    spoken.AgreeToDraw: (rules.draw_agreed, "draw.agreed"),
    spoken.Resign: (rules.resigned, "player.resigned"),
}


class Writes:
    """Writes of an instance."""

    def __init__(self, manager: AsyncRedisStateManager, clock: StoreClock) -> None:
        self._manager = manager
        self._clock = clock

    async def create(self, state: SyncState) -> SyncState:
        """Create a game; see `_settled` for what it raises."""
        return await self._settled(state.session_id, lambda: self._manager.create_session(state))

    async def sit(self, known: SyncState, seat: str, key: str) -> None:
        """Let a player sit down, or again after a lost connection.

        Raises:
            RuleBroken: somebody else sits there.
            KairosError: it was not written; or, OutcomeUnknown, that cannot be told.
        """
        if not rules.holds(known, seat, key):
            await self._mutate(known, partial(rules.seat_taken, seat=seat, key=key), "seat.taken")

    async def move(self, known: SyncState, seat: str, wish: spoken.Move) -> None:
        """Do what a player wishes.

        Args:
            known: the newest state that was heard. It saves a read, and does no harm where it is out of date.
            seat: whose wish it is.
            wish: the wish.

        Raises:
            RuleBroken: it is against the rules as the game stands.
            KairosError: it was not written; or, OutcomeUnknown, that cannot be told.
        """
        rule: Callable[[SyncState, str, datetime], SyncState]
        if isinstance(wish, spoken.EndTurn):
            rule, event_type = partial(rules.turn_ended, turn=wish.turn), "turn.ended"
        else:
            rule, event_type = _RULES[type(wish)]
        # The time is asked for when the rule is applied: on a second try, time has gone by.
        await self._mutate(known, lambda state: rule(state, seat, self._clock.now()), event_type)

    async def _mutate(self, known: SyncState, change: Callable[[SyncState], SyncState], event_type: str) -> None:
        game_id = known.session_id

        async def write() -> SyncState:
            return await self._manager.mutate_session(game_id, change, event_type=event_type, known=known)

        # It was done before: the browser sent it again because the answer was lost, and is shown the state anyway.
        with contextlib.suppress(rules.DoneBefore):
            try:
                await self._settled(game_id, write)
            except rules.TimeIsUp:
                await self._settled(game_id, lambda: self._let_flag_fall(game_id))
                raise

    async def _let_flag_fall(self, game_id: str) -> SyncState:
        return await self._manager.mutate_session(
            game_id, lambda state: rules.flag_fallen(state, self._clock.now()), event_type="flag.fallen"
        )

    async def _settled(self, game_id: str, write: Callable[[], Awaitable[SyncState]]) -> SyncState:
        """The state after a write, also where its answer was lost.

        Raises:
            OutcomeUnknown: and it could not be settled, either.
            KairosError: it was not written.
        """
        try:
            return await write()
        except DurabilityNotReached as error:
            # It is written, and players wait: how safe it is is a matter for the alarm, not for them.
            # Only a deletion has a result that is no state.
            if isinstance(error.result, SyncState):
                return error.result
            raise
        except OutcomeUnknown as error:
            applied = await self._manager.resolve(error.operation_id)
            if applied is None:
                raise
            if not applied:
                return await write()
        state = await self._manager.get_session(game_id)
        if state is None:
            raise SessionNotFound(game_id)
        return state
