"""Delivery to another process, both of them on event loops; timed from inside the first one's.

Not part of the suite (`--benchmark-skip`); `make bench` runs it in several fresh processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from loadtests.delivery import Delivered, DeliveredInside, subscribers
from loadtests.inside import NotedClock
from loadtests.interleave import Fixture, Much, interleave
from loadtests.subjects import kairos
from loadtests.workbench import AsyncWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings
    from loadtests.delivery import Subscriber
    from loadtests.interleave import Operation

CLOCK = NotedClock()

pytestmark = [pytest.mark.timeout(300), pytest.mark.benchmark(timer=CLOCK)]
Benches = tuple[AsyncWorkbench, AsyncWorkbench, AsyncWorkbench]


@pytest.fixture
def benches(settings: Settings) -> Iterator[Benches]:
    """One each for Kairos, raw sockets and redis-py: so no subscriber is woken by what another is to hear."""

    def beside(suffix: str) -> Settings:
        return msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{suffix}")

    with (
        AsyncWorkbench(settings, CLOCK) as own,
        AsyncWorkbench(beside("raw"), CLOCK) as raw,
        AsyncWorkbench(beside("bare"), CLOCK) as bare,
    ):
        yield own, raw, bare


def inside(bench: AsyncWorkbench, update: Operation, subscriber: Subscriber) -> Operation:
    """What is awaited on a bench's loop, until the other process has it."""
    return DeliveredInside(bench.loop, CLOCK, update, subscriber)


def test_async_delivery(benchmark: Fixture, benches: Benches, much: Much) -> None:
    """An update to a watcher; and a PUBLISH of the same bytes from redis.asyncio to redis.asyncio."""
    own, raw, bare = benches
    with subscribers(
        (own.settings, "kairos_async", None), (raw.settings, "wire", None), (bare.settings, "bare_async", None)
    ) as (watcher, listener, subscriber):
        interleave(
            benchmark,
            inside(own, kairos.Update(own.manager, "delivery", own.timed), watcher),
            {
                "floor": Delivered(raw.same_update("delivery"), listener, CLOCK),
                "bare": inside(bare, bare.bare_update("delivery"), subscriber),
                "again": inside(own, kairos.Update(own.manager, "delivery-again", own.timed), watcher),
            },
            clock=CLOCK,
            **much._asdict(),
        )


def test_async_message_delivery(benchmark: Fixture, benches: Benches, much: Much) -> None:
    """A message; and a PUBLISH of the same bytes from redis.asyncio to redis.asyncio."""
    own, raw, bare = benches
    wanted = [
        (own.settings, "kairos_async", "one"),
        (raw.settings, "wire", "one"),
        (bare.settings, "bare_async", "one"),
    ]
    with subscribers(*wanted) as (watcher, listener, subscriber):
        message = inside(own, kairos.Numbered(own.manager, "one", own.timed), watcher)
        interleave(
            benchmark,
            message,
            {
                "floor": Delivered(raw.same_message("one"), listener, CLOCK),
                "bare": inside(bare, bare.bare_message("one"), subscriber),
                # The very same: its numbers go on, whoever asks for the next.
                "again": message,
            },
            clock=CLOCK,
            **much._asdict(),
        )
