"""How many writes of one session come through where many write it at once, and how evenly they are shared out.

Each writer is a process with a connection of its own, and writes again as soon as it is answered: nobody waits for a
turn, as in a service whose users all press the same button. All acknowledged writes are counted again in the stored
version at the end: of a subject that loses some, what it does a second is not what it says.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from kairos_core.layout import Layout
from loadtests.at_once import at_once, connect, helpers_of
from loadtests.environment import admin, harness, new_namespace
from loadtests.studies.study import OUTBOX_LIMIT, Bench, Point, Study
from loadtests.writing import subject_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from kairos_core import Settings
    from loadtests.orders import Helper
    from loadtests.subjects.register import Register

COMPARED = ("kairos", "watch_multi", "lock", "check_then_set")
# Kairos once more, without what is known of the session.
READ_FIRST: Mapping[str, str] = {"kairos_read_first": "loadtests.subjects.managed:ReadFirst.connect"}
# Two of these may both find what they expect: how many are lost is what there is to see.
LOSES = ("check_then_set",)
# So many are judged, and write for so long at the least: in less, chance says who comes last.
BAR_WRITERS, BAR_S = 8, 2.0


class WritesLostError(RuntimeError):
    """What was acknowledged is not what was stored; the message says of whom."""


def measure(bench: Bench) -> list[Point]:
    """Let them write."""
    counts, repetitions, seconds = (
        ((1, 2, 8, 32), 3, 0.7) if bench.is_quick else ((1, 2, 4, 8, 16, 32), 10, 0.6 if bench.is_of_a_report else 3.0)
    )
    bench.note(
        "All writers are on the same cores as the server. A write that is acknowledged after the time is not counted in"
        " useful_per_s and the shares, but is in lost. Kairos does more in each write than the rivals: receipt,"
        " deadline, outbox and two notifications."
    )
    bench.note(
        "kairos passes what its last write returned as known, as a service does that writes a session again and again,"
        " or watches it: where nobody else has written since, a write is one round trip. kairos_read_first reads each"
        " time, as the rivals must."
    )
    bench.note(
        "check_then_set loses writes: useful_per_s is what was stored, and not what it acknowledged. The lock is right"
        " only as long as nobody stands still for longer than its lease."
    )
    bench.note(
        "slowest_share: what who came through least has of an even share; 1 is even. jain: Jain's index of fairness, 1"
        " where all have as much, 1/n where one of n has all. refused: writes that were given up. late_ms: by how much"
        " the last of them began later than it was to."
    )
    with harness(new_namespace("contention")) as settings:
        return points(bench, settings, counts, repetitions, seconds)


def points(  # noqa: PLR0913, PLR0917 - what is measured
    bench: Bench,
    settings: Settings,
    counts: Sequence[int],
    repetitions: int,
    seconds: float,
    subjects: Sequence[str] = COMPARED,
    others: Mapping[str, str] = READ_FIRST,
) -> list[Point]:
    """Let so many write for so long, as each of the subjects in turn; fresh processes in each repetition."""
    found = []
    settings = msgspec.structs.replace(settings, outbox_limit=OUTBOX_LIMIT)
    outboxes = Layout(settings.namespace, settings.lanes).outboxes
    times = {count: max(seconds, BAR_S) if count == BAR_WRITERS else seconds for count in counts}
    with ExitStack() as stack:
        client = stack.enter_context(admin(settings))
        registers = {name: subject_of(name, others)(settings) for name in (*subjects, *others)}
        for register in registers.values():
            stack.callback(register.close)
        for repetition in range(1, repetitions + 1):
            run = f"{new_namespace('run')}-{repetition}"
            with ExitStack() as processes:
                helpers = helpers_of("loadtests.writing", max(counts), settings, processes)
                connect(helpers, run=run, subjects=list(subjects), others=dict(others))
                # The first in one repetition is the last in the next.
                places = [(count, name) for count in counts for name in registers][:: 1 if repetition % 2 else -1]
                for count, name in places:
                    values = contended(helpers[:count], name, registers[name], f"{run}-{name}-{count}", times[count])
                    found.append(Point(subject=name, x=count, repetition=repetition, values=values))
                    bench.say(f"contention {repetition} of {repetitions}, {_said(name, count, values)}")
                    _empty(client, outboxes)
    return found


def contended(
    helpers: Sequence[Helper], subject: str, register: Register, session_id: str, seconds: float
) -> dict[str, float]:
    """Let these write a new session for so long.

    Args:
        helpers: the writers, which are connected.
        subject: as whom they write.
        register: the same subject, to make the session and to look at it afterwards.
        session_id: what the session's id begins with; there must be none yet.
        seconds: how long.

    Raises:
        WritesLostError: what was acknowledged is not what is stored, of a subject of which that is not known; or
            nobody wrote anything.
        OrderError: a writer has ended, or does not know what became of a write.
        StartedLateError: they did not begin together.
    """

    def prepare(attempt: int) -> dict[str, str]:
        # What an attempt that began late has written is not counted.
        name = f"{session_id}-{attempt}"
        register.create(name, 1)
        return {"subject": subject, "session_id": name}

    answers, attempt = at_once(helpers, "write", seconds, prepare)
    after = register.get(f"{session_id}-{attempt}")
    acknowledged = sum(answer["acknowledged"] for answer in answers)
    # The first version is that of the creation.
    stored = after.seen.stamp[1] - 1 if after else 0
    if not stored or (acknowledged != stored and subject not in LOSES):
        raise WritesLostError(f"{subject}: {acknowledged} writes were acknowledged, and {stored} are stored")
    shares = [answer["in_time"] for answer in answers]
    total = sum(shares)
    lost = acknowledged - stored
    return {
        "useful_per_s": max(0, total - lost) / seconds,
        "attempts_per_write": sum(answer["attempts"] for answer in answers) / max(1, acknowledged),
        "slowest_share": min(shares) * len(shares) / max(1, total),
        "jain": jain(shares),
        "lost": float(lost),
        "refused": float(sum(answer["refused"] for answer in answers)),
        "late_ms": max(answer["late_s"] for answer in answers) * 1e3,
    }


def jain(shares: Sequence[float]) -> float:
    """Jain's fairness index: 1 where all have as much, 1 / n where one has all (Jain, Chiu and Hawe, 1984)."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def _said(name: str, count: int, values: Mapping[str, float]) -> str:
    return (
        f"{name}, writers {count}: {values['useful_per_s']:.0f} useful writes/s,"
        f" {values['attempts_per_write']:.2f} attempts each, slowest {values['slowest_share']:.2f} of its share,"
        f" {values['lost']:.0f} lost"
    )


def _empty(client: redis.Redis, outboxes: Sequence[str]) -> None:
    """Nobody reads what they hold: a copy of every state that was written."""
    client.unlink(*outboxes)


CONTENTION = Study(
    name="contention",
    question="How many writes a second of one session come through where so many write it, and who comes last?",
    axis="writers of the session",
    measure=measure,
)
