from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from kairos_core import AsyncRedisStateManager, InvalidState, KairosError, RedisStateManager, Settings
from kairos_core.layout import Layout
from kairos_core.link import Link
from kairos_core.metrics import Observers, PrometheusObserver, Silent
from kairos_core.observing import OUTCOMES
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from kairos_core import SyncState
    from kairos_core.metrics import Call

both_colours = pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True)


class _Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.told: list[str] = []

    def called(self, call: Call) -> None:
        self.calls.append(call)

    def conflicted(self) -> None:
        self.told.append("conflict")

    def retried(self, reason: str) -> None:
        self.told.append(reason)

    def watch_delivered(self) -> None:
        self.told.append("delivered")

    def watch_gap(self) -> None:
        self.told.append("gap")

    def watch_resynchronised(self) -> None:
        self.told.append("resynchronised")

    def watch_reconnected(self) -> None:
        self.told.append("reconnected")

    def watch_deaf(self, silence_s: float) -> None:
        self.told.append(f"deaf {silence_s >= 0.6}")

    @property
    def ends(self) -> list[tuple[str, str]]:
        """Each call's operation and outcome."""
        return [(call.operation, call.outcome) for call in self.calls]


@pytest.fixture
def recorder() -> _Recorder:
    """An observer that keeps what it is told."""
    return _Recorder()


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test's own."""
    return CollectorRegistry()


@pytest.fixture
def observed(settings: Settings, recorder: _Recorder, registry: CollectorRegistry) -> Iterator[RedisStateManager]:
    """A manager with two observers."""
    both = Observers(recorder, PrometheusObserver(registry))
    with RedisStateManager.connect(settings, observer=both) as connected:
        yield connected


