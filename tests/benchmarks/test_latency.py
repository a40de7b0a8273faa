"""Latency of the operations that have targets, one call a round, interleaved with their floor, redis-py and the rivals.

Not part of the suite (`--benchmark-skip`); `make report` and `make bench` run it in several fresh processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loadtests.interleave import Fixture, Much
    from loadtests.workbench import Workbench

pytestmark = pytest.mark.timeout(300)


def test_get_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The percentiles of a read, and its ratio to the same HMGET."""
    compared = bench.get_session()
    compared.companions["ping"] = bench.ping()
    bench.interleave(benchmark, compared, much)


def test_update_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of an update, and its ratio to the same EVALSHA and to what one would write without Kairos."""
    bench.interleave(benchmark, bench.update_session(), much)


def test_create_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a creation."""
    bench.interleave(benchmark, bench.create_session(), much)


def test_delete_session(benchmark: Fixture, bench: Workbench, much: Much) -> None:
    """The same of a deletion."""
    bench.interleave(benchmark, bench.delete_session(), much)
