"""A subject whose answers come when they are known to come (see `servers/delaying.py`).

With it, what a load test reports can be compared with the truth (see `load/truth.py`). What it
says is what was asked of its server, so nothing is learned from attacking it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from kairos_core.errors import ConfigurationError
from kairos_core.session import SyncStatus
from loadtests.history import Error, Kind, Seen
from loadtests.servers.delaying_wire import ANSWERED, ASKED, TOLD, WRITES, Answer, Answered, Do, Told
from loadtests.subjects.register import Held, Notice, Refused, Shown, Unknown, digest_of, payload

if TYPE_CHECKING:
    from kairos_core import Settings

# Where the server is, as it says itself.
VARIABLE = "KAIROS_BENCHMARK_DELAYED_URL"
# Far beyond the longest delay and stall: what takes longer does not come.
_TIMEOUT_S = 30.0
_CHUNK = 65_536
_CLOSED = "the server closed the connection"


class Delayed:
    """Sessions on the server that `KAIROS_BENCHMARK_DELAYED_URL` names, over a connection for each caller.

    Raises:
        ConfigurationError: the variable does not name one.
    """

    def __init__(self, settings: Settings) -> None:
        del settings
        parts = urlsplit(os.environ.get(VARIABLE, ""))
        if parts.scheme != "tcp" or not parts.hostname or not parts.port:
            raise ConfigurationError(VARIABLE, "the address of a delaying server is needed, tcp://HOST:PORT")
        self._address = (parts.hostname, parts.port)
        # Those that nobody uses; there are as many as there were callers at once.
        self._idle: list[socket.socket] = []

    def create(self, session_id: str, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        return self._wrote(session_id, self._ask(Do.CREATE, session_id, token, status))

    def get(self, session_id: str) -> Held | None:
        """See `Register`."""
        answered = self._ask(Do.GET, session_id)
        return None if answered.answer == Answer.ABSENT else _held(session_id, answered)

    def update(self, held: Held, token: int, status: SyncStatus = SyncStatus.RUNNING) -> Held:
        """See `Register`."""
        session_id: str = held.state
        return self._wrote(session_id, self._ask(Do.UPDATE, session_id, token, status, held))

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`."""
        held = known or self.get(session_id)
        while held is not None:
            shown(held.seen)
            answered = self._ask(Do.UPDATE, session_id, token, SyncStatus.RUNNING, held)
            if answered.answer == Answer.DONE:
                return _held(session_id, answered)
            held = self.get(session_id)
        raise Refused(Error.NOT_FOUND, absent=True)

    def delete(self, session_id: str, token: int, held: Held | None) -> bool:
        """See `Register`."""
        answered = self._ask(Do.DELETE, session_id, token, held=held)
        if answered.answer == Answer.CONFLICT:
            raise Refused(Error.CONFLICT, answered[1:3])
        return answered.answer == Answer.DONE

    def touch(self, session_id: str) -> bool:
        """See `Register`; sessions live for ever."""
        return self._ask(Do.TOUCH, session_id).answer == Answer.DONE

    def watch(self) -> WatchOfDelayed:
        """See `Register`."""
        return WatchOfDelayed(self._connect())

    def close(self) -> None:
        """See `Register`."""
        while self._idle:
            self._idle.pop().close()

    @staticmethod
    def _wrote(session_id: str, answered: Answered) -> Held:
        if answered.answer == Answer.ABSENT:
            raise Refused(Error.NOT_FOUND, absent=True)
        if answered.answer != Answer.DONE:
            raise Refused(Error.EXISTS if answered.answer == Answer.EXISTS else Error.CONFLICT, answered[1:3])
        return _held(session_id, answered)

    def _ask(
        self,
        do: Do,
        session_id: str,
        token: int = 0,
        status: SyncStatus | None = None,
        held: Held | None = None,
    ) -> Answered:
        stamp = (0, 0) if held is None else held.seen.stamp
        digest = 0 if status is None else digest_of(payload(session_id, token, status))
        name = session_id.encode()
        try:
            connection = self._idle.pop() if self._idle else self._connect()
        except OSError as error:
            raise Refused(Error.UNAVAILABLE) from error
        try:
            connection.sendall(ASKED.pack(do, len(name), time.monotonic_ns(), *stamp, token, digest) + name)
            answered = Answered(*ANSWERED.unpack(_received(connection, ANSWERED.size)))
        except OSError as error:
            connection.close()
            raise Unknown if do in WRITES else Refused(Error.UNAVAILABLE) from error
        except BaseException:
            # Its answer would be taken for that of the next.
            connection.close()
            raise
        self._idle.append(connection)
        return answered

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class WatchOfDelayed:
    """Is told of each write when it has been answered.

    Args:
        connection: to the server, which is the watch's own.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = b""

    def __enter__(self) -> Self:
        self._connection.sendall(ASKED.pack(Do.WATCH, 0, time.monotonic_ns(), 0, 0, 0, 0))
        _received(self._connection, ANSWERED.size)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def receive(self, timeout_s: float) -> Notice | None:
        """See `Watcher`.

        Raises:
            ConnectionResetError: the server left it, since it did not listen, or ended.
        """
        deadline = time.monotonic() + timeout_s
        while (notice := self._next()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._connection.settimeout(left_s)
            try:
                more = self._connection.recv(_CHUNK)
            except TimeoutError:
                return None
            if not more:
                raise ConnectionResetError(_CLOSED)
            self._data += more
        return notice

    def _next(self) -> Notice | None:
        """The first notice that has come whole."""
        received_ns = time.monotonic_ns()
        if len(self._data) < TOLD.size:
            return None
        told = Told(*TOLD.unpack_from(self._data))
        size = TOLD.size + told.length
        if len(self._data) < size:
            return None
        session_id = self._data[TOLD.size : size].decode()
        self._data = self._data[size:]
        seen = Seen((told.incarnation, told.version), told.writer, told.digest)
        kind = Kind.TOLD_REMOVED if told.do == Do.DELETE else Kind.TOLD
        return Notice(session_id, kind, seen, received_ns, received_ns)


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError(_CLOSED)
        data += more
    return data


def _held(session_id: str, answered: Answered) -> Held:
    return Held(Seen((answered.incarnation, answered.version), answered.writer, answered.digest), session_id)
