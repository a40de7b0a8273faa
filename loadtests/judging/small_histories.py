"""Random histories of one session with a handful of operations: valid ones, and ones that something was done to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadtests.history import NEVER, Error, Kind, Outcome, token
from loadtests.judging.checker import Facts, Loss
from loadtests.judging.story import history_of, record_of

if TYPE_CHECKING:
    from random import Random

    from loadtests.history import History

_MS = 1_000_000
_KINDS = (Kind.CREATE, Kind.GET, Kind.UPDATE, Kind.MUTATE, Kind.DELETE, Kind.DELETE_IF, Kind.TOUCH)
_ATTEMPTED = {
    "writes": (4, 4, 7, 2, 3, 1, 0),
    "lives": (6, 4, 3, 0, 6, 2, 2),
    "absence": (5, 6, 1, 0, 4, 1, 3),
    "unknown": (5, 4, 5, 1, 5, 2, 1),
}
_CREATED_AGAIN = 3


class _Store:
    """A register, and what becomes known of it."""

    def __init__(self, random: Random, ttl_ms: int | None) -> None:
        self._random, self._ttl_ms = random, ttl_ms
        self.held: tuple[int, int, int] | None = None
        self._refreshed = 0
        self._incarnation = 0
        self.known: list[tuple[int, int]] = []
        # All that it ever was, for a loss to go back to, and by whom.
        self._was: list[tuple[tuple[int, int, int] | None, int, int]] = [(None, 0, 0)]
        self.undone: frozenset[int] = frozenset()
        self.notes: list[dict[str, Any]] = []

    def expire(self, now: int) -> None:
        """End a state whose time has come; not always at once."""
        due = self.held is not None and self._ttl_ms is not None and self._refreshed + self._ttl_ms * _MS <= now
        if due and self._random.random() < 0.8:
            self.remove(0, now)

    def make(self, stamp: tuple[int, int], writer: int, now: int) -> tuple[int, int, int]:
        """Write a state."""
        self.held = (*stamp, writer)
        self._refreshed = now
        self.known.append(stamp)
        self._was.append((self.held, now, writer))
        self._note(Kind.TOLD, self.held, now)
        return self.held

    def create(self, writer: int, now: int) -> tuple[int, int, int]:
        """Write the first state of a new incarnation."""
        self._incarnation += self._random.randint(1, 2)
        return self.make((self._incarnation, 1), writer, now)

    def remove(self, writer: int, now: int) -> None:
        """Remove what is held."""
        if self.held is None:
            raise AssertionError("nothing can't be removed")
        n, v, _ = self.held
        self.held = None
        self._was.append((None, now, writer))
        self._note(Kind.TOLD_REMOVED, (n, v + 1, writer), now)

    def lose(self) -> None:
        """Go back to something that it once was, and note whose doing that undoes."""
        back = self._random.randrange(max(len(self._was) - 3, 0), len(self._was))
        self.held, self._refreshed, _ = self._was[back]
        self.undone = frozenset(writer for _, _, writer in self._was[back + 1 :])

    def touch(self, now: int) -> None:
        """Let it live on."""
        self._refreshed = now

    def _note(self, kind: Kind, event: tuple[int, int, int], now: int) -> None:
        if self._random.random() < 0.15:
            told = now + self._random.randint(0, 4) * _MS
            n, v, writer = event
            self.notes.append(record_of(kind, told, told, incarnation=n, version=v, writer=writer, outcome=Outcome.OK))


def draw(random: Random) -> tuple[History, Facts, bool]:
    """Draw a history: what is known of it, and whether it was spoiled, which may have left it valid."""
    ttl_ms = random.choice([None, None, 4, 8])
    records, _ = _valid(random, ttl_ms)
    is_perturbed = random.random() < 0.9
    if is_perturbed:
        for _ in range(random.choice([2, 3, 4, 5])):
            _perturb(random, records)
    return history_of(records), Facts(session_ttl_ms=ttl_ms, ttl_slack_ms=0), is_perturbed


def draw_with_loss(random: Random, kept: str = "") -> tuple[History, Facts, frozenset[int]]:
    """Draw a valid history in which the store went back once to something that it had been, and what that undid.

    Args:
        random: what is drawn from.
        kept: what the loss is said to have kept.
    """
    ttl_ms = random.choice([None, None, 4, 8])
    killed = random.randint(4, 20)
    up = killed + random.randint(1, 4)
    at, back = killed - random.randint(0, 2), up + random.randint(0, 2)
    records, undone = _valid(random, ttl_ms, (killed * _MS, up * _MS))
    losses = (Loss(at_ns=at * _MS, back_ns=back * _MS, kept=kept),)
    return history_of(records), Facts(session_ttl_ms=ttl_ms, ttl_slack_ms=0, losses=losses), undone


def _valid(
    random: Random, ttl_ms: int | None, loss: tuple[int, int] | None = None
) -> tuple[list[dict[str, Any]], frozenset[int]]:
    """Let operations happen at some time within their intervals, and write down what they would have been told."""
    count = random.randint(2, 9)
    weights = _ATTEMPTED[random.choice(sorted(_ATTEMPTED))]
    unknown = random.choice([0, 0.1, 0.35])
    span = random.choice([8, 16, 30])
    planned = []
    for kind in random.choices(_KINDS, weights, k=count):
        start = random.randint(1, span)
        end = start + random.choice([0, 1, 2, 4, 9])
        is_open = random.random() < unknown
        at = random.randint(start, end + (random.choice([0, 5, 15]) if is_open else 0)) + random.random()
        planned.append((at, start * _MS, end * _MS, kind, is_open))
    store = _Store(random, ttl_ms)
    records = []
    lost = False
    for number, (at, start, end, kind, is_open) in enumerate(sorted(planned), 1):
        now = int(at) * _MS
        if loss and not lost and now >= loss[0]:
            lost = True
            store.lose()
        if loss and loss[0] <= now < loss[1]:
            # Nobody answers.
            records.append(_forget(random, {**record_of(kind, start, end), "token": token(number, 1)}))
            continue
        store.expire(now)
        record = _attempt(random, store, number, now, record_of(kind, start, end))
        records.append(_forget(random, record) if is_open else record)
    records += store.notes
    for number, record in enumerate(records, 1):
        record["process"] = number
        record["token"] = record.get("token") or token(number, 1)
    return records, store.undone


def _forget(random: Random, record: dict[str, Any]) -> dict[str, Any]:
    """Leave the outcome open."""
    for name in ("incarnation", "version", "writer", "error"):
        record.pop(name, None)
    record["outcome"] = random.choice([Outcome.UNKNOWN, Outcome.PENDING])
    record["end_ns"] = NEVER
    return record


def _attempt(  # noqa: PLR0911 - each kind of attempt has its answers
    random: Random, store: _Store, number: int, now: int, record: dict[str, Any]
) -> dict[str, Any]:
    """Let an attempt happen, and write down what it was answered."""
    kind: Kind = record["kind"]
    own = record["token"] = token(number, 1)
    record["outcome"] = Outcome.OK
    held = store.held
    if kind in {Kind.UPDATE, Kind.MUTATE, Kind.DELETE_IF}:
        newest = held[:2] if held and random.random() < 0.75 else None
        expected = newest or random.choice(store.known or [(1, 1)])
        record["expected_incarnation"], record["expected_version"] = expected
        if held is None or held[:2] != expected:
            return _refuse(random, record, held, Error.CONFLICT)
        if kind == Kind.DELETE_IF:
            store.remove(own, now)
            return record
        return _named(record, store.make((expected[0], expected[1] + 1), own, now))
    if kind == Kind.CREATE:
        return _refuse(random, record, held, Error.EXISTS) if held else _named(record, store.create(own, now))
    if kind == Kind.GET:
        if held:
            _named(record, held if random.random() < 0.8 else (*held[:2], 0))
        return record
    if held is None:
        return _refuse(random, record, held, Error.NOT_FOUND)
    if kind == Kind.DELETE:
        store.remove(own, now)
    else:
        store.touch(now)
    return record


def _named(record: dict[str, Any], held: tuple[int, int, int]) -> dict[str, Any]:
    record["incarnation"], record["version"], record["writer"] = held
    return record


def _refuse(random: Random, record: dict[str, Any], held: tuple[int, int, int] | None, error: Error) -> dict[str, Any]:
    record["outcome"] = Outcome.REFUSED
    record["error"] = error if held else Error.NOT_FOUND
    if held and random.random() < 0.8:
        record["incarnation"], record["version"] = held[:2]
    return record


def _perturb(random: Random, records: list[dict[str, Any]]) -> None:  # noqa: C901 - a list of what can be done
    """Do something to a history that is likely to make it impossible."""
    record = random.choice(records)
    what = random.choice(["shift", "shift", "shift", "stamp", "outcome", "drop", "writer", "absent", "swap", "refuse"])
    if what == "shift":
        by = random.choice([-12, -6, -3, -1, 1, 3, 6, 12]) * _MS
        record["start_ns"] = max(record["start_ns"] + by, 0)
        record["end_ns"] = record["end_ns"] if record["end_ns"] == NEVER else max(record["end_ns"] + by, 0)
    elif what == "stamp" and record.get("incarnation"):
        record[random.choice(["incarnation", "version"])] += random.choice([-1, 1])
        record["incarnation"], record["version"] = max(record["incarnation"], 1), max(record["version"], 1)
    elif what == "outcome" and record["end_ns"] != NEVER and record["kind"] < Kind.TOLD:
        _forget(random, record)
    elif what == "drop" and len(records) > 1:
        records.remove(record)
    elif what == "writer" and record["kind"] == Kind.GET and record.get("writer"):
        record["writer"] = random.choice(records)["token"]
    elif what == "absent" and record["kind"] == Kind.GET and record["outcome"] == Outcome.OK:
        record["incarnation"] = record["version"] = record["writer"] = 0
    elif what == "swap":
        other = random.choice(records)
        if NEVER not in {record["end_ns"], other["end_ns"]}:
            for name in ("start_ns", "end_ns"):
                record[name], other[name] = other[name], record[name]
    elif what == "refuse" and record["kind"] in {Kind.CREATE, Kind.UPDATE, Kind.MUTATE}:
        record["outcome"], record["error"] = Outcome.REFUSED, Error.UNAVAILABLE
        record["incarnation"] = record["version"] = record["writer"] = 0
