"""A real pair of a primary and a replica, and three real sentinels; or servers with sentinels that are made up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import hiredis
import msgspec
import pytest

from kairos_core import AsyncRedisStateManager, RedisStateManager, SessionExists, Settings, StoreUnavailable
from kairos_core.audit.jobs import DrainQueue, check_queue
from kairos_core.blocking import BlockingTransport
from kairos_core.errors import ConfigurationError
from kairos_core.ground import store_client
from kairos_core.operations import Operations
from loadtests.environment import new_namespace
from loadtests.servers.valkeys import SERVICE, Launcher, Node, SentinelPair
from loadtests.states import sample_state
from loadtests.steady import Watchers, Writers, bad_ports, receive_until, turn
from loadtests.waiting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kairos_core import SyncState

NAMESPACE = new_namespace("sentinel")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def pair(launcher: Launcher) -> SentinelPair:
    """A pair of which nobody is killed; its sentinels have a password."""
    return launcher.sentinel_pair(sentinel_password=True)


@pytest.fixture(scope="module")
def two(launcher: Launcher) -> tuple[Node, Node]:
    """A primary and its replica, which no sentinel knows."""
    primary = launcher.start()
    replica = launcher.replica_of(primary)
    launcher.wait_for_replica(primary)
    return primary, replica


@pytest.fixture
def settings(pair: SentinelPair) -> Settings:
    """Settings for the pair, with a namespace of this test's own."""
    return settings_for(pair.url)


def settings_for(url: str, **more: Any) -> Settings:
    """Settings with a namespace of their own."""
    return Settings(redis_url=url, namespace=f"{NAMESPACE}_{next(_numbers)}", **more)


@pytest.fixture
def manager(settings: Settings) -> Iterator[RedisStateManager]:
    """A connected manager."""
    with RedisStateManager.connect(settings) as connected:
        yield connected


def connect_awaiting(settings: Settings) -> None:
    """Connect an asyncio manager, and close it."""

    async def steps() -> None:
        (await AsyncRedisStateManager.connect(settings)).close()

    asyncio.run(steps())


CONNECTS: list[Callable[[Settings], Any]] = [RedisStateManager.connect, connect_awaiting]


# The queue.


class Interrupted(Exception):  # noqa: N818 - as RQ's own: a worker is told to end
    """Raised where a signal comes."""


@pytest.fixture
def interrupting() -> Iterator[Callable[[], None]]:
    """Lets a signal interrupt this thread a little later."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGUSR1, interrupt)
    timers: list[threading.Timer] = []

    def later() -> None:
        timers.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)))
        timers[-1].start()

    yield later
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGUSR1, former)


def test_an_interrupted_wait_holds_nothing_up(pair: SentinelPair, interrupting: Callable[[], None]) -> None:
    """A worker that waits for a job and is told to end does so at once, and does not first wait for that job."""
    with store_client(pair.url, socket_timeout=DEADLINE_S) as client:
        interrupting()
        with pytest.raises(Interrupted):
            client.blpop([f"{NAMESPACE}-nothing"], timeout=60)
        start = time.monotonic()
        assert client.ping()
        assert time.monotonic() - start < DEADLINE_S / 2


# Operations.


def test_operations(manager: RedisStateManager, settings: Settings) -> None:
    """G1, G2, G8: each operation does what it does on one server, and watches hear of it, in both colours."""

    async def steps() -> None:
        async with AsyncRedisStateManager.connect(settings) as awaiting, awaiting.watch_sessions() as updates:
            created = await awaiting.create_session(sample_state("a"))
            assert {"a": created, "nobody": None} == await awaiting.get_sessions(["a", "nobody"])
            assert (await awaiting.mutate_session("a", lambda state: turn(state, "w"))).version == 2
            assert await awaiting.touch_session("a")
            heard = [await updates.receive(DEADLINE_S) for _ in range(2)]
            assert [1, 2] == [update.version for update in heard if update]
            assert [True] == [await awaiting.resolve(update.operation_id) for update in heard[1:] if update]

    with manager.watch_session("a") as updates, manager.receive_messages("a") as messages:
        asyncio.run(steps())
        with pytest.raises(SessionExists):
            manager.create_session(sample_state("a"))
        assert 1 == manager.broadcast_to_session("a", {"to": "a"})
        assert ({"to": "a"},) == messages.receive(DEADLINE_S)
        assert manager.delete_session("a")
        found = receive_until(updates, lambda found: len(found) == 3)
        assert [1, 2, 3] == [update.version for update in found]


def test_health(pair: SentinelPair, manager: RedisStateManager) -> None:
    """The primary says how it is, with its replica."""
    manager.create_session(sample_state("a"))
    found = manager.health()
    (server,) = found.servers
    assert ((), f"127.0.0.1:{pair.primary.port}") == (found.problems, server.address)
    assert ("master", 1) == (server.role, server.replicas)


def test_the_queue(settings: Settings) -> None:
    """RQ's queue is with the primary, too, where no other address is given."""
    check_queue(settings)
    queue = DrainQueue(settings)
    queue.enqueue([0], "token")
    assert 1 == len(queue._queue.jobs)
    queue._queue.delete(delete_jobs=True)
    queue.close()


