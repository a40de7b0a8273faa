"""A server that answers when it is known to: `python -m loadtests.servers.delaying`.

It keeps sessions that are compared and set, and answers each request as long after it was sent as `Delays` says. That
counts from the stamp that a request bears and not from when it was read, so that how late an answer is tells of all
that the server and the way to it took; the server keeps that of every answer.

It takes orders (see `loadtests/orders.py`), and ends when its standard input closes. Both ends must be on one machine,
since they share its clock.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import itertools
import os
import select
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from loadtests.load.delays import Delays
from loadtests.orders import Helper, serve
from loadtests.servers.delaying_wire import ANSWERED, ASKED, TOLD, WRITES, Answer, Answered, Asked, Do, Told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
# What is known of each answer: whose it was, and how late it was sent.
ANSWER = np.dtype([("session", "<u4"), ("count", "<u4"), ("late_ns", "<i8")])
# A sleep ends up to so late; the rest is waited for awake.
_MARGIN_NS = 200_000
_CHUNK = 65_536
_END_TIMEOUT_S = 5.0
# It needs little, and that at once: before whoever is loaded with it (see `accuracy`).
_PRIORITY = 2


class Sessions:
    """What is stored: each session's stamp, and who wrote what last."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[int, int, int, int]] = {}
        self._latest = time.time_ns() // 1000

    def do(self, asked: Asked, session_id: str) -> Answered:
        """Carry out a request."""
        current = self._stored.get(session_id)
        if asked.do == Do.CREATE:
            if current is not None:
                return Answered(Answer.EXISTS, *current)
            self._latest += 1
            return self._put(session_id, (self._latest, 1, asked.writer, asked.digest))
        if current is None:
            return Answered(Answer.ABSENT)
        if (asked.incarnation, asked.version) not in {(0, 0), current[:2]}:
            return Answered(Answer.CONFLICT, *current)
        if asked.do == Do.UPDATE:
            return self._put(session_id, (current[0], current[1] + 1, asked.writer, asked.digest))
        if asked.do == Do.DELETE:
            del self._stored[session_id]
            current = (current[0], current[1] + 1, asked.writer, 0)
        return Answered(Answer.DONE, *current)

    def _put(self, session_id: str, stored: tuple[int, int, int, int]) -> Answered:
        self._stored[session_id] = stored
        return Answered(Answer.DONE, *stored)


class _Due(NamedTuple):
    """An answer that waits for its time."""

    due_ns: int
    order: int
    session: int
    nth: int
    connection: socket.socket
    data: bytes
    notice: bytes


