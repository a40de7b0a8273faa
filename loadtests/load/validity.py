"""Why a load test shows nothing, whatever was measured: it was not the one that was asked for. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from loadtests.load.generator import BUSY, busiest
from loadtests.load.knee import LATE_SHARE
from loadtests.load.offered import LATE_MS
from loadtests.load.timeline import (
    CONFLICT,
    DELIVERY,
    DROPPED,
    ERROR,
    MESSAGE_DELIVERY,
    MESSAGE_SEND,
    OK,
    STEPS,
    UNKNOWN,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.load.facts import Load, Part
    from loadtests.load.offered import Offered
    from loadtests.load.timeline import Deliveries, Timeline

# So many seconds of a process may be missing: those in which it began and ended.
_SECONDS_MISSING = 2
# Without PostgreSQL entries wait: where fewer did, it was not away.
_FEWEST_WAITING = 10
# The oldest of them waited for about as long as it was away, and it was away for about as long as was asked for.
_LEAST_LAG = 0.5
_LEAST_AWAY = 0.8
# What is counted to three digits may be a little less than it is told.
_DOUBTLESS = 1.01


def why_invalid(found: Load, timeline: Timeline, planned: Offered, deliveries: Deliveries | None) -> list[str]:
    """Every reason, in a sentence; none: the run is one."""
    return [
        *found.notes,
        *(f"process {part.place}: {note}" for part in found.parts for note in part.notes),
        *_parts(found, planned),
        *_counts(found, timeline),
        *_lateness(found, timeline),
        *_generators(found, timeline),
        *_late_windows(found, planned),
        *_deliveries(found, deliveries),
        *_outage(found),
        *_memories(found),
    ]


def why_broken(deliveries: Deliveries) -> str:
    """Why deliveries cannot be counted, in a sentence; empty: they can."""
    if len(deliveries.at_s) != len(deliveries.ms):
        return f"{len(deliveries.at_s):,} deliveries were sent, where {len(deliveries.ms):,} times are told"
    if not (np.all(deliveries.ms >= 0) and np.all(np.isfinite(deliveries.at_s))):
        return "a delivery arrived before it was sent, or at no time at all"
    return ""


def is_searched(found: Load) -> bool:
    """Whether the load grows until something gives: then a generator that gives first ends the search, and no more."""
    return any(target.is_knee for target in found.scenario.targets)


def _parts(found: Load, planned: Offered) -> Iterator[str]:
    """All processes were there, each once, and each did what it was to do or says what it did not."""
    if not found.parts:
        yield "no process took part, or none said what it did"
        return
    places = sorted(part.place for part in found.parts)
    if places != list(range(len(places))):
        yield f"the processes were in the places {', '.join(map(str, places))}: each from 0 on is needed, and once"
        return
    for part in sorted(found.parts, key=lambda one: one.place):
        who = f"process {part.place}"
        wanted = planned.by_place[part.place]
        if part.planned != wanted:
            yield f"{who} was to do {part.planned:,} steps, where the scenario and the seed say {wanted:,}"
        if part.planned != part.begun + part.dropped:
            yield f"{who} was to do {part.planned:,} steps, but did {part.begun:,} and gave up {part.dropped:,}"
        if part.late != sum(late for _, late in part.late_in):
            yield f"{who} began {part.late:,} steps late, and does not say when"
        if not part.reports:
            yield f"{who} sent no report of what it counted"


def _counts(found: Load, timeline: Timeline) -> Iterator[str]:
    """What was counted is what the processes say they did."""
    begun, dropped = sum(part.begun for part in found.parts), sum(part.dropped for part in found.parts)
    answered = (OK, CONFLICT, UNKNOWN, ERROR)
    for part in ("latency", "waiting", "service", "lag"):
        counted = timeline.count(operation=STEPS, part=part, outcome=answered)
        if counted != begun:
            yield f"{counted:,} steps have a {part}, where the processes did {begun:,}"
    counted = timeline.count(operation=STEPS, part="latency", outcome=DROPPED)
    if counted != dropped:
        yield f"{counted:,} steps are counted as given up, where the processes gave up {dropped:,}"
    # That a message was sent is no attempt on a session's state, and in no history.
    kinds = {name.operation for name in timeline.names() if "." in name.operation} - {MESSAGE_SEND}
    attempts = timeline.count(operation=kinds, part="service")
    attempted = sum(part.attempted for part in found.parts)
    if attempts > attempted:
        yield f"{attempts:,} attempts were timed, where the processes made {attempted:,}"
    told = timeline.count(operation=MESSAGE_DELIVERY)
    if told != found.messages_told - found.messages_own:
        others = found.messages_told - found.messages_own
        yield f"{told:,} messages were timed, where receivers told of {others:,} that others sent"


def _lateness(found: Load, timeline: Timeline) -> Iterator[str]:
    """As many steps began late as have a lag that says so, or more: of what was dispatched late, some waited."""
    lags = timeline.counted(range(timeline.length_s), operation=STEPS, part="lag", outcome=(OK, CONFLICT))
    late, said = lags.over(_DOUBTLESS * LATE_MS), sum(part.late for part in found.parts)
    if late > said:
        yield f"{late:,} steps have a lag above {LATE_MS:.0f} ms, where the processes say that {said:,} began late"


def _generators(found: Load, timeline: Timeline) -> Iterator[str]:
    """No process was too busy with itself to offer what was planned, when it was planned."""
    begins_s, ends_s = found.scenario.window_s("")
    judged = timeline.whole(found.scenario, begins_s, ends_s)
    judged = range(judged.start, min(judged.stop, int(ends_s)))
    for part in sorted(found.parts, key=lambda one: one.place):
        who = f"process {part.place}"
        if len(part.cpu) < int(ends_s) - _SECONDS_MISSING:
            yield f"{who} says in {len(part.cpu)} of {int(ends_s)} seconds how busy it was"
        yield from () if is_searched(found) else _strained(found, part, judged, who)


def _late_windows(found: Load, planned: Offered) -> Iterator[str]:
    """In none of the times that are judged, too many steps were begun late: a short one would not show in the whole."""
    if is_searched(found):
        return
    for window in sorted({name for target in found.scenario.targets for name in (target.window, target.over)}):
        begins_s, ends_s = found.scenario.window_s(window)
        within = range(int(begins_s), math.ceil(ends_s))
        late = sum(count for part in found.parts for second, count in part.late_in if second in within)
        offered = int(planned.by_second[within.start : within.stop].sum())
        if late > LATE_SHARE * offered:
            where = f"of the window {window} " if window else ""
            when = f"from {begins_s:.0f} s to {ends_s:.0f} s"
            yield f"{late:,} of the {offered:,} steps {where}{when} began late by the generator's own fault"


def _strained(found: Load, part: Part, judged: range, who: str) -> Iterator[str]:
    share = busiest(found, part, judged)
    if share is not None and share > BUSY:
        yield f"{who} wanted a processor for {share:.0%} of 5 s: more than {BUSY:.0%} is too much to be on time"
    if part.late > LATE_SHARE * part.planned:
        yield f"{who} began {part.late:,} of {part.planned:,} steps late by its own fault"


def _deliveries(found: Load, deliveries: Deliveries | None) -> Iterator[str]:
    """Deliveries can be told where they are a target: sent and received by the same clock."""
    wanted = {target.operation for target in found.scenario.targets} & {DELIVERY, MESSAGE_DELIVERY}
    if not wanted:
        return
    if len({part.boot for part in found.parts}) > 1:
        yield "the processes ran on several machines: how long a delivery took, their clocks do not tell"
    if DELIVERY not in wanted:
        return
    if deliveries is None:
        yield "nobody says how long deliveries took"
    elif reason := why_broken(deliveries):
        yield reason


def _outage(found: Load) -> Iterator[str]:
    """PostgreSQL was away when it was to be, and that hit."""
    away = found.scenario.audit_away
    if away is None:
        if found.outage is not None:
            yield "PostgreSQL was taken away, where nobody asked for it"
        return
    if found.outage is None:
        yield "PostgreSQL was to be away, and was not"
        return
    length_s = away[1] * found.scenario.duration_s
    begins_s = away[0] * found.scenario.duration_s
    common_s = min(found.outage.until_s, begins_s + length_s) - max(found.outage.from_s, begins_s)
    if common_s < _LEAST_AWAY * length_s:
        yield f"PostgreSQL was away for {max(0.0, common_s):.1f} s of the {length_s:.1f} s in which it was to be"
    if found.outage.most_waiting < _FEWEST_WAITING:
        yield f"at most {found.outage.most_waiting} entries waited while PostgreSQL was away: that hit nothing"
    if found.outage.longest_lag_s < _LEAST_LAG * length_s:
        yield f"no entry waited for longer than {found.outage.longest_lag_s:.1f} s while PostgreSQL was away"


def _memories(found: Load) -> Iterator[str]:
    """Where growth is judged, everything that could grow was looked at."""
    if found.scenario.max_growth is None:
        return
    if not found.memories:
        yield "nobody looked at the memory of any process"
    for one in found.memories:
        if len(one.at_s) != len(one.kb):
            yield f"the memory of {one.name} was looked at {len(one.at_s)} times, and {len(one.kb)} sizes are told"
    if len(found.moments) < 2:
        yield "nobody counted what was in the store before and after"
