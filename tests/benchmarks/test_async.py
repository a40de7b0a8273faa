"""Latency of AsyncRedisStateManager, one call a round, interleaved with the floor and redis.asyncio.

Timed from inside the event loop: what a task waits for that awaits the call (see `loadtests.inside`). Not part of the
suite (`--benchmark-skip`); `make bench` runs it in several fresh processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.inside import NotedClock
from loadtests.workbench import AsyncWorkbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings
    from loadtests.interleave import Fixture, Much

CLOCK = NotedClock()

pytestmark = [pytest.mark.timeout(300), pytest.mark.benchmark(timer=CLOCK)]


@pytest.fixture
def bench(settings: Settings) -> Iterator[AsyncWorkbench]:
    """What the benchmarks share."""
    with AsyncWorkbench(settings, CLOCK) as found:
        yield found


def test_async_get_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The percentiles of a read, and its ratio to the same HMGET."""
    bench.interleave(benchmark, bench.get_session(), much)


def test_async_update_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of an update, and its ratio to the same EVALSHA."""
    bench.interleave(benchmark, bench.update_session(), much)


def test_async_create_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a creation."""
    bench.interleave(benchmark, bench.create_session(), much)


def test_async_delete_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a deletion."""
    bench.interleave(benchmark, bench.delete_session(), much)


def test_async_get_sessions(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of reading ten sessions at once, and its ratio to a pipeline."""
    bench.interleave(benchmark, bench.get_sessions(), much)


def test_async_mutate_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of reading, changing and writing, where nobody else writes."""
    bench.interleave(benchmark, bench.mutate_session(), much)


def test_async_delete_if_unchanged(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a deletion of one version."""
    bench.interleave(benchmark, bench.delete_if_unchanged(), much)


def test_async_touch_session(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a touch, and its ratio to PEXPIRE."""
    bench.interleave(benchmark, bench.touch_session(), much)


def test_async_resolve(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of settling a write that was applied."""
    bench.interleave(benchmark, bench.resolve(), much)


def test_async_broadcast(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a message that nobody hears, and its ratio to PUBLISH."""
    bench.interleave(benchmark, bench.broadcast(), much)


def test_async_watch_setup(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of entering a watch until it hears, and its ratio to a connection and a SUBSCRIBE."""
    bench.interleave(benchmark, bench.watch_setup(), much)


def test_async_health(benchmark: Fixture, bench: AsyncWorkbench, much: Much) -> None:
    """The same of a look at the store's health, and its ratio to the same questions."""
    bench.interleave(benchmark, bench.health(), much)
