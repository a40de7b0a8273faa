"""What puts one violation into a history that was sound, for each kind of violation that a checker has to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loadtests.history import Kind, Outcome, join, token
from loadtests.judging.synthetic import READER, WATCHERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.history import History


def _pick(history: History, random: np.random.Generator, *kinds: Kind, stamped: bool = True) -> int:
    fits = np.isin(history["kind"], kinds) & (history["outcome"] == Outcome.OK)
    fits &= (history["incarnation"] != 0) == stamped
    return int(random.choice(np.flatnonzero(fits)))


def _stale_read(history: History, random: np.random.Generator) -> History:
    """A read that comes long after the version that it saw was replaced."""
    spoiled = history.copy()
    updates = spoiled[(spoiled["kind"] == Kind.UPDATE) & (spoiled["outcome"] == Outcome.OK)]
    one = updates[int(random.integers(len(updates)))]
    reader = int(random.choice(np.flatnonzero((spoiled["process"] == READER) & (spoiled["incarnation"] != 0))))
    writers = spoiled[(spoiled["session"] == spoiled["session"][reader]) & (spoiled["outcome"] == Outcome.OK)]
    old = writers[(writers["kind"] == Kind.CREATE) & (writers["incarnation"] <= spoiled["incarnation"][reader])]
    old = old[old["incarnation"] != 0]
    first = old[int(np.argmin(old["start_ns"]))] if len(old) else one
    for field in ("incarnation", "version", "writer", "digest"):
        spoiled[field][reader] = first[field]
    return spoiled


def _second_writer(history: History, random: np.random.Generator) -> History:
    """Two acknowledged writes of one version."""
    spoiled = history.copy()
    place = _pick(spoiled, random, Kind.UPDATE)
    other = spoiled[place : place + 1].copy()
    other["process"] = 77
    other["token"] = other["writer"] = token(77, 1)
    return join([spoiled, other])


def _skipped_version(history: History, random: np.random.Generator) -> History:
    """A write that was acknowledged as another version than the next."""
    spoiled = history.copy()
    spoiled["version"][_pick(spoiled, random, Kind.UPDATE)] += 1
    return spoiled


def _foreign_writer(history: History, random: np.random.Generator) -> History:
    """A read of what nobody wrote."""
    spoiled = history.copy()
    spoiled["writer"][_pick(spoiled, random, Kind.GET)] = token(99, 5)
    return spoiled


def _early_absence(history: History, random: np.random.Generator) -> History:
    """A session that is gone in the end, though nobody removed it."""
    spoiled = history.copy()
    readers = np.flatnonzero((spoiled["process"] == READER) & (spoiled["incarnation"] != 0))
    place = int(random.choice(readers))
    for field in ("incarnation", "version", "writer", "digest"):
        spoiled[field][place] = 0
    return spoiled


def _watcher_back(history: History, random: np.random.Generator) -> History:
    """A watcher that is told of two writes in the wrong order."""
    spoiled = history.copy()
    told = np.flatnonzero((spoiled["process"] == WATCHERS[0]) & (spoiled["version"] > 1))
    _, firsts = np.unique(spoiled["session"][told], return_index=True)
    place = int(random.choice(np.delete(told, firsts)))
    other = int(told[(told < place) & (spoiled["session"][told] == spoiled["session"][place])][-1])
    for field in ("incarnation", "version", "writer", "digest", "session", "kind"):
        spoiled[field][[place, other]] = spoiled[field][[other, place]]
    return spoiled


def _missing_row(history: History, random: np.random.Generator) -> History:
    """A write that the audit lacks."""
    rows = np.flatnonzero(history["kind"] == Kind.RECORDED)
    return np.delete(history, int(random.choice(rows)))


def _doubled_row(history: History, random: np.random.Generator) -> History:
    """A write that the audit has twice."""
    rows = np.flatnonzero(history["kind"] == Kind.RECORDED)
    place = int(random.choice(rows))
    other = history[place : place + 1].copy()
    other["start_ns"] = other["end_ns"] = history["start_ns"][rows].max() + 1
    other["token"] = token(0, 1 << 39)
    return join([history, other])


# By the name of the violation.
SPOILERS: dict[str, Callable[[History, np.random.Generator], History]] = {
    "stale read": _stale_read,
    "second writer": _second_writer,
    "skipped version": _skipped_version,
    "foreign writer": _foreign_writer,
    "early absence": _early_absence,
    "watcher back": _watcher_back,
    "missing row": _missing_row,
    "doubled row": _doubled_row,
}
