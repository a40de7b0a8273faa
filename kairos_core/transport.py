"""What the logic of the core needs of the outside, in two colours: blocking and asyncio.

The logic that speaks to servers is written once, with `async` and `await`. Over the asyncio transport it runs as it
reads. Over the blocking transport nothing in it ever waits for an event loop, so `run` takes it from its beginning to
its end in one step.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import hiredis
from redis import exceptions as foreign
from redis.backoff import NoBackoff

from kairos_core.addresses import Endpoint
from kairos_core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from kairos_core.addresses import Address

T = TypeVar("T")

CHUNK = 65_536
# A timeout of 0 would mean not to wait at all, and a negative one is an error.
SHORTEST_WAIT_S = 0.001
# What a reader raises: of bytes that are no reply, and of those that promise one for which there is no memory.
UNREADABLE = (hiredis.ProtocolError, MemoryError)


class Channel(Protocol):
    """A connection that is logged in and in its database.

    Attributes:
        node: the server at its other end.
    """

    node: Endpoint

    def is_quiet(self) -> bool:
        """Whether nothing came while nothing was asked.

        What comes unasked is the end of the connection, or bytes that would pass for the next reply. Looking first
        costs a microsecond, and keeps a write that could not be sent from ending as one that may have been applied.
        """

    async def send(self, data: bytes, deadline: float) -> None:
        """Send bytes.

        Raises:
            OSError: the connection was lost, or `deadline` (of `time.monotonic`) came first.
        """

    async def receive(self, deadline: float) -> Any:
        """Wait for the next reply, which may be an error (`hiredis.ReplyError`); what came of it stays, if it is late.

        Raises:
            OSError: the connection was lost, or `deadline` (of `time.monotonic`) came first.
            hiredis.ProtocolError: what came is no reply.
            MemoryError: it promises more than there is memory for.
        """

    async def exchange(self, data: bytes, deadline: float) -> Any:
        """Send bytes and wait for one reply."""

    def ask(self, data: bytes, deadline: float) -> Any:
        """As `exchange`: where the transport blocks, the reply itself, else an awaitable of it.

        For the path of every call, where making one coroutine more takes longer than all of the rest.
        """

    def wake(self) -> None:
        """Let whoever waits for something to come, in another thread or task, find the connection ended."""

    def abandon(self) -> None:
        """Let go of a connection that belongs to another process or event loop, and leave that undisturbed."""

    def close(self) -> None:
        """Close the connection at once."""


class Lock(Protocol):
    """Lets one in at a time."""

    def locked(self) -> bool:
        """Whether somebody is in."""

    async def enter(self, deadline: float) -> bool:
        """Wait until nobody is in, and be in; False where the deadline (of `time.monotonic`) came first."""

    def leave(self) -> None:
        """Let the next one in."""


class Transport(Protocol):
    """Makes connections, and waits.

    Attributes:
        blocks: whether it waits in the thread, and never for an event loop.
        one_server: where the address leads, if it names but one server.
    """

    blocks: bool
    one_server: Endpoint

    def home(self) -> object:
        """What the connections belong to: a process, or an event loop. Those of another home cannot be used."""

    async def open(self, node: Endpoint, time_left_s: float, *, to_sentinel: bool = False) -> Channel:
        """Make a connection.

        Raises:
            foreign.RedisError, OSError: it could not be made in time.
        """

    async def sleep(self, pause_s: float) -> None:
        """Wait, unless the pause is 0."""

    def lock(self) -> Lock:
        """A new lock."""

    async def receive_any(self, channels: Sequence[Channel], deadline: float) -> tuple[Channel, Any] | None:
        """Wait for the next reply on any of these; None where none came by the deadline.

        Raises:
            BrokenChannel: says which of them was lost.
        """


class BrokenChannel(Exception):  # noqa: N818 - a fact for the caller, who knows what follows
    """One of several channels was lost.

    Attributes:
        channel: the one.
    """

    def __init__(self, channel: Channel, cause: BaseException) -> None:
        self.channel = channel
        super().__init__(str(cause) or type(cause).__name__)


def run(steps: Coroutine[Any, Any, T]) -> T:
    """Run the shared logic over the blocking transport to its end."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("logic over the blocking transport waited for an event loop")


class Connector:
    """Makes redis-py's connections for an address, not connected yet: RESP2, and no retries of their own.

    Args:
        client_class: `redis.Redis` or `redis.asyncio.Redis`.
        retry_class: `redis.retry.Retry` or `redis.asyncio.retry.Retry`.
        address: where the store is.
        timeout_s: the longest wait.
        options: more arguments of redis-py's.

    Raises:
        ConfigurationError: the address has an option that redis-py does not know, or cannot read.
    """

    def __init__(
        self, client_class: Any, retry_class: Any, address: Address, timeout_s: float, options: dict[str, Any]
    ) -> None:
        ours = {"protocol": 2, "retry": retry_class(NoBackoff(), 0), "driver_info": None, "health_check_interval": 0}
        ours |= {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, **options}
        self._store = _class_and_arguments(client_class, address.url, ours)
        self._sentinel = _class_and_arguments(client_class, address.sentinel_url or address.url, ours)

    @property
    def one_server(self) -> Endpoint:
        """Where the address leads, if it names but one server."""
        arguments = self._store[1]
        if "path" in arguments:
            return Endpoint(arguments["path"], 0)
        return Endpoint(arguments.get("host", "localhost"), int(arguments.get("port", 6379)))

    def make(self, node: Endpoint, *, to_sentinel: bool) -> Any:
        """A connection to a server of the address."""
        connection_class, arguments = self._sentinel if to_sentinel else self._store
        if node.port:
            arguments = {**arguments, "host": node.host, "port": node.port}
        return connection_class(**arguments)


def check_files(setting: str, arguments: Mapping[str, Any]) -> None:
    """Raise ConfigurationError where an option names a file that is not there: that of an authority, or a key.

    TLS would say that there is no such file, and not which.
    """
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if arguments.get(name) and not Path(arguments[name]).is_file():
            raise ConfigurationError(setting, f"{name} names no file")


def odd_option(setting: str) -> ConfigurationError:
    """The error for an address with an option that redis-py does not know, or cannot read.

    Nothing is quoted: an address may hold a password in any place. So it must not be raised while redis-py's own error
    is handled, either, which quotes and would be kept as its context.
    """
    return ConfigurationError(setting, "has an option that redis-py does not know or cannot read")


# What redis-py raises for such an option.
ODD_OPTION = (TypeError, ValueError, AttributeError, foreign.RedisError)


def _class_and_arguments(client_class: Any, url: str, ours: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    found: tuple[Any, dict[str, Any]] | None = None
    with contextlib.suppress(*ODD_OPTION):
        pool = client_class.from_url(url, **ours).connection_pool
        # An address may carry any option; these are what the core relies on.
        arguments = pool.connection_kwargs | ours
        if arguments.get("db"):
            # Text like all words that are packed (see `commands.Words`): this one is packed by redis-py.
            arguments["db"] = str(arguments["db"])
        # redis-py looks at the options when it makes a connection; this one is made, and not connected.
        pool.connection_class(**arguments)
        found = pool.connection_class, arguments
    if found is None:
        raise odd_option("KAIROS_REDIS_URL")
    check_files("KAIROS_REDIS_URL", found[1])
    return found
