"""The floor: the same command bytes on a raw socket, with nothing encoded, parsed or pooled in the time measured."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kairos_core.commands import Command

_CHUNK = 65_536
_pack: Any = hiredis.pack_command  # its stub wants exactly one word


class Wire:
    """A raw connection to the Redis that a URL names (`redis://` or `unix://`)."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(parts.path)
        elif parts.scheme == "redis":
            self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            raise NotImplementedError("the floor is measured without TLS: there is nothing rawer to compare with")
        self._socket.settimeout(10)
        self._reader = hiredis.Reader()
        if parts.password:
            self.ask("AUTH", *([unquote(parts.username)] if parts.username else []), unquote(parts.password))
        if parts.path.strip("/") not in ("", "0") and parts.scheme == "redis":
            self.ask("SELECT", parts.path.strip("/"))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, *words: Any) -> Any:
        """Send a command and parse its reply: for preparation."""
        self._socket.sendall(_pack(words))
        return self.parse(self.receive())

    def exchange(self, packed: bytes) -> bytes:
        """Send a packed command and receive its reply, unparsed: this is what is timed."""
        self._socket.sendall(packed)
        return self._socket.recv(_CHUNK)

    def exchange_whole(self, packed: bytes, size: int) -> bytes:
        """The same where the reply, of a known size in bytes, may come in several pieces."""
        data = self.exchange(packed)
        if len(data) >= size:
            return data
        pieces, missing = [data], size - len(data)
        while missing > 0:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionError("the server closed the connection within a reply")
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def size_of_reply(self, packed: bytes) -> int:
        """Send a packed command and count the bytes of its reply: for preparation."""
        self._socket.sendall(packed)
        size = 0
        while size == 0 or self._reader.gets() is False:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionError("the server closed the connection within a reply")
            size += len(data)
            self._reader.feed(data)
        return size

    def fileno(self) -> int:
        """The socket's number, to wait for many of them at once."""
        return self._socket.fileno()

    def exchange_all(self, packed: bytes, length: int) -> bytes:
        """Send packed commands and receive so many bytes of replies, unparsed."""
        self._socket.sendall(packed)
        data = self._socket.recv(_CHUNK)
        while len(data) < length:
            more = self._socket.recv(_CHUNK)
            if not more:
                raise ConnectionResetError("the server closed the connection")
            data += more
        return data

    def send(self, packed: bytes) -> None:
        """Send packed commands, whose replies are received later."""
        self._socket.sendall(packed)

    def receive(self) -> bytes:
        """Wait for bytes."""
        return self._socket.recv(_CHUNK)

    def parse(self, data: bytes) -> Any:
        """Parse a reply, receiving the rest of it if `data` was only its beginning."""
        self._reader.feed(data)
        reply = self._reader.gets()
        while reply is False:
            self._reader.feed(self._socket.recv(_CHUNK))
            reply = self._reader.gets()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def parse_rest(self) -> list[Any]:
        """What else has arrived in full with the reply that was parsed last."""
        return list(iter(self._reader.gets, False))


class SameBytes:
    """Any operation of Kairos, as nothing but its bytes.

    `build` makes the command that Kairos would send; `finish` hears what Kairos would have returned.
    """

    def __init__(self, wire: Wire, build: Callable[[], Command[Any]], finish: Callable[[Any], None]) -> None:
        self._wire, self._build, self._finish = wire, build, finish
        self._command: Command[Any] | None = None

    def prepare(self) -> Callable[[], bytes]:
        """The exchange to time."""
        self._command = self._build()
        return partial(self._wire.exchange, self._command.packed)

    def finish(self, result: bytes) -> None:
        """Read the reply as Kairos would, outside of the time measured."""
        if self._command is None:
            raise AssertionError("finish before prepare")
        self._finish(self._command.read(self._wire.parse(result)))


class SameBytesOfMany:
    """Several reads of Kairos at once, as nothing but their bytes; what they read does not change."""

    def __init__(self, wire: Wire, commands: Sequence[Command[Any]]) -> None:
        self._wire = wire
        self._packed = b"".join(command.packed for command in commands)
        # One by one, to know how long they are together.
        self._length = sum(len(wire.exchange(command.packed)) for command in commands)

    def prepare(self) -> Callable[[], bytes]:
        """The exchange to time."""
        return partial(self._wire.exchange_all, self._packed, self._length)

    def finish(self, result: bytes) -> None:
        """Check that all came, and no more."""
        if len(result) != self._length:
            raise AssertionError(f"{len(result)} bytes of replies, {self._length} were expected")


class SameBytesOfMutate:
    """The read and the update of a `mutate_session`, as nothing but their bytes.

    Args:
        wire: the connection.
        get: what it would read.
        update: what it would write, given what it should have read.
        state: as created.
    """

    def __init__(self, wire: Wire, get: Command[Any], update: Callable[[Any], Command[Any]], state: Any) -> None:
        self._wire, self._update, self._state = wire, update, state
        self._get = get.packed
        self._command: Command[Any] | None = None

    def prepare(self) -> Callable[[], bytes]:
        """Both exchanges, to be timed as one."""
        self._command = self._update(self._state)
        packed = self._command.packed

        def both() -> bytes:
            self._wire.exchange(self._get)
            return self._wire.exchange(packed)

        return both

    def finish(self, result: bytes) -> None:
        """Go on from what was written."""
        if self._command is None:
            raise AssertionError("finish before prepare")
        self._state = self._command.read(self._wire.parse(result))


class Ping:
    """PING: the shortest exchange that there is."""

    def __init__(self, wire: Wire) -> None:
        self._ping = partial(wire.exchange, _pack(("PING",)))

    def prepare(self) -> Callable[[], bytes]:
        """The exchange to time."""
        return self._ping

    def finish(self, result: bytes) -> None:
        """Check the answer."""
        if result != b"+PONG\r\n":
            raise AssertionError(f"PING: {result!r}")


class Subscribe:
    """A connection and a SUBSCRIBE with its answer: a watch of one session needs no less."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._subscribe = url, _pack(("SUBSCRIBE", channel))

    def prepare(self) -> Callable[[], tuple[Wire, bytes]]:
        """The exchange to time."""
        return self._connect

    def _connect(self) -> tuple[Wire, bytes]:
        wire = Wire(self._url)
        return wire, wire.exchange(self._subscribe)

    def finish(self, result: tuple[Wire, bytes]) -> None:
        """Check the answer, and close the connection."""
        wire, answer = result
        wire.close()
        if not answer.startswith(b"*3\r\n$9\r\nsubscribe"):
            raise AssertionError(f"SUBSCRIBE: {answer!r}")
