"""The accounts of `kairos_core/acl`: enough, and no more. All other tests run under them, too (see conftest.py)."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import signal
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Retry as JobRetry
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from kairos_core import AuditWriter, DurabilityNotReached, KairosError, RedisStateManager, Settings
from kairos_core.acl import account
from kairos_core.audit import status
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.jobs import DrainQueue, DrainWorker, _client, check_queue, queue_name
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.verify import verify
from kairos_core.blocking import BlockingTransport
from kairos_core.cli import main
from kairos_core.commands import load_script, new_operation_id
from kairos_core.errors import InvalidState
from kairos_core.expiry import Expiry
from kairos_core.ground import _core_runs, _recovery_runs, _worker_runs
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.recovery import Recovery
from kairos_core.settings import servers_given
from kairos_core.transport import run
from loadtests.environment import as_recovery, as_worker
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.servers.valkeys import Launcher, Node

# It takes two seconds to serve: time for other tests, so it is begun with the first one.
pytestmark = pytest.mark.usefixtures("lone_cluster")
QUEUE_PREFIX = os.environ["RQ_KEY_PREFIX"]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at twice is looked at at once."""
    monkeypatch.setattr(status, "LOOK_S", 0.0)


@pytest.fixture(scope="module")
def node(launcher: Launcher) -> Node:
    """A server that can keep every durability but `replicated`."""
    return launcher.start("appendonly yes", "appendfsync always")


def allow(node: Node, rules: list[str]) -> str:
    """Make an account with these rules (those of a line of the file of accounts); its user and password."""
    user, password = f"u{next(_numbers)}", secrets.token_urlsafe(12)
    with node.client() as client:
        words = [f">{password}" if rule == ">PASSWORD" else rule for rule in rules[2:]]
        client.execute_command("ACL", "SETUSER", user, *words)
    return f"{user}:{password}"


def settings_of(node: Node, rules: list[str], namespace: str, scheme: str = "redis", **more: Any) -> Settings:
    """Settings with an account that has these rules."""
    url = f"{scheme}://{allow(node, rules)}@{node.host}:{node.port}/0"
    return Settings(redis_url=url, namespace=namespace, lanes=1, timeout_s=2.0, **more)


# What the core does, one thing after the other; `parts` of the account are for some of it.
def use_core(settings: Settings, parts: tuple[str, ...] = ()) -> None:
    """Do all that a process of a service does; raises what goes wrong."""
    with RedisStateManager.connect(settings) as manager, manager.watch_session("a") as updates:
        state = manager.update_session(manager.create_session(sample_state("a")))
        assert [1, 2] == [getattr(updates.receive(2), "version", 0) for _ in range(2)]
        manager.mutate_session("a", lambda found: found)
        assert {"a"} == set(manager.get_sessions(["a"]))
        assert manager.touch_session("a")
        assert ["a"] == run(manager._operations.living())
        assert manager.resolve(new_operation_id(0)) is False
        with manager.receive_messages("a") as messages:
            assert 1 == manager.broadcast_to_session("a", "hello")
            assert ("hello",) == messages.receive(2)
        assert () == manager.health().problems
        for part, level in (("fsync", "fsync"), ("replicated", "replicated:1")):
            if part in parts:
                with contextlib.suppress(_Unreplicated):
                    _check_durability(manager, level)
        assert manager.delete_session("a")
        assert state is not None


class _Unreplicated(Exception):  # noqa: N818 - as far as it can go on a server without replicas
    pass


def _check_durability(manager: RedisStateManager, level: str) -> None:
    state = manager.get_session("a")
    assert state is not None
    try:
        manager.update_session(state, durability=level)
    except DurabilityNotReached as error:
        if "0 of 1 replicas" in error.cause:
            raise _Unreplicated from None
        raise


def test_the_cores_account_is_enough(node: Node) -> None:
    """G12: all that the core does works under its account, `fsync` and `replicated` with the parts for them."""
    for parts in ((), ("fsync", "replicated")):
        namespace = f"enough{next(_numbers)}"
        settings = settings_of(node, account("core", namespace, parts), namespace)
        use_core(settings, parts)
        assert set() == refused(node, settings)


def permissions(role: str, *parts: str) -> list[str]:
    """Each permission of a role's account, those of its selector among them."""
    words = account(role, "kairos", parts)
    inner = [f"({word}" for rule in words if rule[0] == "(" for word in rule[1:-1].split()]
    return [rule for rule in words if rule[0] in "+~&"] + inner


