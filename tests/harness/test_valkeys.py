from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel

from kairos_core.local import free_port
from loadtests.servers.proxy import Proxy
from loadtests.servers.stopping import is_there
from loadtests.servers.valkey_helper import LaunchError, Servers
from loadtests.servers.valkeys import (
    SLOTS,
    Cluster,
    Launcher,
    Node,
    SentinelPair,
    valkeys,
)
from loadtests.waiting import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

ROOT = Path(__file__).resolve().parents[2]

# A process that has a server and a sentinel, says which, and stays until it is ended.
ASK = """
import sys, time
from loadtests.servers.valkeys import valkeys
with valkeys(sys.argv[1]) as launcher:
    primary = launcher.start()
    replica = launcher.replica_of(primary)
    launcher.pause(replica)
    print(primary.pid, replica.pid, flush=True)
    # In naps: a signal that comes just before a read that has no end is noted, and wakes nobody.
    while True:
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher for all tests here; each has servers of its own, but for those that only look."""
    with valkeys() as started:
        yield started


@pytest.fixture(scope="module")
def pair(launcher: Launcher) -> SentinelPair:
    """A pair whose sentinels have a password."""
    return launcher.sentinel_pair(sentinel_password=True)


@pytest.fixture(scope="module", autouse=True)
def forming(launcher: Launcher) -> Iterator[dict[str, Future[Cluster]]]:
    """The clusters: a primary refuses to serve for two seconds, so they are begun with the first test, side by side."""
    with ThreadPoolExecutor() as pool:
        yield {
            "with replicas": pool.submit(launcher.cluster),
            "without": pool.submit(launcher.cluster, False, "appendonly yes", node_timeout_ms=700),
        }


@pytest.fixture(scope="module")
def cluster(forming: dict[str, Future[Cluster]]) -> Cluster:
    """A cluster; after each test it is ok, with three primaries of a third each, whichever nodes these are."""
    return forming["with replicas"].result()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody trusts who is not told to."""
    return trustme.CA()


@pytest.fixture
def secured(launcher: Launcher, authority: trustme.CA) -> Iterator[Proxy]:
    """A proxy that speaks TLS, before a server of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    node = launcher.start()
    with Proxy(node.url, tls=context) as proxy:
        yield proxy
    launcher.kill(node)


