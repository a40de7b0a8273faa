"""What a user would pick instead, on the same server and with the same content, call by call beside Kairos.

What each does besides differs, and is written beside its numbers: who takes less time may have done less.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import msgspec
from psycopg import sql

from kairos_core import AuditWriter
from kairos_core.audit.postgres import connect_postgres
from kairos_core.settings import child_environment
from loadtests.environment import harness, new_namespace
from loadtests.flood import SESSIONS
from loadtests.orders import Helper
from loadtests.servers.worker import members, worker_pool
from loadtests.studies.study import Bench, Point, Study, percentiles_ms
from loadtests.subjects.jobs import TABLE, job_worker, make_table
from loadtests.turns import Turns
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core import Settings

GROUPS = ("states", "audited", "deliveries")
# How many times as long these take for an update at p50, at the least, in the same rounds.
BARS = {"watch_multi": 2.0, "lock": 4.0}
# What each is compared with: 1 is Kairos' own.
_OURS = {
    "get": "kairos",
    "update": "kairos",
    "audited_update": "kairos",
    "delivery": "kairos_broadcast",
    "rows": "kairos",
    # How far it is to the server and back: three trips cost little where one does.
    "floor": "ping",
}
_ALL = ("state", "publish", "ttl", "audit", "retry_safe", "atomic")
# What each does, of these: stores the state; tells others; lets it end; records every write; may be sent twice;
# compares and does all of it in one step, whoever else writes and wherever the process ends.
DOES: dict[str, tuple[str, ...]] = {
    "kairos": _ALL,
    "kairos_again": _ALL,
    "kairos_update": _ALL,
    "ping": (),
    # A message is no state: it is sent once or more often, and kept nowhere.
    "kairos_broadcast": ("publish",),
    "redis_py": ("state", "ttl"),
    "check_then_set": ("state", "publish", "ttl"),
    "watch_multi": ("state", "publish", "ttl", "atomic"),
    # A lock is a lease: who stands still for longer writes beside the next holder.
    "lock": ("state", "publish", "ttl"),
    "redis_py_publish": ("publish",),
    "socketio_emit": ("publish",),
    # The job may never come to be where the process ends between the write and it.
    "rq_enqueue": ("audit",),
    "watch_multi_and_rq": ("state", "publish", "ttl", "audit"),
}
_ROWS_TIMEOUT_S = 120.0


def measure(bench: Bench) -> list[Point]:
    """Time all of them."""
    bench.note(
        "A rival's update is its exchange on a state that is held: read, decode, compare, encode, write, publish."
        " of_kairos_...: over Kairos' in the same rounds. does: what a subject does besides."
    )
    bench.note(
        "audited_update: rq_enqueue is the enqueueing alone, watch_multi_and_rq the write and then the job; a process"
        " that ends between the two leaves a write that no row tells of. rows: from the first write to the last row,"
        " with one worker each; RQ's is a SimpleWorker, which does not fork."
    )
    bench.note(
        "delivery to another process ends where that has the content decoded; python-socketio's where its server hands"
        " the packet to the connection of a client, which is not in the time."
    )
    repetitions, rounds, writes = (3, 200, {"kairos": 2_000, "rq": 150}) if bench.is_quick else (10, 2_000, _MANY)
    with harness(new_namespace("instead")) as settings:
        return [*points(bench, settings, repetitions, rounds, writes)]


_MANY = {"kairos": 20_000, "rq": 1_000}


def points(bench: Bench, settings: Settings, repetitions: int, rounds: int, writes: dict[str, int]) -> Iterator[Point]:
    """Time so many calls of each in each repetition, with fresh processes; then what becomes of so many writes."""
    for repetition in range(1, repetitions + 1):
        samples: dict[str, list[int]] = {}
        for group in GROUPS:
            with Turns(_own(settings, group, repetition), group) as turns:
                samples |= turns.samples_ns(rounds, repetition)
        values = {}
        for name, samples_ns in samples.items():
            what, _, subject = name.partition("/")
            bench.keep(f"{subject}/{what}/{repetition}/call", samples_ns)
            values[what, subject] = percentiles_ms(samples_ns)
        for how, count in writes.items():
            subject = "kairos" if how == "kairos" else "watch_multi_and_rq"
            values["rows", subject] = rows(_own(settings, f"rows_{how}", repetition), how, count)
        found = [*_compared(values, repetition)]
        yield from found
        ping_us = values["floor", "ping"]["p50_ms"] * 1e3
        of_kairos = {point.subject: point.values["of_kairos_p50"] for point in found if point.x == "update"}
        bench.say(
            f"instead   {repetition}: PING {ping_us:.0f} µs; p50 of an update over Kairos': "
            + ", ".join(f"{subject} {ratio:.2f}" for subject, ratio in of_kairos.items() if subject != "kairos")
        )


def _own(settings: Settings, purpose: str, repetition: int) -> Settings:
    """A namespace of its own, so that no session is there yet."""
    return msgspec.structs.replace(settings, namespace=f"{settings.namespace}_{purpose}_{repetition}")


def _compared(values: dict[tuple[str, str], dict[str, float]], repetition: int) -> Iterator[Point]:
    """Each with what it takes in Kairos' times, and with what it does."""
    for (what, subject), own in values.items():
        ours = values[what, _OURS[what]]
        ratios = {
            f"of_kairos_{name.removesuffix('_ms')}": own[name] / ours[name]
            for name in ("p50_ms", "p95_ms", "p99_ms", "rows_per_s")
            if name in own and name in ours
        }
        if what == "update" and subject in BARS:
            ratios["bar_of_kairos_p50"] = BARS[subject]
        does = {f"does_{which}": float(which in DOES[subject]) for which in _ALL}
        yield Point(subject=subject, x=what, repetition=repetition, values=own | ratios | does)