def without(rules: list[str], lacking: str) -> list[str]:
    """The same rules without one, which may be one of the selector's."""
    if lacking[0] != "(":
        assert lacking in rules
        return [rule for rule in rules if rule != lacking]
    found = [
        f"({' '.join(word for word in rule[1:-1].split() if word != lacking[1:])})" if rule[0] == "(" else rule
        for rule in rules
    ]
    assert found != rules
    return found


def named(lacking: str, error: BaseException) -> bool:
    """Whether an error says what was lacking: a command by its name, a key or channel in general."""
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    rule = lacking.lstrip("(")
    word = rule[1:].lower() if rule[0] == "+" else {"~": "a key", "&": "a channel"}[rule[0]]
    text = " ".join(said).lower()
    return word in text or (rule[0] == "&" and "may not run" in text) or (rule[0] == "~" and "no permissions" in text)


# Of one that is lacking, another thing than an error tells: a watch that gets no sign of life is made again and again.
SILENT = {"+ping", "+asking", "+select"}


@pytest.mark.parametrize("lacking", [rule for rule in permissions("core") if rule not in SILENT])
def test_the_core_needs_each_permission(lacking: str, node: Node) -> None:
    """G14: without any one permission of its account, the core says at its start, or at the call, which it lacks."""
    # The server's scripts are known: what EVAL is for is asked for at the start.
    namespace = f"lacks{next(_numbers)}"
    use_core(settings_of(node, account("core", namespace), namespace))
    rules = without(account("core", namespace), lacking.replace("kairos", namespace))
    with pytest.raises((KairosError, AssertionError)) as caught:
        use_core(settings_of(node, rules, namespace))
    assert named(lacking, caught.value), caught.value


@pytest.mark.parametrize("lacking", ["+wait", "+waitaof", "+config|get"])
def test_durability_needs_each_permission(lacking: str, node: Node) -> None:
    """G11, G14: without one of them, a durability says what it lacks."""
    namespace, parts = f"lacks{next(_numbers)}", ("fsync", "replicated")
    rules = without(account("core", namespace, parts), lacking)
    with pytest.raises(DurabilityNotReached) as caught:
        use_core(settings_of(node, rules, namespace), parts)
    assert named(lacking, caught.value), caught.value


def test_a_sign_of_life_needs_ping(node: Node) -> None:
    """G8: without PING, a quiet watch cannot tell that it hears; with it, it can."""
    for lacking in ("", "+ping"):
        namespace = f"quiet{next(_numbers)}"
        rules = [rule for rule in account("core", namespace) if rule != lacking]
        quick = msgspec.structs.replace(settings_of(node, rules, namespace), timeout_s=0.3)
        with RedisStateManager.connect(quick) as manager, manager.watch_sessions() as updates:
            deadline = time.monotonic() + 10
            silences: list[float] = []
            # Until it was silent for long enough to be asked, and is not silent any more.
            while not (silences and updates.silence_s < silences[-1]) and time.monotonic() < deadline:
                silences.append(updates.silence_s)
                assert updates.receive(0.01) is None
            assert silences[-1] > 0.2
            assert bool(lacking) == (updates.reconnects > 0)


def test_another_database_needs_select(node: Node) -> None:
    """An address may name another database; without SELECT it may not."""
    for lacking in ("", "+select"):
        rules = [rule for rule in account("core", "other") if rule != lacking]
        found = settings_of(node, rules, "other")
        found = msgspec.structs.replace(found, redis_url=found.redis_url.removesuffix("/0") + "/5")
        if lacking:
            with pytest.raises(KairosError, match="select"):
                use_core(found)
        else:
            use_core(found)


def test_a_cluster_needs_each_permission(cluster: Node) -> None:
    """G12: on a cluster, the account with that part is enough, and without any one of its permissions it is not."""
    enough = account("core", "kairos", ["cluster"])
    use_core(settings_of(cluster, enough, "kairos", "redis+cluster"))
    lacked = [rule for rule in permissions("core", "cluster") if rule not in permissions("core")]
    assert {"+cluster|slots", "+asking", "+spublish", "+ssubscribe"} == set(lacked)
    for lacking in set(lacked) - SILENT:
        with pytest.raises(KairosError) as caught:
            use_core(settings_of(cluster, without(enough, lacking), "kairos", "redis+cluster"))
        assert named(lacking, caught.value), caught.value
    # Asked for while a slot is on the move.
    for rules, answer in ((enough, True), (without(enough, "+asking"), False)):
        with client_of(cluster, allow(cluster, rules)) as client:
            if answer:
                assert client.execute_command("ASKING")
            else:
                with pytest.raises(redis.exceptions.NoPermissionError, match="asking"):
                    client.execute_command("ASKING")


