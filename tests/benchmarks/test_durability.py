"""What a write costs at each level of durability: the same update, on a server of each kind, in the same rounds.

Not part of the suite (`--benchmark-skip`); `make report` runs it in several fresh processes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import RedisStateManager, Settings, SyncState
from loadtests.interleave import Fixture, Much, interleave
from loadtests.servers.levels import level_servers
from loadtests.subjects import kairos

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)


class Safe(kairos.Update):
    """`update_session` at a level, which must be reached."""

    def __init__(self, manager: RedisStateManager, level: str) -> None:
        super().__init__(manager, f"safe-{os.getpid()}")
        self._level = level

    def finish(self, result: SyncState) -> None:
        """Check that it is as safe as it was to be: one that fell short would have been an error."""
        assert self._level == result.durability.level
        super().finish(result)


@pytest.fixture
def subjects(settings: Settings) -> Iterator[dict[str, Safe]]:
    """An update for each level."""
    with ExitStack() as stack:
        found = {}
        for level, url in stack.enter_context(level_servers()).items():
            own = msgspec.structs.replace(settings, redis_url=url, durability=level)
            found[level] = Safe(stack.enter_context(RedisStateManager.connect(own)), level)
        yield found


def test_durability(benchmark: Fixture, subjects: dict[str, Safe], much: Much) -> None:
    """The latency of an update at memory, and beside it at fsync and replicated."""
    memory = subjects.pop("memory")
    interleave(benchmark, memory, subjects, **much._asdict())
