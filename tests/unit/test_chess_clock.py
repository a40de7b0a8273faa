"""The rules of the example's clock: pure, so each is tried on a state that is made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.examples.chess_clock import rules, spoken
from docs.examples.chess_clock.service import described
from kairos_core import OutcomeUnknown, SessionNotFound, StoreUnavailable, SyncStatus, VersionConflict, session
from kairos_core.errors import Stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import SyncState

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY, OTHER_KEY = "k" * 16, "o" * 16


def after(ms: int) -> datetime:
    """A time after the game began."""
    return BEGIN + timedelta(milliseconds=ms)


def begun(time_ms: int = 60_000, increment_ms: int = 2_000) -> SyncState:
    """A game in which white's clock has just begun to run."""
    seated = rules.seat_taken(rules.new_game("g", time_ms, increment_ms), "white", KEY)
    return rules.started(rules.seat_taken(seated, "black", OTHER_KEY), "black", BEGIN)


def lefts(state: SyncState, now: datetime) -> tuple[int, int]:
    """What white and black have."""
    return rules.time_left_ms(state, "white", now), rules.time_left_ms(state, "black", now)


def refused(code: str, rule: Callable[[], SyncState]) -> None:
    """A rule refuses, for this reason."""
    with pytest.raises(rules.RuleBroken) as caught:
        rule()
    assert code == caught.value.code


def test_a_turn_takes_its_time_and_brings_its_increment() -> None:
    """The active clock alone runs; the end of a turn takes what went by, adds the increment and starts the other."""
    state = begun()
    assert (59_000, 60_000) == lefts(state, after(1_000))
    state = rules.turn_ended(state, "white", after(1_500), turn=1)
    assert (60_500, 60_000) == lefts(state, after(1_500))
    assert (60_500, 55_500) == lefts(state, after(6_000))
    assert ("black", 2, [False, True]) == (
        state.active_participant_id,
        rules.turn_of(state),
        [player.is_active for player in state.participants],
    )
    assert 1_500 == state.participants[0].time_used_ms
    # A clock that is behind the store's gives nothing back.
    assert (60_500, 60_000) == lefts(state, after(0))


def test_what_is_sent_again_is_done_before() -> None:
    """After a lost connection a browser repeats itself: that is told apart from what is against the rules."""
    state = begun()
    turned = rules.turn_ended(state, "white", after(10), turn=1)
    for again in (
        partial(rules.started, state, "white", after(20)),
        partial(rules.turn_ended, turned, "white", after(20), turn=1),
        partial(rules.seat_taken, state, "white", KEY),
        partial(rules.paused, rules.paused(state, "black", after(20)), "white", after(30)),
        partial(rules.resumed, state, "white", after(20)),
        partial(rules.draw_offered, rules.draw_offered(state, "white", after(20)), "white", after(30)),
    ):
        with pytest.raises(rules.DoneBefore):
            again()


def test_what_is_against_the_rules_is_refused_with_its_reason() -> None:
    """Nobody moves for another, before the start, after the end, or takes a seat or a draw that is not to be had."""
    game = rules.new_game("g", 60_000, 0)
    refused("not_now", partial(rules.turn_ended, game, "white", BEGIN, turn=1))
    refused("too_few", partial(rules.started, rules.seat_taken(game, "white", KEY), "white", BEGIN))
    state = begun()
    refused("seat_taken", partial(rules.seat_taken, state, "white", OTHER_KEY))
    refused("seat_taken", partial(rules.seat_taken, game, "grey", KEY))
    refused("not_your_turn", partial(rules.turn_ended, state, "black", after(1), turn=1))
    refused("not_your_turn", partial(rules.turn_ended, state, "white", after(1), turn=2))
    refused("not_offered", partial(rules.draw_agreed, state, "white", after(1)))
    offered = rules.draw_offered(state, "white", after(1))
    refused("not_offered", partial(rules.draw_agreed, offered, "white", after(2)))
    moved = rules.turn_ended(offered, "white", after(2), turn=1)
    refused("not_offered", partial(rules.draw_agreed, moved, "black", after(3)))
    over = rules.draw_agreed(offered, "black", after(2))
    assert {"winner": None, "reason": "draw"} == over.metadata["result"]
    refused("over", partial(rules.turn_ended, over, "white", after(3), turn=1))
    refused("over", partial(rules.resigned, over, "white", after(3)))
    refused("not_now", partial(rules.resumed, game, "white", BEGIN))
    for time_ms, increment_ms in ((99, 0), (13 * 3_600_000, 0), (60_000, -1), (60_000, 600_001)):
        refused("out_of_bounds", partial(rules.new_game, "g", time_ms, increment_ms))


