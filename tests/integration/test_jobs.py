"""RQ's side of the audit: jobs, retries, the scheduler, and RQ's own programs on the same queue."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import pytest
from psycopg import sql
from rq.registry import FailedJobRegistry, ScheduledJobRegistry
from rq.serializers import JSONSerializer

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit import alerts, jobs, work
from kairos_core.audit import watch as watching
from kairos_core.audit import writer as audit_writer
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.jobs import DrainQueue, DrainScheduler, DrainWorker, queue_name
from kairos_core.audit.outage import Outage
from kairos_core.audit.pool import sweep
from kairos_core.audit.postgres import lock_number
from kairos_core.audit.watch import Watch
from kairos_core.settings import child_environment
from loadtests.environment import admin, as_worker
from loadtests.servers.worker import members, worker_pool
from loadtests.states import sample_state
from loadtests.trail import read_trail, wrong_with
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core.audit.alerts import Alert
    from kairos_core.audit.outbox import Outbox

RQ = Path(sys.executable).with_name("rq")


@pytest.fixture
def queue(worker_settings: Settings) -> Iterator[DrainQueue]:
    """The queue of the test's namespace."""
    connected = DrainQueue(worker_settings)
    yield connected
    connected.close()


@pytest.fixture
def process(worker_settings: Settings) -> Iterator[work.Process]:
    """What a worker has, in this process."""
    made = work.Process(worker_settings)
    yield made
    made.drop_writer()
    made.outbox.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Alert]:
    """The alerts that were sent in this process."""
    found: list[Alert] = []
    monkeypatch.setattr(alerts, "send", lambda _, alert: found.append(alert))
    return found


def rename_events(settings: Settings, old: str, new: str) -> None:
    """Take the table of events away, or put it back: no error that passes by itself."""
    with closing(psycopg.connect(settings.postgres_url, autocommit=True)) as connection:
        connection.execute(
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(settings.namespace, old), sql.Identifier(new))
        )


