"""How the store is, for a health check or a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from redis import exceptions as foreign

from kairos_core.commands import Command, pack
from kairos_core.durability import Durability
from kairos_core.errors import ConfigurationError, KairosError, StoreUnavailable, one_line
from kairos_core.ground import (
    check_durability,
    check_kind,
    check_redis_version,
    info_command,
    replicas_online,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kairos_core.commands import Commands
    from kairos_core.layout import Layout
    from kairos_core.link import Link
    from kairos_core.settings import Settings

# Below this share of its limit a server's memory is as good as full: buffers need some, too.
_LEAST_HEADROOM = 0.05
# An outbox this full will refuse writes soon; so will a server with so many of the connections that it takes.
_FULLEST = 0.9
# A worker drains within seconds. Where it does not, it does not end sessions, either.
_LONGEST_UNAUDITED_S = 60.0

# What a store that cannot be asked fails with.
_FAILURES = (KairosError, foreign.RedisError, OSError)


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One primary of the store.

    Attributes:
        address: host:port, or the path of its socket.
        software: what it is, with its own version, e.g. Valkey 9.1.2.
        redis_version: the Redis version that it is, or is compatible with.
        round_trip_ms: how long one exchange took, over a connection that was there, in milliseconds.
        uptime_s: seconds since it started.
        role: master or slave, as the server says.
        replicas: how many follow it.
        replica_lag_bytes: how much the last of them has still to receive; None where none follows.
        persistence: append-only file, or snapshots (with what last went wrong with it). Of a server that made none
            since it started, just that: whether it is to make any, an account that may not CONFIG GET is not told.
        eviction: its `maxmemory-policy`.
        clients: connections that it has.
        clients_limit: connections that it takes; 0: it does not say.
        memory_used_bytes: memory in use.
        memory_limit_bytes: its `maxmemory`; 0: none.
        memory_headroom: the share of the limit that is free; 1.0 where there is no limit.
        clock_ahead_ms: by how much its clock, which sets `created_at` and `updated_at`, is ahead of this process's, in
            milliseconds, to within half of the round trip and one more.
    """

    address: str
    software: str
    redis_version: str
    round_trip_ms: float
    uptime_s: int
    role: str
    replicas: int
    replica_lag_bytes: int | None
    persistence: str
    eviction: str
    clients: int
    clients_limit: int
    memory_used_bytes: int
    memory_limit_bytes: int
    memory_headroom: float
    clock_ahead_ms: float = 0.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The store, as this process sees it.

    Attributes:
        is_reachable: whether every primary let this process in and answered, be it with a refusal of a command; False
            where it refused the login, too. For a probe of readiness: a restart of this process would mend none of it.
        problems: what is wrong, each in one line; empty where nothing is.
        servers: the primaries that said how they are: one, or those of a cluster.
        layout: what the store was laid out with; None where it was not yet, or could not be asked.
        outbox_depth: writes that wait for the audit, over all lanes.
        deepest_lane: of these, those of the lane that has most.
        oldest_unaudited_s: age of the oldest of them in seconds; None where none waits.
    """

    is_reachable: bool
    problems: tuple[str, ...]
    servers: tuple[ServerHealth, ...] = ()
    layout: str | None = None
    outbox_depth: int = 0
    deepest_lane: int = 0
    oldest_unaudited_s: float | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


async def examine(link: Link, commands: Commands, layout: Layout, settings: Settings) -> Health:
    """Ask every primary; what cannot be asked is a problem, and no error.

    Each answer is waited for no longer than `timeout_s`.
    """
    servers: list[ServerHealth] = []
    failures: list[_Failure] = []
    refused: list[str] = []
    try:
        nodes = await link.nodes(layout.slots)
    except _FAILURES as error:
        nodes = {}
        failures.append(_failure("the store", error, settings))
    for node, slots in nodes.items():
        lane = layout.slots.index(slots[0])
        address = f"{node.host}:{node.port}" if node.port else node.host
        try:
            info = await link.call(info_command(layout, lane))
            # After INFO, which may have made the connection.
            started, started_ms = time.monotonic(), time.time() * 1000
            now_ms = await link.call(commands.clock(lane))
            round_trip_ms = (time.monotonic() - started) * 1000
            # It was asked in the middle of the exchange, as far as anybody can tell.
            ahead_ms = now_ms - (started_ms + round_trip_ms / 2)
            server = read_server(address, round_trip_ms, info)
            servers.append(msgspec.structs.replace(server, clock_ahead_ms=ahead_ms))
            if refusal := await _refusal(link, layout, lane, info, settings):
                refused.append(f"{address}: {refusal}")
        except _FAILURES as error:
            failures.append(_failure(address, error, settings))
    found = Health(is_reachable=True, problems=(), servers=tuple(servers))
    if all(failure.is_answer for failure in failures):
        try:
            found = await _with_lanes(found, link, commands, layout)
        except _FAILURES as error:
            failures.append(_failure("the store", error, settings))
    said = [failure.text for failure in failures] + refused
    said += problems(found, layout.layout_value, settings.outbox_limit)
    is_reachable = all(failure.is_answer for failure in failures)
    return msgspec.structs.replace(found, is_reachable=is_reachable, problems=tuple(said))


async def _refusal(link: Link, layout: Layout, lane: int, info: Mapping[str, str], settings: Settings) -> str:
    """Why `connect` would refuse the server that has a lane, besides what `problems` says; empty where it would not."""
    try:
        check_redis_version(info)
        check_kind(info, is_cluster=link.route.is_cluster)
        await check_durability(link, layout, lane, info, Durability.parse(settings.durability))
    except ConfigurationError as error:
        return str(error)
    return ""


class _Failure(NamedTuple):
    """Why something could not be asked, and whether that is an answer itself."""

    text: str
    is_answer: bool


def _failure(subject: str, error: Exception, settings: Settings) -> _Failure:
    cause = with_hint(error.cause if isinstance(error, StoreUnavailable) else one_line(error), settings)
    return _Failure(f"{subject} cannot be asked: {cause}", isinstance(error, StoreUnavailable) and bool(error.code))


async def _with_lanes(found: Health, link: Link, commands: Commands, layout: Layout) -> Health:
    """The same, with how the store is laid out and what waits for the audit."""
    stored = await link.call(
        Command(pack(("GET", layout.layout_key)), _text, layout.layout_key, "", layout.layout_slot)
    )
    lanes = range(layout.lanes)
    depths = await link.call_many([commands.depth(lane) for lane in lanes])
    oldest = await link.call_many([commands.oldest(lane) for lane in lanes])
    now_ms = await link.call(commands.clock(0))
    waiting_ms = [milliseconds for milliseconds in oldest if milliseconds is not None]
    return msgspec.structs.replace(
        found,
        layout=stored,
        outbox_depth=sum(depths),
        deepest_lane=max(depths),
        oldest_unaudited_s=max(0.0, (now_ms - min(waiting_ms)) / 1000) if waiting_ms else None,
    )


def read_server(address: str, round_trip_ms: float, info: Mapping[str, str]) -> ServerHealth:
    """One server's part, from what it says of itself."""
    used, limit = _number(info, "used_memory"), _number(info, "maxmemory")
    name = info.get("server_name", "redis").capitalize()
    version = info.get("redis_version", "unknown")
    return ServerHealth(
        address=address,
        software=f"{name} {info.get(f'{name.lower()}_version', version)}",
        redis_version=version,
        round_trip_ms=round_trip_ms,
        uptime_s=_number(info, "uptime_in_seconds"),
        role=info.get("role", "unknown"),
        replicas=replicas_online(info),
        replica_lag_bytes=_lag_bytes(info),
        persistence=_persistence(info),
        eviction=info.get("maxmemory_policy", "noeviction"),
        clients=_number(info, "connected_clients"),
        clients_limit=_number(info, "maxclients"),
        memory_used_bytes=used,
        memory_limit_bytes=limit,
        memory_headroom=max(0.0, 1 - used / limit) if limit else 1.0,
    )