def test_a_worker_drains_a_cluster(cluster: Node, settings: Settings) -> None:
    """G12: on a cluster, the worker's account with that part ends sessions and empties the outbox."""
    core = settings_of(cluster, account("core", "drained", ["cluster"]), "drained", "redis+cluster", session_ttl_s=0.01)
    with RedisStateManager.connect(core) as manager:
        manager.create_session(sample_state("a"))
    worker = settings_of(cluster, account("worker", "drained", ["cluster"]), "drained", "redis+cluster")
    use_worker(msgspec.structs.replace(worker, postgres_url=settings.postgres_url, session_ttl_s=0.01), 1)


def test_sentinel_needs_role(launcher: Launcher, node: Node) -> None:
    """G12: under Sentinel, the account with that part is enough, and without it the server cannot prove its role."""
    enough = account("core", "kairos", ["sentinel"])
    lines = [f"sentinel monitor kairos {node.host} {node.port} 1", f"sentinel auth-pass kairos {node.password}"]
    sentinel = launcher._start("sentinel", "", lines)
    for rules in (enough, without(enough, "+role")):
        url = f"redis+sentinel://{allow(node, rules)}@{sentinel.host}:{sentinel.port}/kairos/0"
        found = Settings(redis_url=url, namespace="kairos", lanes=1, timeout_s=1.0)
        if rules == enough:
            use_core(found)
        else:
            with pytest.raises(KairosError, match="role"):
                use_core(found)
    launcher.kill(sentinel)


def client_of(node: Node, login: str) -> redis.Redis:
    """A client with this account, that tries once."""
    url = f"redis://{login}@{node.host}:{node.port}/0"
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), driver_info=None)


# What nobody may do who reads and writes sessions, or drains them.
FORBIDDEN = """
FLUSHALL
FLUSHDB
KEYS *
SCAN 0
RANDOMKEY
DBSIZE
CONFIG GET requirepass
CONFIG SET maxmemory 1
CONFIG REWRITE
ACL LIST
ACL GETUSER default
ACL SETUSER intruder on nopass ~* &* +@all
CLIENT LIST
CLIENT KILL TYPE normal
MONITOR
SHUTDOWN NOSAVE
REPLICAOF 127.0.0.1 1
MODULE LIST
SCRIPT FLUSH
FUNCTION LIST
SAVE
BGREWRITEAOF
MIGRATE 127.0.0.1 1 kairos:{L00}:s:a 0 1
SWAPDB 0 1
GET other
GET kairos2:layout
GET kairos
SET kairos:else 1
HMGET kairos2:{L00}:s:a s
HMGET other:{L00}:s:a s
HSET other:{L00}:s:a s 1
XADD other:{L00}:outbox * m 1
EVAL return(redis.call('GET','other')) 0
EVAL return(redis.call('GET',KEYS[1])) 1 other
EVAL return(redis.call('FLUSHALL')) 0
PUBLISH other 1
PUBLISH kairos2:{L00}:u 1
SUBSCRIBE other
SUBSCRIBE __keyspace@0__:kairos:layout
PSUBSCRIBE *
RENAME kairos:{L00}:s:a kairos:{L00}:s:b
DUMP kairos:{L00}:s:a
HGETALL kairos:{L00}:s:a
XTRIM kairos:{L00}:outbox MAXLEN 0
"""
FORBIDDEN_TO_CORE = """
XDEL kairos:{L00}:outbox 1-1
GET kairos:{L00}:lease
DEL kairos:{L00}:lease
GET rq:x
SET rq:x 1
RPUSH rq:queue:kairos-audit job
SMEMBERS rq:workers
HSET rq:job:x data 1
PUBLISH rq:pubsub:x 1
SCRIPT LOAD x
MULTI
WAIT 0 1
ROLE
"""
FORBIDDEN_TO_WORKER = """
HSET kairos:{L00}:s:a s 1
PEXPIRE kairos:{L00}:s:a 1
EXPIRE kairos:{L00}:s:a 1
PERSIST kairos:{L00}:s:a
EXISTS kairos:{L00}:s:a
SET kairos:{L00}:op:x 1
GET kairos:{L00}:life
RPUSH kairos:{L00}:outbox 1
SUBSCRIBE kairos:{L00}:u
XTRIM rq:x MAXLEN 0
PTTL rq:x
PUBLISH rq:pubsub:x 1
CLIENT SETINFO LIB-NAME x
"""


