from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from kairos_core import (
    AuditBacklogFull,
    CorruptState,
    Durability,
    DurabilityNotReached,
    InvalidState,
    KairosError,
    OutcomeUnknown,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    SyncState,
    SyncStatus,
    VersionConflict,
)
from kairos_core.errors import Stamp
from kairos_core.updates import StateUpdate
from loadtests import history
from loadtests.attack.workload import Attacker, Mix, Step, arrivals, due, steps
from loadtests.history import Error, Kind, Outcome, Recorder, Seen
from loadtests.subjects import managed
from loadtests.subjects.managed import translated
from loadtests.subjects.recorded import Recorded
from loadtests.subjects.register import (
    NOBODY,
    DurabilityMissed,
    Held,
    Refused,
    Unknown,
    digest_of,
    event_type,
    payload,
    seen_of,
    session_name,
    session_number,
    token_of,
)
from loadtests.subjects.stored import reading, writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loadtests.history import History

STAMP = Stamp(7, 3)
MEMORY = Durability.parse("memory")


def first(count: int, seed: int, place: int) -> list[Step]:
    """What the instance in a place attempts at first."""
    return list(itertools.islice(steps(seed, place, Mix()), count))


def test_what_is_attempted_follows_from_the_seed() -> None:
    """The same seed and place give the same steps and moments, another seed or place gives others."""
    assert first(2_000, 1, 1) == first(2_000, 1, 1)
    assert first(2_000, 1, 1) != first(2_000, 2, 1)
    assert first(2_000, 1, 1) != first(2_000, 1, 2)
    assert arrivals(1, 1, 100, 10) == arrivals(1, 1, 100, 10)
    assert arrivals(1, 1, 100, 10) != arrivals(1, 2, 100, 10)


def test_the_mix_is_what_was_asked_for() -> None:
    """All operations occur, all sessions are visited, the first more often than the last; arrivals have their rate."""
    found = first(50_000, 3, 1)
    assert {Kind[name] for name in Mix().weights} == {step.kind for step in found}
    tried = Counter(step.kind for step in found if step.is_known)
    assert {Kind.MUTATE} == set(tried)
    assert 0.45 < tried[Kind.MUTATE] / sum(step.kind == Kind.MUTATE for step in found) < 0.55
    visits = Counter(step.session for step in found)
    assert set(range(1, Mix().sessions + 1)) == set(visits)
    assert visits[1] > 4 * visits[Mix().sessions]
    moments = arrivals(3, 1, 1_000, 10)
    assert moments == sorted(moments)
    assert 9_500 < len(moments) < 10_500
    assert 0 < moments[0] <= moments[-1] < 10e9


def test_what_is_late_is_not_skipped() -> None:
    """Every planned moment comes, never before its time, also those that are long past; until there is an order."""
    now = time.monotonic_ns()
    planned = [now - 10**9, now - 10**8, now + 10**6, now + 2 * 10**6]
    came = [(moment, time.monotonic_ns()) for moment in due(planned, lambda: False)]
    assert planned == [moment for moment, _ in came]
    assert all(at >= moment for moment, at in came)
    assert list(due([now + 10**12], lambda: True)) == []


def test_a_state_names_its_writer() -> None:
    """A digest is that of the content, whatever the stamp and the order of keys; two writes never have the same."""
    state = payload("r-1", history.token(3, 12))
    stored = state.replace(incarnation=5, version=9)
    plain = msgspec.to_builtins(stored)
    plain["metadata"] = dict(reversed(plain["metadata"].items()))
    read = msgspec.convert(plain, SyncState)
    assert Seen((5, 9), history.token(3, 12), digest_of(state)) == seen_of(read)
    assert len({digest_of(payload("r-1", history.token(place, 1))) for place in range(2_000)}) == 2_000
    assert digest_of(state) != digest_of(stored.replace(increment_ms=77_777))
    assert seen_of(state.replace(metadata={})).writer == NOBODY
    assert 200 < len(msgspec.json.encode(state)) < 900


def test_names_and_tokens_come_back() -> None:
    """Ids of sessions and event types say which session and which attempt; anything else is nobody's."""
    assert session_number("4xab", session_name("4xab", 17)) == 17
    assert session_number("4xab", "5xab-17") is None
    assert session_number("4xab", "table-12") is None
    assert token_of(event_type(history.token(9, 1))) == history.token(9, 1)
    assert [token_of(text) for text in ("expired", "w.", "w.xyz", None, "w." + "g" * 16)] == [NOBODY] * 5


