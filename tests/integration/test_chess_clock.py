"""What the example's instances do with the store, in one process: no page, and no server but the store's."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from docs.examples.chess_clock import rules, spoken
from docs.examples.chess_clock.tables import Browser, Hall, Table
from docs.examples.chess_clock.writes import Writes
from kairos_core import AsyncRedisStateManager, SessionNotFound, Settings
from loadtests.servers.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kairos_core import SyncState

WHITE, BLACK = "w" * 16, "b" * 16
_DEADLINE_S = 30.0


class Instance(NamedTuple):
    """An instance without its addresses: its manager, its tables and its writes."""

    manager: AsyncRedisStateManager
    hall: Hall
    writes: Writes


@asynccontextmanager
async def running(settings: Settings, name: str) -> AsyncIterator[Instance]:
    """An instance that watches."""
    async with AsyncRedisStateManager.connect(settings) as manager, manager.watch_sessions() as updates:
        hall = Hall(manager, name)
        hall.clock.set_by(await manager.health())
        watching = asyncio.create_task(hall.watch(updates))
        try:
            yield Instance(manager, hall, Writes(manager, hall.clock))
        finally:
            updates.close()
            await watching


class Seen:
    """A browser that takes all at once, and keeps it."""

    table: Table

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.browser = Browser(self._take)
        self._came = asyncio.Event()

    async def _take(self, text: str) -> None:
        self.said.append(json.loads(text))
        self._came.set()

    async def until(self, **facts: Any) -> None:
        """Wait for a message with these facts."""
        async with asyncio.timeout(_DEADLINE_S):
            while not any(facts.items() <= one.items() for one in self.said):
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def looking(instance: Instance, game_id: str) -> AsyncIterator[Seen]:
    """A browser that looks at a game at an instance."""
    seen = Seen()
    sending = asyncio.create_task(seen.browser.send_all(instance.hall.clock.now))
    seen.table = await instance.hall.enter(game_id, seen.browser)
    try:
        yield seen
    finally:
        sending.cancel()
        await instance.hall.leave(game_id, seen.browser)


async def begun(instance: Instance, game_id: str, time_ms: int) -> SyncState:
    """A game in which white's clock runs."""
    state = await instance.writes.create(rules.new_game(game_id, time_ms, 0))
    await instance.writes.sit(state, "white", WHITE)
    # What is known may be out of date: here it is, by a version.
    await instance.writes.sit(state, "black", BLACK)
    await instance.writes.move(state, "white", spoken.Start())
    return state


def test_the_flag_falls_once_at_all_instances(settings: Settings) -> None:
    """Each instance notices by itself that the time ran out, one write records it, and all browsers see that."""

    async def main() -> list[tuple[int, str]]:
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(running(settings, "A"))
            b = await stack.enter_async_context(running(settings, "B"))
            heard = await stack.enter_async_context(a.manager.watch_session("g"))
            await begun(a, "g", 300)
            at_a, at_b = [await stack.enter_async_context(looking(one, "g")) for one in (a, b)]
            for seen in (at_a, at_b):
                await seen.until(type="state", status="expired", version=5)
                await seen.until(type="state", result={"winner": "black", "reason": "time"})
            # Behind this nothing can come of a second flag: whoever was refused had tried before.
            await a.manager.delete_session("g")
            await at_b.until(type="error", code="not_found")
            found = []
            while update := await heard.receive(_DEADLINE_S):
                found.append((update.version, update.event_type))
                if update.state is None:
                    break
            return found

    events = ["created", "seat.taken", "seat.taken", "game.started", "flag.fallen", "deleted"]
    assert list(enumerate(events, 1)) == asyncio.run(main())


class Overtaken(AsyncRedisStateManager):
    """A manager whose answers come late: what is written meanwhile has been heard by then."""

    meanwhile: Callable[[SyncState], Awaitable[None]]

    async def get_session(self, session_id: str) -> SyncState | None:
        """Read, and let others go on before the answer is here."""
        state = await super().get_session(session_id)
        if state is not None:
            await self.meanwhile(state)
        return state


def test_what_is_written_while_the_first_browser_comes_is_shown(settings: Settings) -> None:
    """The first browser at a table sees a write that was heard before the answer to the read came that it overtook."""

    async def play() -> None:
        async with Overtaken.connect(settings) as manager, manager.watch_session("g") as updates:
            hall, browser = Hall(manager, "A"), Browser(lambda _: asyncio.sleep(0))

            async def heard() -> AsyncIterator[Any]:
                yield await updates.receive(_DEADLINE_S)

            async def meanwhile(state: SyncState) -> None:
                await manager.update_session(state)
                watch: Any = heard()
                await hall.watch(watch)

            manager.meanwhile = meanwhile
            created = await manager.create_session(rules.new_game("g", 60_000, 0))
            await updates.receive(_DEADLINE_S)
            table = await hall.enter("g", browser)
            assert (created.version + 1) == getattr(table.state, "version", None)
            await hall.leave("g", browser)
            with pytest.raises(SessionNotFound):
                await hall.enter("none", browser)
            assert {} == hall._tables

    asyncio.run(play())


