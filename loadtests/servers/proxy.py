"""A TCP proxy for faults on the way: real connections that are cut, and real replies that are dropped or changed."""

from __future__ import annotations

import contextlib
import socket
import ssl
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

    Args:
        url: address of the server, which is talked to without TLS.
        tls: a server's context, with its certificate; clients then have to speak TLS, and `url` is a `rediss://` one.
            What passes is seen as it is without.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._tls = tls
        self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        user_info = parts.netloc.rpartition("@")[0]
        netloc = f"{user_info}@127.0.0.1:{port}" if user_info else f"127.0.0.1:{port}"
        self.url = urlunsplit(parts._replace(scheme="rediss" if tls else parts.scheme, netloc=netloc))
        self.on_request: Callable[[bytes], bytes | None] = _unchanged
        self.on_reply: Callable[[bytes], bytes | None] = _unchanged
        self._sockets: set[socket.socket | _Secured] = set()
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

    def cut(self) -> int:
        """Close every connection, and return how many there were; new ones are accepted."""
        ends = list(self._sockets)
        for end in ends:
            _close(end)
        return len(ends) // 2

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _close(accepted)
                continue
            for end in (accepted, server):
                # A second small piece would wait for the acknowledgement of the first, up to 40 ms.
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Secured(accepted, self._tls) if self._tls else accepted
            self._sockets |= {client, server}
            # Looked up for each piece that passes, since a test sets them while connections are open.
            for source, sink, inspect in (
                (client, server, lambda data: self.on_request(data)),  # noqa: PLW0108
                (server, client, lambda data: self.on_reply(data)),  # noqa: PLW0108
            ):
                threading.Thread(target=self._forward, args=(source, sink, inspect), daemon=True).start()

    def _forward(
        self,
        source: socket.socket | _Secured,
        sink: socket.socket | _Secured,
        inspect: Callable[[bytes], bytes | None],
    ) -> None:
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


class _Secured:
    """The server's end of a connection with TLS, as if it were a socket without.

    One thread may read while another writes. An `ssl.SSLSocket` does not promise that, so the state of TLS is kept
    apart from the socket and touched by one thread at a time, while neither waits for the network.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._state = threading.Lock()
        # Held from taking what is to be sent until it is sent, which keeps the order.
        self._sending = threading.Lock()

    def recv(self, size: int) -> bytes:
        """What the client sends; empty: it is done. The first call shakes hands.

        Raises:
            OSError: the connection is broken, or what came is no TLS.
        """
        while True:
            try:
                with self._state:
                    return self._tls.read(size)
            except ssl.SSLWantReadError:
                pass
            finally:
                # Answers of TLS itself: a handshake's, or an alert.
                self._flush()
            data = self._plain.recv(_CHUNK)
            if not data:
                return b""
            with self._state:
                self._received.write(data)

    def sendall(self, data: bytes) -> None:
        """Send to the client, once hands are shaken.

        Raises:
            OSError: the connection is broken.
        """
        with self._sending:
            with self._state:
                self._tls.write(data)
                encrypted = self._to_send.read()
            self._plain.sendall(encrypted)

    def _flush(self) -> None:
        with self._state:
            # Mostly none. To wait for a writer then would keep the client's next request waiting, too.
            if not self._to_send.pending:
                return
        with self._sending:
            with self._state:
                answer = self._to_send.read()
            self._plain.sendall(answer)

    def shutdown(self, how: int) -> None:
        """End the connection without a word of TLS, as a cut does."""
        self._plain.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._plain.close()


def _close(end: socket.socket | _Secured) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
