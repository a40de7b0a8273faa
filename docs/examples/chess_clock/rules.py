"""The rules of a game's clock: what a state becomes by whose doing, and when. Nothing here waits, or asks anybody.

Each rule takes the state and the store's time, and returns the state to be written, or raises `RuleBroken`. So a rule
is what `mutate_session` calls, as often as it must, on whatever is stored by then.

A clock is stored as it stood when it last started or stopped: while a game runs, what is left of the active player's
time is `time_remaining_ms` less what went by since `cycle_started_at`. Whoever reads the state can tell, at any time,
and nothing has to be written while a clock runs.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import msgspec

from kairos_core import SyncMode, SyncParticipant, SyncState, SyncStatus

SEATS = ("white", "black")
LEAST_TIME_MS, MOST_TIME_MS = 100, 12 * 3_600_000
MOST_INCREMENT_MS = 600_000
_OVER = (SyncStatus.EXPIRED, SyncStatus.COMPLETED, SyncStatus.CANCELLED)


class RuleBroken(Exception):  # noqa: N818 - named for what happened, like the errors of the core
    """What was asked for is against the rules as the game stands; nothing was written.

    Attributes:
        code: one word for a program.
    """

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class DoneBefore(RuleBroken):
    """What was asked for is so already: it was sent again after a lost connection, and is no error."""

    def __init__(self) -> None:
        super().__init__("done_before", "that was done before")


class TimeIsUp(RuleBroken):
    """The active player's time ran out before: the flag is to fall first."""

    def __init__(self) -> None:
        super().__init__("time_is_up", "the time ran out before that")


def new_game(game_id: str, time_ms: int, increment_ms: int) -> SyncState:
    """A game that nobody has joined.

    Args:
        game_id: its id.
        time_ms: what each player has, in milliseconds.
        increment_ms: what a player gets for each turn, in milliseconds.

    Raises:
        RuleBroken: `out_of_bounds`.
    """
    if not (LEAST_TIME_MS <= time_ms <= MOST_TIME_MS and 0 <= increment_ms <= MOST_INCREMENT_MS):
        raise RuleBroken("out_of_bounds", "a game takes 0.1 s to 12 hours for each, and at most 10 minutes for a turn")
    players = [
        SyncParticipant(participant_id=seat, participant_index=index, total_time_ms=time_ms, time_remaining_ms=time_ms)
        for index, seat in enumerate(SEATS)
    ]
    return SyncState.new(
        game_id,
        SyncMode.PER_PARTICIPANT,
        players,
        increment_ms=increment_ms,
        metadata={"seats": {}, "draw_offered_by": None, "result": None},
    )


