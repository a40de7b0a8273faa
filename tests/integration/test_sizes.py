"""What `python -m reports.sizing --measure` counts; see test_sizing.py for what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from loadtests import sizes
from loadtests.environment import as_administrator

if TYPE_CHECKING:
    import redis

    from kairos_core import Settings

# Of so few writes, these are below what the servers' counters tell.
_ROUGH = {"session_bytes", "receipt_bytes", "server_us", "event_bytes", "event_index_bytes", "latest_bytes"}


def test_each_figure_is_counted(settings: Settings, client: redis.Redis) -> None:
    """A few writes are enough to see each figure counted by real servers, each write once, and what watchers hear."""
    found = sizes._sizes(as_administrator(settings), client, 4_000, 40, 1.0)
    figures = msgspec.structs.asdict(found)
    assert [] == [name for name, value in figures.items() if name not in _ROUGH and not value > 0]
    assert found.state_bytes > 4_000
    for carries_it in (found.outbox_bytes, found.request_bytes, found.watcher_bytes):
        assert 0.9 < carries_it / found.state_bytes < 1.6
    assert found.reply_bytes < found.state_bytes / 10
