from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from kairos_core import (
    InvalidState,
    OutcomeUnknown,
    RedisStateManager,
    SessionNotFound,
    SyncState,
    VersionConflict,
    attempts,
)
from loadtests.guarantees.on_the_way import drop_replies, through
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import Settings

# What is shown here is shown of both managers.
pytestmark = [
    pytest.mark.usefixtures("colour"),
    pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True),
]


class Failing(BaseException):
    """What no program means to handle, such as Ctrl-C or a cancellation."""


def titled(state: SyncState, title: str) -> SyncState:
    """The state with another title."""
    return state.replace(metadata={**state.metadata, "title": title})


class Noting:
    """A change that notes what it is given."""

    def __init__(self, change: Callable[[SyncState], SyncState] = lambda state: titled(state, "changed")) -> None:
        self.given: list[SyncState] = []
        self._change = change

    def __call__(self, state: SyncState) -> SyncState:
        """Note it, and change it."""
        self.given.append(state)
        return self._change(state)


@pytest.fixture
def stale(manager: RedisStateManager) -> SyncState:
    """Version 1 of a session of which version 2 is stored."""
    created = manager.create_session(sample_state("a"))
    manager.update_session(titled(created, "another's"))
    return created


def stored(manager: RedisStateManager) -> SyncState:
    """What is stored of the session."""
    found = manager.get_session("a")
    assert found is not None
    return found


def test_what_is_known_is_changed_and_written(manager: RedisStateManager) -> None:
    """G1: a known state that is still stored is the one that is changed, mutation by mutation."""
    known = manager.create_session(sample_state("a"))
    for version in range(2, 6):
        change = Noting(lambda state, title=f"v{version}": titled(state, title))  # type: ignore[misc]
        written = manager.mutate_session("a", change, known=known)
        assert [known] == change.given
        assert known is change.given[0]
        assert (known.incarnation, version, f"v{version}") == (*written.stamp, written.metadata["title"])
        assert written == stored(manager)
        known = written


def test_what_a_watcher_told_is_known(manager: RedisStateManager) -> None:
    """G8: a state that came as an update is as good as one that was read."""
    with manager.watch_session("a") as updates:
        created = manager.create_session(sample_state("a"))
        update = updates.receive(5)
    assert update is not None
    assert update.state is not None
    change = Noting()
    assert created.version + 1 == manager.mutate_session("a", change, known=update.state).version
    assert [update.state] == change.given


def test_what_is_out_of_date_is_not_written_over(manager: RedisStateManager, stale: SyncState) -> None:
    """G1: a write on a known state that is out of date is refused, and made anew from what is stored."""
    change = Noting(lambda state: state.replace(metadata={**state.metadata, "by": state.version}))
    latest = stored(manager)
    written = manager.mutate_session("a", change, known=stale)
    assert [stale, latest] == change.given
    assert (3, 2, "another's") == (written.version, written.metadata["by"], written.metadata["title"])
    assert written == stored(manager)


def test_rivals_after_a_stale_start(manager: RedisStateManager, stale: SyncState) -> None:
    """G1: what is known is tried once; from then on only what the store told."""
    told: list[SyncState] = [stored(manager)]

    def with_a_rival(state: SyncState) -> SyncState:
        if 1 < len(change.given) < 8:
            told.append(manager.update_session(titled(state, f"rival {state.version}")))
        return titled(state, "mine")

    change = Noting(with_a_rival)
    written = manager.mutate_session("a", change, known=stale)
    assert [stale, *told] == change.given
    assert told[-1].version + 1 == written.version == 9


def test_what_is_no_state_of_the_session(manager: RedisStateManager) -> None:
    """A known state is one of this session, or the call is refused before anything is called or sent."""
    own, other = (manager.create_session(sample_state(name)) for name in "ab")
    change = Noting()
    for session_id, known in (("a", 5), ("a", "a"), ("a", other), ("b", own), ("a b", own.replace(session_id="a b"))):
        with pytest.raises(InvalidState):
            manager.mutate_session(session_id, change, known=cast("Any", known))
    assert [] == change.given
    assert {"a": own, "b": other} == manager.get_sessions(["a", "b"])


