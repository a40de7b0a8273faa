"""Broken watchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kairos_core import subscription, tracking, updates
from loadtests.mutants.mutant import Mutant

if TYPE_CHECKING:
    from kairos_core.errors import Stamp


def _watcher_does_not_resync() -> None:
    async def nothing(self: updates.SessionFeed) -> None:
        del self

    updates.SessionFeed._after_reconnect = nothing  # type: ignore[method-assign]  # noqa: SLF001 - a mutant reaches inside


def _watcher_accepts_older() -> None:
    def noted(self: tracking.Tracker, session_id: str, stamp: Stamp, *, alive: bool) -> bool:
        self._remember(session_id, stamp, alive=alive)
        return True

    tracking.Tracker.weigh = lambda *_: tracking.News.NEXT  # type: ignore[method-assign]
    tracking.Tracker.note = noted  # type: ignore[method-assign]


def _gap_not_noticed() -> None:
    weigh = tracking.Tracker.weigh

    def weighed(self: tracking.Tracker, session_id: str, stamp: Stamp) -> tracking.News:
        news = weigh(self, session_id, stamp)
        return tracking.News.NEXT if news is tracking.News.GAP else news

    tracking.Tracker.weigh = weighed  # type: ignore[method-assign]


def _silence_not_noticed() -> None:
    async def asked(self: subscription.Subscription) -> None:
        for line in self._lines.values():
            line.hear()

    subscription.Subscription._check_signs_of_life = asked  # type: ignore[method-assign]  # noqa: SLF001


MUTANTS = (
    Mutant(
        "watcher_does_not_resync",
        "G8",
        "a watcher whose connection was lost listens on, and does not ask what it missed",
        _watcher_does_not_resync,
        "a_watcher_across_a_lost_connection",
    ),
    Mutant(
        "watcher_accepts_older",
        "G8",
        "a watcher passes on every message, also one that is older than what it knows",
        _watcher_accepts_older,
        "a_watcher_never_goes_back",
    ),
    Mutant(
        "gap_not_noticed",
        "G8",
        "a watcher takes whatever is newer for the next, and does not see that something is missing",
        _gap_not_noticed,
        "a_watcher_notices_a_gap",
    ),
    Mutant(
        "silence_not_noticed",
        "G8",
        "a watcher waits for ever on a connection on which nothing comes any more",
        _silence_not_noticed,
        "a_deaf_watcher_notices",
    ),
)
