"""A real cluster of three primaries, each with a replica."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis.exceptions import ResponseError

from kairos_core import (
    AsyncRedisStateManager,
    AuditWriter,
    RedisStateManager,
    SessionExists,
    Settings,
    StoreUnavailable,
    VersionConflict,
)
from kairos_core.addresses import Endpoint
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.jobs import DrainQueue, check_queue
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.awaiting import AwaitingChannel
from kairos_core.blocking import BlockingChannel, BlockingTransport
from kairos_core.errors import ConfigurationError
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.settings import child_environment
from kairos_core.transport import run
from loadtests.environment import new_namespace, row_counts
from loadtests.servers.proxy import Proxy
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state
from loadtests.steady import Watchers, Writers, bad_ports, receive_until, turn
from loadtests.waiting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from kairos_core import StateUpdate, SyncState
    from kairos_core.watches import SessionWatch
    from loadtests.servers.valkeys import Cluster, Launcher, Node

NAMESPACE = new_namespace("cluster")
_numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def forming(launcher: Launcher) -> Iterator[list[Future[Cluster]]]:
    """Two clusters, begun side by side: a primary refuses to serve for its first two seconds."""
    with ThreadPoolExecutor() as pool:
        yield [pool.submit(launcher.cluster) for _ in range(2)]


@pytest.fixture(scope="module")
def cluster(forming: list[Future[Cluster]]) -> Cluster:
    """A cluster whose nodes nobody kills; any primary may have any slot."""
    return forming[0].result()


@pytest.fixture(scope="module")
def second_cluster(forming: list[Future[Cluster]]) -> Cluster:
    """A cluster for tests that kill a node; each brings it back, as a replica."""
    return forming[1].result()


def settings_for(cluster: Cluster, **more: Any) -> Settings:
    """Settings with a namespace of their own."""
    return Settings(redis_url=cluster.url, namespace=f"{NAMESPACE}_{next(_numbers)}", **more)


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    """Settings for the cluster."""
    return settings_for(cluster)


@pytest.fixture
def manager(settings: Settings) -> Iterator[RedisStateManager]:
    """A connected manager."""
    with RedisStateManager.connect(settings) as connected:
        yield connected


def one_of_each_lane(settings: Settings) -> list[str]:
    """An id in each lane, in the lanes' order."""
    layout = Layout(settings.namespace, settings.lanes)
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(layout.lane_of(f"s{number}"), f"s{number}")
        if len(found) == settings.lanes:
            break
    return [found[lane] for lane in range(settings.lanes)]


def errors_of(cluster: Cluster) -> Counter[str]:
    """How often the nodes answered with each refusal so far."""
    found: Counter[str] = Counter()
    for node in cluster.primaries + cluster.replicas:
        with node.client() as client:
            for name, value in client.info("errorstats").items():
                found[name.removeprefix("errorstat_")] += value["count"]
    return found


# Operations.


def test_operations(manager: RedisStateManager, settings: Settings) -> None:
    """G1, G2: in every lane, each operation does what it does on one server."""
    names = one_of_each_lane(settings)
    created = {name: manager.create_session(sample_state(name)) for name in names}
    assert created == manager.get_sessions(names)
    assert {**created, "nobody": None} == manager.get_sessions([*names, "nobody", names[0]])
    for name in names:
        assert created[name] == manager.get_session(name)
        with pytest.raises(SessionExists):
            manager.create_session(sample_state(name))
        updated = manager.update_session(created[name].replace(metadata={"turns": 1}))
        with pytest.raises(VersionConflict):
            manager.update_session(created[name])
        assert (2, 3) == (updated.version, manager.mutate_session(name, lambda state: turn(state, "w")).version)
        assert manager.touch_session(name)
        assert 0 == manager.broadcast_to_session(name, {"to": name})
        with pytest.raises(VersionConflict):
            manager.delete_session(name, if_unchanged=updated)
        assert (True, False) == (manager.delete_session(name), manager.delete_session(name))
        assert not manager.touch_session(name)
    assert {None} == set(manager.get_sessions(names).values())


