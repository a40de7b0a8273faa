"""The judged histories of a run, of attacks and of load tests alike, and which guarantees each of them bears on.

A history bears on a guarantee only where something happened in it that the guarantee is about: a write that nobody
contends for says nothing of rivals. What is shown by no history stands here, too, with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from loadtests.judging.verdict import Rule, Status
from reports.evidence import LOAD, VALIDATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reports.evidence import Evidence

# Whose histories say something of the core.
OURS = ("kairos", "kairos_async")
# Faults that end the store that holds the sessions, so that what it kept in memory alone is gone.
_STORE_ENDS = ("Valkey killed", "failover", "failover in the cluster")
# Arenas in which an answer waits for the disk, or for a replica.
_DURABLE = ("fsync", "replicated")
_REPLIES_DROPPED = "replies dropped"
_SHORT_LIVED = "short-lived"
_VIOLATIONS = "violations: "

# What each rule of the judge says of the guarantees. A finding accuses all that it may be of: it does not say more.
BREAKS: Mapping[Rule, tuple[str, ...]] = {
    # Two attempts were both told that they made the same version, so one of them is overwritten.
    Rule.ONE_WRITER: ("G1",),
    # A write took effect on another version than the one that it was derived from.
    Rule.NEXT_VERSION: ("G1",),
    # Something was seen that nobody wrote so: the read is wrong; or it had been refused, and the refusal is wrong.
    Rule.REAL_WRITER: ("G2", "G6"),
    # A read went back in time, or ahead of it.
    Rule.ORDER: ("G2",),
    # A session was read as absent that was there, or as there when it was gone.
    Rule.ABSENCE: ("G2",),
    # A session ended before its time, or did not end.
    Rule.EXPIRY: ("G9",),
    Rule.WATCHER: ("G8",),
    Rule.AUDIT: ("G7",),
    # An acknowledged write is gone that was to outlast the loss, by the durability that was asked for.
    Rule.LOST: ("G1", "G11"),
}


class Judged(NamedTuple):
    """A history, and what the judge says of it.

    Attributes:
        name: in words.
        subject: whose.
        arena: where it took place; `load` of a load test.
        fault: what befell it; empty: nothing.
        has_hit: whether that hit; of a calm one False.
        status: VALID, VIOLATION or UNDECIDED.
        counts: the judge's.
        file: a folder, or what was judged.
        sentences: what contradicts what.
    """

    name: str
    subject: str
    arena: str
    fault: str
    has_hit: bool
    status: str
    counts: Mapping[str, int]
    file: str
    sentences: tuple[str, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether all that was seen is explained."""
        return self.status == Status.VALID and not self.broken

    @property
    def is_violation(self) -> bool:
        """Whether something that was seen must not be."""
        return self.status == Status.VIOLATION or bool(self.broken)

    def count(self, name: str) -> int:
        """One of the judge's counts; 0: it has none."""
        return self.counts.get(name, 0)

    @property
    def broken(self) -> dict[str, int]:
        """The guarantees that are accused, each with the number of violations."""
        found: dict[str, int] = {}
        for rule, guarantees in BREAKS.items():
            number = self.count(f"{_VIOLATIONS}{rule}")
            for guarantee in guarantees if number else ():
                found[guarantee] = found.get(guarantee, 0) + number
        return found


class Shows(NamedTuple):
    """When a history bears on a guarantee, and what it then shows.

    Attributes:
        where: whether it does.
        counts: the judge's counts that are told with it, each with its words.
        sentence: what was judged, after "In so many histories".
    """

    where: Callable[[Judged], bool]
    counts: Mapping[str, str]
    sentence: str