ERRORS: list[tuple[KairosError, Any]] = [
    (VersionConflict("s", STAMP, STAMP), (Refused, Error.CONFLICT, STAMP, False)),
    (SessionExists("s", STAMP), (Refused, Error.EXISTS, STAMP, False)),
    (SessionNotFound("s"), (Refused, Error.NOT_FOUND, (0, 0), True)),
    (StoreUnavailable("s", "gone"), (Refused, Error.UNAVAILABLE, (0, 0), False)),
    (AuditBacklogFull(1, 2), (Refused, Error.BACKLOG_FULL, (0, 0), False)),
    (CorruptState("s", "bytes"), (Refused, Error.CORRUPT, (0, 0), False)),
    (InvalidState("no"), (Refused, Error.OTHER, (0, 0), False)),
    (OutcomeUnknown("s", "o", "gone"), (Unknown, Error.OUTCOME_UNKNOWN)),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS, ids=lambda value: type(value).__name__)
def test_errors_say_what_became_of_the_attempt(error: KairosError, expected: Any) -> None:
    """G6: what is definite is refused, the rest is unknown, and what is stored instead is kept."""
    found = translated(error)
    if isinstance(found, Refused):
        assert expected == (Refused, found.error, found.stamp, found.absent)
    else:
        assert isinstance(found, Unknown)
        assert expected == (Unknown, found.error)


def test_an_error_that_is_not_definite_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """G6: `definite` decides, not the error's name; and what fell short of its durability was applied."""
    monkeypatch.setattr(VersionConflict, "definite", False)
    assert isinstance(translated(VersionConflict("s", STAMP, STAMP)), Unknown)
    for result in (True, payload("r-1", 5)):
        missed = DurabilityNotReached("s", "o", wanted=MEMORY, achieved=MEMORY, result=result, cause="none")
        assert isinstance(translated(missed), DurabilityMissed)


@pytest.mark.parametrize(
    ("error", "while_reading", "while_writing"),
    [
        (redis.ConnectionError("closed"), Refused, Unknown),
        (redis.TimeoutError("no answer"), Refused, Unknown),
        (ConnectionResetError(), Refused, Unknown),
        (redis.ResponseError("OOM"), Refused, Refused),
        (redis.WatchError(), Refused, redis.WatchError),
    ],
)
def test_what_became_of_a_rivals_attempt(
    error: Exception, while_reading: type[Exception], while_writing: type[Exception]
) -> None:
    """What fails before anything was written is refused; afterwards only what the server itself refused is."""
    with pytest.raises(while_reading), reading():
        raise error
    with pytest.raises(while_writing), writing():
        raise error


def update(event: str, state: SyncState | None) -> StateUpdate:
    """What a watch of the core gives."""
    return StateUpdate(
        session_id="r-1",
        incarnation=7,
        version=3,
        event_type=event,
        operation_id="",
        occurred_at=None,
        state=state,
    )


OWN = history.token(3, 12)
STATE = payload("r-1", OWN).replace(incarnation=7, version=3)


@pytest.mark.parametrize(
    ("event", "state", "kind", "writer"),
    [
        (event_type(OWN), STATE, Kind.TOLD, OWN),
        (event_type(OWN), None, Kind.TOLD_REMOVED, OWN),
        ("expired", None, Kind.TOLD_REMOVED, 0),
        ("resynchronised", STATE, Kind.RESYNCHRONISED, OWN),
        ("resynchronised", None, Kind.RESYNCHRONISED_ABSENT, 0),
        (event_type(OWN + 1), STATE, Kind.TOLD, NOBODY),
        ("created", STATE, Kind.TOLD, NOBODY),
        ("deleted", None, Kind.TOLD_REMOVED, NOBODY),
    ],
)
def test_what_a_watcher_was_told(event: str, state: SyncState | None, kind: Kind, writer: int) -> None:
    """G8: a write, a removal, or what was read instead; and whose, if its state and its event type agree."""

    class Watch:
        def receive(self, timeout_s: float) -> StateUpdate | None:
            return update(event, state) if timeout_s else None

    watch = managed.Watch(Watch(), lambda result: result)
    before_ns = time.monotonic_ns()
    assert watch.receive(0.0) is None
    since_ns = time.monotonic_ns()
    first_, second = watch.receive(1.0), watch.receive(1.0)
    assert first_ is not None
    assert second is not None
    assert ("r-1", kind, (7, 3), writer) == (second.session_id, second.kind, second.seen.stamp, second.seen.writer)
    assert (digest_of(STATE) if state else 0) == second.seen.digest
    if kind in {Kind.RESYNCHRONISED, Kind.RESYNCHRONISED_ABSENT}:
        # All that comes without a pause may have been read when the first of it was.
        assert before_ns <= first_.start_ns == second.start_ns <= since_ns < second.received_ns
    else:
        assert first_.received_ns < second.start_ns == second.received_ns


