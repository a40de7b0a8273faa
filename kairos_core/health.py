"""How the store is, for a health check or a person."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from redis import exceptions as foreign

from kairos_core.commands import Command
from kairos_core.errors import KairosError, StoreUnavailable
from kairos_core.ground import info_command, replicas_online

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kairos_core.commands import Commands
    from kairos_core.layout import Layout
    from kairos_core.link import Link
    from kairos_core.settings import Settings

# Below this share of its limit a server's memory is as good as full: buffers need some, too.
_LEAST_HEADROOM = 0.05
# An outbox this full will refuse writes soon.
_FULLEST_OUTBOX = 0.9


class ServerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One primary of the store.

    Attributes:
        address: host:port, or the path of its socket.
        round_trip_ms: how long one exchange took, in milliseconds.
        role: master or slave, as the server says.
        version: the Redis version that it is, or is compatible with.
        replicas: how many follow it.
        persistence: none, snapshots, or append-only file (with what last went wrong with it).
        memory_used_bytes: memory in use.
        memory_limit_bytes: its `maxmemory`; 0: none.
        memory_headroom: the share of the limit that is free; 1.0 where there is no limit.
    """

    address: str
    round_trip_ms: float
    role: str
    version: str
    replicas: int
    persistence: str
    memory_used_bytes: int
    memory_limit_bytes: int
    memory_headroom: float


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The store, as this process sees it.

    Attributes:
        is_reachable: whether every primary answered.
        problems: what is wrong, each in one line; empty where nothing is.
        servers: the primaries that answered: one, or those of a cluster.
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
    """Ask every primary; what cannot be asked is a problem, and no error."""
    servers: list[ServerHealth] = []
    try:
        for node, slots in (await link.nodes(layout.slots)).items():
            lane = layout.slots.index(slots[0])
            started = time.monotonic()
            info = await link.call(info_command(layout, lane))
            round_trip_ms = (time.monotonic() - started) * 1000
            address = f"{node.host}:{node.port}" if node.port else node.host
            servers.append(read_server(address, round_trip_ms, info))
        stored = await link.call(Command(("GET", layout.layout_key), _text, layout.layout_key, "", layout.layout_slot))
        lanes = range(layout.lanes)
        depths = await link.call_many([commands.depth(lane) for lane in lanes])
        oldest = await link.call_many([commands.oldest(lane) for lane in lanes])
        now_ms = await link.call(commands.clock(0))
    except (KairosError, foreign.RedisError, OSError) as error:
        cause = error.cause if isinstance(error, StoreUnavailable) else " ".join(str(error).split())
        return Health(is_reachable=False, problems=(f"the store cannot be asked: {cause}",), servers=tuple(servers))
    waiting_ms = [milliseconds for milliseconds in oldest if milliseconds is not None]
    found = Health(
        is_reachable=True,
        problems=(),
        servers=tuple(servers),
        layout=stored,
        outbox_depth=sum(depths),
        deepest_lane=max(depths),
        oldest_unaudited_s=max(0.0, (now_ms - min(waiting_ms)) / 1000) if waiting_ms else None,
    )
    return msgspec.structs.replace(found, problems=tuple(problems(found, layout.layout_value, settings.outbox_limit)))


def read_server(address: str, round_trip_ms: float, info: Mapping[str, str]) -> ServerHealth:
    """One server's part, from what it says of itself."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    return ServerHealth(
        address=address,
        round_trip_ms=round_trip_ms,
        role=info.get("role", "unknown"),
        version=info.get("redis_version", "unknown"),
        replicas=replicas_online(info),
        persistence=_persistence(info),
        memory_used_bytes=used,
        memory_limit_bytes=limit,
        memory_headroom=max(0.0, 1 - used / limit) if limit else 1.0,
    )


def _persistence(info: Mapping[str, str]) -> str:
    if info.get("aof_enabled") == "1":
        is_well = info.get("aof_last_write_status", "ok") == "ok"
        return "append-only file" if is_well else "append-only file, and the last write to it failed"
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return "snapshots, and the last one failed"
    return "snapshots" if int(info.get("rdb_saves", 0)) else "none, or no snapshot yet"


def problems(found: Health, layout_value: str, outbox_limit: int) -> list[str]:
    """What is wrong, each in one line."""
    said = []
    for server in found.servers:
        if server.role != "master":
            said.append(f"{server.address} is no primary: its role is {server.role}")
        if server.memory_headroom < _LEAST_HEADROOM:
            said.append(f"{server.address} has {server.memory_headroom:.0%} of its memory left")
        if "failed" in server.persistence:
            said.append(f"{server.address}: {server.persistence}")
    if found.layout not in (None, layout_value):
        said.append(f"the store was laid out with {found.layout!r}, this process has {layout_value!r}")
    if found.deepest_lane > outbox_limit * _FULLEST_OUTBOX:
        said.append(f"{found.deepest_lane} writes of one lane wait for the audit, of {outbox_limit} that may")
    return said


def _text(reply: bytes | None) -> str | None:
    return None if reply is None else reply.decode(errors="replace")
