"""Latency of all other operations, one call a round, interleaved with their floor, redis-py and the rivals.

Not part of the suite (`--benchmark-skip`); `make bench` runs it in several fresh processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loadtests.interleave import Fixture, Much
    from loadtests.workbench import Workbench

pytestmark = pytest.mark.timeout(300)


def test_get_sessions(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The percentiles of reading ten sessions at once, and its ratio to a pipeline."""
    bench.interleave(benchmark, bench.get_sessions(), much)


def test_mutate_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of reading, changing and writing, where nobody else writes."""
    bench.interleave(benchmark, bench.mutate_session(), much)


def test_delete_if_unchanged(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a deletion of one version."""
    bench.interleave(benchmark, bench.delete_if_unchanged(), much)


def test_touch_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a touch, and its ratio to PEXPIRE."""
    bench.interleave(benchmark, bench.touch_session(), much)


def test_resolve(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of settling a write that was applied."""
    bench.interleave(benchmark, bench.resolve(), much)


def test_broadcast(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a message that nobody hears, and its ratio to PUBLISH."""
    bench.interleave(benchmark, bench.broadcast(), much)


def test_watch_setup(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of entering a watch until it hears, and its ratio to a connection and a SUBSCRIBE."""
    bench.interleave(benchmark, bench.watch_setup(), much)


def test_health(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a look at the store's health, and its ratio to the same questions."""
    bench.interleave(benchmark, bench.health(), much)