FORBIDDEN_TO_RECOVERY = """
DEL kairos:{L00}:s:a
XDEL kairos:{L00}:outbox 1-1
ZREM kairos:{L00}:deadlines a
ZRANGE kairos:{L00}:deadlines 0 -1
GET kairos:{L00}:op:x
SET kairos:{L00}:op:x 1
GET kairos:{L00}:lease
SUBSCRIBE kairos:{L00}:u
GET rq:x
RPUSH rq:queue:kairos-audit job
WAIT 0 1
ROLE
"""


@pytest.mark.parametrize(
    ("role", "command"),
    [
        (role, command)
        for role, more in (
            ("core", FORBIDDEN_TO_CORE),
            ("worker", FORBIDDEN_TO_WORKER),
            ("recover", FORBIDDEN_TO_RECOVERY),
        )
        for command in (FORBIDDEN + more).split("\n")
        if command
    ],
)
def test_all_else_is_forbidden(role: str, command: str, node: Node) -> None:
    """G12: no account can look at or change what is not Kairos', nor what is not its own task."""
    with client_of(node, _login(node, role)) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command(*command.split(" "))
        try:
            with pytest.raises(redis.ResponseError, match=r"no permissions|No permissions|NOPERM|ACL failure"):
                connection.read_response()
        finally:
            connection.disconnect()


@cache
def _login(node: Node, role: str) -> str:
    return allow(node, account(role, "kairos"))


def test_the_two_do_not_share_what_they_need_not(node: Node) -> None:
    """G12: another namespace's account reads none of this one's sessions, even where one name begins with the other."""
    use_core(settings_of(node, account("core", "kairos"), "kairos"))
    with pytest.raises(KairosError, match="No permissions to access a key"):
        use_core(settings_of(node, account("core", "kairos"), "kairos_a"))
    with pytest.raises(KairosError, match="No permissions to access a key"):
        use_core(settings_of(node, account("core", "kairos_a"), "kairos"))


def use_commands(settings: Settings) -> None:
    """Look at the audit, as its commands do."""
    operations = Operations(settings, BlockingTransport)
    try:
        assert None is status.examine(operations, settings).problem
    finally:
        operations.link.close()
    report = verify(settings)
    assert (0, None) == (report.violations, report.not_compared)


# What the worker does: checks, the sweep, leases, a drain, and RQ's part of it.
def use_worker(settings: Settings, due: int) -> None:
    """End what is due and drain what there is."""
    expiry, outbox = Expiry.connect(settings), Outbox.connect(settings)
    try:
        expiry.check()
        ended, moved, deadline = 0, 0, time.monotonic() + 10
        while ended < due:
            assert time.monotonic() < deadline
            ended += expiry.sweep()
        with AuditWriter.connect(settings) as writer:
            writer.migrate()
            for lane, depth in enumerate(outbox.depths()):
                if depth:
                    assert outbox.hold(lane, "token")
                    moved += drain_lane(outbox, writer, lane)
                    outbox.release(lane, "token")
        assert moved == 2 * due
        assert [0] * settings.lanes == outbox.depths()
        use_commands(settings)
    finally:
        expiry.close()
        outbox.close()


def refused(node: Node, settings: Settings) -> set[str]:
    """The commands, keys and channels that the account of these settings was refused, as the server has them noted."""
    user = urlsplit(settings.redis_url).username
    with node.client(decode_responses=True) as client:
        return {entry["object"] for entry in client.acl_log(1_000) if entry["username"] == user}