def test_operations_under_asyncio(settings: Settings) -> None:
    """G1, G2: the same of the asyncio manager, on many lanes at once."""
    names = one_of_each_lane(settings)

    async def one(manager: AsyncRedisStateManager, name: str) -> None:
        created = await manager.create_session(sample_state(name))
        assert created == await manager.get_session(name)
        updated = await manager.update_session(created)
        with pytest.raises(VersionConflict):
            await manager.update_session(created)
        assert updated.version + 1 == (await manager.mutate_session(name, lambda state: turn(state, "w"))).version
        assert await manager.touch_session(name)
        assert 0 == await manager.broadcast_to_session(name, "to nobody")
        assert 3 == len(await manager.get_sessions([name, names[0], names[-1], name])) or name in (names[0], names[-1])
        assert await manager.delete_session(name)

    async def steps() -> None:
        async with AsyncRedisStateManager.connect(settings) as manager:
            await asyncio.gather(*(one(manager, name) for name in names))
            assert {None} == set((await manager.get_sessions(names)).values())

    asyncio.run(steps())


def test_a_write_that_is_settled(manager: RedisStateManager, settings: Settings) -> None:
    """G5, G6: an operation's id leads to the server that has its receipt, in every lane."""
    with manager.watch_sessions() as updates:
        for name in one_of_each_lane(settings):
            manager.create_session(sample_state(name))
        found = receive_until(updates, lambda found: len(found) == settings.lanes)
    assert {True} == {manager.resolve(update.operation_id) for update in found}
    last = found[-1].operation_id
    never = last[:-1] + ("0" if last[-1] != "0" else "1")
    assert (False, True) == (manager.resolve(never), manager.resolve(last))


def monitored(cluster: Cluster, settings: Settings, act: Callable[[], object]) -> list[list[str]]:
    """The names of the commands that come to each primary, beyond those of scripts, while something is done."""
    seen: list[list[str]] = []
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client(single_connection_client=True)) for node in cluster.primaries]
        monitors = [stack.enter_context(client.monitor()) for client in clients]
        act()
        for client, monitor in zip(clients, monitors, strict=True):
            client.echo("over")
            names = []
            for entry in monitor.listen():
                if entry["command"] == "ECHO over":
                    break
                if entry["client_type"] != "lua":
                    names.append((entry["command"].split()[0], settings.namespace in entry["command"]))
            # What the nodes say to each other is not counted here; what has no key in it would be ours.
            seen.append([name for name, is_ours in names if is_ours or name not in ("PING", "REPLCONF", "INFO")])
    return seen


