from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import CorruptState, Settings, SyncMode, SyncState, session, updates
from kairos_core.errors import Stamp
from kairos_core.layout import Layout
from kairos_core.updates import SessionWatch, StateUpdate, decode_update

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture
def watch() -> Iterator[SessionWatch]:
    """A watch that is not open: nothing is sent."""
    found = SessionWatch(Settings(), Layout("kairos", 16))
    yield found
    found.close()


def update(version: int, *, incarnation: int = 1, session_id: str = "s", deleted: bool = False) -> StateUpdate:
    """An update of a session."""
    state = None if deleted else session.decode(BODY, Stamp(incarnation, version), 0, 0)
    return StateUpdate(
        session_id=session_id,
        incarnation=incarnation,
        version=version,
        event_type="e",
        operation_id="0" * 32,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        state=state,
    )


def test_versions_rise(watch: SessionWatch) -> None:
    """G8: a watcher sees versions rise, with gaps or without; what is old or came twice is no news."""
    versions = [3, 3, 4, 2, 4, 7, 6, 5, 8]
    assert [3, 4, 7, 8] == [version for version in versions if watch._is_news(update(version))]


def test_the_first_version_is_news(watch: SessionWatch) -> None:
    """G8: whatever version a watcher sees first is news."""
    assert watch._is_news(update(1))
    assert watch._is_news(update(99, session_id="t"))


def test_incarnations_rise(watch: SessionWatch) -> None:
    """G8: a later life begins at version 1 and is news; an earlier one is none, whatever its version."""
    assert watch._is_news(update(9, incarnation=5))
    assert watch._is_news(update(1, incarnation=6))
    assert not watch._is_news(update(10, incarnation=5))
    assert watch._is_news(update(2, incarnation=6))


def test_sessions_are_apart(watch: SessionWatch) -> None:
    """G8: each session's versions are its own."""
    assert watch._is_news(update(9))
    assert watch._is_news(update(1, session_id="t"))
    assert not watch._is_news(update(1, session_id="t"))


def test_a_deletion_is_news_like_any_other(watch: SessionWatch) -> None:
    """G8: a deletion is seen if it is newer than what was seen, and the next life after it."""
    assert watch._is_news(update(5))
    assert not watch._is_news(update(5, deleted=True))
    assert watch._is_news(update(6, deleted=True))
    assert watch._is_news(update(1, incarnation=2))


def test_what_is_remembered_is_bounded(watch: SessionWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: a watcher of many sessions forgets the ones of which it heard longest ago, and does not grow without end."""
    monkeypatch.setattr(updates, "_REMEMBERED", 3)
    for number in (0, 1, 2, 0, 3):
        watch._is_news(update(watch._latest.get(f"s{number}", Stamp(1, 0)).version + 1, session_id=f"s{number}"))
    assert ["s2", "s0", "s3"] == list(watch._latest)


def test_nothing_comes_after_a_deletion(watch: SessionWatch) -> None:
    """G8: what is older than a deletion is no news after it, nor is the deletion a second time."""
    assert watch._is_news(update(6, deleted=True))
    assert not watch._is_news(update(5))
    assert not watch._is_news(update(6, deleted=True))