# Starting.


def with_sentinels(settings: Settings, *ports: int) -> Settings:
    """The same settings with other sentinels in the address."""
    login, _, rest = settings.redis_url.rpartition("@")
    sentinels = ",".join(f"127.0.0.1:{port}" for port in ports)
    return msgspec.structs.replace(settings, redis_url=f"{login}@{sentinels}/{rest.partition('/')[2]}")


@pytest.mark.parametrize("kind", ["gone", "silent"])
def test_a_dead_first_sentinel(kind: str, pair: SentinelPair, settings: Settings) -> None:
    """G10: any sentinel of the address that answers is enough, in both colours."""
    with bad_ports(kind, 1) as ports:
        started = msgspec.structs.replace(with_sentinels(settings, *ports, pair.sentinels[2].port), timeout_s=1.5)
        for connect in CONNECTS:
            connected = connect(started)
            if isinstance(connected, RedisStateManager):
                connected.create_session(sample_state("a"))
                connected.close()


@pytest.mark.parametrize("kind", ["gone", "silent", "both"])
def test_dead_sentinels(kind: str, settings: Settings) -> None:
    """G10, G14: where no sentinel answers, that is said by the deadline, and the setting is named."""
    with bad_ports(kind, 3) as ports:
        dead = msgspec.structs.replace(with_sentinels(settings, *ports), timeout_s=0.5)
        for connect in CONNECTS:
            start = time.monotonic()
            with pytest.raises(ConfigurationError) as caught:
                connect(dead)
            assert "KAIROS_REDIS_URL" == caught.value.setting
            # The deadline, and what a busy machine adds.
            assert time.monotonic() - start < dead.timeout_s + 5


def test_an_unknown_service(settings: Settings) -> None:
    """G14: a service that the sentinels do not know is said, in both colours."""
    unknown = settings.redis_url.replace(f"/{SERVICE}/0", "/nobody/0")
    for connect in CONNECTS:
        with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL.*does not know"):
            connect(msgspec.structs.replace(settings, redis_url=unknown))


@pytest.mark.parametrize("query", ["", "?sentinel_password=not-the-password", "?password=not-the-password"])
def test_the_password_of_the_sentinels(query: str, settings: Settings) -> None:
    """G14: sentinels that ask for a password get the one that is theirs, never the store's; none is quoted."""
    start, _, _ = settings.redis_url.partition("?")
    for connect in CONNECTS:
        with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL") as caught:
            connect(msgspec.structs.replace(settings, redis_url=start + query))
        assert "not-the-password" not in str(caught.value)


# Sentinels that are made up.


class FakeSentinel:
    """Answers every question for a primary with `named`, and notes how often; all else with OK."""

    def __init__(self, named: Node) -> None:
        self.named = named
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # One after the other: a question is one short connection.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                reader = hiredis.Reader()
                while data := connection.recv(65_536):
                    reader.feed(data)
                    while (words := reader.gets()) is not False:
                        connection.sendall(self._answer(words))

    def _answer(self, words: list[bytes]) -> bytes:
        if words[0] != b"SENTINEL":
            return b"+OK\r\n"
        self.asked += 1
        port = str(self.named.port).encode()
        return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)


def named_by(sentinels: list[FakeSentinel], node: Node, **more: Any) -> Settings:
    """Settings for a server with these sentinels."""
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return settings_for(f"redis+sentinel://:{node.password}@{hosts}/s/0", **more)