def use_queue(settings: Settings) -> None:
    """Hand a job out and work on it, fail and retry, schedule, clean up after workers that died: with RQ's own code."""
    check_queue(settings)
    name = queue_name(settings)
    queue = DrainQueue(settings)
    connection = _client(settings, "kairos-worker", retry=Retry(NoBackoff(), 0))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    worker: Any = None
    try:
        scheduler = RQScheduler([name], connection=connection, interval=1, serializer=JSONSerializer)
        scheduler.acquire_locks()
        scheduler.heartbeat()
        worker = DrainWorker([name], connection=connection, serializer=JSONSerializer)
        # One that ends as it should, one that fails and is put off, and one that fails for good.
        more = {"result_ttl": 1, "failure_ttl": 10, "job_timeout": 10}
        queue._queue.enqueue("operator.truth", [], **more)
        queue._queue.enqueue("operator.getitem", [], 0, retry=JobRetry(max=1, interval=[5]), **more)
        queue._queue.enqueue("operator.getitem", [], 0, **more)
        worker.work(logging_level="CRITICAL", with_scheduler=False, max_jobs=3)
        worker.refresh()
        assert (1, 2) == (worker.successful_job_count, worker.failed_job_count)
        scheduled = queue._queue.scheduled_job_registry
        for job_id in scheduled.get_job_ids():
            connection.zadd(scheduled.key, {job_id: 1})
        scheduler.enqueue_scheduled_jobs()
        _leave_behind(queue, name, connection, worker)
        worker.clean_registries()
        worker.clean_group_registries()
        scheduler.stop()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
        if worker is not None and worker.pubsub_thread is not None and worker.pubsub_thread.is_alive():
            # Not an assertion: of those the caller wants some.
            pytest.fail("the worker, whatever it was refused, leaves its listener behind")
        connection.close()
        queue.close()


def _leave_behind(queue: DrainQueue, name: str, connection: Any, worker: Any) -> None:
    """What a worker that was killed leaves: a job that it had begun, one between two lists, and its name."""
    begun = Job.create("operator.truth", args=([],), connection=connection, serializer=JSONSerializer, origin=name)
    begun.retries_left = 1
    begun.retry_intervals = [5]
    begun.save()
    begun.set_status(JobStatus.STARTED)
    with connection.pipeline() as pipeline:
        execution = Execution.create(begun, ttl=10, pipeline=pipeline)
        pipeline.execute()
    connection.zadd(queue._queue.started_job_registry.key, {execution.composite_key: 1})
    connection.rpush(queue._queue.intermediate_queue_key, "gone", begun.id)
    connection.sadd(worker.redis_workers_keys, f"{QUEUE_PREFIX}:worker:dead")


def make_due(node: Node, namespace: str) -> None:
    """A session whose time has come, with the record of its creation."""
    core = settings_of(node, account("core", namespace), namespace, session_ttl_s=0.001)
    with RedisStateManager.connect(core) as manager:
        manager.create_session(sample_state("a"))


def lose(node: Node, namespace: str, settings: Settings, **more: Any) -> None:
    """A session that is recorded and that the store has lost, with all else of the namespace."""
    parts = ["cluster"] if more else []
    core = settings_of(node, account("core", namespace, parts), namespace, **more)
    worker = settings_of(node, account("worker", namespace, parts), namespace, **more)
    outbox = Outbox.connect(worker)
    with RedisStateManager.connect(core) as manager, AuditWriter.connect(settings) as writer:
        writer.migrate()
        manager.create_session(sample_state("a"))
        drain_lane(outbox, writer, 0)
    outbox.close()
    with node.client() as client:
        for key in client.keys(f"{namespace}:*"):
            client.delete(key)


def use_recovery(settings: Settings) -> None:
    """Restore the session that was lost."""
    with Recovery.connect(settings) as recovery:
        assert 1 == recovery.recover_all().restored
    with Recovery.connect(settings, dry_run=True) as recovery:
        assert recovery.recover_one("a").is_complete


def recoverys_settings(node: Node, rules: list[str], settings: Settings, scheme: str = "redis") -> Settings:
    """Settings of a recovery with these rules."""
    return settings_of(node, rules, settings.namespace, scheme, postgres_url=settings.postgres_url)


@pytest.mark.parametrize("role", ["recover", "core"])
def test_the_recoverys_account_is_enough(role: str, node: Node, settings: Settings) -> None:
    """G12: all that a recovery does works under its account, and under the core's."""
    lose(node, settings.namespace, settings)
    found = recoverys_settings(node, account(role, settings.namespace), settings)
    use_recovery(found)
    assert set() == refused(node, found)


