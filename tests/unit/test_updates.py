from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from kairos_core import CorruptState, SyncMode, SyncState, session
from kairos_core.updates import StateUpdate, decode_update

STATE = SyncState.new("s", SyncMode.GLOBAL, metadata={"title": "é", "a": [1, {"s": None}]})
BODY, _ = session.encode(STATE)


def message(body: bytes = BODY, /, **changes: Any) -> bytes:
    """What a script publishes, with some fields changed; None leaves one out."""
    fields = {
        "i": "s",
        "k": "update",
        "e": "updated",
        "o": "0" * 32,
        "n": 1_700_000_000_000_000,
        "v": 3,
        "c": 1_700_000_000_000_000,
        "u": 1_700_000_000_000_001,
        "s": msgspec.Raw(body),
    } | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})


def test_a_write() -> None:
    """G8: a watcher gets the state as a reader would, with what the server assigned."""
    found = decode_update("c", message())
    updated_at = datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)
    assert found == StateUpdate(
        session_id="s",
        incarnation=1_700_000_000_000_000,
        version=3,
        event_type="updated",
        operation_id="0" * 32,
        occurred_at=updated_at,
        state=STATE.replace(
            incarnation=1_700_000_000_000_000,
            version=3,
            created_at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            updated_at=updated_at,
        ),
    )


def test_a_deletion() -> None:
    """G8: a deletion is an update without a state, of a version of its own."""
    found = decode_update("c", message(b"null"))
    assert (None, 3, "s") == (found.state, found.version, found.session_id)


def test_a_later_field_is_passed_over() -> None:
    """A field that this version does not know does not keep it from reading the rest."""
    assert 3 == decode_update("c", message(later=1)).version


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(message()[:-1], id="cut off"),
        pytest.param(message() + b"x", id="more"),
        pytest.param(message(v="3"), id="version is text"),
        pytest.param(message(v=1.5), id="version is a fraction"),
        pytest.param(message(i=7), id="id is a number"),
        pytest.param(message(u=10**18), id="outside the calendar"),
        pytest.param(message(c=10**18), id="created outside the calendar"),
        pytest.param(message(u=10**400), id="no 64 bits"),
        pytest.param(message(b"7"), id="state is a number"),
        pytest.param(message(b"{}"), id="state is empty"),
        pytest.param(message(BODY.replace(b"global", b"sundial")), id="state does not validate"),
        *(pytest.param(message(**{name: None}), id=f"without {name}") for name in "ikeonvcu"),
        pytest.param(message().replace(b'"s":{', b'"z":{'), id="without s"),
        pytest.param(message(b"[" * 100_000 + b"]" * 100_000), id="deep"),
    ],
)
def test_what_is_no_update(data: bytes) -> None:
    """A message that is not ours raises CorruptState, which names the channel, and nothing else."""
    with pytest.raises(CorruptState) as caught:
        decode_update("kairos:{L03}:u", data)
    assert "kairos:{L03}:u" == caught.value.key
