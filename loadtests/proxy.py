"""A TCP proxy for faults on the way: real connections that are cut, and real replies that are dropped or changed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65_536


def _unchanged(data: bytes) -> bytes:
    return data


class Proxy:
    """Forwards a loopback port to a server.

    Set `on_request` and `on_reply` to see what passes and to change it; where one returns None, what it was given is
    dropped and both connections are closed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        user_info = parts.netloc.rpartition("@")[0]
        netloc = f"{user_info}@127.0.0.1:{port}" if user_info else f"127.0.0.1:{port}"
        self.url = urlunsplit(parts._replace(netloc=netloc))
        self.on_request: Callable[[bytes], bytes | None] = _unchanged
        self.on_reply: Callable[[bytes], bytes | None] = _unchanged
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port and every connection."""
        # shutdown wakes the thread that waits in accept; close alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection; new ones are accepted."""
        for end in list(self._sockets):
            _close(end)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _close(client)
                continue
            self._sockets |= {client, server}
            # Looked up for each piece that passes, since a test sets them while connections are open.
            for source, sink, inspect in (
                (client, server, lambda data: self.on_request(data)),  # noqa: PLW0108
                (server, client, lambda data: self.on_reply(data)),  # noqa: PLW0108
            ):
                threading.Thread(target=self._forward, args=(source, sink, inspect), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, inspect: Callable[[bytes], bytes | None]) -> None:
        try:
            while data := source.recv(_CHUNK):
                passed = inspect(data)
                if passed is None:
                    break
                sink.sendall(passed)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                _close(end)
                self._sockets.discard(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