@pytest.mark.parametrize("lacking", [rule for rule in permissions("recover") if rule not in SILENT])
def test_the_recovery_needs_each_permission(lacking: str, node: Node, settings: Settings) -> None:
    """G14: without any one permission of its account, a recovery says which it lacks, and has restored nothing."""
    lose(node, settings.namespace, settings)
    rules = without(account("recover", settings.namespace), lacking.replace("kairos", settings.namespace))
    with pytest.raises(KairosError) as caught:
        use_recovery(recoverys_settings(node, rules, settings))
    assert named(lacking, caught.value), caught.value
    with node.client() as client:
        assert not client.exists(f"{settings.namespace}:{{L00}}:s:a")


def test_a_recovery_of_a_cluster_needs_each_permission(cluster: Node, settings: Settings) -> None:
    """G12: on a cluster, the account with that part is enough, and without any one of its permissions it is not."""
    lose(cluster, settings.namespace, settings, scheme="redis+cluster")
    enough = account("recover", settings.namespace, ["cluster"])
    lacked = [rule for rule in permissions("recover", "cluster") if rule not in permissions("recover")]
    assert {"+cluster|slots", "+asking", "+spublish"} == set(lacked)
    for lacking in set(lacked) - SILENT:
        with pytest.raises(KairosError) as caught:
            use_recovery(recoverys_settings(cluster, without(enough, lacking), settings, "redis+cluster"))
        assert named(lacking, caught.value), caught.value
    use_recovery(recoverys_settings(cluster, enough, settings, "redis+cluster"))


def workers_settings(node: Node, rules: list[str], namespace: str, settings: Settings) -> Settings:
    """Settings of a worker with these rules."""
    return settings_of(node, rules, namespace, session_ttl_s=0.001, postgres_url=settings.postgres_url)


@pytest.fixture
def queue_is_clean(node: Node) -> Iterator[None]:
    """Leave nothing of RQ's behind."""
    yield
    with node.client() as client:
        for key in client.scan_iter(match=f"{QUEUE_PREFIX}:*"):
            client.delete(key)


@pytest.mark.usefixtures("queue_is_clean")
def test_the_workers_account_is_enough(node: Node, settings: Settings) -> None:
    """G12: all that the worker does works under its account."""
    rules = account("worker", settings.namespace, queue_prefix=QUEUE_PREFIX)
    make_due(node, settings.namespace)
    found = workers_settings(node, rules, settings.namespace, settings)
    use_worker(found, 1)
    use_queue(found)
    operations = Operations(found, BlockingTransport)
    assert () == run(operations.health()).problems
    operations.link.close()
    # RQ goes on without some, and says nothing of others.
    assert set() == refused(node, found)


@pytest.mark.parametrize("lacking", [rule for rule in permissions("worker") if rule[0] != "(" and rule not in SILENT])
def test_the_worker_needs_each_permission(lacking: str, node: Node, settings: Settings) -> None:
    """G14: without any one permission of its account, the worker says at its start, or at the call, which it lacks."""
    make_due(node, settings.namespace)
    rules = without(account("worker", settings.namespace), lacking.replace("kairos", settings.namespace))
    with pytest.raises(KairosError) as caught:
        use_worker(workers_settings(node, rules, settings.namespace, settings), 1)
    # Where the selector has the command, too, it is the key that is refused.
    elsewhere = "no permissions to access a key" in str(caught.value).lower() and f"({lacking}" in permissions("worker")
    assert named(lacking, caught.value) or elsewhere, caught.value


@pytest.mark.usefixtures("queue_is_clean")
# Of RQ's thread that listens for commands, and of RQ where it goes on without.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning", "ignore:CLIENT:Warning")
@pytest.mark.parametrize("lacking", [rule[1:] for rule in permissions("worker") if rule[0] == "("])
def test_the_queue_needs_each_permission(lacking: str, node: Node, settings: Settings) -> None:
    """G12: each permission that RQ has is one that it makes use of: without it, it is refused just that."""
    lacking_here = lacking.replace("rq:", f"{QUEUE_PREFIX}:")
    rules = without(account("worker", settings.namespace, queue_prefix=QUEUE_PREFIX), f"({lacking_here}")
    found = workers_settings(node, rules, settings.namespace, settings)
    with node.client() as client:
        client.script_flush()
    with contextlib.suppress(KairosError, redis.RedisError, AssertionError):
        use_queue(found)
    objects = refused(node, found)
    wanted = lacking[1:] if lacking[0] == "+" else f"{QUEUE_PREFIX}:"
    # Where the rest of the account has the command, too, it is the key that is refused.
    wanted = f"{QUEUE_PREFIX}:" if lacking in account("worker", settings.namespace) else wanted
    assert any(name.startswith(wanted) for name in objects), objects


