"""How long it took until other instances were told of a write, as the histories have it. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from loadtests.history import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from loadtests.history import History

Times: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
Moments: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

_WRITES = (Kind.CREATE, Kind.UPDATE, Kind.MUTATE)


class Deliveries(NamedTuple):
    """Each time that a watcher in another instance was told of a write, in the order in which the writes began.

    Attributes:
        took_ms: from right before the write was sent until the watcher had it, in milliseconds; shape (n,).
        start_ns: when the write was sent (`time.monotonic_ns`); shape (n,).
    """

    took_ms: Times
    start_ns: Moments


def deliveries(records: History, watchers: Collection[int], own: Mapping[int, int]) -> Deliveries:
    """Join what watchers were told with the attempts that wrote it; O(n log n).

    A watcher that was not told (see `never_told`), or only read the state later (a resynchronisation), has no time
    here: whether all were told in the end is for the judge to say.

    Args:
        records: of all processes of a run, recorded by one clock.
        watchers: the numbers of those whose being told counts.
        own: the place of each process, by its number. What a process did that is not named is left out.
    """
    writes = records[np.isin(records["kind"], _WRITES) & np.isin(records["process"], list(own))]
    writes = writes[np.argsort(writes["token"], kind="stable")]
    told = records[(records["kind"] == Kind.TOLD) & np.isin(records["process"], sorted(set(watchers) & own.keys()))]
    if not len(writes) or not len(told):
        return Deliveries(np.empty(0), np.empty(0, np.int64))
    at = np.minimum(np.searchsorted(writes["token"], told["writer"]), len(writes) - 1)
    of = writes[at]
    places = np.full(max(own) + 1, -1)
    places[list(own)] = list(own.values())
    counts = (of["token"] == told["writer"]) & (places[of["process"]] != places[told["process"]])
    start_ns, end_ns = of["start_ns"][counts], told["end_ns"][counts]
    order = np.argsort(start_ns, kind="stable")
    return Deliveries((end_ns - start_ns)[order] / 1e6, start_ns[order])


def never_told(records: History, watchers: Collection[int], own: Mapping[int, int]) -> Moments:
    """When each acknowledged write was sent of which a watcher in another instance was never told; rising.

    A write counts once for each such watcher. One that resynchronised a session may have been told of several of its
    writes at once: of that session it is not asked.

    Args:
        records: as of `deliveries`.
        watchers: likewise.
        own: likewise.
    """
    is_write = np.isin(records["kind"], _WRITES) & (records["outcome"] == Outcome.OK)
    found = [np.empty(0, np.int64)]
    for watcher in sorted(set(watchers) & own.keys()):
        others = [number for number, place in own.items() if place != own[watcher]]
        writes = records[is_write & np.isin(records["process"], others)]
        seen = records[records["process"] == watcher]
        told = seen["writer"][seen["kind"] == Kind.TOLD]
        read = seen["session"][np.isin(seen["kind"], (Kind.RESYNCHRONISED, Kind.RESYNCHRONISED_ABSENT))]
        found.append(writes["start_ns"][~np.isin(writes["token"], told) & ~np.isin(writes["session"], read)])
    return np.sort(np.concatenate(found))
