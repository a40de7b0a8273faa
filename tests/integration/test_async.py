from __future__ import annotations

import asyncio
import inspect
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import (
    AsyncRedisStateManager,
    KairosError,
    OutcomeUnknown,
    RedisStateManager,
    Settings,
    StoreUnavailable,
    SyncState,
    VersionConflict,
)
from kairos_core.errors import ConfigurationError
from kairos_core.settings import child_environment
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import redis


def run(steps: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's steps on a loop of their own."""
    return asyncio.run(steps)


def public(kind: type) -> dict[str, inspect.Signature]:
    """The public methods of a class, and how they are called."""
    found = {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}
    return {name: inspect.signature(member) for name, member in found.items() if callable(member)}


def test_both_managers_have_the_same_names_and_arguments() -> None:
    """The asyncio manager is called as the blocking one is; only the types of results and of `change` differ."""
    blocking, awaiting = public(RedisStateManager), public(AsyncRedisStateManager)
    assert blocking.keys() == awaiting.keys()
    for name, signature in blocking.items():
        expected = [(p.name, p.kind, p.default) for p in signature.parameters.values()]
        assert expected == [(p.name, p.kind, p.default) for p in awaiting[name].parameters.values()], name


def test_connecting_in_either_form(settings: Settings) -> None:
    """A manager is entered, or awaited and closed later; unsafe ground is refused by both."""

    async def steps() -> None:
        async with AsyncRedisStateManager.connect(settings) as manager:
            created = await manager.create_session(sample_state("a"))
        awaited = await AsyncRedisStateManager.connect(settings)
        assert created == await awaited.get_session("a")
        awaited.close()
        for refused in (msgspec.structs.replace(settings, lanes=8), Settings(redis_url="redis://127.0.0.1:1/0")):
            with pytest.raises(ConfigurationError):
                await AsyncRedisStateManager.connect(refused)
            with pytest.raises(ConfigurationError):
                async with AsyncRedisStateManager.connect(refused):
                    pass

    run(steps())


def test_many_tasks_share_a_manager(settings: Settings) -> None:
    """G1: of many tasks that mutate one session, through two managers, all get their change in."""

    async def steps() -> SyncState | None:
        async def count_up(state: SyncState) -> SyncState:
            await asyncio.sleep(0)
            return state.replace(metadata={**state.metadata, "turns": state.metadata["turns"] + 1})

        async with AsyncRedisStateManager.connect(settings) as one, AsyncRedisStateManager.connect(settings) as other:
            await one.create_session(sample_state("a"))
            writers = [manager.mutate_session("a", count_up) for manager in (one, other) for _ in range(50)]
            await asyncio.gather(*writers)
            return await other.get_session("a")

    final = run(steps())
    assert (100, 101) == (final.metadata["turns"], final.version)


def test_a_cancellation_while_what_is_known_is_changed(settings: Settings) -> None:
    """A mutation that is cancelled in its function ends there, out of date or not; nothing is called or written."""

    async def steps() -> None:
        given: list[SyncState] = []
        is_called = asyncio.Event()

        async def endless(state: SyncState) -> SyncState:
            given.append(state)
            is_called.set()
            await asyncio.Event().wait()
            return state

        async with AsyncRedisStateManager.connect(settings) as manager:
            stale = await manager.create_session(sample_state("a"))
            latest = await manager.update_session(stale)
            task = asyncio.create_task(manager.mutate_session("a", endless, known=stale))
            await is_called.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [stale] == given
            assert latest == await manager.get_session("a")

    run(steps())


def test_cancelled_calls_mix_no_replies_up(settings: Settings) -> None:
    """G5: calls that are cancelled at any moment leave no reply behind that another call could take for its own."""
    names = [f"s{number}" for number in range(6)]
    generator = random.Random(0)  # noqa: S311 - not a secret

    async def one_call(manager: AsyncRedisStateManager, name: str, after_s: float) -> str:
        try:
            async with asyncio.timeout(after_s):
                state = await manager.get_session(name)
                assert state is not None
                assert name == state.session_id
                if generator.random() < 0.5:
                    state = await manager.update_session(state)
                    assert name == state.session_id
        except TimeoutError:
            return "cancelled"
        except VersionConflict:
            return "conflict"
        return "done"

    async def steps() -> list[str]:
        async with AsyncRedisStateManager.connect(settings) as manager:
            for name in names:
                await manager.create_session(sample_state(name))
            # What a round takes on this machine, where nobody cancels it.
            start = time.monotonic()
            for _ in range(5):
                await asyncio.gather(*(one_call(manager, name, 20.0) for name in names))
            round_s = (time.monotonic() - start) / 5
            outcomes: list[str] = []
            for _ in range(150):
                calls = [one_call(manager, name, generator.uniform(0, 2 * round_s)) for name in names]
                outcomes += await asyncio.gather(*calls)
            for name in names:
                state = await manager.get_session(name)
                assert state is not None
                assert name == state.session_id
            return outcomes

    outcomes = run(steps())
    # Both must have happened, or nothing was shown.
    assert outcomes.count("cancelled") > 50
    assert outcomes.count("done") > 50


def test_a_cancelled_call_closes_its_connection(settings: Settings, manager: RedisStateManager) -> None:
    """G5: a call that is cancelled while its answer is under way does not leave that for the next call."""
    manager.create_session(sample_state("a"))
    manager.create_session(sample_state("b"))

    async def steps() -> None:
        with Proxy(settings.redis_url) as proxy:
            slow = msgspec.structs.replace(settings, redis_url=proxy.url)
            async with AsyncRedisStateManager.connect(slow) as through:
                await through.get_session("a")
                loop, held = asyncio.get_running_loop(), asyncio.Event()

                def hold(_: bytes) -> bytes:
                    loop.call_soon_threadsafe(held.set)
                    return b""

                proxy.on_reply = hold
                call = asyncio.create_task(through.get_session("a"))
                await held.wait()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                proxy.on_reply = lambda data: data
                for _ in range(3):
                    found = await through.get_session("b")
                    assert found is not None
                    assert "b" == found.session_id

    run(steps())


def test_a_manager_on_another_loop(settings: Settings) -> None:
    """A manager that is used on another loop than before makes connections there, and leaves the old ones alone."""
    manager = AsyncRedisStateManager.connect(settings)

    async def write() -> SyncState:
        await manager
        state = await manager.mutate_session("a", lambda s: s) if await manager.get_session("a") else None
        state = state or await manager.create_session(sample_state("a"))
        manager.close()
        return state

    assert [1, 2] == [run(write()).version for _ in range(2)]


def test_loops_leave_no_connections(settings: Settings, client: redis.Redis) -> None:
    """G3: a manager that outlives its loops, one for each task, keeps no connection of those that are over."""
    manager = AsyncRedisStateManager.connect(settings)
    before = len(client.client_list())

    async def read() -> None:
        assert await manager.get_session("a") is None

    for _ in range(30):
        run(read())
    deadline = time.monotonic() + 10
    while len(client.client_list()) > before + 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(client.client_list()) <= before + 1
    manager.close()


FORKED = """
import asyncio, os, sys, time
from kairos_core import AsyncRedisStateManager, Settings
from loadtests.states import sample_state

async def main():
    async with AsyncRedisStateManager.connect(Settings.from_env()) as manager:
        state = await manager.create_session(sample_state("a"))
        for how in ("used", "closed"):
            child = os.fork()
            if child == 0:
                if how == "closed":
                    manager.close()
                else:
                    asyncio.events._set_running_loop(None)
                    asyncio.run(manager.get_session("a"))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            state = await manager.update_session(state)
            print(how, state.version, flush=True)

asyncio.run(main())
"""


def test_a_forked_child_leaves_its_parent_alone(settings: Settings) -> None:
    """G3: a child that uses, or closes, a manager that it inherited does not take its parent's connections away."""
    finished = subprocess.run(
        [sys.executable, "-c", FORKED],
        env=child_environment(msgspec.structs.replace(settings, timeout_s=2.0)),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (0, ["used 2", "closed 3"]) == (finished.returncode, finished.stdout.splitlines()), finished.stderr[-2000:]


def test_a_silent_server_ends_by_the_deadline(settings: Settings) -> None:
    """G6, G10: under asyncio, too, a call ends by its deadline, and says whether it may have been applied."""

    async def steps() -> float:
        with Proxy(settings.redis_url) as proxy:
            quick = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.5)
            async with AsyncRedisStateManager.connect(quick) as through:
                state = await through.create_session(sample_state("a"))
                silent = asyncio.Event()

                def note(data: bytes) -> bytes:
                    # A handshake is answered.
                    (silent.clear if b"AUTH" in data else silent.set)()
                    return data

                proxy.on_request = note
                proxy.on_reply = lambda data: b"" if silent.is_set() else data
                started = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await through.get_session("a")
                with pytest.raises(OutcomeUnknown) as caught:
                    await through.update_session(state)
                for call in (through.touch_session("a"), through.broadcast_to_session("a", 1)):
                    with pytest.raises(OutcomeUnknown):
                        await call
                elapsed_s = time.monotonic() - started
                proxy.on_request = proxy.on_reply = lambda data: data
                assert await through.resolve(caught.value.operation_id) in (True, False)
                assert not (await through.health()).problems
                return elapsed_s

    assert run(steps()) < 20


def test_a_watch_under_asyncio(settings: Settings) -> None:
    """G8: a watch gives each update in order, also where its task is cancelled and asks again, and ends when closed."""

    async def steps() -> list[int]:
        async with AsyncRedisStateManager.connect(settings) as manager, manager.watch_session("a") as updates:
            state = await manager.create_session(sample_state("a"))
            seen: list[int] = []
            for number in range(60):
                state = await manager.update_session(state)
                waits_s = 0.0005 * (number % 4)
                try:
                    async with asyncio.timeout(waits_s):
                        update = await updates.receive(5)
                except TimeoutError:
                    continue
                assert update is not None
                seen.append(update.version)
            while seen[-1:] != [state.version]:
                update = await updates.receive(5)
                assert update is not None
                seen.append(update.version)
            assert await updates.receive(0.01) is None
            asyncio.get_running_loop().call_later(0.05, updates.close)
            # Waits for the next, and ends with the watch.
            async for update in updates:
                raise AssertionError(update)
            return seen

    assert list(range(1, 62)) == run(steps())


def test_a_resynchronisation_that_is_cancelled(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a task that gives up waiting while its watch resynchronises has not lost what was missed."""
    created = manager.create_session(sample_state("a"))

    async def steps() -> SyncState | None:
        with Proxy(settings.redis_url) as proxy:
            slow = msgspec.structs.replace(settings, redis_url=proxy.url)
            async with (
                AsyncRedisStateManager.connect(slow) as through,
                through.watch_session("a", since=created) as updates,
            ):
                proxy.cut()
                manager.update_session(created)
                proxy.on_reply = lambda data: b"" if b"participant_index" in data else data
                for _ in range(3):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.15):
                            await updates.receive(5)
                proxy.on_reply = lambda data: data
                update = await updates.receive(5)
                return update.state if update else None

    assert run(steps()) == manager.get_session("a")


def test_callbacks_under_asyncio(settings: Settings) -> None:
    """A callback, plain or a coroutine function, gets each update, also after one on which it failed."""

    async def steps(*, is_coroutine: bool) -> list[int]:
        seen: list[int] = []
        over = asyncio.Event()

        def note(version: int) -> None:
            seen.append(version)
            if version == 1:
                raise ZeroDivisionError
            over.set()

        async def note_later(update: Any) -> None:
            await asyncio.sleep(0)
            note(update.version)

        async with AsyncRedisStateManager.connect(settings) as manager, manager.watch_session("a") as updates:
            loop = asyncio.create_task(updates.run(note_later if is_coroutine else lambda u: note(u.version)))
            await manager.update_session(await manager.create_session(sample_state("a")))
            async with asyncio.timeout(10):
                await over.wait()
                updates.close()
                await loop
            await manager.delete_session("a")
        return seen

    assert [1, 2] == run(steps(is_coroutine=False))
    assert [1, 2] == run(steps(is_coroutine=True))


def test_errors_are_kairos_errors(settings: Settings) -> None:
    """G6: whatever is wrong with a server that is cut off again and again, the error is typed."""

    async def steps() -> int:
        errors = 0
        with Proxy(settings.redis_url) as proxy:
            through_proxy = msgspec.structs.replace(settings, redis_url=proxy.url)
            async with AsyncRedisStateManager.connect(through_proxy) as through:
                state = await through.create_session(sample_state("a"))
                # Only from here on: a busy machine may need longer for what is to succeed.
                through._operations.link.timeout_s = 0.2
                for number in range(15):
                    proxy.on_request = (lambda _: None) if number % 3 else (lambda data: data)
                    try:
                        state = await through.mutate_session("a", lambda s: s)
                    except KairosError:
                        errors += 1
                    proxy.cut()
                proxy.on_request = lambda data: data
                through._operations.link.timeout_s = settings.timeout_s
                final = await through.get_session("a")
                assert final is not None
                assert final.version >= state.version
        return errors

    assert run(steps()) > 0
