"""What the documents find in a store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kairos_core import AuditWriter, RedisStateManager
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import Settings


def begin(settings: Settings) -> None:
    """Make the schema, a session `table-12` and its trail."""
    with RedisStateManager.connect(settings) as manager, AuditWriter.connect(settings) as writer:
        manager.create_session(sample_state("table-12"))
        writer.migrate()
    record(settings)


def record(settings: Settings) -> None:
    """Drain all lanes."""
    with AuditWriter.connect(settings) as writer, contextlib.closing(Outbox.connect(settings)) as outbox:
        for lane in range(settings.lanes):
            drain_lane(outbox, writer, lane)
