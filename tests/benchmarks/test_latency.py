"""Latency of each operation, one call a round, interleaved with the floor and with bare redis-py.

Not part of the suite (`--benchmark-skip`); `make report` runs it in several fresh processes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kairos_core import RedisStateManager, Settings, SyncState
from kairos_core.commands import Commands
from kairos_core.layout import Layout
from loadtests.delivery import ArrivalClock, Delivered, Subscriber
from loadtests.interleave import Fixture, interleave
from loadtests.states import sample_state
from loadtests.subjects import bare, kairos
from loadtests.subjects.wire import SameBytes, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = int(os.environ.get("KAIROS_BENCHMARK_ROUNDS", "500"))
ARRIVALS = ArrivalClock()

pytestmark = pytest.mark.timeout(300)


class Bench:
    """What the benchmarks share: a manager, a raw connection, and commands to send over it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.manager = RedisStateManager.connect(settings)
        self.commands = Commands(settings, Layout(settings.namespace, settings.lanes))
        self.wire = Wire(settings.redis_url)
        # The server must know the scripts before their SHAs are sent raw.
        state = self.manager.create_session(sample_state("warm"))
        self.manager.update_session(state)
        self.manager.delete_session("warm")

    def close(self) -> None:
        self.wire.close()
        self.manager.close()

    def same_bytes_get(self, session_id: str) -> SameBytes:
        self.manager.create_session(sample_state(session_id))
        return SameBytes(self.wire, lambda: self.commands.get(session_id), _expect_state)

    def same_bytes_update(self, session_id: str) -> SameBytes:
        latest = [self.manager.create_session(sample_state(session_id))]

        def keep(state: SyncState) -> None:
            latest[0] = state

        return SameBytes(self.wire, lambda: self.commands.update(latest[0], "updated"), keep)

    def same_bytes_create(self, prefix: str) -> SameBytes:
        numbers = iter(range(10**9))
        return SameBytes(
            self.wire,
            lambda: self.commands.create(sample_state(f"{prefix}-{next(numbers)}"), "created"),
            _expect_state,
        )

    def same_bytes_delete(self, prefix: str) -> SameBytes:
        create = kairos.Create(self.manager, prefix)

        def expect_deleted(deleted: object) -> None:
            assert deleted is True

        return SameBytes(
            self.wire, lambda: self.commands.delete(create.prepare()().session_id, None, "deleted"), expect_deleted
        )


def _expect_state(state: SyncState | None) -> None:
    assert state is not None


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    found = Bench(settings)
    yield found
    found.close()


def test_get_session(benchmark: Fixture, bench: Bench) -> None:
    """The p50 and p95 of a read, and its ratio to HMGET through bare redis-py."""
    interleave(
        benchmark,
        kairos.Get(bench.manager, "get"),
        {
            "floor": bench.same_bytes_get("get-floor"),
            "bare": bare.Get(bench.settings, "get"),
            "again": kairos.Get(bench.manager, "get-again"),
        },
        rounds=ROUNDS,
    )


def test_update_session(benchmark: Fixture, bench: Bench) -> None:
    """The same of an update, and its ratio to an EVALSHA that only compares and sets."""
    interleave(
        benchmark,
        kairos.Update(bench.manager, "update"),
        {
            "floor": bench.same_bytes_update("update-floor"),
            "bare": bare.Update(bench.settings, "update"),
            "again": kairos.Update(bench.manager, "update-again"),
        },
        rounds=ROUNDS,
    )


def test_create_session(benchmark: Fixture, bench: Bench) -> None:
    """The same of a creation."""
    interleave(
        benchmark,
        kairos.Create(bench.manager, "create"),
        {
            "floor": bench.same_bytes_create("create-floor"),
            "again": kairos.Create(bench.manager, "create-again"),
        },
        rounds=ROUNDS,
    )


def test_delete_session(benchmark: Fixture, bench: Bench) -> None:
    """The same of a deletion."""
    interleave(
        benchmark,
        kairos.Delete(bench.manager, "delete"),
        {
            "floor": bench.same_bytes_delete("delete-floor"),
            "again": kairos.Delete(bench.manager, "delete-again"),
        },
        rounds=ROUNDS,
    )


@pytest.mark.benchmark(timer=ARRIVALS)
def test_delivery(benchmark: Fixture, bench: Bench) -> None:
    """From before the update call to the callback in another process; the floor has raw sockets at both ends."""
    # Other namespaces, so that no subscriber is woken by another's updates.
    raw = Bench(namespaced(bench.settings, "raw"))
    again = Bench(namespaced(bench.settings, "again"))
    with (
        Subscriber(bench.settings, "kairos") as subscriber,
        Subscriber(raw.settings, "wire") as raw_subscriber,
        Subscriber(again.settings, "kairos") as again_subscriber,
    ):
        interleave(
            benchmark,
            Delivered(kairos.Update(bench.manager, "delivery"), subscriber, ARRIVALS),
            {
                "floor": Delivered(raw.same_bytes_update("delivery"), raw_subscriber, ARRIVALS),
                "again": Delivered(kairos.Update(again.manager, "delivery"), again_subscriber, ARRIVALS),
            },
            rounds=ROUNDS,
            clock=ARRIVALS,
        )
    raw.close()
    again.close()


def namespaced(settings: Settings, suffix: str) -> Settings:
    """The same settings in a namespace beside it."""
    return Settings(
        redis_url=settings.redis_url,
        postgres_url=settings.postgres_url,
        namespace=f"{settings.namespace}_{suffix}",
    )
