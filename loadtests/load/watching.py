"""What a process of a load test is told: of all sessions, and of single ones by watchers and receivers of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import gevent

from loadtests.load.timeline import MESSAGE_DELIVERY
from loadtests.subjects.register import session_name, session_number

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from loadtests.history import Recorder
    from loadtests.load.tally import Tally
    from loadtests.subjects.register import Watcher

_LISTEN_S = 0.25
# Sessions that are written last, one in each lane: who was told of them was told of all before them.
LAST_SESSIONS = 4_000_000_000


class Sociable(Protocol):
    """A subject that has watches of single sessions, and messages."""

    def watch_one(self, session_id: str) -> Watcher:
        """A watcher of one session."""
        ...

    def receiver(self, session_id: str) -> Any:
        """A context that receives a session's messages: `receive(timeout_s)` returns them in a tuple."""
        ...


class Watching:
    """The watchers of a process, each a greenlet, from `open` to `close`.

    Args:
        prefix: of the ids of the run's sessions.
        place: of the process.
        tally: counts the messages that it is told of.

    Attributes:
        begin_ns: the run's beginning (`time.monotonic_ns`); set before anything is sent.
    """

    def __init__(self, prefix: str, place: int, tally: Tally) -> None:
        self.begin_ns = 0
        self._prefix = prefix
        self._place = place
        self._tally = tally
        self._contexts: list[Any] = []
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._is_closing = False
        # Of the sessions that are written last, those that the watch of all was told of, perhaps before it is asked.
        self._told_last: set[int] = set()

    def watch_all(self, watcher: Watcher, recorder: Recorder) -> None:
        """Record all that a watcher of all sessions is told from now on."""
        self._contexts.append(watcher.__enter__())
        self._greenlets.append(gevent.spawn(self._record, watcher, recorder))

    def watch_each(self, subject: Sociable, sessions: Sequence[int], recorder: Recorder) -> None:
        """Record what a watcher of each of these sessions is told, and take the messages that are sent to it."""
        for number in sessions:
            session_id = session_name(self._prefix, number)
            watcher = subject.watch_one(session_id)
            self._contexts.append(watcher.__enter__())
            self._greenlets.append(gevent.spawn(self._record, watcher, recorder))
            receiver = subject.receiver(session_id)
            self._contexts.append(receiver.__enter__())
            self._greenlets.append(gevent.spawn(self._receive, receiver))

    def wait_for(self, sessions: Collection[int], timeout_s: float) -> bool:
        """Whether the watcher of all sessions is told of these in time; as they came last, it was told of all then."""
        deadline = time.monotonic() + timeout_s
        while not self._told_last.issuperset(sessions) and time.monotonic() < deadline:
            self.check()
            gevent.sleep(0.01)
        return self._told_last.issuperset(sessions)

    def check(self) -> None:
        """Raise what was raised in a watcher."""
        for greenlet in self._greenlets:
            if greenlet.ready():
                greenlet.get()

    def close(self) -> None:
        """End all of it; raises what was raised in a watcher."""
        self._is_closing = True
        try:
            gevent.joinall(self._greenlets, timeout=10 * _LISTEN_S, raise_error=True)
        finally:
            gevent.killall(self._greenlets)
            while self._contexts:
                self._contexts.pop().__exit__(None, None, None)

    def _record(self, watcher: Watcher, recorder: Recorder) -> None:
        while not self._is_closing:
            notice = watcher.receive(_LISTEN_S)
            session = notice and session_number(self._prefix, notice.session_id)
            if notice and session:
                recorder.saw(notice.kind, session, notice.seen, notice.start_ns, notice.received_ns)
                if session >= LAST_SESSIONS:
                    self._told_last.add(session)

    def _receive(self, receiver: Any) -> None:
        while not self._is_closing:
            for message in receiver.receive(_LISTEN_S):
                told_ns = time.monotonic_ns()
                self._tally.told += 1
                if message["place"] == self._place:
                    self._tally.own += 1
                else:
                    second = int((message["sent_ns"] - self.begin_ns) / 1e9)
                    self._tally.delivery(second, MESSAGE_DELIVERY, (told_ns - message["sent_ns"]) / 1e3)