def test_a_state_that_was_never_stored(manager: RedisStateManager) -> None:
    """A state of this session that nobody has stored is out of date like any other."""
    created = manager.create_session(sample_state("a"))
    new = sample_state("a")
    change = Noting()
    assert 2 == manager.mutate_session("a", change, known=new).version
    assert [new, created] == change.given


def test_a_former_life_is_not_written_over(manager: RedisStateManager, stale: SyncState) -> None:
    """G1: a state of a session that was deleted and created anew is refused, whatever its version."""
    manager.delete_session("a")
    present = manager.create_session(titled(stale, "the new one"))
    assert stale.version == present.version
    change = Noting(lambda state: state.replace(metadata={**state.metadata, "turns": 7}))
    written = manager.mutate_session("a", change, known=stale)
    assert [stale, present] == change.given
    assert (present.incarnation, 2, "the new one") == (*written.stamp, written.metadata["title"])


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_gone_stays_gone(fails: bool, manager: RedisStateManager, stale: SyncState) -> None:
    """What is known of a session that was deleted brings nothing back to life, be it changed or not."""
    manager.delete_session("a")
    change = Noting(refusing(1) if fails else titled_mine)
    with pytest.raises(SessionNotFound):
        manager.mutate_session("a", change, known=stale)
    assert [stale] == change.given
    assert manager.get_session("a") is None


def titled_mine(state: SyncState) -> SyncState:
    """A change that does not fail."""
    return titled(state, "mine")


def refusing(*versions: int, error: type[BaseException] = ValueError) -> Callable[[SyncState], SyncState]:
    """A change that does not like these versions."""

    def change(state: SyncState) -> SyncState:
        if state.version in versions:
            raise error(f"not version {state.version}")
        return titled(state, "mine")

    return change


def test_an_error_about_what_is_out_of_date_does_not_count(manager: RedisStateManager, stale: SyncState) -> None:
    """G2: what the function raises of a state that is out of date is no answer: it is asked about what is stored."""
    change, latest = Noting(refusing(1)), stored(manager)
    written = manager.mutate_session("a", change, known=stale, attempts=1)
    assert [stale, latest] == change.given
    assert (3, "mine") == (written.version, written.metadata["title"])


def test_an_error_about_what_is_stored_counts(manager: RedisStateManager, stale: SyncState) -> None:
    """What the function raises of what is stored comes out as it is, known or not; nothing is written."""
    latest = stored(manager)
    for known, given in ((latest, [latest]), (stale, [stale, latest])):
        for versions in ((1, 2), (2,)):
            change = Noting(refusing(*versions))
            with pytest.raises(ValueError, match="not version 2") as caught:
                manager.mutate_session("a", change, known=known)
            assert given == change.given
            # The one about the state that was out of date is not mixed up in it.
            assert caught.value.__cause__ is None
            assert caught.value.__context__ is None
    assert latest == stored(manager)


def test_an_error_about_a_former_life(manager: RedisStateManager, stale: SyncState) -> None:
    """Version 1 of another life is not the very same version."""
    manager.delete_session("a")
    present = manager.create_session(sample_state("a"))
    seen: list[SyncState] = []

    def only_the_first_fails(state: SyncState) -> SyncState:
        seen.append(state)
        if len(seen) == 1:
            raise ValueError
        return state

    assert 2 == manager.mutate_session("a", only_the_first_fails, known=stale).version
    assert [stale, present] == seen