def ended(do: Callable[[], Any]) -> None:
    """Do something, however it ends."""
    with contextlib.suppress(KairosError, ZeroDivisionError):
        do()


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The value of a series; 0 where there is none."""
    return registry.get_sample_value(name, labels) or 0.0


@pytest.mark.usefixtures("colour")
@both_colours
def test_each_operation_is_told_with_its_outcome(
    observed: RedisStateManager,
    recorder: _Recorder,
    registry: CollectorRegistry,
    settings: Settings,
    client: redis.Redis,
) -> None:
    """Each call is told once, by its name and with what became of it, and counted and timed under the same labels."""
    state = observed.create_session(sample_state("a"))
    observed.create_session(sample_state("odd"))
    client.hset(Layout(settings.namespace, settings.lanes).keys_of("odd").session, "s", "{")
    begun = time.perf_counter()
    for do in (
        lambda: observed.create_session(sample_state("a")),
        lambda: observed.get_session("a"),
        lambda: observed.get_session("none"),
        lambda: observed.get_session("odd"),
        lambda: observed.get_sessions(["a", "none"]),
        lambda: observed.update_session(state),
        lambda: observed.update_session(state),
        lambda: observed.update_session(sample_state("none")),
        lambda: observed.update_session(state, event_type="an odd one"),
        lambda: observed.mutate_session("a", lambda stored: stored.replace(metadata={"n": 1})),
        lambda: observed.mutate_session("a", lambda _: 1 / 0),  # type: ignore[arg-type, return-value]
        lambda: observed.touch_session("a"),
        lambda: observed.touch_session("none"),
        lambda: observed.broadcast_to_session("a", {"type": "tick"}),
        lambda: observed.resolve("0" * 12 + "7" + "0" * 3 + "8" + "0" * 15),
        lambda: observed.delete_session("a", if_unchanged=state),
        lambda: observed.delete_session(session_id="a"),
        lambda: observed.delete_session("a"),
        lambda: observed.create_session(sample_state("b"), durability="replicated"),
    ):
        ended(do)
    took_s = time.perf_counter() - begun
    expected = [
        ("create_session", "ok"),
        ("create_session", "ok"),
        ("create_session", "exists"),
        ("get_session", "ok"),
        ("get_session", "not_found"),
        ("get_session", "corrupt"),
        ("get_sessions", "ok"),
        ("update_session", "ok"),
        ("update_session", "conflict"),
        ("update_session", "not_found"),
        ("update_session", "invalid"),
        ("mutate_session", "ok"),
        ("mutate_session", "failed"),
        ("touch_session", "ok"),
        ("touch_session", "not_found"),
        ("broadcast_to_session", "ok"),
        ("resolve", "ok"),
        ("delete_session", "conflict"),
        ("delete_session", "ok"),
        ("delete_session", "not_found"),
        ("create_session", "durability_not_reached"),
    ]
    assert expected == recorder.ends
    assert 2 == recorder.told.count("conflict") == counted(registry, "kairos_conflicts_total")
    assert ["a", None, "a"] == [call.session_id for call in (recorder.calls[7], recorder.calls[6], recorder.calls[18])]
    assert 0 < sum(call.duration_s for call in recorder.calls[2:]) < took_s
    for operation, outcome in set(expected):
        labels = {"operation": operation, "outcome": outcome}
        assert expected.count((operation, outcome)) == counted(
            registry, "kairos_operation_duration_seconds_count", **labels
        )
    assert 2 == counted(registry, "kairos_failures_total", outcome="conflict")
    # Where there was none, a call only said so.
    assert 1 == counted(registry, "kairos_failures_total", outcome="not_found")


@pytest.mark.usefixtures("colour")
@both_colours
def test_rivals_within_a_mutation_are_told(
    observed: RedisStateManager, recorder: _Recorder, settings: Settings
) -> None:
    """A refusal that `mutate_session` made up for by itself is a conflict, and the call an ok."""
    observed.create_session(sample_state("a"))
    with RedisStateManager.connect(settings) as rival:
        rivals = iter(range(2))

        def change(state: SyncState) -> SyncState:
            if next(rivals, None) is not None:
                rival.mutate_session("a", lambda stored: stored.replace(metadata={"by": "rival"}))
            return state.replace(metadata={"by": "us"})

        assert 4 == observed.mutate_session("a", change).version
    assert ("mutate_session", "ok") == recorder.ends[-1]
    assert 2 == recorder.told.count("conflict")


@pytest.mark.usefixtures("colour")
@both_colours
def test_what_goes_wrong_on_the_way_is_told(
    settings: Settings, recorder: _Recorder, registry: CollectorRegistry, client: redis.Redis
) -> None:
    """A lost reply is a retry; one that never comes leaves a write unknown, and a read only unavailable."""
    client.script_flush()
    dropped: Iterator[bool] = iter(())
    with Proxy(settings.redis_url) as proxy:
        through = msgspec.structs.replace(settings, redis_url=proxy.url, lanes=1, outbox_limit=4)
        proxy.on_reply = lambda data: None if next(dropped, False) else data
        both = Observers(PrometheusObserver(registry), recorder)
        with RedisStateManager.connect(through, observer=both) as manager:
            state = manager.update_session(manager.create_session(sample_state("a")))
            assert ["script", "script"] == recorder.told
            dropped = itertools.repeat(True, 1)
            state = manager.update_session(state)
            assert ["script", "script", "lost"] == recorder.told
            hasty = msgspec.structs.replace(through, timeout_s=0.4)
            with RedisStateManager.connect(hasty, observer=both) as impatient:
                impatient.get_session("a")
                dropped = itertools.repeat(True)
                for do in (lambda: impatient.update_session(state), lambda: impatient.get_session("a")):
                    ended(do)
            dropped = iter(())
            # The outbox has four entries now: what was not answered was applied.
            ended(lambda: manager.create_session(sample_state("b")))
    assert [
        ("get_session", "ok"),
        ("update_session", "unknown"),
        ("get_session", "unavailable"),
        ("create_session", "backlog_full"),
    ] == recorder.ends[3:]
    assert 1 == counted(registry, "kairos_unknown_outcomes_total", operation="update_session")
    assert 1 == counted(registry, "kairos_failures_total", outcome="unavailable")
    assert recorder.told.count("lost") == counted(registry, "kairos_retries_total", reason="lost") > 1


@pytest.mark.usefixtures("colour")
@both_colours
def test_what_watches_meet_is_told(
    settings: Settings, manager: RedisStateManager, recorder: _Recorder, registry: CollectorRegistry
) -> None:
    """A gap, a lost connection that is made again, a silence: each is told once, and counted."""
    with Proxy(settings.redis_url) as proxy:
        watched = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.3)
        both = Observers(recorder, PrometheusObserver(registry))
        with (
            RedisStateManager.connect(watched, observer=both) as through,
            through.watch_session("a") as updates,
        ):
            state = manager.create_session(sample_state("a"))
            assert updates.receive(10) is not None
            lost: list[bytes] = []

            def lose_one(data: bytes) -> bytes:
                if b'"v":2,' in data and not lost:
                    lost.append(data)
                    return b""
                return data

            proxy.on_reply = lose_one
            state = manager.update_session(state)
            # Else both might come in one piece, and be lost together.
            wait_for("the lost update", lambda: bool(lost), 30)
            manager.update_session(state)
            assert updates.receive(10) is not None
            assert ["delivered", "gap", "resynchronised", "delivered"] == [
                told for told in recorder.told if told != "lost"
            ]
            proxy.cut()
            until = time.monotonic() + 30
            while updates.reconnects < 1 and time.monotonic() < until:
                updates.receive(0.05)
            assert {"reconnected", "resynchronised"} <= set(recorder.told)
            assert not any(told.startswith("deaf") for told in recorder.told)
            proxy.on_reply = lambda _: b""
            while "deaf True" not in recorder.told and time.monotonic() < until:
                updates.receive(0.05)
            # It is told once, however long it lasts.
            updates.receive(0.05)
            assert 1 == recorder.told.count("deaf True")
    names = ("reconnected", "gap", "deaf True", "resynchronised", "delivered")
    told = [recorder.told.count(name) for name in names]
    series = ("reconnects", "gaps", "deaf", "resynchronisations", "deliveries")
    assert told == [counted(registry, f"kairos_watch_{name}_total") for name in series]
    assert all(count >= least for count, least in zip(told, [1, 1, 1, 2, 2], strict=True))


class _Broken(Silent):
    """An observer with a mistake in it."""

    def called(self, call: Call) -> None:
        raise KeyError(call.operation)

    def conflicted(self) -> None:
        raise ValueError("conflict")


@pytest.mark.usefixtures("colour")
@both_colours
def test_an_observer_that_raises_breaks_no_call(
    settings: Settings, recorder: _Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """What an observer raises is logged once of each thing that it is told; the call and the others go on."""
    with (
        caplog.at_level(logging.ERROR, "kairos.observer"),
        RedisStateManager.connect(settings, observer=Observers(_Broken(), recorder)) as manager,
    ):
        state = manager.create_session(sample_state("a"))
        manager.update_session(state)
        for _ in range(2):
            ended(lambda: manager.update_session(state))
    assert ["ok", "ok", "conflict", "conflict"] == [outcome for _, outcome in recorder.ends]
    told = [vars(record) for record in caplog.records]
    assert [
        ("observer_failed", "_Broken", "called", "KeyError"),
        ("observer_failed", "_Broken", "conflicted", "ValueError"),
    ] == [(one["event"], one["observer"], one["told"], one["error"]) for one in told]


def test_without_an_observer_nothing_is_there(settings: Settings) -> None:
    """A manager without an observer has the class, the operations, the link and the feeds of one that knows of none."""
    with RedisStateManager.connect(settings) as manager:
        assert RedisStateManager is type(manager)
        assert Link is type(manager._operations.link)
        assert "observed" not in type(manager._operations.sessions_feed()).__name__.lower()
        assert not hasattr(type(manager).update_session, "__wrapped__")
        assert manager._call == manager._operations.link.call_blocking
    assert AsyncRedisStateManager is type(AsyncRedisStateManager.connect(settings))


def test_a_managers_own_class_can_be_observed(settings: Settings, recorder: _Recorder) -> None:
    """A class derived from a manager stays what it is, with its own methods, when it is observed."""

    class Mine(RedisStateManager):
        def get_session(self, session_id: str) -> SyncState | None:
            if session_id == "odd":
                raise InvalidState("odd")
            return super().get_session(session_id)

    with Mine.connect(settings, observer=recorder) as manager:
        assert isinstance(manager, Mine)
        manager.get_session("a")
        ended(lambda: manager.get_session("odd"))
    assert [("get_session", "not_found"), ("get_session", "invalid")] == recorder.ends


def test_a_cancelled_call_is_told(settings: Settings, recorder: _Recorder) -> None:
    """A call that was cancelled is told as interrupted, and every outcome that is told has a documented name."""

    async def cancel() -> None:
        async with AsyncRedisStateManager.connect(settings, observer=recorder) as manager:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(manager.mutate_session("a", lambda state: state), 0)
            await manager.create_session(sample_state("a"))

            async def slow(state: SyncState) -> SyncState:
                await asyncio.sleep(30)
                return state

            call = asyncio.create_task(manager.mutate_session("a", slow))
            while not call.done() and len(recorder.calls) < 2:
                await asyncio.sleep(0.01)
                call.cancel()

    asyncio.run(cancel())
    assert ("mutate_session", "interrupted") == recorder.ends[-1]
    assert {outcome for _, outcome in recorder.ends} <= set(OUTCOMES)
