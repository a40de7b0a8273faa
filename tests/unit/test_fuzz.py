"""From any input comes a typed error or a correct result, never another exception, never a hang."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kairos_core import (
    InvalidState,
    SyncParticipant,
    SyncState,
    session,
)
from tests.outsiders import (
    PARTICIPANT,
    STATE,
    STATE_FIELDS,
    Nowhere,
    Unequal,
    Untrue,
    attempt,
    check_encoded,
    makers,
    relaxed,
    tree,
)
from tests.strategies import json_values, valid_states

if TYPE_CHECKING:
    from collections.abc import Callable

# A valid state is drawn first, which takes long by itself.
slow_to_draw = settings(relaxed, suppress_health_check=[HealthCheck.too_slow])


PARTICIPANT_FIELDS = SyncParticipant.__struct_fields__


def is_hashable(value: Any) -> bool:
    """Whether a value can be a key."""
    return isinstance(attempt(lambda: hash(value), TypeError, RuntimeError), int)


@slow_to_draw
@given(state=valid_states())
def test_a_valid_state_is_written_as_it_is(state: SyncState) -> None:
    """A valid state is never refused, comes back as it was, and gives the same body each time."""
    before = copy.deepcopy(state)
    body, copied = session.encode(state)
    assert before == state == copied
    assert body == session.encode(before)[0]
    check_encoded(state)


@slow_to_draw
@given(state=valid_states(), more=st.integers(-1, 1) | st.integers(-400, 400))
def test_no_state_exceeds_its_limit(state: SyncState, more: int) -> None:
    """A state is refused for its size exactly where its body is larger than it may be."""
    body, _ = session.encode(state)
    found = attempt(lambda: session.encode(state, len(body) + more), InvalidState)
    assert isinstance(found, InvalidState) == (more < 0)


@slow_to_draw
@given(state=valid_states(), field=st.sampled_from(STATE_FIELDS), make=makers)
@example(state=STATE, field="cycle_started_at", make=lambda: datetime(2026, 1, 1, tzinfo=Nowhere()))
@example(state=STATE, field="session_started_at", make=Untrue)
@example(state=STATE, field="session_id", make=tree)
def test_any_value_in_a_field(state: SyncState, field: str, make: Callable[[], Any]) -> None:
    """Whatever stands in a field of a state, it is refused or written."""
    check_encoded(state.replace(**{field: make()}))


@relaxed
@given(field=st.sampled_from(PARTICIPANT_FIELDS), make=makers, as_list=st.booleans())
@example(field="group_id", make=tree, as_list=True)
def test_any_value_in_a_participant(field: str, make: Callable[[], Any], *, as_list: bool) -> None:
    """Whatever stands in a field of a participant, it is refused or written."""
    other = msgspec.structs.replace(PARTICIPANT, participant_id="q", participant_index=1)
    participants = [PARTICIPANT, msgspec.structs.replace(other, **{field: make()})]
    check_encoded(STATE.replace(participants=participants if as_list else tuple(participants)))


@relaxed
@given(make=makers, places=st.lists(st.sampled_from(["list", "dict", "key"]), max_size=3), beside=json_values())
@example(make=tree, places=[], beside=None)
@example(make=lambda: Unequal(a=1), places=[], beside=None)
def test_any_value_in_metadata(make: Callable[[], Any], places: list[str], beside: Any) -> None:
    """Whatever stands in metadata, at any depth, it is refused or written."""
    value = make()
    for place in places:
        if place == "list":
            value = [beside, value]
        elif place == "key" and not isinstance(value, tuple) and is_hashable(value):
            value = {value: beside}
        else:
            value = {"a": value, "b": beside}
    check_encoded(STATE.replace(metadata={"a": value}))


@relaxed
@given(make=makers)
def test_anything_for_a_state(make: Callable[[], Any]) -> None:
    """What is no state is refused."""
    check_encoded(make())
