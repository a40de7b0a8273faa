"""Whether a load test attempted what was planned, all of it and nothing else: as planned again, from its seed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from loadtests.history import Kind, Outcome
from loadtests.load.plan import Operation, plan

if TYPE_CHECKING:
    from loadtests.attack.rounds import LoadFacts, LoadPlace
    from loadtests.history import History

# When a step was to begin, and its session.
_Moment: TypeAlias = tuple[int, int]

# The attempts of a step, in this order; after one that was not answered with a state there is no further one.
_ATTEMPTS: dict[Operation, tuple[Kind, ...]] = {
    Operation.CREATE: (Kind.CREATE,),
    Operation.START: (Kind.GET, Kind.UPDATE),
    Operation.TURN: (Kind.GET, Kind.UPDATE),
    Operation.END: (Kind.GET, Kind.UPDATE, Kind.DELETE_IF),
}


def not_as_planned(records: History, load: LoadFacts) -> list[str]:
    """What the instances of a load test did not attempt as it was planned, or say otherwise; each in a sentence.

    Args:
        records: all of the round.
        load: what the plans are made of, and what the instances say of them.
    """
    places = sorted(place.place for place in load.places)
    if places != list(range(len(places))):
        return [f"the instances {places} took part, which are not all that there were"]
    attempts = records[records["kind"] < Kind.TOLD]
    return [
        f"instance {place.place} {wrong}"
        for place in load.places
        for wrong in (*_counted(attempts, place), *_attempted(attempts, load, place))
    ]


def _counted(attempts: History, place: LoadPlace) -> list[str]:
    """What it says is not what it left, or contradicts itself."""
    wrong = []
    if place.begun + place.dropped != place.planned:
        wrong.append(f"did {place.begun} and gave up {place.dropped} of {place.planned} steps")
    recorded = int(np.isin(attempts["process"], [*place.histories, *place.closers]).sum())
    if recorded != place.attempted:
        wrong.append(f"says that it made {place.attempted} attempts, and recorded {recorded}")
    beside = attempts[np.isin(attempts["process"], place.closers)]
    if (beside["planned_ns"] != 0).any():
        wrong.append("has planned attempts among those beside its plan")
    return wrong


def _attempted(attempts: History, load: LoadFacts, place: LoadPlace) -> list[str]:
    """What its hands attempted is not what its plan says."""
    planned: dict[_Moment, Operation] = {}
    # That two steps of a session are due in the same nanosecond is rare, and no mistake.
    often: Counter[_Moment] = Counter()
    messages = 0
    for step in plan(load.scenario, load.seed, place.place, len(load.places)):
        if step.operation == Operation.MESSAGE:
            # No attempt on the session's state, so that the histories have nothing of it.
            messages += 1
            continue
        moment = (place.begin_ns + step.due_ns, step.session)
        planned[moment] = step.operation
        often[moment] += 1
    made = _made(attempts, place)
    wrong = []
    steps = often.total() + messages
    if steps != place.planned:
        wrong.append(f"says that {place.planned} steps were planned, and the seed says {steps}")
    unplanned = made.keys() - planned.keys()
    if unplanned:
        wrong.append(f"attempted what was not planned: {_told(unplanned, place)}")
    otherwise = {
        moment
        for moment, (kinds, goes_on) in made.items()
        if often[moment] == 1 and not _fits(planned[moment], tuple(kinds), goes_on=goes_on)
    }
    if otherwise:
        wrong.append(f"attempted something else than was planned: {_told(otherwise, place)}")
    missing = planned.keys() - made.keys()
    # What it gave up may have been messages, too.
    fewest = max(0, place.dropped - messages - (often.total() - len(often)))
    if not fewest <= len(missing) <= place.dropped:
        wrong.append(
            f"says that it gave up {place.dropped} steps, and of {len(missing)} nothing was attempted: "
            f"{_told(missing, place)}"
        )
    return wrong


def _made(attempts: History, place: LoadPlace) -> dict[_Moment, tuple[list[int], bool]]:
    """For each step the kinds of the attempts that its hands made, in their order, and whether another has to follow.

    It has to where there is one more, since the last of them was answered with a state.
    """
    own = attempts[np.isin(attempts["process"], place.histories)]
    own = own[np.argsort(own["start_ns"], kind="stable")]
    made: dict[_Moment, tuple[list[int], bool]] = {}
    has_state = (own["outcome"] == Outcome.OK) & (own["incarnation"] != 0)
    columns = (own[name].tolist() for name in ("planned_ns", "session", "kind"))
    for at_ns, session, kind, goes_on in zip(*columns, has_state.tolist(), strict=True):
        kinds, _ = made.get((at_ns, session), ([], False))
        made[at_ns, session] = [*kinds, kind], goes_on
    return made


def _fits(operation: Operation, kinds: tuple[int, ...], *, goes_on: bool) -> bool:
    whole = _ATTEMPTS[operation]
    # What was just created is known: it is not read before it is started.
    if operation == Operation.START and kinds == whole[1:]:
        return True
    return kinds == whole or (kinds == whole[: len(kinds)] and not goes_on)


def _told(moments: set[_Moment], place: LoadPlace) -> str:
    """How many steps, and the first of them."""
    if not moments:
        return "none"
    at_ns, session = min(moments)
    # What has no planned time is told from nothing.
    since_s = (at_ns - place.begin_ns) / 1e9 if at_ns else 0.0
    return f"{len(moments)} steps, the first of them of session {session}, due at {since_s:.6f} s"
