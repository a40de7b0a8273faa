"""What the checker is told beside a history, and what it answers."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from loadtests import history

if TYPE_CHECKING:
    from collections.abc import Iterable

# How many violations of one rule are told in full; all are counted.
TOLD_OF_A_RULE = 20


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A moment at which acknowledged writes may have been lost, and were allowed to.

    Attributes:
        at_ns: right before it.
        back_ns: right after the store answered again.
        why: what happened.
        kept: the durability that outlasts it: writes that were acknowledged with it may not be lost; empty: none.
    """

    at_ns: int
    back_ns: int
    why: str = ""
    kept: str = ""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, for the picture of a violation."""

    name: str
    begin_ns: int
    healed_ns: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a round beside its history.

    Attributes:
        began_ns: what times are told from; 0: the first record's.
        session_ttl_ms: after how long without a write or a touch a session ends; None: it does not.
        ttl_slack_ms: by how much the store's clock may end a session early: it counts in whole milliseconds.
        late_expiry_ms: by how much it may end late, at the most; None: by any time, so that nothing is asked.
        losses: see Loss; rising.
        planned: how many attempts each process was to make; processes that are not named are not counted.
        shared_plans: processes that do what one plan says, whoever of them is free: of these, not what each attempts is
            in the order in which it was planned, but what all of them attempt on each session. All others have plans of
            their own, if any.
        killed: processes that a fault ended: they may have made fewer.
        watchers: processes that watched all sessions from before the first attempt to the end.
        has_audit: whether the audit was exported, all of it.
        faults: what befell the round, for pictures.
    """

    began_ns: int = 0
    session_ttl_ms: int | None = None
    ttl_slack_ms: int = 10
    late_expiry_ms: int | None = None
    losses: tuple[Loss, ...] = ()
    planned: dict[int, int] = {}
    shared_plans: tuple[tuple[int, ...], ...] = ()
    killed: tuple[int, ...] = ()
    watchers: tuple[int, ...] = ()
    has_audit: bool = False
    faults: tuple[Fault, ...] = ()


class Status(enum.StrEnum):
    """What a history shows."""

    VALID = "VALID"
    VIOLATION = "VIOLATION"
    # Neither: an assumption does not hold, or what was seen can be explained and can't be ruled out.
    UNDECIDED = "UNDECIDED"


class Rule(enum.StrEnum):
    """What was violated."""

    ONE_WRITER = "one writer"
    NEXT_VERSION = "next version"
    REAL_WRITER = "real writer"
    ORDER = "order"
    ABSENCE = "absence"
    EXPIRY = "expiry"
    WATCHER = "watcher"
    AUDIT = "audit"
    LOST = "lost"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A record, as it is told in a verdict.

    Attributes:
        kind: the record's, in lower case; `expire` where the store itself ended a session.
        process: its number; 0: the store, or the audit.
        session: the session's number.
        token: which attempt; 0: none.
        writer: whose write was seen; 0: not known.
        expected: what it was derived from, or 0, 0.
        stamp: what was written, read, told or recorded, or 0, 0.
        start_ns: of a row of the audit its place.
        end_ns: likewise; `history.NEVER` where it may be applied yet.
        outcome: the record's, in lower case.
        error: likewise.
        words: all of it in words, times from the round's start.
    """

    kind: str
    process: int
    session: int
    token: int
    writer: int
    expected: tuple[int, int]
    stamp: tuple[int, int]
    start_ns: int
    end_ns: int
    outcome: str
    error: str
    words: str

    @classmethod
    def of(cls, record: Any, origin_ns: int, stamp: tuple[int, int] = (0, 0)) -> Operation:
        """Of a record; with the stamp that is known from elsewhere, where the record has none."""
        found = (int(record["incarnation"]), int(record["version"]))
        return cls(
            kind=history.Kind(int(record["kind"])).name.lower(),
            process=int(record["process"]),
            session=int(record["session"]),
            token=int(record["token"]),
            writer=int(record["writer"]),
            expected=(int(record["expected_incarnation"]), int(record["expected_version"])),
            stamp=found if any(found) else stamp,
            start_ns=int(record["start_ns"]),
            end_ns=int(record["end_ns"]),
            outcome=history.Outcome(int(record["outcome"])).name.lower(),
            error=history.Error(int(record["error"])).name.lower(),
            words=history.describe(record, origin_ns),
        )

    @classmethod
    def by_the_store(cls, session: int, stamp: tuple[int, int], start_ns: int, origin_ns: int) -> Operation:
        """The end of a session whose time has come: not before `start_ns`."""
        moment = history.seconds(start_ns, origin_ns)
        return cls(
            kind="expire",
            process=0,
            session=session,
            token=0,
            writer=0,
            expected=(0, 0),
            stamp=stamp,
            start_ns=start_ns,
            end_ns=history.NEVER,
            outcome="unknown",
            error="none",
            words=f"expiry of session {session}, at ({stamp[0]}, v{stamp[1]}), not before {moment}",
        )


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """Two operations that contradict each other.

    Attributes:
        rule: which rule they violate.
        session: the session's number.
        sentence: what contradicts what.
        first: of the two, the one that is first in the order of versions, or that is relied upon.
        second: the one that contradicts it; None where something is missing.
    """

    rule: Rule
    session: int
    sentence: str
    first: Operation
    second: Operation | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker found.

    Attributes:
        status: VALID, VIOLATION or UNDECIDED.
        violations: at most `TOLD_OF_A_RULE` of each rule.
        counts: of what there was; of violations under `violations: <rule>`.
        reasons: why it is undecided, or what was left out.
        not_judged: what was not looked at, so that it has neither passed nor failed.
    """

    status: Status
    violations: tuple[Violation, ...] = ()
    counts: dict[str, int] = {}
    reasons: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()


class Findings:
    """What is gathered on the way to a verdict."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.counts: dict[str, int] = {}
        self.reasons: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + int(number)

    def accuse(self, rule: Rule, number: int, told: Iterable[Violation]) -> None:
        """Count violations of a rule, and keep some of them."""
        if number:
            self.count(f"violations: {rule}", number)
            room = TOLD_OF_A_RULE - sum(one.rule == rule for one in self.violations)
            self.violations += [one for one, _ in zip(told, range(room), strict=False)]

    def verdict(self) -> Verdict:
        """What follows from it."""
        status = Status.VIOLATION if self.violations else Status.UNDECIDED if self.reasons else Status.VALID
        return Verdict(
            status=status,
            violations=tuple(self.violations),
            counts=self.counts,
            reasons=tuple(self.reasons),
        )
