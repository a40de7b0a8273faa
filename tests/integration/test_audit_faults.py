"""What is killed, stopped, refused or done twice on the way to PostgreSQL, and that nothing is lost for it (G7).

On servers of this module's own, which can be killed and started again.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
import zlib
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest
from psycopg import sql
from redis import Redis
from rq import Queue, Worker
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit.jobs import DrainQueue, DrainScheduler, queue_name
from kairos_core.audit.outbox import Outbox
from kairos_core.commands import Commands, load_script
from kairos_core.layout import Layout
from kairos_core.settings import without_password
from loadtests.servers.postgres import own_postgres
from loadtests.servers.worker import members, worker_pool
from loadtests.states import sample_state
from loadtests.steady import Writers
from loadtests.trail import read_trail, wrong_with
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kairos_core import SyncState
    from loadtests.servers.postgres import Postgres
    from loadtests.servers.valkeys import Launcher, Node

SESSIONS = ("a", "b", "c")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that can be killed."""
    with own_postgres() as started:
        yield started


@pytest.fixture(scope="module")
def node(launcher: Launcher) -> Node:
    """A Valkey that forgets nothing."""
    return launcher.start("appendonly yes", "appendfsync always")


@pytest.fixture
def settings(postgres: Postgres, node: Node) -> Iterator[Settings]:
    """One lane, so that all is in its way; a schema that is in place, and is removed."""
    found = Settings(redis_url=node.url, postgres_url=postgres.url, namespace=f"faults_{next(_numbers)}", lanes=1)
    with AuditWriter.connect(found) as writer:
        writer.migrate()
    yield found
    with Redis.from_url(node.url) as client:
        client.flushall()


@pytest.fixture
def outbox(settings: Settings) -> Iterator[Outbox]:
    """The outbox of the test's namespace."""
    connected = Outbox.connect(settings)
    yield connected
    connected.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the pool of the test logs."""
    return tmp_path / "log"


@pytest.fixture
def asking(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection that may do anything, in the namespace's schema; each statement is a transaction."""
    with closing(connect(settings)) as connection:
        yield connection


def connect(settings: Settings) -> psycopg.Connection:
    """Another connection of that kind."""
    connection = psycopg.connect(settings.postgres_url, autocommit=True)
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(settings.namespace)))
    return connection


def stored(settings: Settings) -> dict[str, SyncState | None]:
    """The sessions as the store has them."""
    with RedisStateManager.connect(settings) as manager:
        return {name: manager.get_session(name) for name in SESSIONS}


def check(settings: Settings, writers: Writers, outbox: Outbox) -> None:
    """Check that all is drained, and every acknowledged write recorded: once, in order, in a chain that is whole."""
    writers.stop()
    assert wait_until(lambda: not any(outbox.depths()))
    finals = stored(settings)
    assert [] == writers.failures
    assert [] == writers.miscounted(finals)
    versions = {name: state.version for name, state in finals.items() if state is not None}
    assert min(versions.values()) > 10
    assert [] == wrong_with(read_trail(settings), versions)
    assert 0 == count(settings, "audit_dead_letters")


def count(settings: Settings, table: str) -> int:
    """The rows of a table."""
    with closing(connect(settings)) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else -1


@contextmanager
def lane_locked(settings: Settings, lane: int = 0) -> Iterator[psycopg.Connection]:
    """Hold the lock under which a lane is recorded: whoever drains it waits within its transaction."""
    with closing(connect(settings)) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", [lock_number(settings), lane])
        yield connection


def lock_number(settings: Settings) -> int:
    """The first of the two numbers of that lock, which stands for the schema."""
    number = zlib.crc32(settings.namespace.encode())
    return number - 2**32 if number >= 2**31 else number


def lock_waiters(asking: psycopg.Connection) -> int:
    """How many wait for such a lock."""
    row = asking.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
    return int(row[0]) if row else -1


def jobs_in_flight(client: Redis, settings: Settings) -> int:
    """How many jobs wait, run, or are to be tried again, at one moment."""
    queue = Queue(queue_name(settings), connection=client)
    with client.pipeline() as pipeline:
        pipeline.llen(queue.key)
        pipeline.zcard(ScheduledJobRegistry(queue=queue).key)
        pipeline.zcard(StartedJobRegistry(queue=queue).key)
        return sum(pipeline.execute())


def retries(client: Redis, settings: Settings) -> int:
    """How many jobs are to be tried again."""
    return int(client.zcard(ScheduledJobRegistry(queue_name(settings), connection=client).key))


def test_a_worker_is_killed_in_the_midst_of_a_drain(
    settings: Settings, outbox: Outbox, asking: psycopg.Connection
) -> None:
    """G7: the lane of a worker that was killed is drained again within 5 s, and no write is lost or doubled."""
    with worker_pool(settings, workers=2) as pool, Writers(settings, SESSIONS) as writers:
        assert writers.go_on()
        with lane_locked(settings):
            assert wait_until(lambda: lock_waiters(asking))
            oldest = outbox.read(0, 1)[0].entry_id
            # Both: one of them is at it, and the other must not save the day.
            for pid in members(pool):
                os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
        assert wait_until(lambda: outbox.read(0, 1)[0].entry_id > oldest)
        assert 5 > time.monotonic() - killed
        check(settings, writers, outbox)
        assert 2 == len(members(pool))
    assert 0 == pool.returncode


