from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import AsyncRedisStateManager, RedisStateManager, Settings
from kairos_core.blocking import BlockingTransport
from kairos_core.cli import main
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from kairos_core.settings import unknown_variables
from kairos_core.transport import run
from loadtests.states import sample_state

if TYPE_CHECKING:
    import redis

    from kairos_core.health import Health
    from loadtests.servers.valkeys import Launcher, Node

COLOURS = ("sync", "async")


@pytest.fixture(scope="module")
def primary(launcher: Launcher) -> Node:
    """A server with a replica."""
    return launcher.start("appendonly yes")


@pytest.fixture(scope="module")
def replica(launcher: Launcher, primary: Node) -> Node:
    """Its replica."""
    found = launcher.replica_of(primary)
    launcher.wait_for_replica(primary)
    return found


def examine(settings: Settings, colour: str = "sync") -> Health:
    """The health that a manager tells, whether it would have been let in or not."""
    if colour == "sync":
        manager = RedisStateManager(Operations(settings, BlockingTransport))
        found = manager.health()
        manager.close()
        return found

    async def in_a_loop() -> Health:
        manager = AsyncRedisStateManager.connect(settings)
        found = await manager.health()
        manager.close()
        return found

    return asyncio.run(in_a_loop())


@pytest.mark.parametrize("colour", COLOURS)
def test_a_store_that_is_well(colour: str, settings: Settings, manager: RedisStateManager) -> None:
    """G14: a healthy store has no problems, and says what it is, under the core's account."""
    before = examine(settings, colour)
    assert (0, None) == (before.outbox_depth, before.oldest_unaudited_s)
    states = [manager.create_session(sample_state(f"s{number}")) for number in range(20)]
    manager.update_session(states[0])
    found = examine(settings, colour)
    assert (True, True, ()) == (found.is_reachable, found.is_healthy, found.problems)
    assert (21, "format=1 lanes=16") == (found.outbox_depth, found.layout)
    assert 0 < found.deepest_lane < 21
    assert found.oldest_unaudited_s is not None
    assert 0 <= found.oldest_unaudited_s < 30
    (server,) = found.servers
    assert 0 < server.round_trip_ms < settings.timeout_s * 1000
    # The same machine's clock: no further apart than the exchange took, and the millisecond that TIME is cut to.
    assert abs(server.clock_ahead_ms) <= server.round_trip_ms / 2 + 2
    assert ("master", 1.0, "noeviction") == (server.role, server.memory_headroom, server.eviction)
    assert server.memory_used_bytes > 100_000
    assert server.uptime_s >= 0
    assert 0 < server.clients <= server.clients_limit
    assert server.software.rpartition(" ")[0] in ("Redis", "Valkey")
    # as JSON, for whoever wants it
    assert found == msgspec.json.decode(msgspec.json.encode(found), type=type(found))


def test_the_age_of_the_oldest(settings: Settings, client: redis.Redis) -> None:
    """G7: a write that nobody drains shows by its age, in one line, also where there are few."""
    key = Layout(settings.namespace, settings.lanes).outboxes[3]
    seconds, _ = client.time()
    client.xadd(key, {"m": "x"}, id=f"{(seconds - 120) * 1000}-0")
    found = examine(settings)
    assert found.oldest_unaudited_s is not None
    assert 119 < found.oldest_unaudited_s < 150
    (problem,) = found.problems
    assert problem.startswith("the oldest of the writes that wait for the audit is 12")
    assert (True, False) == (found.is_reachable, found.is_healthy)


def test_an_outbox_that_fills(settings: Settings) -> None:
    """G10: an outbox that is nearly full is told before it refuses."""
    narrow = msgspec.structs.replace(settings, lanes=1, outbox_limit=10)
    with RedisStateManager.connect(narrow) as manager:
        state = manager.create_session(sample_state("a"))
        for _ in range(8):
            state = manager.update_session(state)
        assert () == manager.health().problems
        manager.update_session(state)
        assert ("10 writes of one lane wait for the audit, of 10 that may",) == manager.health().problems


