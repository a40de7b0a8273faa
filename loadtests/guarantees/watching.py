"""Directed checks of watchers (G8)."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from kairos_core import RedisStateManager
from kairos_core.updates import RESYNCHRONISED
from loadtests.environment import admin
from loadtests.guarantees.finding import Facts, Finding, directed
from loadtests.guarantees.on_the_way import PATIENCE_S, Ear
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from kairos_core import Settings
    from kairos_core.watches import SessionWatch

_marks = itertools.count(1)
# A server that says nothing for so long is asked for a sign of life, and is given up after as long again.
_SILENCE_S = 0.5
# What a busy machine may add before a watcher counts as deaf for good.
_PATIENCE_S = 4.0


def _versions_until_now(updates: SessionWatch, manager: RedisStateManager, name: str) -> list[int]:
    """The versions of a session that a watch tells of, until it tells of what is written now.

    Raises:
        TimeoutError: it does not.
    """
    mark = f"mark{next(_marks)}"
    manager.create_session(sample_state(mark))
    versions: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        update = updates.receive(1.0)
        if update is not None and update.session_id == mark:
            return versions
        if update is not None and update.session_id == name:
            versions.append(update.version)
    raise TimeoutError("a watch does not tell of a write")


def _address(updates: SessionWatch) -> str:
    """Where the watch's only connection comes from, as the server sees it."""
    (channel,) = updates._feed.subscription._lines  # noqa: SLF001 - whom to disturb
    host, port = channel._socket.getsockname()[:2]  # type: ignore[attr-defined]  # noqa: SLF001
    return f"{host}:{port}"


@directed("G8", "Does a watcher whose connection is killed end at the final state?")
def a_watcher_across_a_lost_connection(settings: Settings) -> Finding:
    """CLIENT KILL, and writes before the watcher is back."""
    facts = Facts()
    with (
        RedisStateManager.connect(settings) as manager,
        manager.watch_sessions() as updates,
        admin(settings) as client,
    ):
        state = manager.create_session(sample_state("a"))
        known = _versions_until_now(updates, manager, "a")
        killed = client.execute_command("CLIENT", "KILL", "ADDR", _address(updates))
        for _ in range(3):
            state = manager.update_session(state)
        told: list[int] = []
        deadline = time.monotonic() + PATIENCE_S
        while not updates.reconnects and time.monotonic() < deadline:
            # What comes in the same breath as the connection.
            if (update := updates.receive(0.2)) is not None:
                told.append(update.version)
        told += _versions_until_now(updates, manager, "a")
        facts.note(known == [1] and killed == 1, f"told {known}, {killed} connection killed")
        facts.note(updates.reconnects == 1, f"{updates.reconnects} connection made again")
        facts.note(told[-1:] == [4], f"written to version 4 meanwhile, then told {told or 'nothing'}")
    return facts.finding


@directed("G8", "Does a watcher pass on no message that is older than what it knows?")
def a_watcher_never_goes_back(settings: Settings) -> Finding:
    """Messages that come once more, as after a resynchronisation that was ahead of them."""
    facts = Facts()
    with (
        RedisStateManager.connect(settings) as manager,
        manager.watch_sessions() as updates,
        Ear(settings) as ear,
        admin(settings) as client,
    ):
        state = manager.create_session(sample_state("a"))
        for _ in range(3):
            state = manager.update_session(state)
        told = _versions_until_now(updates, manager, "a")
        again = [(channel, data) for channel, data in ear.heard() if channel.endswith(":u") and b'"i":"a"' in data]
        for channel, data in again[1:]:
            client.publish(channel, data)
        told += _versions_until_now(updates, manager, "a")
        facts.note(len(again) == 4, f"{len(again)} messages of 4 writes, 3 of them sent once more")
        facts.note(told == [1, 2, 3, 4], f"told {told}")
    return facts.finding


@directed("G8", "Does a watcher notice that a message was lost, and ask for the state?")
def a_watcher_notices_a_gap(settings: Settings) -> Finding:
    """One message that does not come, on a connection that goes on."""
    facts = Facts()
    lost = threading.Event()

    def lose(data: bytes) -> bytes:
        if b'"v":2' in data and not lost.is_set():
            lost.set()
            return b""
        return data

    with Proxy(settings.redis_url) as proxy, RedisStateManager.connect(settings) as manager:
        behind = msgspec.structs.replace(settings, redis_url=proxy.url)
        with RedisStateManager.connect(behind) as other, other.watch_sessions() as updates:
            state = manager.create_session(sample_state("a"))
            known = _versions_until_now(updates, manager, "a")
            proxy.on_reply = lose
            state = manager.update_session(state)
            facts.note(lost.wait(PATIENCE_S) and known == [1], f"told {known}, then a message lost")
            manager.update_session(state)
            update = updates.receive(PATIENCE_S)
            told = (update.version, update.event_type) if update else None
            facts.note(told == (3, RESYNCHRONISED), f"after the next one told {told}")
            facts.note(updates.reconnects == 0, f"{updates.reconnects} connections made again")
    return facts.finding


@directed("G8", "Does a watcher that hears nothing any more notice that, and end at the final state?")
def a_deaf_watcher_notices(settings: Settings) -> Finding:
    """A connection on which nothing comes, and which does not end."""
    facts = Facts()
    is_silent = threading.Event()

    def on_request(data: bytes) -> bytes:
        # Another connection, which nobody has cut off.
        if b"SUBSCRIBE" in data or b"AUTH" in data:
            is_silent.clear()
        return data

    with Proxy(settings.redis_url) as proxy, RedisStateManager.connect(settings) as manager:
        behind = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=_SILENCE_S)
        with RedisStateManager.connect(behind) as other, other.watch_sessions() as updates:
            state = manager.create_session(sample_state("a"))
            known = _versions_until_now(updates, manager, "a")
            proxy.on_request, proxy.on_reply = on_request, lambda data: b"" if is_silent.is_set() else data
            is_silent.set()
            manager.update_session(state)
            told: list[int] = []
            deadline = time.monotonic() + 2 * _SILENCE_S + _PATIENCE_S
            while not told and time.monotonic() < deadline:
                if (update := updates.receive(0.2)) is not None:
                    told.append(update.version)
            facts.note(known == [1], f"told {known}, then silence")
            facts.note(told == [2], f"written to version 2 meanwhile, then told {told or 'nothing'}")
    return facts.finding