# Not here, since no history shows them: G3 (round trips are not in histories), G4 (keys, receipts and deadlines are
# not), G10 (nothing waits for a deadline that passes), G12 (no round recovers anything), G13 (no round alters the
# trail), G14 (rounds have safe ground only). Those have directed checks and mutants alone.
SHOWS: Mapping[str, Shows] = {
    "G1": Shows(
        lambda one: one.count("refused") > 0,
        {"writes acknowledged": "writes acknowledged", "refused": "attempts refused"},
        "rivals wrote the same sessions, and each version had one writer, who had been given the one before it",
    ),
    "G2": Shows(
        lambda one: one.count("reads") > 0,
        {"reads": "reads", "writes acknowledged": "writes acknowledged"},
        "there is an order of all reads and writes that explains every answer, each at one moment of its own time",
    ),
    "G5": Shows(
        lambda one: one.fault == _REPLIES_DROPPED and one.has_hit,
        {"unknown": "attempts never answered"},
        "replies to writes that had been applied were dropped, and no write took effect twice",
    ),
    "G6": Shows(
        lambda one: one.count("unknown") > 0,
        {"unknown": "attempts ended as unknown", "refused": "were refused"},
        "some attempts were never answered and said so, and nothing that was refused was seen by anybody",
    ),
    "G7": Shows(
        lambda one: one.count("audit rows") > 0,
        {"audit rows": "rows", "writes acknowledged": "writes acknowledged"},
        "the audit was exported, and each write that took effect was one row in its place",
    ),
    "G8": Shows(
        lambda one: one.count("notifications") > 0,
        {"notifications": "notifications"},
        "watchers never went back, and ended at the final state",
    ),
    "G9": Shows(
        lambda one: _SHORT_LIVED in one.arena,
        {"sessions": "sessions"},
        "sessions were to end within a second of their last write, and none ended before its time",
    ),
    "G11": Shows(
        lambda one: one.arena in _DURABLE and one.fault in _STORE_ENDS and one.has_hit,
        {"writes acknowledged": "writes acknowledged as durable"},
        "the store was ended amid writes, and what had been acknowledged as durable was there afterwards",
    ),
}


def histories(evidence: Evidence) -> list[Judged]:
    """All histories of the core: of the rounds, of the subjects' attacks, of the load tests."""
    return [*_of_rounds(evidence), *_of_subjects(evidence), *_of_loads(evidence)]


def bearing(guarantee: str, found: list[Judged]) -> list[Judged]:
    """Those that bear on a guarantee, whatever the judge says of them."""
    shows = SHOWS.get(guarantee)
    return [one for one in found if shows.where(one)] if shows else []


def _of_rounds(evidence: Evidence) -> list[Judged]:
    rounds = evidence.validation.rounds if evidence.validation else []
    return [
        Judged(
            name=f"round {one.number} ({f'{one.fault}, ' if one.fault else ''}{one.arena})",
            subject=one.subject,
            arena=one.arena,
            fault=one.fault,
            has_hit=bool(one.fault) and one.exercised,
            status=one.status,
            counts=one.counts,
            file=f"{VALIDATION}/rounds/{one.number:03d}",
            sentences=tuple(one.sentences),
        )
        for one in rounds
        if one.subject in OURS
    ]


def _of_subjects(evidence: Evidence) -> list[Judged]:
    subjects = evidence.validation.subjects if evidence.validation else []
    return [
        Judged(
            name=f"the attack on {one.subject}",
            subject=one.subject,
            arena="calm",
            fault="",
            has_hit=False,
            status=one.status,
            counts=one.counts,
            file=f"{VALIDATION}/subjects/{one.subject}",
            sentences=(one.sentence,) if one.sentence else (),
        )
        for one in subjects
        if one.subject in OURS
    ]


def _of_loads(evidence: Evidence) -> list[Judged]:
    found = []
    for name, test in evidence.loads.items():
        if test.load.subject not in OURS:
            continue
        outage = test.load.outage
        judged = test.judged
        found.append(
            Judged(
                name=f"the load test {name}",
                subject=test.load.subject,
                arena="load",
                fault="PostgreSQL stopped" if outage else "",
                has_hit=outage is not None and outage.most_waiting > 0,
                status=test.correctness,
                counts=judged.counts if judged else {},
                file=f"{LOAD}/{name}",
                sentences=tuple(
                    violation.sentence
                    for round_ in (judged.rounds.values() if judged else ())
                    for violation in round_.violations
                ),
            )
        )
    return found