def seal(key: str) -> str:
    """What the state holds of a seat's key: the audit keeps states for ever, and the key is the player's alone."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def holds(state: SyncState, seat: str, key: str) -> bool:
    """Whether a seat was taken with this key."""
    return bool(state.metadata["seats"].get(seat) == seal(key))


def turn_of(state: SyncState) -> int:
    """The number of the turn that is on, from 1."""
    return 1 + sum(player.cycle_count for player in state.participants)


def time_left_ms(state: SyncState, seat: str, now: datetime) -> int:
    """What is left of a player's time, in milliseconds; 0 where it ran out."""
    player = _player(state, seat)
    left_ms = player.time_remaining_ms or 0
    if player.is_active and state.cycle_started_at is not None:
        # A clock that is a little behind the store's must not give time back.
        left_ms -= max(0, (now - state.cycle_started_at) // timedelta(milliseconds=1))
    return max(0, left_ms)


def falls_at(state: SyncState) -> datetime | None:
    """When the flag falls if nothing happens before; None where no clock runs."""
    if state.status is not SyncStatus.RUNNING or state.active_participant_id is None or state.cycle_started_at is None:
        return None
    left_ms = _player(state, state.active_participant_id).time_remaining_ms or 0
    return state.cycle_started_at + timedelta(milliseconds=left_ms)


def seat_taken(state: SyncState, seat: str, key: str) -> SyncState:
    """A player sits down; the key shows later that it is the same one."""
    if holds(state, seat, key):
        raise DoneBefore
    seats = state.metadata["seats"]
    if seat not in SEATS or seat in seats:
        raise RuleBroken("seat_taken", f"somebody else plays {seat}")
    return _noted(state, seats={**seats, seat: seal(key)})


def started(state: SyncState, seat: str, now: datetime) -> SyncState:
    """Either player starts white's clock, once both are there."""
    del seat
    if state.status is SyncStatus.RUNNING:
        raise DoneBefore
    _need(state, SyncStatus.PENDING, "the game has begun")
    if len(state.metadata["seats"]) < len(SEATS):
        raise RuleBroken("too_few", "both players are needed")
    return _running(state, "white", now).replace(session_started_at=now)


def turn_ended(state: SyncState, seat: str, now: datetime, *, turn: int) -> SyncState:
    """The active player ends a turn; the time that it took goes, the increment comes, the other's clock starts.

    Args:
        state: what is stored.
        seat: whose doing it is.
        now: the store's time.
        turn: the number of the turn that is to end, as the player saw it. Sent once more, it is over.
    """
    if turn < turn_of(state):
        raise DoneBefore
    _need_running(state, now)
    if state.active_participant_id != seat or turn != turn_of(state):
        raise RuleBroken("not_your_turn", "it is the other player's turn")
    player = _player(_stopped(state, now), seat)
    increment_ms = state.increment_ms or 0
    ended = msgspec.structs.replace(
        player,
        time_remaining_ms=(player.time_remaining_ms or 0) + increment_ms,
        cycle_count=player.cycle_count + 1,
    )
    other = SEATS[1 - SEATS.index(seat)]
    # Who moves declines a draw: an offer is for one answer.
    return _noted(_running(_with(_stopped(state, now), ended), other, now), draw_offered_by=None)


def paused(state: SyncState, seat: str, now: datetime) -> SyncState:
    """Either player stops both clocks; it stays whose turn it is."""
    del seat
    if state.status is SyncStatus.PAUSED:
        raise DoneBefore
    _need_running(state, now)
    return _stopped(state, now).replace(status=SyncStatus.PAUSED)


def resumed(state: SyncState, seat: str, now: datetime) -> SyncState:
    """Either player lets the clock run on that ran before."""
    del seat
    if state.status is SyncStatus.RUNNING:
        raise DoneBefore
    _need(state, SyncStatus.PAUSED, "the game is not paused")
    return _running(state, state.active_participant_id or "white", now)


def draw_offered(state: SyncState, seat: str, now: datetime) -> SyncState:
    """A player offers a draw, which stands until the turn ends."""
    _need_going_on(state, now)
    if state.metadata["draw_offered_by"] == seat:
        raise DoneBefore
    return _noted(state, draw_offered_by=seat)


def draw_agreed(state: SyncState, seat: str, now: datetime) -> SyncState:
    """The other player takes it, and the game ends."""
    if (state.metadata["result"] or {}).get("reason") == "draw":
        raise DoneBefore
    _need_going_on(state, now)
    if state.metadata["draw_offered_by"] in (None, seat):
        raise RuleBroken("not_offered", "the other player has not offered a draw")
    return _ended(_stopped(state, now), now, SyncStatus.COMPLETED, winner=None, reason="draw")


def resigned(state: SyncState, seat: str, now: datetime) -> SyncState:
    """A player gives up."""
    _need_going_on(state, now)
    winner = SEATS[1 - SEATS.index(seat)]
    return _ended(_stopped(state, now), now, SyncStatus.COMPLETED, winner=winner, reason="resignation")


def flag_fallen(state: SyncState, now: datetime) -> SyncState:
    """The active player's time ran out; the state is the same whoever notices it, and when.

    Raises:
        RuleBroken: `not_yet`: there is time left, or no clock runs.
    """
    fell_at, loser = falls_at(state), state.active_participant_id
    if fell_at is None or loser is None or now < fell_at:
        raise RuleBroken("not_yet", "there is time left")
    stopped = _stopped(state, fell_at)
    fallen = msgspec.structs.replace(_player(stopped, loser), has_expired=True)
    winner = SEATS[1 - SEATS.index(loser)]
    return _ended(_with(stopped, fallen), fell_at, SyncStatus.EXPIRED, winner=winner, reason="time")


def view(state: SyncState, now: datetime) -> dict[str, Any]:
    """What a browser is told of a game: no keys, not even their seals, and the clocks as they stand now."""
    return {
        "type": "state",
        "game": state.session_id,
        "version": state.version,
        "status": state.status.value,
        "active": state.active_participant_id if state.status is SyncStatus.RUNNING else None,
        "next": state.active_participant_id,
        "turn": turn_of(state),
        "increment_ms": state.increment_ms or 0,
        "draw_offered_by": state.metadata["draw_offered_by"],
        "result": state.metadata["result"],
        "players": {
            player.participant_id: {
                "taken": player.participant_id in state.metadata["seats"],
                "left_ms": time_left_ms(state, player.participant_id, now),
                "total_ms": player.total_time_ms,
                "turns": player.cycle_count,
                "fell": player.has_expired,
            }
            for player in state.participants
        },
    }


def _player(state: SyncState, seat: str) -> SyncParticipant:
    return state.participants[SEATS.index(seat)]


def _with(state: SyncState, changed: SyncParticipant) -> SyncState:
    return state.replace(
        participants=tuple(
            changed if player.participant_id == changed.participant_id else player for player in state.participants
        )
    )


def _noted(state: SyncState, **notes: Any) -> SyncState:
    return state.replace(metadata={**state.metadata, **notes})


def _running(state: SyncState, seat: str, now: datetime) -> SyncState:
    """The state with this player's clock started, whatever stood still before."""
    player = msgspec.structs.replace(_player(state, seat), is_active=True)
    return _with(state, player).replace(status=SyncStatus.RUNNING, active_participant_id=seat, cycle_started_at=now)


def _stopped(state: SyncState, now: datetime) -> SyncState:
    """The state with the active player's clock stopped, if it ran, and what went by taken off."""
    seat = state.active_participant_id
    if seat is None or state.cycle_started_at is None:
        return state
    player, left_ms = _player(state, seat), time_left_ms(state, seat, now)
    used_ms = (player.time_remaining_ms or 0) - left_ms
    stopped = msgspec.structs.replace(
        player, time_remaining_ms=left_ms, time_used_ms=player.time_used_ms + used_ms, is_active=False
    )
    return _with(state, stopped).replace(cycle_started_at=None)


def _ended(state: SyncState, now: datetime, status: SyncStatus, *, winner: str | None, reason: str) -> SyncState:
    ended = state.replace(status=status, session_completed_at=now)
    return _noted(ended, draw_offered_by=None, result={"winner": winner, "reason": reason})


def _need(state: SyncState, status: SyncStatus, text: str) -> None:
    if state.status is not status:
        raise RuleBroken("over" if state.status in _OVER else "not_now", text)


def _need_running(state: SyncState, now: datetime) -> None:
    _need(state, SyncStatus.RUNNING, "no clock runs")
    _need_time(state, now)


def _need_going_on(state: SyncState, now: datetime) -> None:
    if state.status not in (SyncStatus.RUNNING, SyncStatus.PAUSED):
        raise RuleBroken("over" if state.status in _OVER else "not_now", "the game is not going on")
    _need_time(state, now)


def _need_time(state: SyncState, now: datetime) -> None:
    fell_at = falls_at(state)
    if fell_at is not None and now >= fell_at:
        raise TimeIsUp
