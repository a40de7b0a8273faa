"""Entries of an outbox, for what records them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from kairos_core.audit.outbox import Entry
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import RedisStateManager
    from kairos_core.audit.outbox import Outbox


def entries(manager: RedisStateManager, outbox: Outbox, count: int = 3) -> list[Entry]:
    """The entries of a session that is written so often."""
    state = manager.create_session(sample_state("a"))
    for _ in range(count - 1):
        state = manager.update_session(state)
    found = outbox.read(0, count)
    assert count == len(found)
    return [entry for entry in found if isinstance(entry, Entry)]


def moved(entry: Entry, days: int) -> Entry:
    """The same entry at another time."""
    shift_us = round(timedelta(days=days).total_seconds() * 1_000_000)
    message = entry.message
    return entry._replace(message=msgspec.structs.replace(message, updated_us=message.updated_us + shift_us))
