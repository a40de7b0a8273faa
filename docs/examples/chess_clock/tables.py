"""What of the games an instance holds while browsers look at them; all of it can be lost, and is told anew.

One watch hears of all games, however many browsers there are. A `Table` is a game that browsers of this instance look
at: it keeps the newest state to show it to them, and says to the other instances who is here. A `Browser` is one of
them, and takes what it is told as fast as it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core import RESYNCHRONISED, DurabilityNotReached, KairosError, SessionNotFound, VersionConflict

from . import rules, spoken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kairos_core import AsyncMessageWatch, AsyncRedisStateManager, AsyncSessionWatch, Health, SyncState

# How often an instance says who is at it; one that was not heard three times is taken to be gone.
BEAT_S, GONE_S = 2.0, 6.0
# A session that nobody writes to ends after `KAIROS_SESSION_TTL_S`: while somebody looks at it, it is to live.
_TOUCH_S = 60.0
# Of what is no state, a browser that is slow misses the oldest.
_MOST_LINES = 64
# Behind this, it is not slow but gone.
_SEND_TIMEOUT_S = 10.0
_AGAIN_S = 1.0
_log = logging.getLogger("chess_clock")


class StoreClock:
    """The store's time, so that all instances reckon by the same clock, whatever their own say."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def set_by(self, health: Health) -> None:
        """Take how far the store's clock is ahead. Of a cluster, the first server's: keep its servers in step."""
        for server in health.servers[:1]:
            self._ahead = timedelta(milliseconds=server.clock_ahead_ms)

    def now(self) -> datetime:
        """The store's time, aware, UTC."""
        return datetime.now(UTC) + self._ahead


class Browser:
    """One browser's connection: the newest state and some lines wait for it, and no more, however slow it is."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self.seat: str | None = None
        self._send = send
        self._newest: SyncState | None = None
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._wake = asyncio.Event()

    def show(self, state: SyncState) -> None:
        """Let the browser see this state, in place of one that has not gone out yet."""
        self._newest = state
        self._wake.set()

    def tell(self, line: dict[str, Any]) -> None:
        """Let the browser have this message."""
        self._lines.append(json.dumps(line))
        self._wake.set()

    async def send_all(self, now: Callable[[], datetime]) -> None:
        """Send what comes until the connection ends.

        Raises:
            TimeoutError: the browser takes nothing any more.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._lines or self._newest is not None:
                # Clocks are read when they go out: what waited would be out of date.
                state, self._newest = self._newest, None
                text = json.dumps(rules.view(state, now())) if state is not None else self._lines.popleft()
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await self._send(text)