def test_postgres_is_killed_in_the_midst_of_a_commit(
    settings: Settings, outbox: Outbox, postgres: Postgres, asking: psycopg.Connection
) -> None:
    """G7: a commit whose answer never came, though it was made, is found again, and its rows are there once."""
    with worker_pool(settings) as pool, Writers(settings, SESSIONS) as writers:
        # Before its first batch, a worker makes partitions.
        assert wait_until(lambda: count(settings, "sync_events"))
        # A commit waits for a replica that does not exist, when it is on the disk already.
        asking.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        asking.execute("SELECT pg_reload_conf()")
        # Of the worker: the server's own housekeeping waits likewise.
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'kairos'"
        assert wait_until(lambda: asking.execute(waiting).fetchall())
        in_doubt = outbox.read(0, 1)[0].entry_id
        postgres.kill()
        postgres.start()
        with closing(connect(settings)) as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
            # It was made before the server died, and the outbox still has it.
            assert in_doubt == outbox.read(0, 1)[0].entry_id
            operation = outbox.read(0, 1)[0].message.operation_id  # type: ignore[union-attr]
            rows = connection.execute("SELECT 1 FROM sync_events WHERE operation_id = %s", [operation]).fetchall()
            assert 1 == len(rows)
        assert writers.go_on()
        check(settings, writers, outbox)
    assert 0 == pool.returncode


def test_postgres_is_away_for_a_while(settings: Settings, node: Node, postgres: Postgres, log: Path) -> None:
    """G7: while PostgreSQL is away a lane has one job, and once it is back, the backlog is gone in seconds."""
    settings = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_lanes", lanes=4)
    with (
        worker_pool(settings, workers=4, log=log) as pool,
        Writers(settings, SESSIONS) as writers,
        node.client() as client,
        closing(Outbox.connect(settings)) as outbox,
    ):
        assert writers.go_on()
        postgres.kill()
        most = 0
        until = time.monotonic() + 5
        while time.monotonic() < until:
            most = max(most, jobs_in_flight(client, settings))
            time.sleep(0.02)
        assert 1 <= most <= settings.lanes
        postgres.start()
        back = time.monotonic()
        assert wait_until(lambda: lag_s(outbox) < 1)
        # A second until it is noticed, one until RQ's scheduler looks; 16 were left to wait.
        assert 6 > time.monotonic() - back
        assert wait_until(lambda: 0 == retries(client, settings))
        check(settings, writers, outbox)
    assert 0 == pool.returncode
    check_log(log, settings)
    assert 1 == log.read_text().count("PostgreSQL is away")


def lag_s(outbox: Outbox) -> float:
    """The age of the oldest entry that waits."""
    return outbox.waiting(range(len(outbox.depths())))[1] or 0.0


def check_log(log: Path, settings: Settings) -> None:
    """Check that each thing that was said is one line, and holds no password."""
    text = log.read_text()
    assert "Traceback" not in text
    assert [] == [line for line in text.splitlines() if not line.startswith("20")]
    password = settings.redis_url.partition("://:")[2].partition("@")[0]
    assert password
    assert password not in text
    assert without_password(settings.redis_url) not in text


def test_a_deadlock(settings: Settings, outbox: Outbox, asking: psycopg.Connection, node: Node, log: Path) -> None:
    """G7: a drain that PostgreSQL ends to solve a deadlock is tried again, and nothing is lost."""
    with worker_pool(settings, log=log) as pool, Writers(settings, SESSIONS) as writers, node.client() as client:
        assert writers.go_on()
        assert wait_until(lambda: 3 == count(settings, "sync_sessions"))
        with closing(connect(settings)) as other:
            # So that it is the worker that finds the deadlock, and is ended for it.
            other.execute("SET deadlock_timeout = '1h'")
            with other.transaction():
                other.execute("SELECT 1 FROM sync_sessions FOR UPDATE")
                waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
                assert wait_until(lambda: asking.execute(waiting).fetchall())
                other.execute("SELECT pg_advisory_xact_lock(%s, 0)", [lock_number(settings)])
                assert wait_until(lambda: retries(client, settings))
        assert writers.go_on()
        check(settings, writers, outbox)
    assert 0 == pool.returncode
    assert "DeadlockDetected (40P01): deadlock detected; attempt 1 of 6, again in 2 s" in log.read_text()


def test_a_full_disk(settings: Settings, outbox: Outbox, asking: psycopg.Connection, node: Node, log: Path) -> None:
    """G7: while PostgreSQL has no room, the records wait in the outbox; then they are recorded."""
    asking.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    )
    with worker_pool(settings, log=log) as pool, Writers(settings, SESSIONS) as writers, node.client() as client:
        assert writers.go_on()
        asking.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON sync_events FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
        assert wait_until(lambda: retries(client, settings))
        recorded = count(settings, "sync_events")
        assert writers.go_on()
        assert recorded == count(settings, "sync_events")
        asking.execute("DROP TRIGGER full_disk ON sync_events")
        check(settings, writers, outbox)
    assert 0 == pool.returncode
    assert "DiskFull (53100): could not extend file; attempt 1 of 6, again in 2 s" in log.read_text()


