from __future__ import annotations

import msgspec
import pytest

from kairos_core.cli.health import report
from kairos_core.health import Health, ServerHealth, problems, read_server

LAYOUT = "format=1 lanes=16"
LIMIT = 1_000

# As Valkey says it, in part.
INFO = {
    "redis_version": "7.2.4",
    "server_name": "valkey",
    "valkey_version": "9.1.2",
    "uptime_in_seconds": "120",
    "connected_clients": "3",
    "maxclients": "10000",
    "used_memory": "1000000",
    "maxmemory": "4000000",
    "maxmemory_policy": "noeviction",
    "role": "master",
    "connected_slaves": "2",
    "slave0": "ip=10.0.0.2,port=6379,state=online,offset=1000,lag=0,type=replica",
    "slave1": "ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0,type=replica",
    "slave2": "ip=10.0.0.4,port=6379,state=online,offset=900,lag=1,type=replica",
    "master_repl_offset": "1024",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "rdb_saves": "0",
}

WELL = read_server("10.0.0.1:6379", 0.5, INFO)


def test_what_a_server_says_is_read() -> None:
    """Each fact is read from INFO, of replicas those that are online, of their lag the greatest."""
    assert (
        ServerHealth(
            address="10.0.0.1:6379",
            software="Valkey 9.1.2",
            redis_version="7.2.4",
            round_trip_ms=0.5,
            uptime_s=120,
            role="master",
            replicas=2,
            replica_lag_bytes=124,
            persistence="append-only file",
            eviction="noeviction",
            clients=3,
            clients_limit=10_000,
            memory_used_bytes=1_000_000,
            memory_limit_bytes=4_000_000,
            memory_headroom=0.75,
        )
        == WELL
    )


def test_a_server_that_says_little_is_read() -> None:
    """A service that leaves fields out, or says something else than numbers, is no error."""
    server = read_server("a", 1.0, {"redis_version": "7.0.0", "used_memory": "much", "maxmemory": "", "slave0": "odd"})
    assert ("Redis 7.0.0", 0, 0, 1.0, 0, None, "unknown") == (
        server.software,
        server.memory_used_bytes,
        server.memory_limit_bytes,
        server.memory_headroom,
        server.replicas,
        server.replica_lag_bytes,
        server.role,
    )
    assert "unknown" == read_server("a", 1.0, {}).redis_version


@pytest.mark.parametrize(
    ("said", "persistence"),
    [
        ({"aof_last_write_status": "err"}, "append-only file, and the last write to it failed"),
        ({"aof_enabled": "0"}, "no append-only file, and no snapshot since it started"),
        ({"aof_enabled": "0", "rdb_saves": "3"}, "snapshots"),
        ({"aof_enabled": "0", "rdb_saves": "3", "rdb_last_bgsave_status": "err"}, "snapshots, and the last one failed"),
    ],
)
def test_persistence_is_read(said: dict[str, str], persistence: str) -> None:
    """What keeps the data is said with what last went wrong with it."""
    assert persistence == read_server("a", 1.0, INFO | said).persistence


def test_a_server_over_its_limit_has_no_headroom() -> None:
    """Headroom is never negative."""
    assert 0.0 == read_server("a", 1.0, INFO | {"used_memory": "5000000"}).memory_headroom


def health(**facts: object) -> Health:
    """A store that is well, but for these facts."""
    found = Health(is_reachable=True, problems=(), servers=(WELL,), layout=LAYOUT)
    return msgspec.structs.replace(found, **facts)


def with_server(**facts: object) -> Health:
    """A store whose server is well, but for these facts."""
    return health(servers=(msgspec.structs.replace(WELL, **facts),))


@pytest.mark.parametrize(
    "found",
    [
        health(),
        health(layout=None),
        health(oldest_unaudited_s=60.0, outbox_depth=5_000, deepest_lane=900),
        with_server(memory_headroom=0.05, clients=9_000),
        with_server(clients=5, clients_limit=0),
    ],
)
def test_nothing_is_wrong(found: Health) -> None:
    """What is well, just so or not laid out yet, is no problem."""
    assert [] == problems(found, LAYOUT, LIMIT)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (with_server(role="slave"), "10.0.0.1:6379 is no primary: its role is slave"),
        (with_server(memory_headroom=0.049), "10.0.0.1:6379 has 5% of its memory left"),
        (with_server(clients=9_001), "10.0.0.1:6379 has 9001 connections, of 10000 that it takes"),
        (
            with_server(eviction="allkeys-lru"),
            "10.0.0.1:6379 may evict sessions: its maxmemory-policy is allkeys-lru",
        ),
        (
            with_server(persistence="snapshots, and the last one failed"),
            "10.0.0.1:6379: snapshots, and the last one failed",
        ),
        (
            health(layout="format=1 lanes=8"),
            "the store was laid out with 'format=1 lanes=8', this process has 'format=1 lanes=16'",
        ),
        (health(deepest_lane=901), "901 writes of one lane wait for the audit, of 1000 that may"),
        (health(oldest_unaudited_s=61.0), "the oldest of the writes that wait for the audit is 61 s old"),
    ],
)
def test_what_is_wrong_is_one_line(found: Health, said: str) -> None:
    """Each problem is one line that says where and how much."""
    assert [said] == problems(found, LAYOUT, LIMIT)


def test_every_server_is_looked_at() -> None:
    """On a cluster, the problems of each server are told, those of all together."""
    servers = tuple(msgspec.structs.replace(WELL, address=f"10.0.0.{n}:6379", role="slave") for n in (1, 2))
    assert 3 == len(problems(health(servers=servers, deepest_lane=LIMIT), LAYOUT, LIMIT))


def test_the_report_has_one_line_per_fact() -> None:
    """What a person reads: one line per fact, problems last, and whether all is well."""
    lines = report(health(outbox_depth=1_234, oldest_unaudited_s=2.0))
    assert [
        "server       10.0.0.1:6379: Valkey 9.1.2, master, up for 120 s",
        "round trip   0.50 ms",
        "clock        0.0 ms ahead of this machine's",
        "replicas     2, 124 bytes behind",
        "persistence  append-only file",
        "memory       1,000,000 bytes of 4,000,000; noeviction",
        "connections  3 of 10,000",
        "layout       format=1 lanes=16",
        "outbox       1,234 writes wait for the audit, the oldest 2.0 s old",
        "healthy",
    ] == lines
    unreachable = Health(is_reachable=False, problems=("the store cannot be asked: gone",))
    assert ["PROBLEM      the store cannot be asked: gone"] == report(unreachable)