@pytest.mark.skipif(servers_given(), reason="given servers have accounts of their own")
def test_this_suite_runs_under_the_accounts(settings: Settings) -> None:
    """G12: the settings of all other tests have an account that may do no more than its role needs."""
    for found in (settings, as_worker(settings), as_recovery(settings)):
        with (
            redis.Redis.from_url(found.redis_url) as client,
            pytest.raises(redis.exceptions.NoPermissionError, match="keys"),
        ):
            client.keys()


def test_the_command_prints_what_a_server_takes(
    launcher: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """G12: what `kairos acl` prints is, with a password in it, a file of accounts that a server starts with."""
    arguments = ["acl", "core", "--namespace", "mine", "--with", "cluster", "--with", "fsync"]
    assert [0, 0] == [main(arguments), main(["acl", "worker", "--namespace", "mine", "--queue-prefix", "rq:mine"])]
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [["user", "mine-core", "reset", "on", ">PASSWORD"], ["user", "mine-worker", "reset", "on", ">PASSWORD"]] == [
        line.split()[:5] for line in lines
    ]
    assert "nopass" not in printed
    assert ("+config|get" in lines[0], "+config|get" in lines[1], "(~rq:mine:* &rq:mine:*" in lines[1]) == (
        True,
        False,
        True,
    )
    file = tmp_path / "users.acl"
    file.write_text(f"user default off\n{printed.replace('>PASSWORD', '>secret')}", encoding="utf-8")
    node = launcher.start(f'aclfile "{file}"')
    use_core(Settings(redis_url=f"redis://mine-core:secret@127.0.0.1:{node.port}/0", namespace="mine", lanes=1))
    launcher.kill(node)


@pytest.mark.parametrize(
    "arguments",
    [
        ["core", "--namespace", "Not one"],
        ["core", "--with", "everything"],
        ["worker", "--queue-prefix", "a b"],
        ["somebody"],
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake prints no account, and ends with status 2."""
    try:
        status: object = main(["acl", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert (2, "") == (status, capsys.readouterr().out)


def test_an_account_of_nobody() -> None:
    """A role or a part that does not exist is refused."""
    for role, parts in (("admin", []), ("core", ["everything"])):
        with pytest.raises(InvalidState):
            account(role, "kairos", parts)


def test_the_start_asks_for_all_that_the_scripts_run() -> None:
    """G4, G14: no command stands in a script that the check at the start does not ask for; none is asked for idly."""
    layout = Layout("kairos", 1)
    places = {
        "session": "kairos:{L00}:s:permitted",
        "receipt": layout.receipt(0, "0"),
        "outbox": layout.outboxes[0],
        "deadlines": layout.deadlines[0],
        "life": layout.lives[0],
        "lease": layout.lease(0),
    }
    # The keys of each script, in its order.
    cores = {
        "create": ("session", "receipt", "outbox", "deadlines", "life"),
        "update": ("session", "receipt", "outbox"),
        "delete": ("session", "receipt", "outbox", "deadlines"),
        "resolve": ("receipt",),
    }
    workers = {"expire": ("session", "outbox", "deadlines"), "hold": ("lease",), "release": ("lease",)}
    drain = {(name, layout.outboxes[0]) for name in ("XRANGE", "XDEL")} | {("ZRANGE", layout.deadlines[0])}
    recoveries = {"restore": ("session", "outbox", "deadlines", "life")}
    backlog = {("XRANGE", layout.outboxes[0])}
    for runs, scripts, besides in (
        (_core_runs, cores, set()),
        (_worker_runs, workers, drain),
        (_recovery_runs, recoveries, backlog),
    ):
        found = {
            (word, places[keys[int(number) - 1]]) if number else (word,)
            for name, keys in scripts.items()
            for word, number in re.findall(r"call\('([A-Z]+)'(?:, KEYS\[([0-9])\])?", load_script(name).text)
        }
        assert found | besides == {words[:2] for words in runs(layout, 0)[1]}
