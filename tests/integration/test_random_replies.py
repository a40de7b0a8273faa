from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kairos_core import KairosError, RedisStateManager, Settings
from kairos_core.async_state_manager import AsyncRedisStateManager
from kairos_core.awaiting import AwaitingTransport
from kairos_core.blocking import BlockingTransport
from kairos_core.operations import Operations
from loadtests.on_a_loop import ManagerOnALoop, _Loop
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 0.03
EXAMPLES = int(os.environ.get("KAIROS_REPLIES_EXAMPLES", "8"))
# A call ends by its deadline; what a busy machine adds is less than this.
NO_HANG_S = 20.0

numbers = st.one_of(st.integers(-3, 6), st.integers(-(2**63), 2**63 - 1))
simple = st.one_of(
    numbers.map(lambda number: b":%d\r\n" % number),
    st.binary(max_size=40).map(lambda data: b"$%d\r\n%s\r\n" % (len(data), data)),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"+OK\r\n", b"+PONG\r\n", b"*0\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n"]),
    st.sampled_from(
        [
            "NOSCRIPT No matching script.",
            "MOVED 3999 127.0.0.1:1",
            "MOVED x y",
            "ASK 3999 :1",
            "LOADING",
            "READONLY",
            "OOM",
            "BUSY",
            "WRONGTYPE",
            "NOPERM",
            "ERR x",
            "",
        ]
    ).map(lambda text: b"-%s\r\n" % text.encode()),
)
arrays = st.lists(simple, max_size=6).map(lambda parts: b"*%d\r\n%s" % (len(parts), b"".join(parts)))
nested = st.lists(st.one_of(simple, arrays), max_size=4).map(lambda parts: b"*%d\r\n%s" % (len(parts), b"".join(parts)))
lies = st.sampled_from(
    [b"*10000000\r\n", b"$900000000\r\nx", b"$99999999999999999999\r\n", b"*2\r\n:1\r\n", b"\r\n\r\n"]
)
# What a server may send for one request; an empty one ends the connection.
replies = st.lists(st.one_of(simple, arrays, nested, lies, st.binary(max_size=60)), min_size=1, max_size=8)


class Babbler:
    """A server on loopback that answers whatever it is asked with the next of its replies, over and over."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._replies: Iterator[bytes] = itertools.cycle([b""])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def say(self, said: list[bytes]) -> None:
        """Answer with these from now on."""
        self._replies = itertools.cycle(said)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65_536):
                reply = next(self._replies)
                if not reply:
                    return
                connection.sendall(reply)


@pytest.fixture(scope="module")
def babbler() -> Iterator[Babbler]:
    """The server."""
    with Babbler() as running:
        yield running


@pytest.fixture(scope="module", params=["blocking", "asyncio"])
def subject(babbler: Babbler, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A manager that took the server on trust, so that it is asked at all."""
    settings = Settings(redis_url=babbler.url, timeout_s=TIMEOUT_S, receipt_ttl_s=1)
    if request.param == "blocking":
        with RedisStateManager(Operations(settings, BlockingTransport)) as manager:
            yield manager
    else:
        unchecked = AsyncRedisStateManager(Operations(settings, AwaitingTransport))
        with ManagerOnALoop(unchecked, _Loop()) as on_a_loop:
            yield on_a_loop


OPERATIONS = [
    *("create", "create fsync", "update", "update replicated", "mutate", "get", "get many"),
    *("delete", "touch", "resolve", "broadcast", "health", "watch"),
]


def calls_of(manager: Any) -> dict[str, Callable[[], Any]]:
    """Every operation of a manager."""
    state = sample_state("a").replace(incarnation=1, version=1)

    def watch() -> None:
        with manager.watch_sessions() as updates:
            updates.receive(TIMEOUT_S)

    return {
        "create": lambda: manager.create_session(state),
        "create fsync": lambda: manager.create_session(state, durability="fsync"),
        "update": lambda: manager.update_session(state),
        "update replicated": lambda: manager.update_session(state, durability="replicated:2"),
        "mutate": lambda: manager.mutate_session("a", lambda s: s),
        "get": lambda: manager.get_session("a"),
        "get many": lambda: manager.get_sessions(["a", "b", "c"]),
        "delete": lambda: manager.delete_session("a"),
        "touch": lambda: manager.touch_session("a"),
        "resolve": lambda: manager.resolve("0" * 12 + "7" + "0" * 3 + "8" + "0" * 15),
        "broadcast": lambda: manager.broadcast_to_session("a", 1),
        "health": manager.health,
        "watch": watch,
    }


@pytest.mark.timeout(120)
@hypothesis_settings(max_examples=EXAMPLES, deadline=None)
@given(said=replies, names=st.sets(st.sampled_from(OPERATIONS), min_size=1, max_size=4))
def test_any_reply_ends_in_a_result_or_a_typed_error(
    said: list[bytes], names: set[str], subject: Any, babbler: Babbler
) -> None:
    """G6, G10: whatever a server answers, every operation of both managers ends in a result or a KairosError.

    Never in another exception, and never in a hang.
    """
    babbler.say(said)
    calls = calls_of(subject)
    for name in sorted(names):
        started = time.monotonic()
        try:
            calls[name]()
        except KairosError:
            pass
        except Exception as error:  # noqa: BLE001 - this is what must not happen
            pytest.fail(f"{name} of {said}: {error!r}")
        assert time.monotonic() - started < NO_HANG_S, name


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No room for a list of a billion, which takes 8 GB: as on a small machine, and sooner told than found out."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**32, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of a process's memory")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_reply_for_which_there_is_no_memory(name: str, subject: Any, babbler: Babbler) -> None:
    """G6: a reply that promises more than there is memory for ends as any other that is none."""
    babbler.say([b"*1000000000\r\n"])
    if name == "health":
        assert not subject.health().is_reachable
        return
    with pytest.raises(KairosError):
        calls_of(subject)[name]()
