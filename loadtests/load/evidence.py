"""Whether what was counted in a load test is what its histories have: two records of the same calls. No I/O.

The histories have when each attempt was due, began and ended, and how; what was counted must be that. How long a step
waited for a hand they do not have, but between which bounds: at least as long as its session was busy, at most until it
began. And what it waited and what it was late are together the time until it began.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from loadtests.history import NEVER, Error, Kind, Outcome
from loadtests.load.histograms import LONGEST_US, Name, values_ms
from loadtests.load.plan import Operation, plan
from loadtests.load.timeline import CONFLICT, DELIVERY, DROPPED, ERROR, MESSAGE_DELIVERY, MESSAGE_SEND, OK, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.history import History
    from loadtests.load.facts import Load, Part
    from loadtests.load.timeline import Timeline

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_NAMES = {Kind.CREATE: "create", Kind.GET: "get", Kind.UPDATE: "update", Kind.DELETE_IF: "delete"}
# A message is no attempt on a session's state, and what was given up was none at all.
_UNSEEN = (Operation.MESSAGE, MESSAGE_SEND, MESSAGE_DELIVERY, DELIVERY)
# What is the sum of several times may have been rounded to the bucket beside.
_SLACK = 1
# A bucket is so much wider than what was counted in it, at the most; and in the first, nothing is a microsecond.
_ROUNDING = 0.002
_LEAST_US = 3.0


class _Calls(NamedTuple):
    """Calls of one name: when they were due, in seconds, and between which bounds their time is, in microseconds."""

    second: Numbers
    least_us: Numbers
    most_us: Numbers


def contradictions(found: Load, timeline: Timeline, records: History) -> list[str]:
    """What was counted otherwise than the histories have it, each in a sentence.

    Where a process's history is not at hand, nothing is said: that it is missing, the judge says.

    Args:
        found: the load test.
        timeline: what was counted in it.
        records: of all its processes.
    """
    attempts = records[records["kind"] < Kind.TOLD]
    there = set(np.unique(attempts["process"]).tolist())
    if any(part.attempted and there.isdisjoint(part.histories) for part in found.parts):
        return []
    calls: dict[Name, list[_Calls]] = {}
    left_out: set[int] = set()
    for part in found.parts:
        _look(found, part, attempts, calls, left_out)
    counted = {name for name in timeline.names() if name.operation not in _UNSEEN and name.outcome != DROPPED}
    wrong = []
    for name in sorted(counted | calls.keys()):
        made = _joined(calls.get(name, []))
        reason = _differs(timeline, name, made, left_out)
        if not reason and name.part == "waiting" and not left_out:
            reason = _lost(timeline, name, made)
        if reason:
            wrong.append(f"{str(name).replace('/', ' ')}: {reason}")
    return wrong


def _lost(timeline: Timeline, name: Name, made: _Calls) -> str:
    """How much of the time until steps began is neither waiting nor lag, or is both; empty: none."""
    began_us = float(made.most_us.sum())
    counted_us = 1e3 * sum(
        float(values_ms()[one.places] @ one.counts)
        for part in ("waiting", "lag")
        for one in timeline.buckets(name._replace(part=part)).values()
    )
    if abs(counted_us - began_us) <= _ROUNDING * began_us + _LEAST_US * len(made.most_us):
        return ""
    return f"with the lag it is {counted_us / 1e3:,.1f} ms in all, where the histories have {began_us / 1e3:,.1f}"


def _look(found: Load, part: Part, attempts: History, calls: dict[Name, list[_Calls]], left_out: set[int]) -> None:
    """What one process's histories have."""
    planned: dict[tuple[int, int], str] = {}
    often: Counter[tuple[int, int]] = Counter()
    for step in plan(found.scenario, found.seed, part.place, len(found.parts)):
        if step.operation != Operation.MESSAGE:
            planned[step.due_ns, step.session] = step.operation
            often[step.due_ns, step.session] += 1
    # Of two steps of a session that were due in the same nanosecond, nobody can tell which is which.
    left_out.update(due_ns // 10**9 for (due_ns, _), number in often.items() if number > 1)
    own = attempts[np.isin(attempts["process"], part.histories)]
    own = own[np.lexsort((own["start_ns"], own["planned_ns"], own["session"]))]
    if not len(own):
        return
    due_ns = own["planned_ns"] - part.begin_ns
    is_first = np.append(True, (np.diff(due_ns) != 0) | (np.diff(own["session"].astype(np.int64)) != 0))
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(own)) - 1
    moments = zip(due_ns[first].tolist(), own["session"][first].tolist(), strict=True)
    operations = np.array([planned.get(moment, "unplanned") for moment in moments])
    outcomes = _outcomes(own, is_shared=found.scenario.is_shared)
    kinds = np.array([_NAMES.get(Kind(kind), "other") for kind in own["kind"].tolist()])
    of = np.cumsum(is_first) - 1
    names = np.char.add(np.char.add(operations[of], "."), kinds)
    took_us = np.where(own["end_ns"] == NEVER, np.inf, (own["end_ns"] - own["start_ns"]) / 1e3)
    least_us = np.where(own["end_ns"] == NEVER, 0.0, took_us)
    _put(calls, names, outcomes, "service", _Calls(due_ns // 10**9, least_us, took_us))
    # That there is nothing where something was to be written is no error of the read.
    is_nothing = (own["kind"][last] == Kind.GET) & (outcomes[last] == OK)
    ends = np.where(is_nothing, CONFLICT if found.scenario.is_shared else ERROR, outcomes[last])
    for what, bounds in _bounds(own, first, last, part).items():
        _put(calls, operations, ends, what, bounds)


def _bounds(own: History, first: Numbers, last: Numbers, part: Part) -> dict[str, _Calls]:
    """Between which bounds the parts of each step are; its attempts are `own[first]` to `own[last]`."""
    due_ns, begin_ns = own["planned_ns"][first], own["start_ns"][first]
    is_known = own["end_ns"][last] != NEVER
    # Of what has no end nobody knows how long it held up others.
    end_ns = np.where(is_known, own["end_ns"][last], own["start_ns"][last])
    session = own["session"][first]
    is_next = np.append(False, session[1:] == session[:-1])
    ready_ns = np.maximum(due_ns, np.where(is_next, np.append(0, end_ns[:-1]), 0))
    waited_us = np.maximum(0, np.minimum(ready_ns, begin_ns) - due_ns) / 1e3
    most_us = np.maximum(0, begin_ns - due_ns) / 1e3
    service_us = (end_ns - begin_ns) / 1e3
    second = (due_ns - part.begin_ns) // 10**9
    unknown_us = np.where(is_known, 0.0, np.inf)
    return {
        "latency": _Calls(second, waited_us + service_us * is_known, most_us + service_us + unknown_us),
        "service": _Calls(second, service_us * is_known, service_us + unknown_us),
        "waiting": _Calls(second, waited_us, most_us),
        "lag": _Calls(second, np.zeros(len(second)), most_us - waited_us),
    }


def _outcomes(own: History, *, is_shared: bool) -> Numbers:
    """How each attempt ended, in the words of what is counted."""
    overtaken = is_shared & np.isin(own["error"], (Error.CONFLICT, Error.NOT_FOUND))
    is_ok, is_refused = own["outcome"] == Outcome.OK, own["outcome"] == Outcome.REFUSED
    return np.select(
        [is_ok & (own["error"] == Error.NONE), is_ok, is_refused & overtaken, is_refused],
        [OK, ERROR, CONFLICT, ERROR],
        UNKNOWN,
    )


def _put(calls: dict[Name, list[_Calls]], operations: Numbers, outcomes: Numbers, part: str, made: _Calls) -> None:
    for operation in np.unique(operations).tolist():
        for outcome in np.unique(outcomes[operations == operation]).tolist():
            some = (operations == operation) & (outcomes == outcome)
            calls.setdefault(Name(operation, outcome, part), []).append(_Calls(*(column[some] for column in made)))


def _joined(some: list[_Calls]) -> _Calls:
    if not some:
        return _Calls(np.empty(0, np.int64), np.empty(0), np.empty(0))
    return _Calls(*map(np.concatenate, zip(*some, strict=True)))


def _differs(timeline: Timeline, name: Name, made: _Calls, left_out: set[int]) -> str:
    """How what was counted of a name differs from what was made, second by second; empty: it does not."""
    second, place = (np.array(column, np.int64) for column in _told(timeline, name))
    is_told, is_made = (~np.isin(one, list(left_out)) for one in (second, made.second))
    second, place = second[is_told], place[is_told]
    at = made.second[is_made]
    if len(second) != len(at):
        return f"{len(second):,} were counted, where the histories have {len(at):,}"
    order = np.lexsort((place, second))
    second, place = second[order], place[order]
    if not np.array_equal(second, np.sort(at)):
        return "they were counted in other seconds than those in which the histories have them"
    # Where each lies between bounds of its own, so do all of them in rising order.
    low, high = (_places(us[is_made]) for us in (made.least_us, made.most_us))
    low, high = (one[np.lexsort((one, at))] for one in (low, high))
    slack = 0 if np.array_equal(low, high) else _SLACK
    wrong = int(((place < low - slack) | (place > high + slack)).sum())
    return f"{wrong:,} of {len(place):,} are shorter or longer than the histories have them" if wrong else ""


def _told(timeline: Timeline, name: Name) -> Iterator[Numbers]:
    """Of each call that was counted the second, and the place of its bucket."""
    found = timeline.buckets(name)
    yield np.concatenate([np.empty(0, np.int64), *(np.full(one.counts.sum(), at) for at, one in found.items())])
    yield np.concatenate([np.empty(0, np.int64), *(np.repeat(one.places, one.counts) for one in found.values())])


def _places(us: Numbers) -> Numbers:
    """The places of the buckets in which times are counted (see `histograms`)."""
    rounded = np.clip(np.rint(us), 1, LONGEST_US)
    return np.searchsorted(values_ms(), rounded / 1e3 - 1e-9)