def test_another_layout(settings: Settings, manager: RedisStateManager) -> None:
    """G14: a process with another layout learns of it from its health, too."""
    assert () == manager.health().problems
    (problem,) = examine(msgspec.structs.replace(settings, lanes=8)).problems
    assert "the store was laid out with 'format=1 lanes=16', this process has 'format=1 lanes=8'" == problem


def test_a_replica_and_its_primary(primary: Node, replica: Node) -> None:
    """G14: a primary says how many follow it and how far behind they are; a replica is no store."""
    settings = Settings(redis_url=primary.url, namespace="replicated")
    with RedisStateManager.connect(settings) as manager:
        manager.create_session(sample_state("a"))
        found = manager.health()
    (server,) = found.servers
    assert ((), 1, "append-only file") == (found.problems, server.replicas, server.persistence)
    assert server.replica_lag_bytes is not None
    assert 0 <= server.replica_lag_bytes < 100_000
    found = examine(msgspec.structs.replace(settings, redis_url=replica.url))
    assert (f"127.0.0.1:{replica.port} is no primary: its role is slave",) == found.problems
    assert ("slave", 0, None) == (found.servers[0].role, found.servers[0].replicas, found.servers[0].replica_lag_bytes)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_durability_that_the_server_cannot_give(colour: str, primary: Node, replica: Node) -> None:
    """G14: what `connect` refuses for its durability is no healthy store, for the same reason; what it takes is one."""
    for level, cause in (("fsync", "appendfsync is everysec"), ("replicated:2", "the server has 1 that are online")):
        settings = Settings(redis_url=primary.url, namespace="durable", durability=level)
        with pytest.raises(ConfigurationError, match=cause) as caught:
            RedisStateManager.connect(settings)
        found = examine(settings, colour)
        assert (f"127.0.0.1:{primary.port}: {caught.value}",) == found.problems
        assert (True, 1) == (found.is_reachable, len(found.servers))
    assert replica.port
    settings = Settings(redis_url=primary.url, namespace="durable", durability="replicated:1")
    RedisStateManager.connect(settings).close()
    assert () == examine(settings, colour).problems


