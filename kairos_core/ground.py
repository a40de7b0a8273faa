"""Start-up checks: unsafe ground is refused before the first operation (G14)."""

from __future__ import annotations

import contextlib
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from redis import Redis, Sentinel
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from kairos_core import addresses
from kairos_core.commands import Command, pack
from kairos_core.durability import CONFIG_WORDS, Durability, fsync_lacks
from kairos_core.errors import ConfigurationError, KairosError, StoreUnavailable, one_line
from kairos_core.transport import ODD_OPTION, check_files, odd_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kairos_core.commands import Words
    from kairos_core.layout import Layout
    from kairos_core.link import Link
    from kairos_core.settings import Settings

# SET with NX and GET together, and sharded channels, came with 7.0. Valkey reports the Redis version it is compatible
# with, which is 7.2 in all of its releases.
OLDEST_REDIS = (7, 0)

# Whose account is checked: that of a process that reads and writes sessions, that of `kairos worker`, or that of
# `kairos recover`.
Role = Literal["core", "worker", "recover"]

_PERMITTED = resources.files("kairos_core").joinpath("scripts", "permitted.lua")


async def check_store(
    link: Link, layout: Layout, settings: Settings, role: Role = "core", *, lay_out: bool = True
) -> None:
    """Check each server's version, settings and permissions, and the layout of the store's sessions.

    Args:
        link: to the store.
        layout: what this process has.
        settings: likewise.
        role: whether the account is to do what the core does, what the worker does, or what a recovery does.
        lay_out: whether to write down how the store is laid out where nobody has yet.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    wanted = Durability.parse(settings.durability)
    try:
        for slots in (await link.nodes(layout.slots)).values():
            lane = layout.slots.index(slots[0])
            info = await link.call(info_command(layout, lane), patient=False)
            check_redis_version(info)
            check_eviction(info)
            check_role(info)
            check_kind(info, is_cluster=link.route.is_cluster)
            await _check_permissions(link, layout, lane, role)
            if role == "core":
                await check_durability(link, layout, lane, info, wanted)
        await _check_layout(link, layout, lay_out=lay_out)
    except StoreUnavailable as error:
        raise ConfigurationError("KAIROS_REDIS_URL", with_hint(one_line(error.cause), settings)) from error
    except ConfigurationError:
        raise
    except (KairosError, foreign.RedisError, OSError) as error:
        raise ConfigurationError("KAIROS_REDIS_URL", with_hint(one_line(error), settings)) from error


def with_hint(cause: str, settings: Settings) -> str:
    """A cause, with what it may come from where that is not to be seen from it."""
    # A server without TLS waits for the rest of what it takes for a command.
    is_silent = any(word in cause.lower() for word in ("timeout", "timed out", "no answer in time"))
    if settings.redis_url.startswith("rediss") and is_silent:
        return f"{cause} (rediss:// and its like speak TLS: does this port?)"
    return with_default(cause, "KAIROS_REDIS_URL", is_default=settings.redis_url == addresses.DEFAULT_STORE)


def with_default(cause: str, setting: str, *, is_default: bool) -> str:
    """A cause; where nobody listens at the address that nobody named, with where one comes from."""
    if is_default and "refused" in cause:
        return f"{cause} (the default address, since {setting} names none; `kairos up` prints one)"
    return cause


async def _check_layout(link: Link, layout: Layout, *, lay_out: bool) -> None:
    key, slot = layout.layout_key, layout.layout_slot
    # Read first: where the memory is full, a store that was laid out long ago is still good to drain.
    read: Command[Any] = Command(pack(("GET", key)), _as_it_is, key, "", slot)
    stored = await link.call(read, patient=False)
    if stored is None and lay_out:
        words = ("SET", key, layout.layout_value, "NX", "GET")
        stored = await link.call(Command(pack(words), _as_it_is, key, "", slot), patient=False)
    found = stored.decode(errors="replace") if stored is not None else layout.layout_value
    if found != layout.layout_value:
        raise ConfigurationError(
            "KAIROS_LANES", f"the store was laid out with {found!r}, this process has {layout.layout_value!r}"
        )


async def _check_permissions(link: Link, layout: Layout, lane: int, role: Role) -> None:
    """Raise ConfigurationError where the account may not run one of the commands that the scripts run.

    The server checks each command in a script when it comes to it: a script that may write and not publish would write
    without a word to anybody.
    """
    keys, commands = _RUNS[role](layout, lane)
    publish = "SPUBLISH" if link.route.is_cluster else "PUBLISH"
    commands += [(publish, f"{layout.prefixes[lane]}u:permitted", ""), (publish, layout.lane_channels[lane], "")]
    text = _PERMITTED.read_text(encoding="utf-8")
    words: Words = ("EVAL", text, str(len(keys)), *keys, msgspec.json.encode(commands))
    refused = await link.call(Command(pack(words), _as_it_is, keys[0], "", layout.slots[lane]), patient=False)
    if refused:
        name = refused.decode(errors="replace")
        raise ConfigurationError("KAIROS_REDIS_URL", f"the account may not run {name}")


def _core_runs(layout: Layout, lane: int) -> tuple[list[str], list[Words]]:
    """The keys of a lane that the scripts of writes use, and what they run on them; publishing is not among it."""
    session, receipt = f"{layout.prefixes[lane]}s:permitted", layout.receipt(lane, "0")
    outbox, deadlines, life = layout.outboxes[lane], layout.deadlines[lane], layout.lives[lane]
    return [session, receipt, outbox, deadlines, life], [
        ("GET", receipt),
        ("SET", receipt, "", "PX", "1"),
        ("PEXPIRE", receipt, "1"),
        ("EXISTS", session),
        ("HMGET", session, "n"),
        ("HSET", session, "n", "1"),
        ("PEXPIRE", session, "1"),
        ("DEL", session),
        ("XLEN", outbox),
        ("XADD", outbox, "*", "m", ""),
        ("ZADD", deadlines, "1", "a"),
        ("ZREM", deadlines, "a"),
        ("GET", life),
        ("SET", life, "1"),
        ("TIME",),
    ]


def _worker_runs(layout: Layout, lane: int) -> tuple[list[str], list[Words]]:
    """The same of the sweep's script and the leases'; and how a drain reads the outbox and trims it."""
    session, lease = f"{layout.prefixes[lane]}s:permitted", layout.lease(lane)
    outbox, deadlines = layout.outboxes[lane], layout.deadlines[lane]
    return [session, outbox, deadlines, lease], [
        ("PTTL", session),
        ("HMGET", session, "n"),
        ("DEL", session),
        ("XLEN", outbox),
        ("XADD", outbox, "*", "m", ""),
        # Without these, what was drained would stay, and be drained again.
        ("XRANGE", outbox, "-", "+"),
        ("XDEL", outbox, "0-1"),
        ("ZRANGE", deadlines, "0", "1", "BYSCORE"),
        ("ZADD", deadlines, "1", "a"),
        ("ZREM", deadlines, "a"),
        ("GET", lease),
        ("SET", lease, "", "PX", "1"),
        ("DEL", lease),
        ("TIME",),
    ]


def _recovery_runs(layout: Layout, lane: int) -> tuple[list[str], list[Words]]:
    """The same of the script that restores a session; and how the outbox is read."""
    session, outbox = f"{layout.prefixes[lane]}s:permitted", layout.outboxes[lane]
    deadlines, life = layout.deadlines[lane], layout.lives[lane]
    return [session, outbox, deadlines, life], [
        ("EXISTS", session),
        ("HMGET", session, "n"),
        ("HSET", session, "n", "1"),
        ("PEXPIRE", session, "1"),
        ("XLEN", outbox),
        ("XADD", outbox, "*", "m", ""),
        ("XRANGE", outbox, "-", "+"),
        ("ZADD", deadlines, "1", "a"),
        ("GET", life),
        ("SET", life, "1"),
        ("TIME",),
    ]


_RUNS: Mapping[Role, Callable[[Layout, int], tuple[list[str], list[Words]]]] = {
    "core": _core_runs,
    "worker": _worker_runs,
    "recover": _recovery_runs,
}


async def check_durability(link: Link, layout: Layout, lane: int, info: Mapping[str, str], wanted: Durability) -> None:
    """Raise ConfigurationError where the server that has a lane cannot keep what every write is to be."""
    if wanted.level == "fsync":
        command: Command[Any] = Command(pack(CONFIG_WORDS), _as_it_is, layout.outboxes[lane], "", layout.slots[lane])
        try:
            lacking = fsync_lacks(await link.call(command, patient=False))
        except StoreUnavailable as error:
            lacking = f"that cannot be verified: {one_line(error.cause)}"
        if lacking:
            raise ConfigurationError("KAIROS_DURABILITY", f"fsync takes appendfsync always on the server: {lacking}")
    elif wanted.level == "replicated" and (found := replicas_online(info)) < wanted.replicas:
        raise ConfigurationError(
            "KAIROS_DURABILITY", f"{wanted} takes as many replicas; the server has {found} that are online"
        )


def info_command(layout: Layout, lane: int) -> Command[dict[str, str]]:
    """Asks the server that has a lane what it says of itself."""
    return Command(pack(("INFO",)), read_info, layout.outboxes[lane], "", layout.slots[lane])


def read_info(reply: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = [line.partition(":") for line in reply.decode(errors="replace").splitlines()]
    return {name: value for name, colon, value in lines if colon and not name.startswith("#")}


def replicas_online(info: Mapping[str, str]) -> int:
    """How many replicas follow the server, by its INFO."""
    return sum(name.startswith("slave") and ",state=online," in f"{value}," for name, value in info.items())


def _as_it_is(reply: Any) -> Any:
    return reply


def check_redis_version(info: Mapping[str, object]) -> None:
    """Raise ConfigurationError where the server is older than 7.0."""
    text = str(info.get("redis_version", ""))
    numbers = text.split(".")
    try:
        version = (int(numbers[0]), int(numbers[1]))
    except (ValueError, IndexError):
        raise ConfigurationError("KAIROS_REDIS_URL", f"the server reports no version ({text!r})") from None
    if version < OLDEST_REDIS:
        raise ConfigurationError(
            "KAIROS_REDIS_URL",
            f"the server is version {text}; Redis 7.0 or Valkey 8.0 is the oldest that works",
        )


def check_role(info: Mapping[str, object]) -> None:
    """Raise ConfigurationError where the server is a replica: what it answers may be old, and what it takes is lost."""
    role = info.get("role", "master")
    if role != "master":
        raise ConfigurationError("KAIROS_REDIS_URL", f"the server is no primary: its role is {role}")


def check_kind(info: Mapping[str, object], *, is_cluster: bool) -> None:
    """Raise ConfigurationError where a cluster's node is taken for a server that has all the lanes."""
    if info.get("cluster_enabled") == "1" and not is_cluster:
        raise ConfigurationError("KAIROS_REDIS_URL", "the server is a node of a cluster: redis+cluster:// is needed")


