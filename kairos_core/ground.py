"""Start-up checks: unsafe ground is refused before the first operation (G14)."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis import exceptions as foreign
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

    from kairos_core.layout import Layout

# SET with NX and GET together, and sharded channels, came with 7.0. Valkey reports the Redis version it is compatible
# with, which is 7.2 in all of its releases.
OLDEST_REDIS = (7, 0)


def check_store(pool: ConnectionPool, layout: Layout) -> None:
    """Check the server's version and the layout of its sessions.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    client = Redis(connection_pool=pool)
    try:
        info = client.info()
        check_redis_version(info)
        check_eviction(info)
        check_permissions(client, layout)
        # Read first: where the memory is full, a store that was laid out long ago is still good to drain.
        stored: Any = client.get(layout.layout_key)
        if stored is None:
            stored = client.set(layout.layout_key, layout.layout_value, nx=True, get=True)
    except (foreign.RedisError, OSError) as error:
        raise ConfigurationError("KAIROS_REDIS_URL", one_line(error)) from error
    found = stored.decode(errors="replace") if stored is not None else layout.layout_value
    if found != layout.layout_value:
        raise ConfigurationError(
            "KAIROS_LANES", f"the store was laid out with {found!r}, this process has {layout.layout_value!r}"
        )


def check_permissions(client: Redis, layout: Layout) -> None:
    """Raise ConfigurationError where the account may not run one of the commands that the scripts run.

    The server checks each command in a script when it comes to it: a script that may write and not publish would write
    without a word to anybody.
    """
    text = resources.files("kairos_core").joinpath("scripts", "permitted.lua").read_text(encoding="utf-8")
    keys = layout.keys_of("permitted")
    receipt = layout.receipt(keys.lane, "0")
    words = [keys.session, receipt, keys.outbox, layout.deadlines[keys.lane], layout.lives[keys.lane]]
    refused: Any = client.eval(text, len(words), *words, "PUBLISH", keys.session_channel, keys.lane_channel)
    if refused:
        name = refused.decode(errors="replace")
        raise ConfigurationError("KAIROS_REDIS_URL", f"the account may not run {name}")


def check_redis_version(info: dict[str, object]) -> None:
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


def check_eviction(info: dict[str, object]) -> None:
    """Raise ConfigurationError where the server may throw sessions or records away to make room."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ConfigurationError(
            "KAIROS_REDIS_URL",
            f"maxmemory-policy is {policy}, which may evict sessions; noeviction is needed",
        )


def store_client(url: str, *, setting: str = "KAIROS_REDIS_URL", **options: Any) -> Redis:
    """A redis-py client for the address; nothing is sent yet.

    It waits for a server no longer than it was told to, and tries nothing again by itself.

    Raises:
        ConfigurationError: the address has an option that redis-py does not know, or cannot read.
    """
    try:
        client = Redis.from_url(url, **({"retry": Retry(NoBackoff(), 0)} | options))
        # redis-py looks at the options when it makes a connection; this one is made, and not connected.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (TypeError, ValueError):
        # Not quoted: an address may hold a password in any place.
        raise ConfigurationError(setting, "has an option that redis-py does not know or cannot read") from None
    return client


def one_line(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
