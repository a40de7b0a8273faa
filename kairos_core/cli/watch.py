"""`kairos watch`: sessions while they change."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.complaints import complain
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.errors import ConfigurationError, InvalidState, StoreUnavailable, one_line
from kairos_core.session import check_session_id
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from kairos_core.session import SyncState
    from kairos_core.updates import StateUpdate
    from kairos_core.watches import SessionWatch

# How long to wait for an update until it is looked whether the connection is well.
_LOOK_S = 0.5
_SHOWN = 12
TOLD = Told(
    summary="show a session while it changes",
    more="One line for each write: its time, version and event, the status, and how much time each participant has"
    " used. The first line is the state as it is. `resynchronised` stands for writes that were missed while a"
    " connection was lost. Runs until Ctrl-C.",
    reads=("KAIROS_REDIS_URL", "KAIROS_NAMESPACE", "KAIROS_LANES", "KAIROS_TIMEOUT_S"),
    statuses={0: "with --count: so many updates were shown", 2: WHY_MISUSED},
    examples=(
        ("kairos watch game-17", "one session"),
        ("kairos watch --all", "all of the namespace"),
        ("kairos watch game-17 --json --count 1", "wait for the next write, for a program"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", TOLD, family="Look")(watch)


def watch(
    session: Annotated[
        str | None, typer.Argument(metavar="ID", show_default=False, help="The session, which need not be there yet.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All sessions of the namespace, in the place of one.")] = False,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="End after so many updates.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object an update, and no first line.")
    ] = False,
) -> int:
    """Watch until Ctrl-C, or for so many updates."""
    from kairos_core.state_manager import RedisStateManager  # noqa: PLC0415 - redis takes its time to import

    if every == (session is not None):
        raise ConfigurationError("ID", "a session's id is needed, or --all")
    settings = Settings.from_env()
    try:
        session_id = None if session is None else check_session_id(session)
        with RedisStateManager.connect(settings) as manager:
            feed = manager.watch_sessions() if session_id is None else manager.watch_session(session_id)
            with feed:
                now = None if session_id is None else manager.get_session(session_id)
                _follow(feed, session_id, now, settings, _Shown(count, as_json))
    except StoreUnavailable as error:
        raise ConfigurationError("KAIROS_REDIS_URL", one_line(error.cause)) from error
    except InvalidState as error:
        # Its message begins with the name that the library has for it.
        raise ConfigurationError("ID", one_line(error).removeprefix("session_id: ")) from None
    return 0


class _Shown(NamedTuple):
    """How updates are shown, and how many."""

    most: int | None
    as_json: bool


def _follow(
    feed: SessionWatch, session_id: str | None, now: SyncState | None, settings: Settings, shown: _Shown
) -> None:
    updates = _updates(feed, 2 * settings.timeout_s)
    if shown.as_json:
        say: Callable[[StateUpdate | SyncState], None] = _say_json
    elif session_id is not None and terminal.is_rich(sys.stdout):
        _follow_live(updates, now, session_id, shown.most)
        return
    else:
        say = _say_line
        if now is not None:
            say(now)
        elif session_id is not None:
            complain(f"session {session_id} is not there yet; waiting")
    left = shown.most
    for update in updates:
        if update is None:
            continue
        say(update)
        if left is not None and (left := left - 1) == 0:
            return


def _updates(feed: SessionWatch, deaf_s: float) -> Iterator[StateUpdate | None]:
    """The updates, and None now and then; says on standard error when the connection is lost, and when it is back."""
    reconnects, is_deaf = 0, False
    while True:
        update = feed.receive(_LOOK_S)
        if feed.reconnects > reconnects:
            reconnects = feed.reconnects
            complain("the connection was lost, and made again")
        if is_deaf != (feed.silence_s > deaf_s):
            is_deaf = not is_deaf
            if is_deaf:
                complain("the store is not heard; connecting again")
        yield update


def _say_json(found: StateUpdate | SyncState) -> None:
    print(msgspec.json.encode(found).decode(), flush=True)


def _say_line(found: StateUpdate | SyncState) -> None:
    print("  ".join(cell for cell in _row(found) if cell), flush=True)


def _row(found: StateUpdate | SyncState) -> tuple[str, ...]:
    """Time, session, version, event, status, participants."""
    update: Any = found
    if hasattr(update, "event_type"):
        state, event, at = update.state, update.event_type, update.occurred_at
    else:
        state, event, at = update, "as it is", update.updated_at
    moment = "-" if at is None else f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
    status = "gone" if state is None else state.status.value
    clocks = "" if state is None else "  ".join(_clocks(state))
    return moment, update.session_id, f"v{update.version}", event, status, clocks


def _clocks(state: SyncState) -> list[str]:
    """How much time each participant has used, with a mark for whose clock runs."""
    return [
        f"{'*' if one.participant_id == state.active_participant_id else ''}{one.participant_id}"
        f" {one.time_used_ms / 1000:.1f}/{one.total_time_ms / 1000:.0f} s"
        for one in state.participants
    ]


def _follow_live(
    updates: Iterator[StateUpdate | None], now: SyncState | None, session_id: str, count: int | None
) -> None:
    """A table of the last updates that renews itself, with a line that says for how long nothing has come."""
    from rich.live import Live  # noqa: PLC0415

    rows: deque[tuple[str, ...]] = deque(maxlen=_SHOWN)
    if now is not None:
        rows.append(_row(now))
    heard, left = time.monotonic(), count
    with Live(_picture(rows, session_id, 0.0), console=terminal.console(sys.stdout), auto_refresh=False) as live:
        for update in updates:
            if update is not None:
                heard = time.monotonic()
                rows.append(_row(update))
            live.update(_picture(rows, session_id, time.monotonic() - heard), refresh=True)
            if update is not None and left is not None and (left := left - 1) == 0:
                return


def _picture(rows: deque[tuple[str, ...]], session_id: str, quiet_s: float) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [(at, version, event, status, clocks) for at, _, version, event, status, clocks in rows]
    titles = ("time (UTC)", "version", "event", "status", "participants: used/total, * runs")
    waiting = "nothing yet" if not rows else f"quiet for {quiet_s:.0f} s"
    return Group(terminal.table(titles, cells, numbers=(1,)), Text(f"session {session_id}: {waiting}; Ctrl-C ends"))