def test_one_command_an_operation(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """G3: in the steady state, each operation is one command on one server, and asks nobody where to go."""
    names = one_of_each_lane(settings)
    for name in names:
        manager.update_session(manager.create_session(sample_state(name)))
        manager.delete_session(name)

    def act() -> None:
        for name in names:
            state = manager.create_session(sample_state(name))
            manager.update_session(state)
            manager.get_session(name)
            manager.touch_session(name)
            manager.broadcast_to_session(name, 1)
            manager.delete_session(name)

    seen = monitored(cluster, settings, act)
    each = len(names)
    assert {"EVALSHA": 3 * each, "HMGET": each, "PEXPIRE": each, "SPUBLISH": each} == Counter(
        itertools.chain.from_iterable(seen)
    )
    # Every primary has its part; how many lanes, their slots decide.
    assert all(seen)


@pytest.mark.parametrize("count", [60, 1_200])
def test_many_reads_are_one_pipeline_for_each_server(
    count: int, manager: RedisStateManager, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G3: get_sessions sends once to each server that has some (or once for each 500), in both colours."""
    sends: list[Endpoint] = []

    def spied(channel_class: Any) -> Any:
        send = channel_class.send

        async def spy(channel: Any, data: bytes, deadline: float) -> None:
            sends.append(channel.node)
            await send(channel, data, deadline)

        return spy

    for channel_class in (BlockingChannel, AwaitingChannel):
        monkeypatch.setattr(channel_class, "send", spied(channel_class))
    names = [f"s{number}" for number in range(count)]
    states = {name: manager.create_session(sample_state(name)) for name in names[::50]}
    expected = {name: states.get(name) for name in names}
    sends.clear()
    assert expected == manager.get_sessions(names)
    by_node = Counter(sends)
    assert 3 == len(by_node)
    assert count <= 60 or sum(by_node.values()) <= 3 + count // 500
    assert count > 60 or {1} == set(by_node.values())

    async def steps() -> None:
        async with AsyncRedisStateManager.connect(settings) as awaiting:
            sends.clear()
            assert expected == await awaiting.get_sessions(names)

    asyncio.run(steps())
    assert by_node == Counter(sends)


# Watching.


def test_a_watch_of_all_sessions(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """G8: a watch of all sessions hears every lane of every server, in both colours, each session in its order."""
    names = one_of_each_lane(settings)
    finals: dict[str, SyncState] = {}

    def write() -> None:
        for name in names:
            finals[name] = manager.update_session(manager.create_session(sample_state(name)))

    async def steps() -> list[StateUpdate]:
        async with AsyncRedisStateManager.connect(settings) as awaiting, awaiting.watch_sessions() as heard:
            await asyncio.to_thread(write)
            async with asyncio.timeout(DEADLINE_S):
                updates = [await anext(aiter(heard)) for _ in range(2 * len(names))]
            assert 0 == heard.reconnects
            return updates

    with manager.watch_sessions() as updates:
        assert {node.port for node in cluster.primaries} == {
            channel.node.port for channel in updates._feed.subscription._lines
        }
        heard = asyncio.run(steps())
        found = receive_until(updates, lambda found: len(found) == 2 * len(names))
        assert updates.receive(0.05) is None
    for received in (found, heard):
        for name in names:
            mine = [update for update in received if update.session_id == name]
            assert [1, 2] == [update.version for update in mine]
            assert finals[name] == mine[-1].state


def test_a_watch_of_one_session(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a watch of one session is with the one server that has it, and hears of no other session."""
    name, other = one_of_each_lane(settings)[3:5]
    with manager.watch_session(name) as updates:
        assert 1 == len(updates._feed.subscription._lines)
        manager.create_session(sample_state(other))
        created = manager.create_session(sample_state(name))
        manager.delete_session(name)
        found = receive_until(updates, lambda found: len(found) == 2)
        assert [created, None] == [update.state for update in found]
        assert updates.receive(0.05) is None
    with manager.watch_session(other, since=manager.get_session(other)) as updates:
        updated = manager.mutate_session(other, lambda state: turn(state, "w"))
        assert [updated] == [update.state for update in receive_until(updates, lambda found: len(found) == 1)]


def test_messages(settings: Settings, manager: RedisStateManager) -> None:
    """A session's messages reach who receives them, whichever server has the session."""

    async def steps(name: str) -> list[tuple[Any] | tuple[()]]:
        async with AsyncRedisStateManager.connect(settings) as awaiting, awaiting.receive_messages(name) as received:
            assert 1 == await awaiting.broadcast_to_session(name, None)
            assert 0 == await awaiting.broadcast_to_session(f"{name}-other", "not this one")
            assert 1 == await awaiting.broadcast_to_session(name, {"to": name})
            return [await received.receive(DEADLINE_S) for _ in range(2)]

    for name in one_of_each_lane(settings)[:6]:
        with manager.receive_messages(name) as received:
            assert 1 == manager.broadcast_to_session(name, {"to": name})
            assert ({"to": name},) == received.receive(DEADLINE_S)
        assert [(None,), ({"to": name},)] == asyncio.run(steps(name))


# The audit and the sweep.


def test_the_outbox_and_the_sweep(cluster: Cluster) -> None:
    """G7, G9: the outboxes of all lanes are read, trimmed and leased; sessions of all lanes end, and are announced."""
    settings = settings_for(cluster, session_ttl_s=0.01)
    names = one_of_each_lane(settings)
    outbox, expiry = Outbox.connect(settings), Expiry.connect(settings)
    with RedisStateManager.connect(settings) as manager, manager.watch_sessions() as updates:
        for name in names:
            manager.create_session(sample_state(name))
        assert [1] * settings.lanes == outbox.depths()
        ended = 0

        def sweep() -> bool:
            nonlocal ended
            ended += expiry.sweep()
            return ended == len(names)

        assert wait_until(sweep)
        found = receive_until(updates, lambda found: len(found) == 2 * len(names))
        assert {(name, kind) for name in names for kind in ("created", "expired")} == {
            (update.session_id, update.event_type) for update in found
        }
        assert [2] * settings.lanes == outbox.depths()
        for lane, name in enumerate(names):
            assert (True, False) == (outbox.hold(lane, "one"), outbox.hold(lane, "other"))
            outbox.release(lane, "one")
            assert outbox.hold(lane, "other")
            entries = outbox.read(lane, 10)
            assert [name, name] == [entry.message.session_id for entry in entries if isinstance(entry, Entry)]
            assert 1 == outbox.remove(lane, [entries[0].entry_id])
        assert [1] * settings.lanes == outbox.depths()
    outbox.close()
    expiry.close()


@pytest.mark.timeout(90)
def test_the_audit_of_a_cluster(cluster: Cluster, servers: Settings) -> None:
    """G7: with a queue of its own, a worker brings every write of a cluster to PostgreSQL."""
    settings = settings_for(
        cluster, postgres_url=servers.postgres_url, queue_url=servers.queue_url or servers.redis_url
    )
    # In the run's namespace, so that its schema is removed with the others.
    settings = msgspec.structs.replace(settings, namespace=f"{servers.namespace}_c{next(_numbers)}")
    with RedisStateManager.connect(settings) as manager:
        for name in one_of_each_lane(settings):
            manager.delete_session(manager.update_session(manager.create_session(sample_state(name))).session_id)
    with worker_pool(settings):
        assert wait_until(lambda: row_counts(settings, "sync_events") == 3 * settings.lanes)
    # And without a queue, by hand.
    with RedisStateManager.connect(settings) as manager, AuditWriter.connect(settings) as writer:
        manager.create_session(sample_state("by-hand"))
        outbox = Outbox.connect(settings)
        assert 1 == sum(drain_lane(outbox, writer, lane) for lane in range(settings.lanes))
        outbox.close()


def test_a_worker_needs_a_queue(settings: Settings) -> None:
    """G14: RQ cannot keep its queue in a cluster: without an address for it, a worker refuses to start, in one line."""
    for refused in (check_queue, DrainQueue):
        with pytest.raises(ConfigurationError) as caught:
            refused(settings)
        assert "KAIROS_QUEUE_URL" == caught.value.setting
    with pytest.raises(ConfigurationError, match="KAIROS_QUEUE_URL"):
        msgspec.structs.replace(settings, queue_url=settings.redis_url)
    process = subprocess.run(
        [sys.executable, "-m", "kairos_core.cli", "worker"],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "KAIROS_QUEUE_URL" in line


# Starting.


def with_seeds(settings: Settings, *ports: int) -> Settings:
    """The same settings with other servers in the address."""
    login, _, _ = settings.redis_url.rpartition("@")
    seeds = ",".join(f"127.0.0.1:{port}" for port in ports)
    return msgspec.structs.replace(settings, redis_url=f"{login}@{seeds}/0")


@pytest.mark.parametrize("kind", ["gone", "silent"])
def test_a_dead_first_seed(kind: str, cluster: Cluster, settings: Settings) -> None:
    """G10: any node of the address that answers is enough, in both colours."""
    with bad_ports(kind, 1) as ports:
        started = msgspec.structs.replace(with_seeds(settings, *ports, cluster.replicas[0].port), timeout_s=1.5)
        with RedisStateManager.connect(started) as manager:
            created = manager.create_session(sample_state("a"))

        async def steps() -> SyncState | None:
            async with AsyncRedisStateManager.connect(started) as awaiting:
                return await awaiting.get_session("a")

        assert created == asyncio.run(steps())


@pytest.mark.parametrize("kind", ["gone", "silent", "both"])
def test_dead_seeds(kind: str, settings: Settings) -> None:
    """G10, G14: where no node of the address answers, that is said by the deadline, and the setting is named."""
    with bad_ports(kind, 4) as ports:
        dead = msgspec.structs.replace(with_seeds(settings, *ports), timeout_s=0.5)
        for connect in (RedisStateManager.connect, connect_awaiting):
            start = time.monotonic()
            with pytest.raises(ConfigurationError) as caught:
                connect(dead)
            assert "KAIROS_REDIS_URL" == caught.value.setting
            # The deadline, and what a busy machine adds.
            assert time.monotonic() - start < dead.timeout_s + 5


def connect_awaiting(settings: Settings) -> None:
    """Connect an asyncio manager, and close it."""

    async def steps() -> None:
        (await AsyncRedisStateManager.connect(settings)).close()

    asyncio.run(steps())


def test_a_seed_that_is_no_cluster(launcher: Launcher, settings: Settings) -> None:
    """G14: a server that is part of no cluster is not taken for one."""
    node = launcher.start()
    url = node.url.replace("redis://", "redis+cluster://")
    with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL.*cluster support disabled"):
        RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=url))
    launcher.kill(node)


def test_a_wrong_password(cluster: Cluster, settings: Settings) -> None:
    """G14: a password that the nodes refuse is said at once, and not quoted."""
    wrong = settings.redis_url.replace(":@", ":").partition("@")[2]
    url = f"redis+cluster://:not-the-password@{wrong}"
    with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL") as caught:
        RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=url))
    assert "not-the-password" not in str(caught.value)
    assert cluster.primaries[0].password not in str(caught.value)


