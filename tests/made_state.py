from __future__ import annotations

from typing import Any

from kairos_core import SyncMode, SyncParticipant, SyncState


def state(session_id: Any = "s", **fields: Any) -> SyncState:
    """A state that has not been created, with some fields set."""
    return SyncState.new(session_id, SyncMode.GLOBAL, **fields)


def participant(participant_id: Any = "p", participant_index: Any = 0, **fields: Any) -> SyncParticipant:
    """A participant with some fields set."""
    return SyncParticipant(
        **{"participant_id": participant_id, "participant_index": participant_index, "total_time_ms": 1, **fields}
    )