def _number(info: Mapping[str, str], name: str) -> int:
    """A whole number of an INFO reply; 0 where it is none, since services that are no Redis say what they like."""
    text = info.get(name, "")
    return int(text) if text.isdecimal() else 0


def _lag_bytes(info: Mapping[str, str]) -> int | None:
    offsets = [
        int(field.removeprefix("offset="))
        for name, value in info.items()
        if name.startswith("slave") and ",state=online," in f"{value},"
        for field in value.split(",")
        if field.startswith("offset=") and field.removeprefix("offset=").isdecimal()
    ]
    return max(0, _number(info, "master_repl_offset") - min(offsets)) if offsets else None


def _persistence(info: Mapping[str, str]) -> str:
    if info.get("aof_enabled") == "1":
        is_well = info.get("aof_last_write_status", "ok") == "ok"
        return "append-only file" if is_well else "append-only file, and the last write to it failed"
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return "snapshots, and the last one failed"
    return "snapshots" if _number(info, "rdb_saves") else "no append-only file, and no snapshot since it started"


def problems(found: Health, layout_value: str, outbox_limit: int) -> list[str]:
    """What is wrong, each in one line."""
    said = []
    for server in found.servers:
        if server.role != "master":
            said.append(f"{server.address} is no primary: its role is {server.role}")
        if server.memory_headroom < _LEAST_HEADROOM:
            said.append(f"{server.address} has {server.memory_headroom:.0%} of its memory left")
        if server.clients_limit and server.clients > server.clients_limit * _FULLEST:
            said.append(f"{server.address} has {server.clients} connections, of {server.clients_limit} that it takes")
        if server.eviction != "noeviction":
            said.append(f"{server.address} may evict sessions: its maxmemory-policy is {server.eviction}")
        if "failed" in server.persistence:
            said.append(f"{server.address}: {server.persistence}")
    if found.layout not in (None, layout_value):
        said.append(f"the store was laid out with {found.layout!r}, this process has {layout_value!r}")
    if found.deepest_lane > outbox_limit * _FULLEST:
        said.append(f"{found.deepest_lane} writes of one lane wait for the audit, of {outbox_limit} that may")
    if found.oldest_unaudited_s is not None and found.oldest_unaudited_s > _LONGEST_UNAUDITED_S:
        said.append(f"the oldest of the writes that wait for the audit is {found.oldest_unaudited_s:.0f} s old")
    return said


def _text(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode(errors="replace")