class Server:
    """Answers, in `run`, and says how late it did; its other public methods are orders."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0), backlog=1024)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        self._halves: dict[int, bytes] = {}
        self._delays = Delays(seed=0)
        self._sessions = Sessions()
        self._counts: Counter[str] = Counter()
        self._due: list[_Due] = []
        # Connections cannot be compared.
        self._order = itertools.count()
        self._watchers: list[socket.socket] = []
        self._notices: list[bytes] = []
        self._answers: list[tuple[int, int, int]] = []

    def begin(self, delays: dict[str, Any]) -> dict[str, Any]:
        """Answer what comes from now on as these say; where to ask it."""
        self._delays = msgspec.convert(delays, Delays)
        return {"url": f"tcp://{HOST}:{self._listener.getsockname()[1]}"}

    def answers(self, path: str) -> dict[str, Any]:
        """Write what is known of each answer into a file (see `ANSWER`); how many there were."""
        found = np.array(self._answers, ANSWER)
        np.save(path, found, allow_pickle=False)
        return {"answers": len(found)}

    def run(self) -> None:
        """Answer, for ever."""
        # Nothing here makes cycles, and a collection would take longer than an answer may be late.
        gc.disable()
        # Of this thread. A niceness would not do: whoever runs may finish its slice of some milliseconds.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
        while True:
            wait_s = None
            if self._due:
                wait_s = max(0, self._due[0].due_ns - _MARGIN_NS - time.monotonic_ns()) / 1e9
            # An epoll waits for whole milliseconds; a select that waits for it, for microseconds.
            if select.select([self._poll], [], [], wait_s)[0]:
                for number, _ in self._poll.poll(0):
                    self._read(number)
            self._answer()
            # Nothing is due for as long as this takes.
            self._tell()

    def _read(self, number: int) -> None:
        if number == self._listener.fileno():
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            return
        connection = self._connections[number]
        try:
            data = connection.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(number)
            del self._connections[number]
            self._halves.pop(number, None)
            connection.close()
            return
        for asked, session_id in self._whole(number, data):
            self._take(connection, asked, session_id)

    def _whole(self, number: int, data: bytes) -> Iterator[tuple[Asked, str]]:
        """The requests that have come whole; the rest of the data is kept until more comes."""
        data = self._halves.pop(number, b"") + data
        while len(data) >= ASKED.size:
            asked = Asked(*ASKED.unpack_from(data))
            size = ASKED.size + asked.length
            if len(data) < size:
                break
            yield asked, data[ASKED.size : size].decode()
            data = data[size:]
        if data:
            self._halves[number] = data

    def _take(self, connection: socket.socket, asked: Asked, session_id: str) -> None:
        if asked.do == Do.WATCH:
            self._watchers.append(connection)
            connection.send(ANSWERED.pack(*Answered(Answer.DONE)))
            return
        nth = self._counts[session_id]
        self._counts[session_id] = nth + 1
        digits = session_id.rpartition("-")[2]
        session = int(digits) if digits.isdigit() else 0
        due_ns = self._delays.answered_ns(asked.sent_ns, session, nth)
        answered = self._sessions.do(asked, session_id)
        notice = b""
        if asked.do in WRITES and answered.answer == Answer.DONE:
            notice = TOLD.pack(*Told(asked.do, asked.length, *answered[1:])) + session_id.encode()
        data = ANSWERED.pack(*answered)
        heapq.heappush(self._due, _Due(due_ns, next(self._order), session, nth, connection, data, notice))

    def _answer(self) -> None:
        """Send what is due now, or about to be."""
        while self._due and self._due[0].due_ns - time.monotonic_ns() <= _MARGIN_NS:
            due = heapq.heappop(self._due)
            while time.monotonic_ns() < due.due_ns:
                pass
            # Who asked may be gone.
            with contextlib.suppress(OSError):
                due.connection.send(due.data)
                self._answers.append((due.session, due.nth, time.monotonic_ns() - due.due_ns))
            if due.notice:
                self._notices.append(due.notice)

    def _tell(self) -> None:
        """Tell the watchers of what was written; one that does not listen is left."""
        if not self._notices:
            return
        data = b"".join(self._notices)
        self._notices.clear()
        for watcher in self._watchers[:]:
            try:
                is_told = watcher.send(data) == len(data)
            except OSError:
                is_told = False
            if not is_told:
                self._watchers.remove(watcher)
                # So that it learns of it. The loop closes it, as it reads the end.
                with contextlib.suppress(OSError):
                    watcher.shutdown(socket.SHUT_RDWR)


@contextmanager
def delaying_server(delays: Delays) -> Iterator[tuple[Helper, str]]:
    """Run one; gives what takes its orders, and its address."""
    helper = Helper("loadtests.servers.delaying", is_apart=True)
    try:
        yield helper, helper.ask("begin", delays=msgspec.to_builtins(delays))["url"]
    finally:
        helper.close(_END_TIMEOUT_S)


def lateness_ns(helper: Helper, path: Path) -> dict[tuple[int, int], int]:
    """How late each answer was, by the session and how many requests it had before; kept in a file, too."""
    helper.ask("answers", path=str(path))
    found = np.load(path)
    keys = zip(found["session"].tolist(), found["count"].tolist(), strict=True)
    return dict(zip(keys, found["late_ns"].tolist(), strict=True))


def main() -> None:
    """Serve requests, and orders until standard input closes."""
    server = Server()
    threading.Thread(target=server.run, daemon=True).start()
    serve(server, msgspec.ValidationError, OSError)


if __name__ == "__main__":
    main()