def rows(settings: Settings, how: str, count: int) -> dict[str, float]:
    """How fast writes become rows, while they are made.

    Args:
        settings: with a namespace that is empty.
        how: `kairos`: through the outbox, with a pool of one worker; `rq`: a job each, with one SimpleWorker.
        count: of the writes.

    Returns:
        Writes and rows per second, both from the first write on.

    Raises:
        TimeoutError: they did not all become rows.
    """
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
    make_table(settings)
    with ExitStack() as stack:
        if how == "kairos":
            pool = stack.enter_context(worker_pool(settings))
            wait_for("a worker", lambda: members(pool))
        else:
            stack.enter_context(job_worker(settings))
        flood = Helper("loadtests.flood", how, environment=child_environment(settings))
        stack.callback(flood.close, 10.0)
        connection = stack.enter_context(closing(connect_postgres(settings)))
        connection.autocommit = True
        query = sql.SQL("SELECT count(*) FROM {}").format(
            sql.Identifier(settings.namespace, "sync_events" if how == "kairos" else TABLE)
        )

        def found() -> int:
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        # The worker is at work, and whatever is done at the first time is done. Kairos has recorded the creations, too.
        flood.ask("write", count=SESSIONS)
        before = SESSIONS * (2 if how == "kairos" else 1)
        wait_for(f"the first {before} rows of {how}", lambda: found() >= before)
        written = flood.ask("write", count=count)
        wait_for(f"{count} more rows of {how}", lambda: found() >= before + count, _ROWS_TIMEOUT_S)
        end_s = time.monotonic()
        if found() != before + count:
            raise AssertionError(f"{found()} rows of {how} for {before + count} writes")
    return {
        "count": float(count),
        "writes_per_s": count / (written["end_s"] - written["start_s"]),
        "rows_per_s": count / (end_s - written["start_s"]),
    }


INSTEAD = Study(
    name="instead",
    question="What does it take, and what does it not do, what a user would pick instead?",
    axis="what is done",
    measure=measure,
)
