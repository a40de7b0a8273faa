from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import OutcomeUnknown, RedisStateManager, Settings, StoreUnavailable, VersionConflict
from kairos_core.blocking import BlockingTransport
from kairos_core.layout import Layout
from kairos_core.operations import Operations
from loadtests.environment import admin
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is shown here is shown of both managers.
pytestmark = [
    pytest.mark.usefixtures("colour"),
    pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True),
]


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    """A proxy before the store."""
    with Proxy(settings.redis_url) as running:
        yield running


@pytest.fixture
def through(settings: Settings, proxy: Proxy) -> Iterator[RedisStateManager]:
    """A manager whose connections go through the proxy."""
    with RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.6)) as manager:
        # The server must know all scripts, or a reply that is dropped might only have asked for one.
        manager.delete_session(manager.update_session(manager.create_session(sample_state("warm"))).session_id)
        yield manager


def drop_replies(proxy: Proxy, count: int) -> None:
    """Let the next `count` writes be applied and drop their replies."""
    left = [count]
    in_write = threading.Event()

    def on_request(data: bytes) -> bytes:
        if b"EVAL" in data:
            in_write.set()
        return data

    def on_reply(data: bytes) -> bytes | None:
        if in_write.is_set() and left[0]:
            left[0] -= 1
            in_write.clear()
            return None
        return data

    proxy.on_request, proxy.on_reply = on_request, on_reply


@pytest.mark.parametrize("dropped", [1, 3])
def test_a_dropped_reply_is_not_a_conflict(
    dropped: int, proxy: Proxy, through: RedisStateManager, settings: Settings
) -> None:
    """G5: a write whose reply was lost is sent again, takes effect once and answers as it did."""
    state = through.create_session(sample_state("a"))
    drop_replies(proxy, dropped)
    updated = through.update_session(state)
    assert updated.version == 2
    assert updated == through.get_session("a")
    client = admin(settings)
    assert client.xlen(Layout(settings.namespace, settings.lanes).keys_of("a").outbox) == 2


def test_a_dropped_reply_to_a_create(proxy: Proxy, through: RedisStateManager) -> None:
    """G5: a creation whose reply was lost is not refused by its own session."""
    drop_replies(proxy, 1)
    assert through.create_session(sample_state("a")).version == 1


def test_a_dropped_reply_to_a_delete(proxy: Proxy, through: RedisStateManager) -> None:
    """G5: a deletion whose reply was lost still says that there was a session."""
    through.create_session(sample_state("a"))
    drop_replies(proxy, 1)
    assert through.delete_session("a") is True


def test_a_late_repeat_answers_as_at_first(
    proxy: Proxy, through: RedisStateManager, manager: RedisStateManager
) -> None:
    """G5: a write that is sent again after others have written answers as it did the first time."""
    state = through.create_session(sample_state("a"))
    interfered = threading.Event()
    drop_replies(proxy, 1)
    drop = proxy.on_reply

    def drop_then_interfere(data: bytes) -> bytes | None:
        passed = drop(data)
        if passed is None and not interfered.is_set():
            # applied, not yet answered: another instance writes on
            stored = manager.get_session("a")
            assert stored is not None
            manager.update_session(stored.replace(metadata={"by": "another"}))
            interfered.set()
        return passed

    proxy.on_reply = drop_then_interfere
    assert through.update_session(state).version == 2
    assert interfered.is_set()
    stored = manager.get_session("a")
    assert stored is not None
    assert (3, {"by": "another"}) == (stored.version, stored.metadata)


def test_no_answer_at_all_is_unknown(proxy: Proxy, through: RedisStateManager, manager: RedisStateManager) -> None:
    """G6: a write that was applied and never answered is OutcomeUnknown, never VersionConflict."""
    state = through.create_session(sample_state("a"))
    drop_replies(proxy, 10**6)
    with pytest.raises(OutcomeUnknown) as caught:
        through.update_session(state)
    assert not caught.value.definite
    stored = manager.get_session("a")
    assert stored is not None
    assert stored.version == 2


def test_a_refused_connection_is_definite(proxy: Proxy, through: RedisStateManager) -> None:
    """G6: a write that could not be sent says that it was not applied, and ends by its deadline."""
    state = through.create_session(sample_state("a"))
    proxy.close()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        through.update_session(state)
    assert caught.value.definite
    # the deadline of 0.6 s, and what a busy machine adds
    assert time.monotonic() - start < 10


def test_cut_connections_are_made_again(proxy: Proxy, through: RedisStateManager) -> None:
    """G5: connections that were cut while idle cost no error."""
    state = through.create_session(sample_state("a"))
    for _ in range(5):
        proxy.cut()
        state = through.update_session(state)
    assert state.version == 6


def test_a_conflict_stays_a_conflict(proxy: Proxy, through: RedisStateManager) -> None:
    """G6: a refused write whose refusal was lost is refused again."""
    state = through.create_session(sample_state("a"))
    through.update_session(state)
    drop_replies(proxy, 1)
    with pytest.raises(VersionConflict):
        through.update_session(state)


def test_a_silent_server_ends_by_the_deadline(proxy: Proxy, through: RedisStateManager) -> None:
    """G10: a server that takes a request and says nothing does not hold the caller."""
    state = through.create_session(sample_state("a"))
    silent = threading.Event()

    def on_request(data: bytes) -> bytes:
        if b"EVAL" in data or b"HMGET" in data:
            silent.set()
        else:
            silent.clear()  # a handshake is answered
        return data

    proxy.on_request = on_request
    proxy.on_reply = lambda data: b"" if silent.is_set() else data
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        through.get_session("a")
    with pytest.raises(OutcomeUnknown):
        through.update_session(state)
    assert time.monotonic() - start < 20


def test_replies_in_pieces_end_by_the_deadline(settings: Settings) -> None:
    """G10: a reply that comes drop by drop has one deadline, not one for each drop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65_536)
                connection.sendall(b"*5\r\n$1000\r\n")
                while not over.wait(0.1):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        slow = msgspec.structs.replace(settings, redis_url=url, timeout_s=0.5)
        manager = RedisStateManager(Operations(slow, BlockingTransport))
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            manager.get_session("a")
        # The whole reply would take 100 s, and a timeout for each drop would never come.
        assert time.monotonic() - start < 10
        over.set()
        manager.close()
        thread.join(5)