def test_a_sentinel_that_names_a_replica(two: tuple[Node, Node]) -> None:
    """G2, G10: a sentinel that is behind and names a replica is not believed, and another one is asked."""
    primary, replica = two
    with FakeSentinel(replica) as stale, FakeSentinel(primary) as fresh:
        settings = named_by([stale, fresh], primary, timeout_s=2.0)
        # At the first connection, and at any later one.
        with RedisStateManager(operations(settings)) as manager:
            created = manager.create_session(sample_state("a"))
            assert created == manager.get_session("a")
            assert stale.asked > 0
        with RedisStateManager.connect(named_by([fresh], primary)) as manager:
            manager.create_session(sample_state("b"))
        fresh.named = replica
        with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL.*no primary"):
            RedisStateManager.connect(named_by([stale, fresh], primary, timeout_s=0.3))
        with RedisStateManager(operations(named_by([stale, fresh], primary, timeout_s=0.3))) as manager:
            with pytest.raises(StoreUnavailable, match="no primary"):
                manager.get_session("a")
            with pytest.raises(StoreUnavailable, match="no primary"), manager.watch_sessions():
                pass


def operations(settings: Settings) -> Operations:
    """What a manager does, without a check of the ground."""
    return Operations(settings, BlockingTransport)


def test_one_command_an_operation(two: tuple[Node, Node]) -> None:
    """G3: in the steady state, each operation is one command, and no sentinel is asked."""
    primary, _ = two
    with FakeSentinel(primary) as sentinel, primary.client(single_connection_client=True) as client:
        settings = named_by([sentinel], primary)
        with RedisStateManager.connect(settings) as manager, client.monitor() as monitor:
            manager.delete_session(manager.update_session(manager.create_session(sample_state("warm"))).session_id)
            client.echo("begin")
            asked = sentinel.asked
            manager.update_session(manager.create_session(sample_state("a")))
            manager.get_session("a")
            manager.get_sessions(["a", "b"])
            manager.touch_session("a")
            manager.broadcast_to_session("a", 1)
            manager.delete_session("a")
            assert asked == sentinel.asked
            client.echo("over")
            names: list[str] = []
            for entry in monitor.listen():
                if entry["command"] in ("ECHO begin", "ECHO over"):
                    names.append("|")
                elif entry["client_type"] != "lua" and entry["command"].partition(" ")[0] not in ("PING", "REPLCONF"):
                    names.append(entry["command"].partition(" ")[0])
                if names.count("|") == 2:
                    break
    seen = Counter(names[names.index("|") + 1 : -1])
    assert {"EVALSHA": 3, "HMGET": 3, "PEXPIRE": 1, "PUBLISH": 1} == seen


@pytest.fixture
def swap(two: tuple[Node, Node], launcher: Launcher) -> Iterator[Callable[[], None]]:
    """Makes the replica of the two the primary of the other, by hand; undone afterwards."""
    primary, replica = two

    def follow(leader: Node, follower: Node) -> None:
        with leader.client() as there, follower.client() as here:
            there.execute_command("REPLICAOF", "NO", "ONE")
            here.execute_command("REPLICAOF", leader.host, leader.port)
        launcher.wait_for_replica(leader)

    yield lambda: follow(replica, primary)
    follow(primary, replica)


def test_a_primary_that_was_demoted(two: tuple[Node, Node], swap: Callable[[], None]) -> None:
    """G1, G2: a primary that says READONLY is left, with all connections to it, also those that reads would take."""
    primary, replica = two
    with FakeSentinel(primary) as sentinel:
        settings = named_by([sentinel], primary)
        with RedisStateManager.connect(settings) as manager:
            # What the other one does not have yet would be lost.
            state = manager.create_session(sample_state("a"), durability="replicated")
            fill_the_pool(manager)
            swap()
            sentinel.named = replica
            state = manager.update_session(state)
            assert {replica.port} == {node.port for node, idle in manager._operations.link._idle.items() if idle}
            assert state == manager.get_session("a")

        async def steps() -> None:
            sentinel.named = replica
            async with AsyncRedisStateManager.connect(settings) as awaiting:
                assert state == await awaiting.get_session("a")

        asyncio.run(steps())


def fill_the_pool(manager: RedisStateManager) -> None:
    """Leave several connections idle."""
    barrier = threading.Barrier(4)

    def read() -> None:
        barrier.wait()
        for _ in range(20):
            manager.get_session("a")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_watch_leaves_a_demoted_primary(two: tuple[Node, Node], swap: Callable[[], None]) -> None:
    """G8: a server that answers and was demoted in silence is left by a watch, when the sentinels name another."""
    primary, replica = two
    with FakeSentinel(primary) as sentinel:
        settings = named_by([sentinel], primary, timeout_s=0.4)
        with RedisStateManager.connect(settings) as manager, manager.watch_sessions() as updates:
            swap()
            sentinel.named = replica

            def is_there() -> bool:
                return [replica.port] == [channel.node.port for channel in updates._feed.subscription._lines]

            assert [] == receive_until(updates, lambda _: is_there())
            assert (True, True) == (is_there(), updates.reconnects >= 1)
            with RedisStateManager.connect(msgspec.structs.replace(settings, timeout_s=5.0)) as writer:
                created = writer.create_session(sample_state("a"))
            assert [created] == [update.state for update in receive_until(updates, bool)]