def test_who_is_where_and_what_is_said_goes_to_all_instances(settings: Settings) -> None:
    """Browsers see who is at which instance and what is said; who comes sees the newest state, and who goes is gone."""

    async def main() -> None:
        async with running(settings, "A") as a, running(settings, "B") as b:
            state = await begun(a, "g", 60_000)
            async with looking(a, "g") as at_a:
                await at_a.until(type="state", version=4, active="white")
                async with looking(b, "g") as at_b:
                    await at_a.until(type="people", instances={"A": ["spectator"], "B": ["spectator"]})
                    await at_b.until(type="people", instances={"A": ["spectator"], "B": ["spectator"]})
                    await b.writes.move(state, "white", spoken.EndTurn(turn=1))
                    # Sent once more, as after a lost connection: done before, and no error.
                    await a.writes.move(state, "white", spoken.EndTurn(turn=1))
                    await at_a.until(type="state", version=5, turn=2, active="black")
                    # What was read before it was written comes late, and is old; only the store itself may go back.
                    at_a.table.show(state)
                    assert at_a.table.state is not state
                    at_a.table.show(state, may_go_back=True)
                    await at_a.until(type="state", version=1)
                    for message in (7, {"type": "reset"}, {"type": "said", "by": "white", "text": "hello"}):
                        await a.manager.broadcast_to_session("g", message)
                    await at_b.until(type="said", text="hello")
                at_a.said.clear()
                await at_a.until(type="people", instances={"A": ["spectator"]})
            with pytest.raises(SessionNotFound):
                await a.hall.enter("none", Seen().browser)

    asyncio.run(main())


def test_a_slow_browser_gets_the_newest_state_and_holds_nobody_up() -> None:
    """However slow a browser is, no more waits for it than one state and some lines, and the state is the newest."""

    async def main() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        is_at_it, may_go_on, has_all = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def send(text: str) -> None:
            sent.append(json.loads(text))
            is_at_it.set()
            await may_go_on.wait()
            if sent[-1].get("text") == "999":
                has_all.set()

        browser, game = Browser(send), rules.new_game("g", 1_000, 0)
        browser.show(game.replace(version=1))
        sending = asyncio.create_task(browser.send_all(lambda: datetime.now(UTC)))
        await is_at_it.wait()
        for number in range(2, 1_000):
            browser.show(game.replace(version=number))
            browser.tell({"type": "said", "text": str(number)})
        may_go_on.set()
        async with asyncio.timeout(_DEADLINE_S):
            await has_all.wait()
        sending.cancel()
        return sent

    sent = asyncio.run(main())
    assert [1, 999] == [one["version"] for one in sent if one["type"] == "state"]
    assert [str(number) for number in range(936, 1_000)] == [one["text"] for one in sent if one["type"] == "said"]


def _no_answers(proxy: Proxy, *, drops_request: bool) -> Callable[[], None]:
    """Let nothing be answered from now on, or not even arrive; returns what ends that."""
    passes, dropped = (lambda data: data), (lambda _: None)
    proxy.on_request, proxy.on_reply = (dropped, passes) if drops_request else (passes, dropped)

    def end() -> None:
        proxy.on_request = proxy.on_reply = passes

    return end


@pytest.mark.parametrize(("creates", "drops_request"), [(False, True), (False, False), (True, False)])
def test_a_write_without_an_answer_is_settled(
    settings: Settings, creates: bool, drops_request: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the answer to a write never came, it is settled whether it happened, and happens once."""

    async def main(proxy: Proxy) -> None:
        short = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.4)
        # The store knows all scripts then: an answer that is dropped is none that asks for one.
        async with running(settings, "A") as a, AsyncRedisStateManager.connect(short) as manager:
            await begun(a, "g", 60_000)
            known = await a.manager.get_session("g")
            assert known is not None
            end = _no_answers(proxy, drops_request=drops_request)
            asked = []

            async def settled(operation_id: str) -> bool | None:
                end()
                asked.append(await a.manager.resolve(operation_id))
                return asked[-1]

            monkeypatch.setattr(manager, "resolve", settled)
            writes = Writes(manager, a.hall.clock)
            if creates:
                created = await writes.create(rules.new_game("h", 60_000, 0))
                assert await a.manager.get_session("h") == created
            else:
                await writes.move(known, "white", spoken.EndTurn(turn=1))
                state = await a.manager.get_session("g")
                assert state is not None
                assert (5, 2, "black") == (state.version, rules.turn_of(state), state.active_participant_id)
            assert [not drops_request] == asked

    with Proxy(settings.redis_url) as proxy:
        asyncio.run(main(proxy))
