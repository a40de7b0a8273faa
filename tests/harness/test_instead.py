from __future__ import annotations

import random
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import SyncState, SyncStatus
from loadtests.delivery import Subscriber
from loadtests.environment import as_administrator
from loadtests.inside import NotedClock
from loadtests.orders import OrderError
from loadtests.studies import instead
from loadtests.studies.study import Bench
from loadtests.subjects.alternatives import RIVALS, RivalUpdate
from loadtests.subjects.broadcasts import Broadcast
from loadtests.subjects.floor import operations
from loadtests.subjects.kairos import Get
from loadtests.subjects.register import Refused
from loadtests.subjects.stored import Stored
from loadtests.turns import WARMUP_ROUNDS, Turns, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis

    from kairos_core import RedisStateManager, Settings

UPDATES = {"kairos", "kairos_again", "redis_py", *RIVALS}


def test_all_of_it_is_measured(settings: Settings) -> None:
    """Each subject is there for each of its purposes, with its times, its ratio to Kairos and what it does."""
    kept: dict[str, Sequence[int]] = {}
    bench = Bench("quick", lambda _: None, kept.__setitem__, lambda _: None)
    points = [*instead.points(bench, as_administrator(settings), 1, 10, {"kairos": 40, "rq": 5})]
    found = {(point.x, point.subject): point.values for point in points}
    expected = {
        "get": {"kairos", "redis_py"},
        "update": UPDATES,
        "audited_update": {"kairos", "rq_enqueue", "watch_multi_and_rq"},
        "delivery": {"kairos_broadcast", "kairos_update", "redis_py_publish", "socketio_emit"},
        "rows": {"kairos", "watch_multi_and_rq"},
        "floor": {"ping"},
    }
    assert {(what, subject) for what, subjects in expected.items() for subject in subjects} == set(found)
    for (what, subject), values in found.items():
        assert {f"does_{which}" for which in ("state", "publish", "ttl", "audit", "retry_safe", "atomic")} < set(values)
        if what == "rows":
            assert 0 < values["rows_per_s"] <= values["writes_per_s"]
        else:
            assert 10 == values["count"] == len(kept[f"{subject}/{what}/1/call"])
            assert 0 < values["p50_ms"] < 1_000
            assert values["of_kairos_p50"] == pytest.approx(
                values["p50_ms"] / found[what, instead._OURS[str(what)]]["p50_ms"]
            )
    assert {1.0} == {value for name, value in found["update", "kairos"].items() if name.startswith("does_")}
    bars = {
        subject: values["bar_of_kairos_p50"] for (_, subject), values in found.items() if "bar_of_kairos_p50" in values
    }
    assert instead.BARS == bars


@pytest.mark.parametrize("subject", RIVALS)
def test_a_rival_does_what_is_said_of_it(settings: Settings, client: redis.Redis, subject: str) -> None:
    """Its update stores the state, tells others, lets it end, and is refused where another was first."""
    assert set(instead.DOES[subject]) >= {"state", "publish", "ttl"}
    rival = RIVALS[subject](as_administrator(settings))
    with closing(rival), closing(client.pubsub()) as listener:
        listener.subscribe(rival.channel)
        update = RivalUpdate(rival, "one")
        for version in (2, 3):
            result = update.prepare()()
            update.finish(result)
            stored = rival.decode(client.get(rival.key("one")))
            assert stored == result
            assert version == result.version
            assert isinstance(stored.state, SyncState)
            assert SyncStatus.RUNNING == stored.state.status
        # The subscription, the creation, two updates.
        heard = [listener.get_message(timeout=5) for _ in range(4)]
        assert ["subscribe", "message", "message", "message"] == [message["type"] for message in heard if message]
        assert client.pttl(rival.key("one")) > 0
        rival.exchange("one", lambda current, _: Stored(1, (current.version if current else 0) + 1, "0" * 16, None))
        rival.exchange("one", lambda *_: result)
        rival.exchange("one", lambda *_: msgspec.structs.replace(result, version=9))
        with pytest.raises(Refused):
            update.prepare()()


def test_an_operation_that_failed_ends_the_process(settings: Settings, manager: RedisStateManager) -> None:
    """Where a call does not do what is timed, there is an error in place of its time."""
    with ExitStack() as stack:
        made = operations(settings, None, stack)
        manager.delete_session("get")
        with pytest.raises(AssertionError, match="the session is gone"):
            take_turns(made, 3, random.Random(1), time.monotonic)  # noqa: S311 - draws an order


def test_a_process_that_failed_is_an_error(settings: Settings, manager: RedisStateManager) -> None:
    """What ends a process with operations is an error to who asked for their times."""
    # What it would create is there already.
    Get(manager, "update")
    with Turns(settings, "floor") as turns, pytest.raises(OrderError, match="ended with status 1"):
        turns.samples_ns(1, 1)


class Counted:
    """An operation that takes a time of its own by a clock that only it moves."""

    def __init__(self, name: str, order: list[str], clock: list[float], seconds: float) -> None:
        self.name, self.order, self.clock, self.seconds = name, order, clock, seconds

    def prepare(self) -> Callable[[], None]:
        """What is not timed takes long."""
        self.clock[0] += 100
        return self.call

    def call(self) -> None:
        """What is timed."""
        self.order.append(self.name)
        self.clock[0] += self.seconds

    def finish(self, _: object) -> None:
        """What is not timed, either."""
        self.clock[0] += 100


def test_operations_take_turns() -> None:
    """Each is called once in each round, in an order that changes, and only its call is timed."""
    order: list[str] = []
    clock = [0.0]
    made = {name: Counted(name, order, clock, seconds) for name, seconds in (("a", 1), ("b", 2), ("c", 3))}
    samples = take_turns(made, 30, random.Random(1), lambda: clock[0])  # noqa: S311 - draws an order
    assert {"a": [10**9] * 30, "b": [2 * 10**9] * 30, "c": [3 * 10**9] * 30} == samples
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert WARMUP_ROUNDS + 30 == len(rounds)
    assert {("a", "b", "c")} == {tuple(sorted(one)) for one in rounds}
    assert len(set(rounds)) > 1


class Stale(Subscriber):
    """Says again what arrived before."""

    def __init__(self) -> None:
        pass

    def arrival(self) -> tuple[int, float]:
        """The first message, whenever it is asked."""
        return 1, time.monotonic()


def test_a_message_that_was_missed_is_an_error() -> None:
    """An arrival that is not that of the message that was sent ends the measurement."""
    sent: list[object] = []
    broadcast = Broadcast(sent.append, Stale(), NotedClock())
    broadcast.prepare()()
    with pytest.raises(AssertionError, match="message 1 arrived in place of 2"):
        broadcast.prepare()()
    assert 2 == len(sent)