class Scripted:
    """A subject that answers as it is told to."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.known: list[Held | None] = []

    def _answer(self, *_: object) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    create = get = update = delete = touch = _answer

    def mutate(self, session_id: str, token: int, shown: Callable[[Seen], None], known: Held | None = None) -> Any:
        """Show two states, one after the other; before them what is known."""
        del session_id, token
        self.known.append(known)
        if known is not None:
            shown(known.seen)
        for version in (3, 4):
            shown(Seen((7, version), 99, 5))
        return self._answer()

    def watch(self) -> Any:
        """Nobody watches."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., History]:
    """What is recorded of steps to which a subject answers so."""

    def record(*pairs: tuple[Kind | Step, object], known: list[Held | None] | None = None) -> History:
        subject = Scripted(*(answer for _, answer in pairs))
        with Recorder(tmp_path / "9.history", 9) as recorder:
            attacker = Attacker(subject, recorder, "r")
            for step, _ in pairs:
                attacker.attempt(step if isinstance(step, Step) else Step(step, 1, is_old=False))
            (known if known is not None else []).extend(subject.known)
        return history.read(tmp_path / "9.history")

    return record


HELD = Held(Seen((7, 3), 99, 5), None)
TRIED = Step(Kind.MUTATE, 1, is_old=False, is_known=True)


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        (Kind.GET, HELD, (Outcome.OK, Error.NONE, 7, 3, 99)),
        (Kind.GET, None, (Outcome.OK, Error.NONE, 0, 0, 0)),
        (Kind.CREATE, HELD, (Outcome.OK, Error.NONE, 7, 3, 99)),
        (Kind.CREATE, Refused(Error.EXISTS, (7, 2)), (Outcome.REFUSED, Error.EXISTS, 7, 2, 0)),
        (Kind.CREATE, Unknown(), (Outcome.UNKNOWN, Error.OUTCOME_UNKNOWN, 0, 0, 0)),
        (Kind.CREATE, DurabilityMissed(HELD), (Outcome.OK, Error.DURABILITY, 7, 3, 99)),
        (Kind.CREATE, ZeroDivisionError(), (Outcome.UNKNOWN, Error.OTHER, 0, 0, 0)),
        (Kind.DELETE, True, (Outcome.OK, Error.NONE, 0, 0, 0)),
        (Kind.DELETE, False, (Outcome.REFUSED, Error.NOT_FOUND, 0, 0, 0)),
        (Kind.DELETE, DurabilityMissed(result=True), (Outcome.OK, Error.DURABILITY, 0, 0, 0)),
        (Kind.TOUCH, True, (Outcome.OK, Error.NONE, 0, 0, 0)),
        (Kind.TOUCH, False, (Outcome.REFUSED, Error.NOT_FOUND, 0, 0, 0)),
        (Kind.TOUCH, None, (Outcome.UNKNOWN, Error.OTHER, 0, 0, 0)),
        (Kind.DELETE, Refused(Error.UNAVAILABLE), (Outcome.REFUSED, Error.UNAVAILABLE, 0, 0, 0)),
    ],
)
def test_each_attempt_is_recorded_as_it_ended(
    kind: Kind, answer: object, expected: tuple[int, ...], recorded: Callable[..., History]
) -> None:
    """One record per attempt, whatever the subject answers; what may be applied yet has no end."""
    (record,) = recorded((kind, answer))
    fields = ("outcome", "error", "incarnation", "version", "writer")
    assert expected == tuple(int(record[name]) for name in fields)
    assert kind == record["kind"]
    assert (expected[0] == Outcome.UNKNOWN) == (record["end_ns"] == history.NEVER)
    is_written = kind == Kind.CREATE and expected[0] != Outcome.REFUSED
    assert is_written == (record["digest"] == digest_of(payload("r-1", history.token(9, 1))))