@pytest.mark.usefixtures("writer")
def test_an_rq_worker_drains(
    settings: Settings,
    worker_settings: Settings,
    manager: RedisStateManager,
    queue: DrainQueue,
    outbox: Outbox,
) -> None:
    """RQ's own worker takes the jobs of the queue, and its `rq info` shows it."""
    for number in range(20):
        manager.create_session(sample_state(f"s{number}"))
    assert 0 < sweep(outbox, queue, workers=4)
    environment = child_environment(worker_settings)
    name, url = queue_name(settings), worker_settings.redis_url
    # What only looks, and asks for more than a worker may.
    shown = subprocess.run(
        [RQ, "info", "--raw", "--only-queues", "--url", redis_url_of_admin(settings), name],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"queue {name} " in shown.stdout
    finished = subprocess.run(
        [RQ, "worker", "--max-jobs", "1", "--serializer", "json", "--url", url, name],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in finished.stdout + finished.stderr
    assert not any(outbox.depths())
    assert [] == wrong_with(read_trail(settings), {f"s{number}": 1 for number in range(20)})


def redis_url_of_admin(settings: Settings) -> str:
    """The address with the account that may do anything."""
    with admin(settings) as client:
        options = client.connection_pool.connection_kwargs
    user, password = options.get("username") or "", options.get("password") or ""
    login = f"{user}:{password}@" if password else ""
    return f"redis://{login}{urlsplit(settings.redis_url).netloc.rpartition('@')[2]}/0"


@pytest.mark.usefixtures("writer")
def test_a_failed_job_keeps_its_lanes(
    settings: Settings,
    manager: RedisStateManager,
    process: work.Process,
    told: list[Alert],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A job that fails keeps its lanes until its next attempt, and gives them back after the last, which alerts."""
    manager.create_session(sample_state("a"))
    (lane,) = [lane for lane, depth in enumerate(process.outbox.depths()) if depth]
    rename_events(settings, "sync_events", "elsewhere")
    with admin(settings) as client:
        key = f"{settings.namespace}:{{L{lane:02d}}}:lease"
        for left, pause_s in zip(range(5, 0, -1), work.RETRY_INTERVALS_S, strict=True):
            with pytest.raises(work.DrainFailed, match=r"UndefinedTable \(42P01\)"):
                work.work(process, [lane], "token", left)
            assert pause_s * 1000 < client.pttl(key) <= pause_s * 1000 + 4_000
            assert not process.outbox.hold(lane, "another")
        assert [] == told
        with pytest.raises(work.DrainFailed):
            work.work(process, [lane], "token", 0)
        assert 0 == client.exists(key)
    (alert,) = told
    assert (settings.namespace, (lane,), 1, 6) == (alert.namespace, alert.lanes, alert.entries, alert.attempts)
    assert 0 <= (alert.oldest_s or 0.0) < 60
    assert alert.cause.startswith("UndefinedTable (42P01): ")
    assert [f"attempt {n} of 6, again in {s} s" for n, s in enumerate(work.RETRY_INTERVALS_S, 1)] == [
        message.rpartition("; ")[2] for message in caplog.messages[:-1]
    ]
    assert f"given up for now: {alert}" == caplog.messages[-1]
    rename_events(settings, "elsewhere", "sync_events")
    assert 1 == work.work(process, [lane], "token", 5)


@pytest.mark.usefixtures("writer")
def test_a_connection_that_was_kept_and_lost(
    settings: Settings, manager: RedisStateManager, process: work.Process, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that died between two jobs is no failure of the second: there is another one."""
    manager.create_session(sample_state("a"))
    lanes = list(range(settings.lanes))
    assert 1 == work.work(process, lanes, "token", 5)
    pid = process.writer()._connection.info.backend_pid
    with closing(psycopg.connect(settings.postgres_url, autocommit=True)) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    manager.create_session(sample_state("b"))
    assert 1 == work.work(process, lanes, "token", 0)
    assert [] == caplog.messages


@pytest.mark.usefixtures("writer")
def test_one_lane_does_not_stop_the_others(
    manager: RedisStateManager,
    process: work.Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is wrong with one lane, and does not pass by itself, leaves those behind it in the job drained."""
    for number in range(50):
        manager.create_session(sample_state(f"s{number}"))
    lanes = [lane for lane, depth in enumerate(process.outbox.depths()) if depth]

    def odd(outbox: Outbox, audit: AuditWriter, lane: int, **options: Any) -> int:
        if lane == lanes[0]:
            raise KeyError("a mistake")
        return drain_lane(outbox, audit, lane, **options)

    monkeypatch.setattr(work, "drain_lane", odd)
    with pytest.raises(work.DrainFailed, match=f"lanes {lanes[0]}: KeyError: 'a mistake'"):
        work.work(process, lanes, "token", 5)
    assert lanes[:1] == [lane for lane, depth in enumerate(process.outbox.depths()) if depth]
    assert all(process.outbox.hold(lane, "another") for lane in lanes[1:])


@pytest.mark.usefixtures("writer")
def test_a_lane_that_somebody_holds_does_not_stop_the_others(
    settings: Settings,
    manager: RedisStateManager,
    process: work.Process,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that stands still with a lane's lock keeps no other lane from being drained, be it of the same job."""
    monkeypatch.setattr(audit_writer, "_PATIENCE", "SET lock_timeout = '50ms'")
    for number in range(50):
        manager.create_session(sample_state(f"s{number}"))
    lanes = [lane for lane, depth in enumerate(process.outbox.depths()) if depth]
    with closing(psycopg.connect(settings.postgres_url)) as still:
        still.execute("SELECT pg_advisory_xact_lock(%s, %s)", [lock_number(settings.namespace), lanes[0]])
        with pytest.raises(work.DrainFailed, match=f"lanes {lanes[0]}: LockNotAvailable"):
            work.work(process, lanes, "token", 5)
    assert lanes[:1] == [lane for lane, depth in enumerate(process.outbox.depths()) if depth]


@pytest.mark.usefixtures("writer")
def test_a_job_that_is_told_to_end(
    manager: RedisStateManager, process: work.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is told to end, or has worked long enough, ends with its batch and gives its lanes back."""
    for number in range(50):
        manager.create_session(sample_state(f"s{number}"))
    lanes = [lane for lane, depth in enumerate(process.outbox.depths()) if depth]
    record, batches = AuditWriter.record, []

    def stop_after(self: AuditWriter, *arguments: Any) -> int:
        batches.append(1)
        process.stopping.set()
        return record(self, *arguments)

    monkeypatch.setattr(AuditWriter, "record", stop_after)
    assert 0 < work.work(process, lanes, "token", 5) < 50
    assert [1] == batches
    assert all(process.outbox.hold(lane, "another") for lane in lanes)
    process.stopping.clear()
    for lane in lanes:
        process.outbox.release(lane, "another")
    monkeypatch.setattr(work, "WORK_S", 0.0)
    assert 0 == work.work(process, lanes, "token", 5)


def test_jobs_do_not_pile_up(settings: Settings, manager: RedisStateManager, outbox: Outbox, queue: DrainQueue) -> None:
    """However often leases run out while nobody takes the jobs, as many wait as there are workers, and no more."""
    for number in range(50):
        manager.create_session(sample_state(f"s{number}"))
    with admin(settings) as client:
        for _ in range(5):
            sweep(outbox, queue, workers=2)
            client.delete(*[f"{settings.namespace}:{{L{lane:02d}}}:lease" for lane in range(settings.lanes)])
    assert 2 >= queue.waiting(100) >= 1


@pytest.mark.usefixtures("writer")
def test_the_last_attempt(
    settings: Settings,
    manager: RedisStateManager,
    outbox: Outbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that failed for the last time is in RQ's failed registry, the log, and an alert; its lane has another."""
    (tmp_path / "its_alerts.py").write_text(
        "import msgspec\ndef tell(alert):\n"
        f"    open({str(tmp_path / 'told')!r}, 'ab').write(msgspec.json.encode(alert) + b'\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(jobs, "RETRY_INTERVALS_S", [1])
    alerting = msgspec.structs.replace(as_worker(settings), alert="its_alerts:tell")
    manager.create_session(sample_state("a"))
    rename_events(settings, "sync_sessions", "elsewhere")
    with closing(DrainQueue(alerting)) as own:
        sweep(outbox, own, workers=1)
    log = tmp_path / "log"
    with worker_pool(alerting, log=log), admin(settings) as client:
        assert wait_until(lambda: FailedJobRegistry(queue_name(settings), connection=client).count)
        rename_events(settings, "elsewhere", "sync_sessions")
        assert wait_until(lambda: not any(outbox.depths()))
    alert = msgspec.json.decode((tmp_path / "told").read_bytes().splitlines()[0], type=alerts.Alert)
    assert (settings.namespace, 1) == (alert.namespace, alert.entries)
    assert f"ERROR given up for now: {alert}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert [] == wrong_with(read_trail(settings), {"a": 1})


def test_a_listener_that_was_told_to_stop_ends_quietly(worker_settings: Settings) -> None:
    """What a worker's listener meets once it was told to stop, a connection closed under it, is no exception."""
    with closing(jobs._client(worker_settings, "kairos-worker")) as client:
        worker: Any = DrainWorker([queue_name(worker_settings)], connection=client, serializer=JSONSerializer)
        worker.subscribe()

        def meet(error: Exception) -> None:
            try:
                raise error
            except TypeError as met:
                worker._pubsub_exception_handler(met, worker.pubsub, worker.pubsub_thread)

        with pytest.raises(TypeError):
            meet(TypeError("closed"))
        worker.unsubscribe()
        meet(TypeError("closed"))
        assert wait_until(lambda: not worker.pubsub_thread.is_alive())


def test_a_scheduler_takes_over_from_a_dead_one(
    settings: Settings, worker_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler whose heart has stopped loses the lock to the next, and one that lives does not."""
    with closing(jobs._client(worker_settings, "kairos-scheduler")) as client:
        stop = threading.Event()
        first, second = (DrainScheduler(queue_name(settings), client, Outage("scheduler"), stop) for _ in range(2))
        second.name = "another"
        assert first.acquire_locks()
        first.register_birth()
        assert not second.acquire_locks()
        monkeypatch.setattr(jobs, "DEAD_AFTER_S", 0.05)
        time.sleep(0.1)
        first.heartbeat()
        assert not second.acquire_locks()
        time.sleep(0.1)
        assert second.acquire_locks()


def test_what_comes_back_is_tried_at_once(
    settings: Settings, worker_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retries are made due when PostgreSQL comes back, and not where it was never away."""
    queue = DrainQueue(worker_settings)
    watch = Watch(worker_settings, queue)
    with closing(queue), admin(settings) as client:
        key = ScheduledJobRegistry(queue_name(settings), connection=client).key
        client.zadd(key, {"a": time.time() + 30})
        watch.look(1.0)
        assert [b"a"] == queue.retries()
        monkeypatch.setattr(watching, "connect_postgres", refuse)
        watch.look(2.0)
        client.delete(key)
        # an attempt is being made
        watch.look(3.0)
        client.zadd(key, {"a": time.time() + 30, "b": time.time() - 5})
        monkeypatch.undo()
        watch.look(4.0)
        assert [] == queue.retries()
        # one that had begun before, and failed
        client.zadd(key, {"c": time.time() + 30})
        watch.look(5.0)
        assert [] == queue.retries()
        client.zadd(key, {"d": time.time() + 30})
        watch.look(4.0 + watching.GRACE_S)
        assert [b"d"] == queue.retries()


def refuse(_: Settings) -> psycopg.Connection:
    """PostgreSQL is away."""
    raise psycopg.OperationalError("away")


def test_the_buried_are_told_once_a_minute(
    settings: Settings, worker_settings: Settings, writer: AuditWriter, outbox: Outbox, told: list[Alert]
) -> None:
    """Dead letters are an alert, with their number, and at most one a minute; of states, it says nothing."""
    watch = Watch(msgspec.structs.replace(worker_settings, alert="its_alerts:tell"), DrainQueue(worker_settings))
    watch.look(0.0)
    with admin(settings) as client:
        for _ in range(3):
            client.xadd(f"{settings.namespace}:{{L05}}:outbox", {"m": "secret"})
    assert 3 == drain_lane(outbox, writer, 5)
    watch.look(59.0)
    assert [] == told
    watch.look(60.0)
    watch.look(61.0)
    watch.look(200.0)
    (alert,) = told
    assert ((5,), 3, "buried as dead letters (unreadable)") == (alert.lanes, alert.entries, alert.cause)
    watch._queue.close()


@pytest.mark.usefixtures("writer")
def test_a_dead_scheduler_is_replaced(worker_settings: Settings) -> None:
    """The pool starts another scheduler for one that was killed."""
    with worker_pool(worker_settings) as pool:
        assert wait_until(lambda: members(pool, "scheduler"))
        (before,) = members(pool, "scheduler")
        os.kill(before, 9)
        assert wait_until(lambda: members(pool, "scheduler") not in ([], [before]))