def fill(settings: Settings, entries: int, *, poison_at: int = -1) -> None:
    """Write sessions of one version each, and among them one record that PostgreSQL refuses."""
    layout = Layout(settings.namespace, settings.lanes)
    commands, stream = Commands(settings, layout), layout.outboxes[0]
    with Redis.from_url(settings.redis_url) as client:
        client.script_load(load_script("create").text)
        for start in range(0, entries, 1_000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, min(start + 1_000, entries)):
                    pipeline.execute_command(*commands.create(sample_state(f"s{number}"), "created").words)
                    if number == poison_at:
                        pipeline.xadd(stream, {"m": POISON})
                pipeline.execute()


# A state with a character that PostgreSQL's jsonb does not take.
POISON = (
    b'{"o":"00000000000000000000000000000001","k":"update","e":"updated","i":"x","n":1,"v":1,"u":1764000000000000,'
    b'"c":1764000000000000,"s":{"a":"\\u0000"}}'
)


def test_poison_among_many(settings: Settings, outbox: Outbox) -> None:
    """G7: of ten thousand records the one that PostgreSQL refuses is a dead letter, and all others are rows."""
    fill(settings, 10_000, poison_at=5_000)
    assert [10_001] == outbox.depths()
    with worker_pool(settings, workers=2):
        assert wait_until(lambda: not any(outbox.depths()))
    assert [] == wrong_with(read_trail(settings), {f"s{number}": 1 for number in range(10_000)})
    assert 1 == count(settings, "audit_dead_letters")


def test_two_workers_on_one_lane(settings: Settings, outbox: Outbox, asking: psycopg.Connection) -> None:
    """G7: two workers that drain one lane at once, by accident, record each write once."""
    fill(settings, 5_000)
    queue = DrainQueue(settings)
    outbox.hold(0, "both")
    for _ in range(2):
        queue.enqueue([0], "both")
    queue.close()
    with lane_locked(settings) as holder, worker_pool(settings, workers=2):
        assert wait_until(lambda: 2 == lock_waiters(asking))
        holder.execute("SELECT pg_advisory_unlock_all()")
        assert wait_until(lambda: not any(outbox.depths()))
    assert [] == wrong_with(read_trail(settings), {f"s{number}": 1 for number in range(5_000)})
    assert 0 == count(settings, "audit_dead_letters")


def test_the_store_is_killed(settings: Settings, launcher: Launcher, node: Node, outbox: Outbox, log: Path) -> None:
    """G7: the store is killed and comes back with what it had on disk: every acknowledged write is recorded once."""
    with worker_pool(settings, workers=2, log=log) as pool, Writers(settings, SESSIONS) as writers:
        assert writers.go_on()
        launcher.kill(node)
        launcher.restart(node)
        assert writers.go_on()
        check(settings, writers, outbox)
    assert 0 == pool.returncode
    check_log(log, settings)


def test_the_store_is_away_for_a_while(settings: Settings, launcher: Launcher, node: Node, log: Path) -> None:
    """That the store is away is a line of each process, without a traceback; nobody ends, and all goes on."""
    impatient = msgspec.structs.replace(settings, timeout_s=0.5)
    with worker_pool(impatient, workers=2, log=log) as pool:
        with node.client() as client:
            queue = Queue(queue_name(settings), connection=client)
            # Until they wait for a job, they meet the outage elsewhere.
            assert wait_until(lambda: 2 == sum(found.get_state() == "idle" for found in Worker.all(queue=queue)))
            assert wait_until(lambda: client.exists(DrainScheduler.get_locking_key(queue.name)))
        before = members(pool) + members(pool, "scheduler")
        launcher.kill(node)
        # RQ's connections try again for three seconds before they say so.
        assert wait_until(lambda: PROCESSES <= set(lines(log)))
        # The outage goes on, so that each tries several times more, and says nothing.
        time.sleep(2)
        launcher.restart(node)
        with RedisStateManager.connect(settings) as manager, closing(Outbox.connect(settings)) as outbox:
            manager.create_session(sample_state("a"))
            assert wait_until(lambda: not any(outbox.depths()))
        assert before == members(pool) + members(pool, "scheduler")
    assert 0 == pool.returncode
    check_log(log, settings)
    told = Counter(lines(log))
    # One each; a second one where the server, as it starts, refuses for a moment.
    assert PROCESSES == set(told)
    assert all(count <= 2 * (2 if who == "worker" else 1) for who, count in told.items()), told


PROCESSES = {"sweep", "watch", "worker", "scheduler"}


def lines(log: Path) -> list[str]:
    """Who said each line of a log, of the processes of a pool; of any other line, the whole of it."""
    said = []
    for line in log.read_text().splitlines():
        who = line.partition(" kairos.audit WARNING ")[2].partition(":")[0]
        said.append(who if who in PROCESSES else line)
    return said