def test_what_is_asked_for_is_written_and_recorded(tmp_path: Path) -> None:
    """A status other than that of a session that runs is in what is written and in its digest; times are answered."""

    class Echo(Scripted):
        """Answers what it was asked to write."""

        def create(self, *arguments: Any) -> Held:
            """See `Register`."""
            state = payload(*arguments).replace(incarnation=5, version=1)
            return Held(seen_of(state), state)

    with Recorder(tmp_path / "9.history", 9) as recorder:
        answer = Recorded(Echo(), recorder, "r").create(1, planned_ns=7, status=SyncStatus.PENDING)
    (record,) = history.read(tmp_path / "9.history")
    assert isinstance(answer.result, Held)
    assert SyncStatus.PENDING == answer.result.state.status
    assert answer.result.seen.digest == record["digest"] != digest_of(payload("r-1", history.token(9, 1)))
    assert (answer.begin_ns, answer.end_ns, 7) == tuple(
        int(record[name]) for name in ("start_ns", "end_ns", "planned_ns")
    )


def test_a_mutation_is_recorded_with_what_it_was_shown(recorded: Callable[..., History]) -> None:
    """What its function was shown are reads within it, and it is derived from the last of them."""
    mutation, *shown = recorded((Kind.MUTATE, Held(Seen((7, 5), 8, 5), None)))
    assert (mutation["expected_incarnation"], mutation["expected_version"], mutation["version"]) == (7, 4, 5)
    assert [3, 4] == [int(read["version"]) for read in shown]
    for read in shown:
        assert (read["kind"], read["writer"]) == (Kind.GET, 99)
        assert read["expected_version"] == read["version"]
        assert mutation["start_ns"] <= read["start_ns"] <= read["end_ns"] <= mutation["end_ns"]


def test_what_is_known_is_not_recorded_as_read(recorded: Callable[..., History]) -> None:
    """What a mutation is tried on unread is no read; what its function is shown later is, be it the same."""
    _, mutation, *shown = recorded((Kind.GET, HELD), (TRIED, Held(Seen((7, 5), 8, 5), None)))
    assert (mutation["expected_incarnation"], mutation["expected_version"], mutation["version"]) == (7, 4, 5)
    assert [3, 4] == [int(read["version"]) for read in shown]
    assert mutation["start_ns"] <= shown[0]["start_ns"]


def test_which_state_is_known(recorded: Callable[..., History]) -> None:
    """A mutation that is to be tried on something known is: on what is held, or else on what was; no other one is."""
    later = Held(Seen((7, 5), 8, 5), None)
    known: list[Held | None] = []
    recorded(
        (TRIED, Refused(Error.CONFLICT, (7, 2))),
        (Kind.GET, HELD),
        (Kind.MUTATE, later),
        (TRIED, later),
        (TRIED._replace(is_old=True), Refused(Error.CONFLICT, (7, 9))),
        (TRIED, Refused(Error.NOT_FOUND, absent=True)),
        known=known,
    )
    assert [None, None, later, later, later] == known


def test_what_is_not_held_is_read_or_created_first(recorded: Callable[..., History]) -> None:
    """The number of attempts is that of the steps: an update of what is not held is a read, or a creation."""
    records = recorded(
        (Kind.UPDATE, HELD),
        (Kind.UPDATE, Held(Seen((7, 4), 8, 5), None)),
        (Kind.UPDATE, Refused(Error.CONFLICT, (7, 6))),
        (Kind.DELETE_IF, None),
        (Kind.UPDATE, HELD),
        (Kind.DELETE_IF, True),
        (Kind.DELETE_IF, HELD),
    )
    kinds = [Kind(int(kind)) for kind in records["kind"]]
    assert [Kind.GET, Kind.UPDATE, Kind.UPDATE, Kind.GET, Kind.CREATE, Kind.DELETE_IF, Kind.CREATE] == kinds
    assert [0, 3, 4, 0, 0, 3, 0] == [int(version) for version in records["expected_version"]]