def check_eviction(info: Mapping[str, object]) -> None:
    """Raise ConfigurationError where the server may throw sessions or records away to make room."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(
            "KAIROS_REDIS_URL",
            f"maxmemory-policy is {policy}, which may evict sessions; noeviction is needed",
        )


def store_client(url: str, *, setting: str = "KAIROS_REDIS_URL", **options: Any) -> Redis:
    """A redis-py client for the address of one server, or of one under Sentinel; nothing is sent yet.

    For what is not Kairos' own: RQ's queue. It waits for a server no longer than it was told to, and tries nothing
    again by itself.

    Raises:
        ConfigurationError: the address has an option that redis-py does not know, or cannot read.
    """
    # Without a driver's name, which the server would be told at each connection, if it lets this account do so.
    options = {"retry": Retry(NoBackoff(), 0), "driver_info": None} | options
    found: Redis | None = None
    with contextlib.suppress(*ODD_OPTION):
        address = addresses.parse(url)
        client = _client_by_sentinel(address, options) if address.service else Redis.from_url(address.url, **options)
        pool = client.connection_pool
        # redis-py looks at the options when it makes a connection; this one is made, and not connected.
        pool.connection_class(**pool.connection_kwargs)
        found = client
    if found is None:
        raise odd_option(setting)
    check_files(setting, found.connection_pool.connection_kwargs)
    return found


def _client_by_sentinel(address: addresses.Address, options: dict[str, Any]) -> Redis:
    store, sentinel = _sentinels_arguments(address.url) | options, _sentinels_arguments(address.sentinel_url)
    sentinel.pop("db", None)
    # Of sentinels there are several: one that is gone is not waited for long, and not tried again.
    sentinel |= {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": Retry(NoBackoff(), 0)}
    sentinel["driver_info"] = None
    found = Sentinel([tuple(endpoint) for endpoint in address.endpoints], sentinel_kwargs=sentinel)
    kind = _ManagedSecurely if store.pop("ssl", False) else _Managed
    client: Redis = found.master_for(address.service, connection_class=kind, **store)
    return client


class _LetGo:
    """Lets a connection go whose reply was not read to its end, as all of redis-py's do but those under Sentinel.

    What comes next on it is that reply, or nothing for as long as the server waits: a worker that is told to end while
    it waits for a job would first wait for that job.
    """

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        options.setdefault("disconnect_on_error", True)
        parent: Any = super()
        return parent.read_response(*arguments, **options)


class _Managed(_LetGo, SentinelManagedConnection):
    pass


class _ManagedSecurely(_LetGo, SentinelManagedSSLConnection):
    pass


def _sentinels_arguments(url: str) -> dict[str, Any]:
    """What an address says, as `redis.Sentinel` takes it: where to is not among it, and TLS is an argument."""
    arguments = {name: value for name, value in parse_url(url).items() if name not in ("host", "port")}
    return arguments | ({"ssl": True} if arguments.pop("connection_class", None) else {})
