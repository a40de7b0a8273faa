from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kairos_core import OutcomeUnknown, RedisStateManager
from kairos_core.addresses import Endpoint
from kairos_core.blocking import BlockingChannel, BlockingTransport
from kairos_core.operations import Operations
from kairos_core.settings import child_environment
from loadtests.environment import admin
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import Settings

# The first attempt of a blocking call takes a road of its own: what only that could get wrong.


def test_an_attempt_that_was_sent_stays_unknown(settings: Settings) -> None:
    """G6: a write whose first attempt was sent is unknown, also where every other one found no server to send it to."""
    with Proxy(settings.redis_url) as proxy:
        behind = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.5)
        with RedisStateManager.connect(behind) as manager:
            state = manager.update_session(manager.create_session(sample_state("a")))

            def swallow(data: bytes) -> None:
                del data
                threading.Thread(target=proxy.close).start()

            proxy.on_reply = swallow
            with pytest.raises(OutcomeUnknown) as caught:
                manager.update_session(state)
    with RedisStateManager.connect(settings) as manager:
        assert manager.resolve(caught.value.operation_id) is True
        found = manager.get_session("a")
        assert found is not None
        assert state.version + 1 == found.version


def test_a_first_attempt_is_repeated_under_its_id(settings: Settings) -> None:
    """G5: what follows a first attempt that failed is the same write, and the same words."""
    sent: list[bytes] = []
    with Proxy(settings.redis_url) as proxy:
        behind = msgspec.structs.replace(settings, redis_url=proxy.url)
        with RedisStateManager.connect(behind) as manager:
            state = manager.update_session(manager.create_session(sample_state("a")))

            def note(data: bytes) -> bytes:
                if b"EVALSHA" in data:
                    sent.append(data)
                return data

            def drop(data: bytes) -> bytes | None:
                if not sent:
                    return data
                proxy.on_reply = lambda found: found
                return None

            proxy.on_request, proxy.on_reply = note, drop
            assert manager.update_session(state).version == state.version + 1
    assert len(sent) == 2
    assert sent[0] == sent[1]


@pytest.mark.parametrize("extra", ["with the answer", "later"])
def test_what_came_unasked_is_no_answer(settings: Settings, extra: str) -> None:
    """G2: a reply that nobody asked for, after an answer or at any later time, is never read as the next answer."""
    client = admin(settings)
    with RedisStateManager.connect(settings) as manager:
        manager.create_session(sample_state("a"))
        key = manager._commands.get("a").key
        answer = _packed(client.hmget(key, "n", "v", "c", "u", "s"))
    stale = _packed([b"9", b"9", b"1", b"2", client.hget(key, "s")])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        babble, babbled = threading.Event(), threading.Event()

        def serve(connection: socket.socket) -> None:
            with connection:
                while connection.recv(65_536):
                    connection.sendall(answer + (stale if extra == "with the answer" else b""))
                    if extra == "later" and babble.wait(10) and not babbled.is_set():
                        connection.sendall(stale)
                        babbled.set()

        def accept() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        manager = RedisStateManager(Operations(msgspec.structs.replace(settings, redis_url=url), BlockingTransport))
        stamps = []
        for _ in range(2):
            found = manager.get_session("a")
            assert found is not None
            stamps.append(found.version)
            babble.set()
            assert extra == "with the answer" or babbled.wait(10)
        manager.close()
    assert [1, 1] == stamps


def _packed(words: list[Any]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class SlowToSend:
    """A socket that takes its time for what it is given to send, by a clock that only it moves, and hears nothing."""

    def __init__(self, takes_s: float) -> None:
        self.now_s, self.takes_s = 100.0, takes_s
        self.timeouts_s: list[float] = []

    def fileno(self) -> int:
        """A number: it is not looked at."""
        return 0

    def settimeout(self, timeout_s: float) -> None:
        """Note it."""
        self.timeouts_s.append(timeout_s)

    def sendall(self, data: bytes) -> None:
        """Let the time pass."""
        del data
        self.now_s += self.takes_s

    def recv(self, count: int) -> bytes:
        """Hear nothing."""
        del count
        raise TimeoutError


@pytest.mark.parametrize(("takes_s", "expected"), [(0.0, [10.0]), (0.1, [10.0]), (7.0, [10.0, 3.0])])
def test_sending_takes_its_part_of_the_time(
    takes_s: float, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G10: an answer is waited for no longer than what sending has left of the time."""
    slow = SlowToSend(takes_s)
    channel = BlockingChannel(Endpoint("127.0.0.1", 1), type("Connection", (), {"_sock": slow}))
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: slow.now_s)
        with pytest.raises(TimeoutError):
            channel.ask(b"x", 110.0)
    assert expected == slow.timeouts_s


FORKED = """
import os
from kairos_core import RedisStateManager, Settings
from loadtests.states import sample_state

def port(manager):
    manager.get_session("a")
    (channels,) = manager._operations.link._idle.values()
    return [channel._socket.getsockname()[1] for channel in channels]

with RedisStateManager.connect(Settings.from_env()) as manager:
    state = manager.create_session(sample_state("a"))
    ports = port(manager)
    child = os.fork()
    if child == 0:
        own = port(manager)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(len({*ports, *own, *port(manager)}))
        _, status = os.waitpid(grandchild, 0)
        os._exit(10 * len({*ports, *own}) + os.waitstatus_to_exitcode(status))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), port(manager) == ports)
    print(manager.update_session(state).version)
"""


def test_a_fork_has_connections_of_its_own(settings: Settings) -> None:
    """G2, G3: a child and its own child each connect anew, and their parent goes on with what it had."""
    finished = subprocess.run(
        [sys.executable, "-c", FORKED],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ["23 True", "2"] == finished.stdout.splitlines(), finished.stderr[-2000:]
