"""What Hypothesis draws: JSON, and valid states with every field."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from kairos_core import SyncMode, SyncParticipant, SyncState, SyncStatus, session

ID_CHARACTERS = string.ascii_letters + string.digits + "._:-"
MOMENTS = ["cycle_started_at", "session_started_at", "session_completed_at"]
MILLISECONDS = ["total_time_ms", "time_per_cycle_ms", "increment_ms", "max_time_ms"]

ids = st.text(ID_CHARACTERS, min_size=1, max_size=128)
counts = st.integers(0, session.MAX_INTEGER)
milliseconds = st.integers(-session.MAX_INTEGER, session.MAX_INTEGER)
# Any text that JSON and PostgreSQL can hold: no lone surrogate, no U+0000.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
# Offsets to the second and beyond occur: Amsterdam had one of 19 min 32.13 s.
_offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
_first, _last = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001 - Hypothesis wants bounds without a zone
moments = st.datetimes(_first, _last, timezones=st.just(UTC) | _offsets)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value that a state's metadata may hold."""
    numbers = st.integers() | st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False)
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )


@st.composite
def valid_participants(draw: st.DrawFn, max_size: int = 4) -> tuple[SyncParticipant, ...]:
    """Participants with unique ids and indices."""
    pairs = st.tuples(ids, counts)
    drawn = draw(st.lists(pairs, unique_by=(lambda pair: pair[0], lambda pair: pair[1]), max_size=max_size))
    return tuple(
        SyncParticipant(
            participant_id=participant_id,
            participant_index=index,
            total_time_ms=draw(milliseconds),
            time_used_ms=draw(milliseconds),
            time_remaining_ms=draw(st.none() | milliseconds),
            cycle_count=draw(counts),
            is_active=draw(st.booleans()),
            has_expired=draw(st.booleans()),
            group_id=draw(st.none() | ids),
        )
        for participant_id, index in drawn
    )


@st.composite
def valid_states(draw: st.DrawFn, session_id: st.SearchStrategy[str] | None = None) -> SyncState:
    """Any state that can be written; of the fields that the server assigns, any values that it could have assigned."""
    participants = draw(valid_participants())
    times: dict[str, Any] = {name: draw(st.none() | moments) for name in MOMENTS}
    numbers: dict[str, Any] = {name: draw(st.none() | milliseconds) for name in MILLISECONDS}
    assigned: dict[str, Any] = {
        name: draw(st.none() | moments.map(lambda moment: moment.astimezone(UTC)))
        for name in ("created_at", "updated_at")
    }
    return SyncState(
        session_id=draw(session_id or ids),
        sync_mode=draw(st.sampled_from(SyncMode)),
        status=draw(st.sampled_from(SyncStatus)),
        participants=participants,
        active_participant_id=draw(st.sampled_from([None, *(one.participant_id for one in participants)])),
        metadata=draw(st.dictionaries(texts, json_values(), max_size=3)),
        incarnation=draw(counts),
        version=draw(counts),
        **times,
        **numbers,
        **assigned,
    )