def test_layouts_that_disagree(settings: Settings, manager: RedisStateManager) -> None:
    """G14: a process with another number of lanes is refused, wherever the layout's key is."""
    manager.create_session(sample_state("a"))
    with pytest.raises(ConfigurationError, match="KAIROS_LANES"):
        RedisStateManager.connect(msgspec.structs.replace(settings, lanes=8))
    with pytest.raises(ConfigurationError, match="KAIROS_LANES"):
        connect_awaiting(msgspec.structs.replace(settings, lanes=17))


def test_health(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """Each primary says how it is, with its replica; the backlog is of all lanes."""
    names = one_of_each_lane(settings)
    for name in [*names, *names]:
        manager.delete_session(name)
        manager.create_session(sample_state(name))
    found = manager.health()
    assert ((), True) == (found.problems, found.is_reachable)
    assert {f"127.0.0.1:{node.port}" for node in cluster.primaries} == {server.address for server in found.servers}
    assert {("master", 1)} == {(server.role, server.replicas) for server in found.servers}
    assert (3 * len(names), 3) == (found.outbox_depth, found.deepest_lane)
    assert found.oldest_unaudited_s is not None
    assert found.layout == Layout(settings.namespace, settings.lanes).layout_value


# Slots that move.


def lane_with_slot(settings: Settings) -> tuple[str, int]:
    """A session of a lane, and the lane's slot."""
    layout = Layout(settings.namespace, settings.lanes)
    return "s0", layout.slots[layout.lane_of("s0")]


def test_a_slot_that_moves_while_it_is_written(cluster: Cluster, settings: Settings) -> None:
    """G1, G8: a slot that moves by hand, key by key, costs writers no error and no write, and watchers no update."""
    name, slot = lane_with_slot(settings)
    source = cluster.owner(slot)
    target = next(node for node in cluster.primaries if node != source)
    before = errors_of(cluster)
    with (
        RedisStateManager.connect(settings) as manager,
        Watchers(settings) as watchers,
        Writers(settings, [name]) as writers,
    ):
        assert writers.go_on()
        for origin, destination in ((source, target), (target, source)):
            cluster.begin_move(slot, origin, destination)
            cluster.move_keys(slot, origin, destination, limit=1)
            # Writes need all keys in one place, and wait. Reads of what has moved follow it.
            cluster.move_keys(slot, origin, destination)
            state = manager.get_session(name)
            assert state is not None
            assert state == manager.get_sessions([name, "nobody"])[name]
            assert manager.touch_session(name)
            assert {name} == set(run(manager._operations.living()))
            cluster.finish_move(slot, origin, destination)
            assert destination == cluster.owner(slot)
            assert writers.go_on()
        writers.stop()
        finals = manager.get_sessions([name])
        assert ([], []) == (writers.failures, writers.miscounted(finals))
        assert watchers.come_to(finals)
    assert [] == watchers.steps_back
    after = errors_of(cluster)
    # All that can be answered was answered.
    assert [True] * 3 == [after[code] > before[code] for code in ("ASK", "MOVED", "TRYAGAIN")]
    assert all(count > 0 for count in watchers.reconnects.values())


def test_a_slot_that_moves_at_once_while_it_is_written(cluster: Cluster, settings: Settings) -> None:
    """G1, G8: the same of Valkey's own move of a slot as a whole."""
    name, slot = lane_with_slot(settings)
    source = cluster.owner(slot)
    target = next(node for node in cluster.primaries if node != source)
    with (
        RedisStateManager.connect(settings) as manager,
        Watchers(settings) as watchers,
        Writers(settings, [name]) as writers,
    ):
        for origin, destination in ((source, target), (target, source)):
            assert writers.go_on()
            with origin.client() as there, destination.client() as here:
                identity = here.execute_command("CLUSTER", "MYID")
                try:
                    there.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", identity)
                except ResponseError as error:
                    pytest.skip(f"this server has no such command: {error}")
            assert wait_until(partial(has_slot, cluster, destination, slot))
        assert writers.go_on()
        writers.stop()
        finals = manager.get_sessions([name])
        assert ([], []) == (writers.failures, writers.miscounted(finals))
        assert watchers.come_to(finals)
    assert [] == watchers.steps_back


def is_primary(node: Node) -> bool:
    """Whether a node is a primary by its own account."""
    with node.client() as client:
        return bool(client.info("replication")["role"] == "master")


def has_slot(cluster: Cluster, node: Node, slot: int) -> bool:
    """Whether this node has the slot; for a while after a failure, none has."""
    with contextlib.suppress(LookupError):
        return cluster.owner(slot) == node
    return False


def test_a_watch_of_a_slot_that_moved_before(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """G8: a watch begins with the server that has the slot, also where this process knows of another one."""
    name, slot = lane_with_slot(settings)
    state = manager.create_session(sample_state(name))
    source = cluster.owner(slot)
    target = next(node for node in cluster.primaries if node != source)
    cluster.move_slot(slot, source, target)
    with manager.watch_session(name) as updates:
        state = manager.update_session(state)
        assert [state] == [update.state for update in receive_until(updates, lambda found: len(found) == 1)]
        # A server takes the channel away, and nobody writes: the watch notices by itself.
        cluster.move_slot(slot, target, source)
        assert receive_until(updates, lambda _: updates.reconnects > 0) == []
        assert [source.port] == [channel.node.port for channel in updates._feed.subscription._lines]
        state = manager.update_session(state)
        assert [state] == [update.state for update in receive_until(updates, lambda found: len(found) == 1)]


def test_a_slot_that_nobody_has(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """G6, G10: CLUSTERDOWN is waited for until the deadline, and then said; nothing was written."""
    name, slot = lane_with_slot(settings)
    state = manager.create_session(sample_state(name))
    owner = cluster.owner(slot)
    hasty = msgspec.structs.replace(settings, timeout_s=0.3)
    with owner.client() as client, RedisStateManager.connect(hasty) as impatient:
        before = errors_of(cluster)["CLUSTERDOWN"]
        client.execute_command("CLUSTER", "DELSLOTS", slot)
        try:
            start = time.monotonic()
            with pytest.raises(StoreUnavailable) as caught:
                impatient.update_session(state)
            with pytest.raises(StoreUnavailable):
                impatient.get_sessions([name])
            assert time.monotonic() - start < 10
            assert (True, "CLUSTERDOWN") == (caught.value.definite, caught.value.code)
            assert not impatient.health().is_healthy
            results: list[SyncState] = []
            thread = threading.Thread(target=lambda: results.append(manager.update_session(state)))
            thread.start()
            refused = errors_of(cluster)["CLUSTERDOWN"]
            assert refused > before
            assert wait_until(lambda: errors_of(cluster)["CLUSTERDOWN"] > refused)
        finally:
            client.execute_command("CLUSTER", "ADDSLOTS", slot)
        thread.join(DEADLINE_S)
        assert [2] == [result.version for result in results]
    cluster.wait_until_ok()


# Nodes that fail.


def shard_of(cluster: Cluster, slot: int) -> tuple[Node, Node]:
    """The primary of a slot and its replica."""
    primary = cluster.owner(slot)
    for node in cluster.primaries + cluster.replicas:
        with node.client() as client:
            if client.info("replication").get("master_port") == primary.port:
                return primary, node
    raise LookupError(f"port {primary.port} has no replica")


@pytest.mark.parametrize("fate", ["killed", "paused"])
@pytest.mark.timeout(90)
def test_a_primary_that_fails(fate: str, launcher: Launcher, second_cluster: Cluster) -> None:
    """G1, G8, G10, G11: a primary that is replaced costs no error and no replicated write, and no watcher its end."""
    cluster = second_cluster
    settings = settings_for(cluster, timeout_s=8.0)
    name, slot = lane_with_slot(settings)
    # A session of another server is written to as well.
    old, new = shard_of(cluster, slot)
    other = one_elsewhere(cluster, settings, old)
    hasty = msgspec.structs.replace(settings, timeout_s=1.0)
    with (
        RedisStateManager.connect(settings) as manager,
        RedisStateManager.connect(hasty) as listener,
        listener.watch_session(name) as alone,
        Watchers(hasty) as watchers,
        Writers(settings, [name, other], durability="replicated") as writers,
    ):
        assert writers.go_on()
        getattr(launcher, {"killed": "kill", "paused": "pause"}[fate])(old)
        try:
            assert wait_until(lambda: is_primary(new))
            # Before the old one is back.
            state = manager.mutate_session(name, lambda state: turn(state, "test"))
            assert watchers.come_past(state)
            assert receive_until(alone, lambda found: bool(found) and found[-1].version >= state.version)
        finally:
            getattr(launcher, {"killed": "restart", "paused": "resume"}[fate])(old)
        launcher.wait_for_replica(new)
        assert writers.go_on()
        writers.stop()
        finals = manager.get_sessions([name, other])
        assert ([], []) == (writers.failures, writers.miscounted(finals))
        assert watchers.come_to(finals)
        # Each call ended by its deadline, and a mutate is two; the rest is what a busy machine adds.
        assert writers.longest_s < 2 * settings.timeout_s + 5
    assert [] == watchers.steps_back
    cluster.wait_until_ok()


# One connection of several.


class ThroughProxies(BlockingTransport):
    """Leads connections to some servers through proxies."""

    proxies: dict[int, Proxy]

    async def open(self, node: Endpoint, time_left_s: float, *, to_sentinel: bool = False) -> BlockingChannel:
        """Make a connection, or one to the proxy of the server."""
        proxy = self.proxies.get(node.port)
        port = int(proxy.url.rpartition(":")[2].partition("/")[0]) if proxy else node.port
        channel = await super().open(Endpoint(node.host, port), time_left_s, to_sentinel=to_sentinel)
        channel.node = node
        return channel


def test_one_deaf_connection_of_several(cluster: Cluster, settings: Settings, manager: RedisStateManager) -> None:
    """G8: where one of a watch's servers says nothing any more, that is noticed, and made up for."""
    name, slot = lane_with_slot(settings)
    owner = cluster.owner(slot)
    hasty = msgspec.structs.replace(settings, timeout_s=0.4)
    pings, silent = itertools.count(), threading.Event()

    def on_request(data: bytes) -> bytes:
        if b"PING" in data:
            next(pings)
        return data

    def on_reply(data: bytes) -> bytes:
        return b"" if silent.is_set() else data

    with Proxy(owner.url) as proxy:
        proxy.on_request, proxy.on_reply = on_request, on_reply
        operations = Operations(hasty, type("Through", (ThroughProxies,), {"proxies": {owner.port: proxy}}))
        with RedisStateManager(operations) as through, through.watch_sessions() as updates:
            state = manager.create_session(sample_state(name))
            assert 1 == len(receive_until(updates, lambda found: len(found) == 1))
            # Silence is no deafness: signs of life are asked for on each connection, and come.
            assert [] == receive_until(updates, lambda _: next(pings) > 3)
            assert 0 == updates.reconnects
            silent.set()
            state = manager.update_session(state)
            # The other servers are heard, which must not hide it.
            manager.create_session(sample_state(one_elsewhere(cluster, settings, owner)))
            heard = receive_until(updates, lambda _: updates.silence_s > 2 * hasty.timeout_s)
            assert updates.silence_s > 2 * hasty.timeout_s
            silent.clear()
            heard += receive_until(updates, lambda found: any(update.session_id == name for update in found))
            assert [state] == [update.state for update in heard if update.session_id == name]
            assert updates.reconnects >= 1


def one_elsewhere(cluster: Cluster, settings: Settings, node: Node) -> str:
    """A session of which the primary is another one."""
    layout = Layout(settings.namespace, settings.lanes)
    ids = one_of_each_lane(settings)
    return next(name for name, slot in zip(ids, layout.slots, strict=True) if cluster.owner(slot) != node)


def test_a_primary_that_became_a_replica(launcher: Launcher, second_cluster: Cluster) -> None:
    """G8: a server that lives on, answers and is no longer the primary is noticed in silence, and left."""
    cluster = second_cluster
    settings = settings_for(cluster, timeout_s=0.4)
    name, slot = lane_with_slot(settings)
    old, new = shard_of(cluster, slot)
    with RedisStateManager.connect(settings) as manager, manager.watch_session(name) as updates:
        with new.client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        assert wait_until(lambda: has_slot(cluster, new, slot))
        assert [] == receive_until(updates, lambda _: ports_of(updates) == [new.port])
        assert 1 <= updates.reconnects
        with RedisStateManager.connect(msgspec.structs.replace(settings, timeout_s=5.0)) as writer:
            state = writer.create_session(sample_state(name))
        assert [state] == [update.state for update in receive_until(updates, lambda found: len(found) == 1)]
    launcher.wait_for_replica(new)
    assert old != cluster.owner(slot)


def ports_of(watch: SessionWatch) -> list[int]:
    """The ports that a watch is connected to."""
    return [channel.node.port for channel in watch._feed.subscription._lines]