# A primary that fails.

# A sentinel that stood still for 2 s, on a busy machine or disk, does nothing for this long.
TILT_S = 30.0


def quick_pair(launcher: Launcher) -> SentinelPair:
    """A pair whose sentinels tell an old primary soon whom to follow: that takes four periods of 2 s by itself."""
    pair = launcher.sentinel_pair()
    for sentinel in pair.sentinels:
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "DEBUG", "PUBLISH-PERIOD", 200, "INFO-PERIOD", 500)
    return pair


def calm(sentinels: Sequence[Node]) -> None:
    """Let sentinels take no primary for dead any more, however busy the machine: 1 s is soon over.

    They would go back to the old one, which was started empty.
    """
    for sentinel in sentinels:
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "SET", SERVICE, "down-after-milliseconds", 60_000)


def names(sentinel: Node, node: Node) -> bool:
    """Whether a sentinel names this node, and takes it for alive."""
    with sentinel.client(decode_responses=True) as client:
        found = client.sentinel_master(SERVICE)
        return (found["port"], found["flags"]) == (node.port, "master")


@pytest.mark.timeout(90)
def test_a_primary_that_is_killed(launcher: Launcher) -> None:
    """G1, G8, G10, G11: a primary that is replaced costs no error and no replicated write; back, it is a replica.

    The first sentinel of the address is killed with it.
    """
    pair = quick_pair(launcher)
    settings = settings_for(pair.url, timeout_s=8.0)
    with (
        RedisStateManager.connect(settings) as manager,
        Watchers(msgspec.structs.replace(settings, timeout_s=1.0)) as watchers,
        Writers(settings, ["a", "b"], durability="replicated") as writers,
    ):
        assert writers.go_on()
        launcher.kill(pair.primary)
        launcher.kill(pair.sentinels[0])
        assert wait_until(lambda: pair.replica.role() == "master")
        # Before the old one is back.
        assert watchers.come_past(manager.mutate_session("a", lambda state: turn(state, "test")))
        assert wait_until(lambda: all(names(sentinel, pair.replica) for sentinel in pair.sentinels[1:]))
        calm(pair.sentinels[1:])
        launcher.restart(pair.primary)
        launcher.wait_for_replica(pair.replica, timeout_s=TILT_S + DEADLINE_S)
        assert writers.go_on()
        assert "slave" == pair.primary.role()
        writers.stop()
        finals = manager.get_sessions(["a", "b"])
        assert ([], []) == (writers.failures, writers.miscounted(finals))
        assert watchers.come_to(finals)
        # Each call ended by its deadline, and a mutate is two; the rest is what a busy machine adds.
        assert writers.longest_s < 2 * settings.timeout_s + 5
    assert [] == watchers.steps_back
    for node in (pair.primary, pair.replica, *pair.sentinels[1:]):
        launcher.kill(node)


@pytest.mark.timeout(90)
def test_a_primary_that_is_demoted_by_the_sentinels(launcher: Launcher) -> None:
    """G1, G8: a planned failover, in which the old primary lives on, costs no error and no replicated write."""
    pair = quick_pair(launcher)
    settings = settings_for(pair.url, timeout_s=8.0)
    with (
        RedisStateManager.connect(settings) as manager,
        Watchers(msgspec.structs.replace(settings, timeout_s=1.0)) as watchers,
        Writers(settings, ["a"], durability="replicated") as writers,
    ):
        assert writers.go_on()
        calm(pair.sentinels)
        with pair.sentinels[1].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", pair.service)
        assert wait_until(lambda: pair.replica.role() == "master" and pair.primary.role() == "slave")
        launcher.wait_for_replica(pair.replica, timeout_s=TILT_S + DEADLINE_S)
        assert writers.go_on()
        writers.stop()
        finals: dict[str, SyncState | None] = manager.get_sessions(["a"])
        assert ([], []) == (writers.failures, writers.miscounted(finals))
        assert watchers.come_to(finals)
    assert [] == watchers.steps_back
    for node in (pair.primary, pair.replica, *pair.sentinels):
        launcher.kill(node)