@pytest.mark.parametrize("colour", COLOURS)
def test_memory_that_runs_out(colour: str, primary: Node) -> None:
    """G14: a server whose limit is reached says so, and can still be asked; so does one that would evict."""
    settings = Settings(redis_url=primary.url, namespace="full")
    with primary.client() as client:
        before = {name: client.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
        try:
            client.config_set("maxmemory", 100_000)
            client.config_set("maxmemory-policy", "allkeys-lru")
            found = examine(settings, colour)
        finally:
            for name, value in before.items():
                client.config_set(name, value)
    assert [f"127.0.0.1:{primary.port} has 0% of its memory left"] == [p for p in found.problems if "memory left" in p]
    assert [True] == [p.endswith("its maxmemory-policy is allkeys-lru") for p in found.problems if "evict" in p]
    assert (2, 0.0, 100_000) == (len(found.problems), *_memory(found))


def _memory(found: Health) -> tuple[float, int]:
    return found.servers[0].memory_headroom, found.servers[0].memory_limit_bytes


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("how", ["refuses", "is silent", "wrong password", "no such service", "no TLS"])
def test_a_store_that_cannot_be_reached(how: str, colour: str, settings: Settings) -> None:
    """G10: a store that is not there, or says nothing, is a problem by the deadline, and no error."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        if how == "is silent":
            bound.listen()
        url = f"redis://127.0.0.1:{bound.getsockname()[1]}/0"
        if how == "wrong password":
            url = f"redis://nobody:hunter2@{settings.redis_url.rpartition('@')[2]}"
        elif how == "no TLS":
            url = f"rediss://{settings.redis_url.rpartition('@')[2]}"
        elif how == "no such service":
            url = url.replace("redis://", "redis+sentinel://").replace("/0", "/service/0")
        start = time.monotonic()
        found = examine(msgspec.structs.replace(settings, redis_url=url, timeout_s=0.5), colour)
        took_s = time.monotonic() - start
    assert (False, False, ()) == (found.is_reachable, found.is_healthy, found.servers)
    (problem,) = found.problems
    assert "cannot be asked: " in problem
    assert (how == "no TLS") == ("speak TLS: does this port?" in problem)
    assert "\n" not in problem
    assert "hunter2" not in problem
    # the deadline, and what a busy machine adds
    assert took_s < 5


@pytest.mark.parametrize("colour", COLOURS)
def test_an_account_that_may_not_ask(colour: str, primary: Node) -> None:
    """G14: an account without INFO learns just that, and what else it may know; the store is there."""
    with primary.client() as client:
        client.execute_command("ACL", "SETUSER", "mute", "reset", "on", ">secret", "~*", "&*", "+@all", "-info")
    settings = Settings(redis_url=f"redis://mute:secret@127.0.0.1:{primary.port}/0", namespace="mute")
    with primary.client() as client:
        client.xadd(Layout("mute", 16).outboxes[0], {"m": "x"})
        found = examine(settings, colour)
        client.delete(Layout("mute", 16).outboxes[0])
    (problem,) = found.problems
    assert f"127.0.0.1:{primary.port} cannot be asked: NOPERM" in problem
    assert "'info'" in problem
    assert (True, False, (), 1) == (found.is_reachable, found.is_healthy, found.servers, found.outbox_depth)


def health_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """The status, the output and the complaints of `kairos health` with these settings."""
    for name, _ in unknown_variables():
        monkeypatch.delenv(name)
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    status = main(["health", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_for_a_store_that_is_well(
    settings: Settings, manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kairos health` says how the store is, one line per fact, and ends with 0; with --json, for a program."""
    manager.create_session(sample_state("a"))
    status, out, err = health_command(settings, monkeypatch, capsys)
    lines = out.splitlines()
    assert (0, "", "healthy") == (status, err, lines[-1])
    assert "outbox       1 writes wait for the audit, the oldest 0." in lines[-2]
    status, out, err = health_command(settings, monkeypatch, capsys, "--json")
    found: dict[str, Any] = msgspec.json.decode(out)
    assert (0, "", True, [], 1) == (status, err, found["is_healthy"], found["problems"], found["outbox_depth"])
    assert settings.redis_url.rpartition("@")[2] == found["servers"][0]["address"] + "/0"


def test_the_command_for_a_store_that_is_not(
    settings: Settings, manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kairos health` ends with 1 where something is wrong, problems last, and looks at what a manager would refuse."""
    manager.create_session(sample_state("a"))
    status, out, err = health_command(msgspec.structs.replace(settings, lanes=8), monkeypatch, capsys)
    assert (1, "") == (status, err)
    assert out.splitlines()[-1].startswith("PROBLEM      the store was laid out with")
    gone = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0", timeout_s=0.3)
    status, out, _ = health_command(gone, monkeypatch, capsys, "--json")
    assert (1, False) == (status, msgspec.json.decode(out)["is_reachable"])


def test_the_command_where_it_was_not_set_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kairos health` ends with 2 where a setting is no setting, with one line that names it."""
    for name, _ in unknown_variables():
        monkeypatch.delenv(name)
    environment = settings.to_env() | {"KAIROS_REDIS_URL": "http://127.0.0.1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    status, said = main(["health"]), capsys.readouterr()
    assert (2, "", 1) == (status, said.out, said.err.count("\n"))
    assert said.err.startswith("kairos: KAIROS_REDIS_URL: ")


def test_it_is_asked_for_with_the_workers_account(worker_settings: Settings, manager: RedisStateManager) -> None:
    """G12: the worker's account may ask for the store's health, too."""
    manager.create_session(sample_state("a"))
    operations = Operations(worker_settings, BlockingTransport)
    found = run(operations.health())
    operations.link.close()
    assert ((), 1) == (found.problems, found.outbox_depth)