def trusting(proxy: Proxy, authority: trustme.CA, host: str = "127.0.0.1") -> redis.Redis:
    """A client that trusts this authority and tries once."""
    url = proxy.url.replace("127.0.0.1", host)
    pem = authority.cert_pem.bytes().decode()
    return redis.Redis.from_url(url, ssl_ca_data=pem, retry=Retry(NoBackoff(), 0), socket_timeout=5)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_servers_are_gone_with_who_asked(tmp_path: Path, number: signal.Signals) -> None:
    """When the process that asked is ended by a signal, even one that it cannot catch, no server and no file is left.

    Not even a server that is stopped, and hears of no other end than a kill.
    """
    command = [sys.executable, "-c", ASK, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert [True, True] == [is_there(pid) for pid in pids]
        assert 1 == len(list(tmp_path.iterdir()))
        process.send_signal(number)
        process.wait(DEADLINE_S)
        assert wait_until(lambda: not any(is_there(pid) for pid in pids) and not list(tmp_path.iterdir()))


def test_servers_are_gone_afterwards(tmp_path: Path) -> None:
    """When the context is left, even by an error, the servers have ended and the folder is empty again."""
    with contextlib.suppress(ZeroDivisionError), valkeys(str(tmp_path)) as launcher:
        node = launcher.start()
        assert [0o700] == [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()]
        raise ZeroDivisionError
    assert not is_there(node.pid)
    assert [] == list(tmp_path.iterdir())


def test_the_configuration_is_taken_and_the_password_asked_for(launcher: Launcher) -> None:
    """A server has the lines that it was given, listens on loopback only, and answers nobody without its password."""
    node = launcher.start("appendonly yes", "appendfsync always", "maxmemory 64mb")
    with node.client(decode_responses=True) as client:
        found = client.config_get("appendonly", "appendfsync", "maxmemory", "bind")
    assert {"appendonly": "yes", "appendfsync": "always", "maxmemory": "67108864", "bind": "127.0.0.1"} == found
    nobody = node._replace(url=f"redis://127.0.0.1:{node.port}/0")
    with nobody.client() as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    launcher.kill(node)


def test_a_refused_configuration_is_told(launcher: Launcher) -> None:
    """A line that the server does not know is named in the error, and the launcher goes on."""
    with pytest.raises(LaunchError, match="Bad directive"):
        launcher.start("no-such-directive yes")
    launcher.kill(launcher.start())


def test_a_busy_port_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process took the port first, another port is tried; a restart says which port it is about."""
    servers = Servers(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]
        ports = [busy, free_port()]
        monkeypatch.setattr("loadtests.servers.valkey_helper.free_port", lambda: ports.pop(0))
        port = servers.start("server", [])["port"]
        assert (busy, []) != (port, ports)
    servers.kill(port)
    monkeypatch.setattr("loadtests.servers.valkey_helper._ATTEMPTS", 2)
    taken = socket.create_server(("127.0.0.1", port))
    with taken, pytest.raises(LaunchError, match=f"port {port} is in use"):
        servers.restart(port, [])
    servers.end()


def test_a_restart_keeps_what_was_stored(launcher: Launcher) -> None:
    """A server that is killed and started again has its port, its password and what its append-only file holds."""
    node = launcher.start("appendonly yes", "appendfsync always")
    with node.client() as client:
        client.set("key", "value")
    launcher.kill(node)
    assert not is_there(node.pid)
    again = launcher.restart(node, "maxmemory 64mb")
    assert (node.port, node.password, node.url) == (again.port, again.password, again.url)
    with again.client(decode_responses=True) as client:
        assert "value" == client.get("key")
        assert {"appendfsync": "always", "maxmemory": "67108864"} == client.config_get("appendfsync", "maxmemory")
    launcher.kill(again)


def test_a_paused_server_is_silent_until_it_is_resumed(launcher: Launcher) -> None:
    """A paused server keeps its connections and answers nothing; once resumed, it answers."""
    node = launcher.start()
    with node.client(socket_timeout=0.1) as client:
        assert client.ping()
        launcher.pause(node)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        launcher.resume(node)
        assert wait_until(lambda: answers(node))
    launcher.kill(node)


def answers(node: Node) -> bool:
    """Whether a node answers."""
    with contextlib.suppress(redis.RedisError), node.client() as client:
        return bool(client.ping())
    return False


def test_a_replica_follows(launcher: Launcher) -> None:
    """A write to the primary is on a replica that was waited for; for one that never comes, the wait has an end."""
    primary = launcher.start()
    replicas = [launcher.replica_of(primary) for _ in range(2)]
    launcher.wait_for_replica(primary, 2)
    with primary.client() as client:
        client.set("key", "value")
        assert 2 == client.wait(2, 5_000)
    for replica in replicas:
        with replica.client() as client:
            assert b"value" == client.get("key")
    with pytest.raises(TimeoutError, match=f"3 replicas of port {primary.port}"):
        launcher.wait_for_replica(primary, 3, timeout_s=0.1)
    for node in (primary, *replicas):
        launcher.kill(node)


def test_the_sentinels_know_their_pair(pair: SentinelPair) -> None:
    """Each sentinel knows the primary, its replica and the two others, and has the quorum for a failover."""
    for sentinel in pair.sentinels:
        with sentinel.client(decode_responses=True) as client:
            service = client.sentinel_master(pair.service)
            assert (pair.primary.port, 1, 2) == tuple(
                service[name] for name in ("port", "num-slaves", "num-other-sentinels")
            )
            assert (1_000, 3_000) == (service["down-after-milliseconds"], service["failover-timeout"])
            assert client.execute_command("SENTINEL", "CKQUORUM", pair.service).startswith("OK 3 usable Sentinels")


def test_the_address_of_a_pair_is_enough(pair: SentinelPair) -> None:
    """A client that has the address, and nothing else, finds the primary."""
    parts = urlsplit(pair.url)
    user_info, _, hosts = parts.netloc.rpartition("@")
    addresses = [(host, int(port)) for host, _, port in (item.partition(":") for item in hosts.split(","))]
    service, database = parts.path.strip("/").split("/")
    password = parse_qs(parts.query)["sentinel_password"][0]
    assert ("redis+sentinel", "0") == (parts.scheme, database)
    assert [(node.host, node.port) for node in pair.sentinels] == addresses
    sentinel = Sentinel(addresses, sentinel_kwargs={"password": password})
    with sentinel.master_for(service, password=unquote(user_info[1:])) as client:
        assert pair.primary.port == client.info("server")["tcp_port"]


def test_a_cluster_answers_on_all_slots(cluster: Cluster) -> None:
    """Each slot has a primary, each primary a replica, and a client that has the address reads and writes in all."""
    thirds = [(0, 5_460), (5_461, 10_922), (10_923, SLOTS - 1)]
    owners = [cluster.owner(first) for first, _ in thirds]
    assert (3, owners) == (len(set(owners)), [cluster.owner(last) for _, last in thirds])
    for owner in owners:
        with owner.client() as client:
            assert 1 == client.info("replication")["connected_slaves"]
    with cluster_client(cluster) as client:
        keys = [f"key-{number}" for number in range(300)]
        for key in keys:
            client.set(key, key)
        assert [key.encode() for key in keys] == [client.get(key) for key in keys]
        info = client.cluster_info(target_nodes=RedisCluster.PRIMARIES)
    assert {str(SLOTS)} == {found["cluster_slots_ok"] for found in info.values()}


def cluster_client(cluster: Cluster) -> RedisCluster:
    """redis-py's client for the first of the hosts in the address."""
    parts = urlsplit(cluster.url)
    assert "redis+cluster" == parts.scheme
    return RedisCluster.from_url(f"redis://{parts.netloc.partition(',')[0]}")


def test_a_slot_moves_with_its_keys(cluster: Cluster) -> None:
    """In the middle of a move, what has moved is asked for at the target; afterwards, the target has the slot."""
    slot = key_slot(b"moved")
    source = cluster.owner(slot)
    target = next(node for node in map(cluster.owner, (0, SLOTS - 1)) if node != source)
    keys = [f"{{moved}}-{number}" for number in range(250)]
    with cluster_client(cluster) as client, source.client() as there:
        for key in keys:
            client.set(key, key)
        cluster.begin_move(slot, source, target)
        assert 120 == cluster.move_keys(slot, source, target, limit=120)
        asked = [key for key in keys if asks(there, key)]
        assert (120, source) == (len(asked), cluster.owner(slot))
        assert [key.encode() for key in keys] == [client.get(key) for key in keys]
        cluster.finish_move(slot, source, target)
        assert target == cluster.owner(slot)
        with pytest.raises(redis.exceptions.MovedError):
            there.get(keys[0])
        assert [key.encode() for key in keys] == [client.get(key) for key in keys]
    cluster.move_slot(slot, target, source)
    assert source == cluster.owner(slot)


def asks(client: redis.Redis, key: str) -> bool:
    """Whether the server sends who wants this key to another, for this once."""
    try:
        client.get(key)
    except redis.exceptions.AskError:
        return True
    return False


def has_slot(cluster: Cluster, node: Node, slot: int) -> bool:
    """Whether this node has the slot; for a while after a failure, none has."""
    with contextlib.suppress(LookupError):
        return cluster.owner(slot) == node
    return False


def test_a_cluster_may_have_no_replicas(launcher: Launcher, forming: dict[str, Future[Cluster]]) -> None:
    """A cluster of primaries alone is ok, takes further configuration, and has the node timeout that it was given."""
    cluster = forming["without"].result()
    assert () == cluster.replicas
    with cluster.primaries[2].client(decode_responses=True) as client:
        assert {"appendonly": "yes", "cluster-node-timeout": "700"} == client.config_get(
            "appendonly", "cluster-node-timeout"
        )
    for node in cluster.primaries:
        launcher.kill(node)


def test_a_tls_proxy_passes_who_trusts_it(secured: Proxy, authority: trustme.CA) -> None:
    """A client that trusts the authority reads and writes through TLS, by number and by name, and is seen in plain."""
    seen: list[bytes] = []

    def see(data: bytes) -> bytes:
        seen.append(data)
        return data

    secured.on_request = see
    large = os.urandom(3_000_000)
    assert secured.url.startswith("rediss://:")
    for host in ("127.0.0.1", "localhost"):
        with trusting(secured, authority, host) as client:
            client.set("large", large)
            assert large == client.get("large")
    assert b"large" in b"".join(seen)


def test_a_tls_proxy_reads_while_it_writes(secured: Proxy, authority: trustme.CA) -> None:
    """A client that sends many requests before it reads a reply, more than any buffer holds, is served."""
    with trusting(secured, authority) as client:
        client.set("large", b"x" * 100_000)
        pipeline = client.pipeline(transaction=False)
        for _ in range(300):
            pipeline.get("large").echo("y" * 10_000)
        assert 600 == len(pipeline.execute())


def test_a_tls_proxy_refuses_others(secured: Proxy, authority: trustme.CA) -> None:
    """Who speaks no TLS gets no answer, who does not trust the authority does not go on, and both hold nobody up."""
    plain = redis.Redis.from_url(secured.url.replace("rediss", "redis"), retry=Retry(NoBackoff(), 0))
    with plain, pytest.raises(redis.ConnectionError):
        plain.ping()
    with trusting(secured, trustme.CA()) as stranger, pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY"):
        stranger.ping()
    # Nor does one that connects and says nothing.
    address = urlsplit(secured.url)
    with socket.create_connection((address.hostname or "", address.port or 0)), trusting(secured, authority) as client:
        assert client.ping()
