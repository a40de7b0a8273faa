"""States to measure with: a clock for two players, about 770 bytes of JSON, like those of the services we know."""

from __future__ import annotations

from kairos_core import SyncMode, SyncParticipant, SyncState, SyncStatus


def sample_state(session_id: str, participants: int = 2) -> SyncState:
    """A running session with so many participants, of which the first is active."""
    players = [
        SyncParticipant(
            participant_id=f"3f2b8c1e-9d4a-4c6f-8a7b-{index:012d}",
            participant_index=index,
            total_time_ms=600_000,
            time_used_ms=12_345,
            time_remaining_ms=587_655,
            is_active=index == 0,
        )
        for index in range(participants)
    ]
    return SyncState.new(
        session_id,
        SyncMode.PER_PARTICIPANT,
        players,
        status=SyncStatus.RUNNING,
        active_participant_id=players[0].participant_id,
        increment_ms=5_000,
        max_time_ms=600_000,
        metadata={"title": "table 12", "turns": 0},
    )