class Table:
    """One game, and the browsers of this instance that look at it.

    Attributes:
        state: the newest that is known of it; None before it is known, and once it has ended for good.
        browsers: who looks.
    """

    def __init__(self, manager: AsyncRedisStateManager, clock: StoreClock, game_id: str, instance: str) -> None:
        self.state: SyncState | None = None
        self.browsers: set[Browser] = set()
        self._manager, self._clock = manager, clock
        self._game_id, self._instance = game_id, instance
        self._messages: AsyncMessageWatch | None = None
        self._heard: dict[str, tuple[float, list[str]]] = {}
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._flag: asyncio.TimerHandle | None = None
        self._is_open = False
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to hear and to say who is here, unless that has begun: there is such a game."""
        if not self._is_open:
            self._is_open = True
            self._tasks |= {asyncio.create_task(self._listen()), asyncio.create_task(self._beat())}

    def show(self, state: SyncState, *, may_go_back: bool = False) -> None:
        """Show a state to all browsers, unless a newer one was shown. What was read may be older than what was heard.

        Args:
            state: the state.
            may_go_back: the store lost what came after it, and this is how it stands.
        """
        if self.state is not None and state.stamp <= self.state.stamp and not may_go_back:
            return
        self.state = state
        for browser in self.browsers:
            browser.show(state)
        self._wait_for_flag(state)

    def tell(self, line: dict[str, Any]) -> None:
        """Tell all browsers of this instance."""
        for browser in self.browsers:
            browser.tell(line)

    def say_who_is_here(self) -> None:
        """Let all instances know, soon."""
        self._changed.set()

    async def close(self) -> None:
        """End it: nobody looks any more."""
        self._closed.set()
        if self._flag is not None:
            self._flag.cancel()
        if self._messages is not None:
            self._messages.close()
        self._changed.set()
        await asyncio.gather(*self._tasks)

    def _wait_for_flag(self, state: SyncState) -> None:
        if self._flag is not None:
            self._flag.cancel()
            self._flag = None
        falls_at = rules.falls_at(state)
        if falls_at is not None and not self._closed.is_set():
            in_s = max(0.0, (falls_at - self._clock.now()).total_seconds())
            self._flag = asyncio.get_running_loop().call_later(in_s, self._start, state)

    def _start(self, state: SyncState) -> None:
        task = asyncio.create_task(self._let_flag_fall(state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _let_flag_fall(self, state: SyncState) -> None:
        """Record that the time ran out. Every instance tries, and one write is the first: the others have no work."""
        try:
            fallen = rules.flag_fallen(state, self._clock.now())
            self.show(await self._manager.update_session(fallen, event_type="flag.fallen"))
        except (VersionConflict, SessionNotFound, DurabilityNotReached):
            # The turn ended in time, or another instance was first: the watch tells which.
            pass
        except rules.RuleBroken:
            # A little early: clocks of machines are not of one mind.
            if self.state is state:
                self._wait_for_flag(state)
        except KairosError as error:
            # The store cannot be asked, or has not answered: to try again does no harm, as only this state is replaced.
            _log.warning("game %s: the flag: %s; again in %.0f s", self._game_id, error, _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
            if self.state is state:
                self._wait_for_flag(state)

    async def _listen(self) -> None:
        """Take the messages to this game: who is at which instance, and what is said."""
        while not self._closed.is_set():
            try:
                async with self._manager.receive_messages(self._game_id) as self._messages:
                    if self._closed.is_set():
                        return
                    self.say_who_is_here()
                    async for message in self._messages:
                        self._take(message)
            except KairosError as error:
                _log.warning("game %s: messages: %s", self._game_id, error)
                await asyncio.sleep(_AGAIN_S)

    def _take(self, message: Any) -> None:
        try:
            heard = spoken.heard(message)
        except msgspec.ValidationError as error:
            # Whoever may write to the store may broadcast to a game.
            _log.warning("game %s: a message that is none of ours: %s", self._game_id, error)
            return
        if isinstance(heard, spoken.Line):
            self.tell(msgspec.to_builtins(heard))
            return
        instance = heard.instance
        if instance != self._instance and not self._heard.get(instance, (0.0, []))[1]:
            # It came just now, and has not heard who is here.
            self.say_who_is_here()
        self._heard[instance] = (time.monotonic(), heard.seats)
        self.tell(self.people())

    def people(self) -> dict[str, Any]:
        """Who is at which instance, as far as was heard lately."""
        since_s = time.monotonic() - GONE_S
        present = {name: seats for name, (at_s, seats) in sorted(self._heard.items()) if seats and at_s > since_s}
        return {"type": "people", "instances": present}

    async def _beat(self) -> None:
        touched_s = time.monotonic()
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), BEAT_S)
            self._changed.clear()
            try:
                await self._say()
                if time.monotonic() > touched_s + _TOUCH_S:
                    await self._manager.touch_session(self._game_id)
                    touched_s = time.monotonic()
            except KairosError as error:
                _log.warning("game %s: %s", self._game_id, error)
        # What went out last may still have had the last browser in it.
        with contextlib.suppress(KairosError):
            await self._say()

    async def _say(self) -> None:
        seats = sorted(browser.seat or "spectator" for browser in self.browsers)
        here = msgspec.to_builtins(spoken.Here(self._instance, seats))
        await self._manager.broadcast_to_session(self._game_id, here)


class Hall:
    """All tables of an instance, and the one watch that hears of all games.

    Attributes:
        clock: the store's time.
    """

    def __init__(self, manager: AsyncRedisStateManager, instance: str) -> None:
        self.clock = StoreClock()
        self._manager, self._instance = manager, instance
        self._tables: dict[str, Table] = {}

    async def watch(self, updates: AsyncSessionWatch) -> None:
        """Show what is written, by whichever instance, until the watch is closed."""
        async for update in updates:
            table = self._tables.get(update.session_id)
            if table is None:
                continue
            if update.state is not None:
                # What a connection missed comes as the newest state, which all that came before led to.
                table.show(update.state, may_go_back=update.event_type == RESYNCHRONISED)
            else:
                table.state = None
                table.tell({"type": "error", "code": "not_found", "text": "this game is over and forgotten"})

    async def enter(self, game_id: str, browser: Browser) -> Table:
        """Let a browser look at a game; it is shown the newest state at once.

        Raises:
            SessionNotFound: there is no such game.
            KairosError: the store could not be asked.
        """
        # There before the game is read: what is written after the read may be heard before its answer is here.
        table = self._tables.get(game_id)
        if table is None:
            table = self._tables[game_id] = Table(self._manager, self.clock, game_id, self._instance)
        table.browsers.add(browser)
        try:
            state = await self._read(game_id)
        except BaseException:
            await self.leave(game_id, browser)
            raise
        table.open()
        table.show(state)
        browser.show(table.state or state)
        browser.tell(table.people())
        table.say_who_is_here()
        return table

    async def _read(self, game_id: str) -> SyncState:
        state = await self._manager.get_session(game_id)
        if state is None:
            raise SessionNotFound(game_id)
        return state

    async def leave(self, game_id: str, browser: Browser) -> None:
        """Let a browser go, and the table with the last one."""
        table = self._tables[game_id]
        table.browsers.discard(browser)
        table.say_who_is_here()
        if not table.browsers:
            del self._tables[game_id]
            await table.close()
