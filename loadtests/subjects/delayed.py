"""A subject whose answers come when they are known to come (see `servers/delaying.py`).

With it, what a load test reports can be compared with the truth (see `load/truth.py`). It is not
there to be attacked: no watcher is told of anything.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from kairos_core.errors import ConfigurationError
from loadtests.history import Error, Seen
from loadtests.servers.delaying import ANSWERED, ASKED, Answer, Answered, Do
from loadtests.subjects.register import Held, Notice, Refused, Shown, Unknown, digest_of, payload

if TYPE_CHECKING:
    from kairos_core import Settings

# Where the server is, as it says itself.
VARIABLE = "KAIROS_BENCHMARK_DELAYED_URL"
# Far beyond the longest delay and stall: what takes longer does not come.
_TIMEOUT_S = 30.0
_WRITES = (Do.CREATE, Do.UPDATE, Do.DELETE)


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

    def create(self, session_id: str, token: int) -> Held:
        """See `Register`."""
        return self._wrote(session_id, self._ask(Do.CREATE, session_id, token))

    def get(self, session_id: str) -> Held | None:
        """See `Register`."""
        answered = self._ask(Do.GET, session_id)
        return None if answered.answer == Answer.ABSENT else _held(session_id, answered)

    def update(self, held: Held, token: int) -> Held:
        """See `Register`."""
        session_id: str = held.state
        return self._wrote(session_id, self._ask(Do.UPDATE, session_id, token, held.seen.stamp))

    def mutate(self, session_id: str, token: int, shown: Shown, known: Held | None = None) -> Held:
        """See `Register`."""
        held = known or self.get(session_id)
        while held is not None:
            shown(held.seen)
            answered = self._ask(Do.UPDATE, session_id, token, held.seen.stamp)
            if answered.answer == Answer.DONE:
                return _held(session_id, answered)
            held = self.get(session_id)
        raise Refused(Error.NOT_FOUND, absent=True)

    def delete(self, session_id: str, token: int, held: Held | None) -> bool:
        """See `Register`."""
        del token
        answered = self._ask(Do.DELETE, session_id, stamp=held.seen.stamp if held else (0, 0))
        if answered.answer == Answer.CONFLICT:
            raise Refused(Error.CONFLICT, answered[1:3])
        return answered.answer == Answer.DONE

    def touch(self, session_id: str) -> bool:
        """See `Register`; sessions live for ever."""
        return self._ask(Do.TOUCH, session_id).answer == Answer.DONE

    def watch(self) -> WatchOfNothing:
        """See `Register`."""
        return WatchOfNothing()

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

    def _ask(self, do: Do, session_id: str, token: int = 0, stamp: tuple[int, int] = (0, 0)) -> Answered:
        digest = digest_of(payload(session_id, token)) if token else 0
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
            raise Unknown if do in _WRITES else Refused(Error.UNAVAILABLE) from error
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


class WatchOfNothing:
    """Is told of nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def receive(self, timeout_s: float) -> Notice | None:
        """See `Watcher`."""
        time.sleep(timeout_s)
        return None


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError("the server closed the connection")
        data += more
    return data


def _held(session_id: str, answered: Answered) -> Held:
    return Held(Seen((answered.incarnation, answered.version), answered.writer, answered.digest), session_id)