def test_what_cannot_be_written_of_what_is_out_of_date(manager: RedisStateManager, stale: SyncState) -> None:
    """A state made of one that is out of date does not count either where it is none that can be written."""

    def spoilt(state: SyncState) -> SyncState:
        return state.replace(max_time_ms=2**60 if state.version == 1 else 5)

    written = manager.mutate_session("a", spoilt, known=stale)
    assert (3, 5) == (written.version, written.max_time_ms)
    with pytest.raises(InvalidState, match="max_time_ms"):
        manager.mutate_session("a", lambda state: state.replace(max_time_ms=2**60), known=written)
    for wrong in (stale, sample_state("b")):
        with pytest.raises(InvalidState, match="change: "):
            manager.mutate_session("a", lambda _, wrong=wrong: wrong, known=written)  # type: ignore[misc]
    assert written == stored(manager)


def test_what_is_no_exception_passes_at_once(manager: RedisStateManager, stale: SyncState) -> None:
    """A cancellation, and the like, is no answer to be thought over: nothing is called or written after it."""
    change = Noting(refusing(1, error=Failing))
    with pytest.raises(Failing):
        manager.mutate_session("a", change, known=stale)
    assert [stale] == change.given
    assert 2 == stored(manager).version


def test_the_try_on_what_is_known_is_one_of_the_attempts(manager: RedisStateManager, stale: SyncState) -> None:
    """G10: as many attempts as are allowed, the one on the known state included; the conflict says what is stored."""
    change, latest = Noting(), stored(manager)
    with pytest.raises(VersionConflict) as caught:
        manager.mutate_session("a", change, known=stale, attempts=1)
    assert (stale.stamp, latest.stamp) == (caught.value.expected, caught.value.current)
    assert [stale] == change.given
    assert latest == stored(manager) == caught.value.stored
    assert 3 == manager.mutate_session("a", change, known=stale, attempts=2).version


def test_a_lost_reply_to_what_is_known(settings: Settings) -> None:
    """G5: a write on a known state whose reply was lost takes effect once, and is no conflict with itself."""
    with through(settings, 5.0) as (proxy, manager):
        known = manager.create_session(sample_state("a"))
        drop_replies(proxy, 1)
        change = Noting()
        written = manager.mutate_session("a", change, known=known)
        assert (2, [known]) == (written.version, change.given)
        assert written == stored(manager)


def test_an_outcome_that_stays_unknown(settings: Settings) -> None:
    """G6: where no reply comes at all, a write on a known state may have been applied; that can be resolved."""
    with through(settings, 0.5) as (proxy, manager):
        known = manager.create_session(sample_state("a"))
        proxy.on_reply = lambda _: None
        change = Noting()
        with pytest.raises(OutcomeUnknown) as caught:
            manager.mutate_session("a", change, known=known)
        proxy.on_reply = lambda same: same
        assert [known] == change.given
        assert manager.resolve(caught.value.operation_id) is True
        assert 2 == stored(manager).version


def test_who_writes_on_and_on_leaves_the_others_their_turn(
    stale: SyncState, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G1: no writer starves: who met another and then wrote 32 times in a row waits once, before the next write."""
    monkeypatch.setattr(attempts, "_TURN_S", 60.0)
    with RedisStateManager.connect(settings) as writer:
        transport = writer._operations.link.transport
        waits: list[float] = []

        async def waited(pause_s: float) -> None:
            waits.append(pause_s)

        monkeypatch.setattr(transport, "sleep", waited)
        # Refused once; what it was told is written at once, which takes no wait worth the name.
        known = writer.mutate_session("a", titled_mine, known=stale)
        for _ in range(31):
            known = writer.mutate_session("a", titled_mine, known=known)
        assert not any(waits)
        known = writer.mutate_session("a", titled_mine, known=known)
        assert 1 == sum(pause_s > 0 for pause_s in waits)
        # Nobody took it meanwhile: there is nobody to wait for.
        for _ in range(40):
            known = writer.mutate_session("a", titled_mine, known=known)
        assert 1 == sum(pause_s > 0 for pause_s in waits)
