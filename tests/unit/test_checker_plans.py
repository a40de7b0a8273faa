"""A load test that did not attempt what its seed says shows nothing, whatever its processes say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from loadtests.attack.rounds import LoadFacts, LoadPlace
from loadtests.history import Kind, Outcome, token
from loadtests.judging.plans import not_as_planned
from loadtests.judging.story import history_of, record_of
from loadtests.load.plan import Operation, plan
from loadtests.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIO = Scenario(about="", sessions=5, duration_s=8.0, think_s=0.5, life_turns=4, ramp_s=1.0)
KINDS = {
    Operation.CREATE: [Kind.CREATE],
    Operation.START: [Kind.UPDATE],
    Operation.TURN: [Kind.GET, Kind.UPDATE],
    Operation.END: [Kind.GET, Kind.UPDATE, Kind.DELETE_IF],
    Operation.MESSAGE: [],
}
HANDS = {0: [1, 2], 1: [257, 258]}
CLOSER = 255
Records = list[dict[str, Any]]


def lived(scenario: Scenario = SCENARIO) -> tuple[Records, LoadFacts]:
    """What two instances recorded that did all they were to do, and what they say of it."""
    records: Records = []
    places = []
    for place, hands in HANDS.items():
        begin_ns = 10**12 + 977 * place
        steps = list(plan(scenario, 3, place, 2))
        attempts = [(step, kind) for step in steps for kind in KINDS[step.operation]]
        for number, (step, kind) in enumerate(attempts, 1):
            at_ns = begin_ns + step.due_ns
            fields = {"process": hands[step.session % 2], "session": step.session, "planned_ns": at_ns}
            records.append(record_of(kind, at_ns + number, at_ns + number, token=token(hands[0], number), **fields))
        places.append(
            LoadPlace(
                place=place,
                begin_ns=begin_ns,
                planned=len(steps),
                begun=len(steps),
                dropped=0,
                attempted=len(attempts),
                histories=hands,
            )
        )
    records.append(
        record_of(Kind.CREATE, 2 * 10**12, 2 * 10**12, process=CLOSER, session=10**9, token=token(CLOSER, 1))
    )
    places[0].closers.append(CLOSER)
    places[0].attempted += 1
    return records, LoadFacts(scenario=scenario, seed=3, places=places)


def test_what_was_planned_and_done_is_beyond_doubt() -> None:
    """All steps, in whichever hands, and what was attempted beside them; messages leave nothing to compare."""
    for scenario in (SCENARIO, msgspec.structs.replace(SCENARIO, is_shared=True, message_s=0.5)):
        records, load = lived(scenario)
        assert {Kind.CREATE, Kind.GET, Kind.UPDATE, Kind.DELETE_IF} == {one["kind"] for one in records}
        assert [] == not_as_planned(history_of(records), load)


def test_a_step_may_end_early() -> None:
    """Where nothing was found, or nothing known, what follows is left out, or read first."""
    records, load = lived()
    (turn, *_) = [place for place, one in enumerate(records) if one["kind"] == Kind.GET]
    del records[turn + 1]
    # A session that was not known when it was started.
    start = next(place for place, one in enumerate(records) if one["kind"] == Kind.UPDATE)
    records.insert(start, {**records[start], "kind": Kind.GET, "start_ns": records[start]["start_ns"] - 1})
    assert [] == not_as_planned(history_of(records), load)


def left_out(records: Records, load: LoadFacts) -> None:
    """A step was left out, and nobody says so."""
    records.pop(0)
    load.places[0].attempted -= 1


def not_given_up(records: Records, load: LoadFacts) -> None:
    """A step is said to have been given up, and is there."""
    del records
    load.places[0].begun -= 1
    load.places[0].dropped += 1


def added(records: Records, load: LoadFacts) -> None:
    """An attempt that nobody planned."""
    records.append({**records[0], "planned_ns": records[0]["planned_ns"] + 1})
    load.places[0].attempted += 1


def added_without_a_time(records: Records, load: LoadFacts) -> None:
    """An attempt that has no planned time, among those of a hand."""
    records.append({**records[0], "planned_ns": 0})
    load.places[0].attempted += 1


def done_with_another(records: Records, load: LoadFacts) -> None:
    """A step that was done with another session."""
    del load
    records[0]["session"] += 1


def something_else(records: Records, load: LoadFacts) -> None:
    """A read where a write was planned."""
    del load
    records[0]["kind"] = Kind.GET


def done_twice(records: Records, load: LoadFacts) -> None:
    """A step that was done twice."""
    records.append(dict(records[0]))
    load.places[0].attempted += 1


def not_deleted(records: Records, load: LoadFacts) -> None:
    """The last update of a session was answered, and its deletion left out."""
    delete = next(place for place, one in enumerate(records) if one["kind"] == Kind.DELETE_IF)
    records[delete - 1] |= {"incarnation": 1, "outcome": Outcome.OK}
    records.pop(delete)
    load.places[0].attempted -= 1


def not_written(records: Records, load: LoadFacts) -> None:
    """A state was read, and nothing was written for it."""
    turn = next(place for place, one in enumerate(records) if one["kind"] == Kind.GET)
    records[turn] |= {"incarnation": 1, "outcome": Outcome.OK}
    records.pop(turn + 1)
    load.places[0].attempted -= 1


def in_another_order(records: Records, load: LoadFacts) -> None:
    """A turn that was written before it was read."""
    del load
    turn = next(place for place, one in enumerate(records) if one["kind"] == Kind.GET)
    records[turn]["start_ns"] = records[turn + 1]["start_ns"] + 1


def miscounted(records: Records, load: LoadFacts) -> None:
    """An instance that left fewer records than it says."""
    del records
    load.places[1].attempted += 1


def planned_beside(records: Records, load: LoadFacts) -> None:
    """What is beside the plan has a planned time."""
    del load
    records[-1]["planned_ns"] = 5


def another_seed(records: Records, load: LoadFacts) -> None:
    """What was attempted is that of another seed."""
    del records
    load.seed += 1


def another_beginning(records: Records, load: LoadFacts) -> None:
    """What was attempted began at another moment."""
    del records
    load.places[1].begin_ns += 1


def an_instance_less(records: Records, load: LoadFacts) -> None:
    """An instance that says nothing of itself."""
    del records
    load.places.pop(0)


def counted_wrong(records: Records, load: LoadFacts) -> None:
    """More steps done than were planned."""
    del records
    load.places[0].begun += 1


def planned_wrong(records: Records, load: LoadFacts) -> None:
    """An instance that says it had more to do than it had."""
    del records
    load.places[0].planned += 1
    load.places[0].begun += 1


BROKEN: dict[Callable[[Records, LoadFacts], None], str] = {
    left_out: "instance 0 says that it gave up 0 steps, and of 1 nothing was attempted: 1 steps, the first of them of",
    not_given_up: "instance 0 says that it gave up 1 steps, and of 0 nothing was attempted: none",
    added: "instance 0 attempted what was not planned: 1 steps, the first of them of session",
    added_without_a_time: "instance 0 attempted what was not planned: 1 steps",
    done_with_another: "instance 0 attempted what was not planned: 1 steps",
    something_else: "instance 0 attempted something else than was planned: 1 steps",
    done_twice: "instance 0 attempted something else than was planned: 1 steps",
    not_deleted: "instance 0 attempted something else than was planned: 1 steps",
    not_written: "instance 0 attempted something else than was planned: 1 steps",
    in_another_order: "instance 0 attempted something else than was planned: 1 steps",
    miscounted: "instance 1 says that it made",
    planned_beside: "instance 0 has planned attempts among those beside its plan",
    another_seed: "attempted what was not planned",
    another_beginning: "instance 1 attempted what was not planned",
    an_instance_less: "the instances [1] took part",
    counted_wrong: "instance 0 did",
    planned_wrong: "steps were planned, and the seed says",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_what_was_not_done_as_planned(broken: Callable[[Records, LoadFacts], None]) -> None:
    """Whatever is not as the seed says, or not as the instances say, is told of."""
    records, load = lived()
    broken(records, load)
    found = not_as_planned(history_of(records), load)
    assert any(BROKEN[broken] in one for one in found), found


def test_what_was_given_up_may_be_missing() -> None:
    """Steps that were given up may be missing, and no others; where there were messages, they may have been those."""
    records, load = lived()
    not_given_up([], load)
    left_out(records, load)
    assert [] == not_as_planned(history_of(records), load)
    records, load = lived(msgspec.structs.replace(SCENARIO, message_s=0.5))
    not_given_up([], load)
    assert [] == not_as_planned(history_of(records), load)
    left_out(records, load)
    assert [] == not_as_planned(history_of(records), load)
    records.pop(0)
    load.places[0].attempted -= 1
    assert "nothing was attempted" in not_as_planned(history_of(records), load)[0]