def test_a_pause_stops_both_clocks_and_keeps_the_turn() -> None:
    """What went by before the pause counts, the pause does not, and the same player goes on."""
    state = rules.paused(begun(), "black", after(1_000))
    assert SyncStatus.PAUSED is state.status
    assert (59_000, 60_000) == lefts(state, after(500_000))
    assert rules.falls_at(state) is None
    state = rules.resumed(state, "black", after(500_000))
    assert (58_500, 60_000) == lefts(state, after(500_500))
    assert "white" == state.active_participant_id
    assert {"winner": "black", "reason": "resignation"} == rules.resigned(state, "white", after(501_000)).metadata[
        "result"
    ]


def test_the_flag_falls_at_its_time_whoever_sees_it() -> None:
    """However late it is noticed, the state is the same; not a moment before; and no turn ends behind it."""
    state = begun(time_ms=1_000)
    refused("not_yet", partial(rules.flag_fallen, state, after(999)))
    refused("not_yet", partial(rules.flag_fallen, rules.paused(state, "white", after(1)), after(2_000)))
    fallen = rules.flag_fallen(state, after(1_000))
    assert rules.flag_fallen(state, after(90_000)) == fallen
    assert (SyncStatus.EXPIRED, after(1_000)) == (fallen.status, fallen.session_completed_at)
    assert ({"winner": "black", "reason": "time"}, (0, 1_000)) == (fallen.metadata["result"], lefts(fallen, after(9)))
    assert [True, False] == [player.has_expired for player in fallen.participants]
    rules.turn_ended(state, "white", after(999), turn=1)
    for late in (
        partial(rules.turn_ended, state, "white", after(1_000), turn=1),
        partial(rules.paused, state, "white", after(1_000)),
        partial(rules.resigned, state, "black", after(1_000)),
    ):
        with pytest.raises(rules.TimeIsUp):
            late()


@given(st.lists(st.integers(0, 5_000), max_size=12), st.integers(0, 3_000))
def test_no_time_is_lost_or_made(turns_ms: list[int], increment_ms: int) -> None:
    """Over any turns, what both have and used is what was given and what the turns brought; it can be stored."""
    state, now = begun(60_000, increment_ms), BEGIN
    for number, turn_ms in enumerate(turns_ms, 1):
        now += timedelta(milliseconds=turn_ms)
        state = rules.turn_ended(state, rules.SEATS[(number - 1) % 2], now, turn=number)
    used_ms = sum(player.time_used_ms for player in state.participants)
    assert sum(turns_ms) == used_ms
    assert 120_000 + increment_ms * len(turns_ms) == sum(lefts(state, now)) + used_ms
    session.encode(state)


def test_a_browser_is_told_no_key() -> None:
    """Neither a seat's key nor its seal leaves the service: who had one could take the seat."""
    text = str(rules.view(begun(), BEGIN)) + str(begun().metadata)
    assert KEY not in text
    assert rules.seal(KEY) not in str(rules.view(begun(), BEGIN))
    assert rules.holds(begun(), "white", KEY)
    assert not rules.holds(begun(), "white", OTHER_KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"type":"reset"}',
        '{"type":"end_turn"}',
        '{"type":"end_turn","turn":0}',
        '{"type":"sit","seat":"grey","key":"kkkkkkkkkkkkkkkkkkk"}',
        '{"type":"sit","seat":"white","key":"short"}',
        '{"type":"say","text":""}',
    ],
)
def test_what_a_browser_may_not_say_is_not_understood(text: str) -> None:
    """Whatever comes over the wire is checked before anything is done with it."""
    with pytest.raises(msgspec.MsgspecError):
        spoken.understand(text)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SessionNotFound("g"), (404, "not_found", True)),
        (VersionConflict("g", Stamp(1, 1), Stamp(1, 2)), (409, "conflict", True)),
        (OutcomeUnknown("g", "o", "late"), (504, "unknown", False)),
        (StoreUnavailable("g", "gone"), (503, "unavailable", True)),
        (rules.RuleBroken("not_now", "no"), (409, "not_now", True)),
        (rules.RuleBroken("out_of_bounds", "no"), (422, "out_of_bounds", True)),
        (msgspec.ValidationError("no"), (400, "not_understood", True)),
    ],
)
def test_each_error_has_its_status(error: Exception, expected: tuple[int, str, bool]) -> None:
    """A browser can tell what to do of an error: again, otherwise, elsewhere, or look whether it happened."""
    status, told = described(error)
    assert expected == (status, told["code"], told["definite"])
