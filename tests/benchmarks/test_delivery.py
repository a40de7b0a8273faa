"""Delivery to another process: from before the call to where the other process has it.

Not part of the suite (`--benchmark-skip`); `make report` and `make bench` run it in several fresh processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kairos_core import Settings
from loadtests.delivery import Delivered, subscribers
from loadtests.inside import NotedClock
from loadtests.interleave import Fixture, Much, interleave
from loadtests.subjects import kairos
from loadtests.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

ARRIVALS = NotedClock()

pytestmark = [pytest.mark.timeout(300), pytest.mark.benchmark(timer=ARRIVALS)]


def namespaced(settings: Settings, suffix: str) -> Settings:
    """The same settings in a namespace beside it."""
    return Settings(
        redis_url=settings.redis_url,
        postgres_url=settings.postgres_url,
        namespace=f"{settings.namespace}_{suffix}",
    )


@pytest.fixture
def benches(settings: Settings) -> Iterator[tuple[Workbench, Workbench, Workbench]]:
    """One each for Kairos, raw sockets and redis-py: so no subscriber is woken by what another is to hear."""
    with (
        Workbench(settings) as own,
        Workbench(namespaced(settings, "raw")) as raw,
        Workbench(namespaced(settings, "bare")) as bare,
    ):
        yield own, raw, bare


def test_delivery(benchmark: Fixture, benches: tuple[Workbench, Workbench, Workbench], much: Much) -> None:
    """An update to the callback of a watcher; and a PUBLISH of the same bytes from redis-py to redis-py."""
    own, raw, bare = benches
    wanted = [(own.settings, "kairos", None), (raw.settings, "wire", None), (bare.settings, "bare", None)]
    with subscribers(*wanted) as (watcher, listener, subscriber):
        interleave(
            benchmark,
            Delivered(kairos.Update(own.manager, "delivery"), watcher, ARRIVALS),
            {
                "floor": Delivered(raw.same_update("delivery"), listener, ARRIVALS),
                "bare": Delivered(bare.bare_update("delivery"), subscriber, ARRIVALS),
                "again": Delivered(kairos.Update(own.manager, "delivery-again"), watcher, ARRIVALS),
            },
            clock=ARRIVALS,
            **much._asdict(),
        )


def test_message_delivery(benchmark: Fixture, benches: tuple[Workbench, Workbench, Workbench], much: Much) -> None:
    """A message to who receives a session's messages; and a PUBLISH of the same bytes from redis-py to redis-py."""
    own, raw, bare = benches
    wanted = [(own.settings, "kairos", "one"), (raw.settings, "wire", "one"), (bare.settings, "bare", "one")]
    with subscribers(*wanted) as (watcher, listener, subscriber):
        message = Delivered(kairos.Numbered(own.manager, "one"), watcher, ARRIVALS)
        interleave(
            benchmark,
            message,
            {
                "floor": Delivered(raw.same_message("one"), listener, ARRIVALS),
                "bare": Delivered(bare.bare_message("one"), subscriber, ARRIVALS),
                # The very same: its numbers go on, whoever asks for the next.
                "again": message,
            },
            clock=ARRIVALS,
            **much._asdict(),
        )
