from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import RedisStateManager, Settings, StateUpdate, StoreUnavailable
from kairos_core.awaiting import AwaitingChannel
from kairos_core.blocking import BlockingChannel
from kairos_core.layout import Layout
from kairos_core.updates import RESYNCHRONISED
from loadtests.environment import admin
from loadtests.instances import Instance
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from kairos_core.watches import SessionWatch

# What is shown here is shown of both managers.
pytestmark = [
    pytest.mark.usefixtures("colour"),
    pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True),
]


def nothing_until(watch: SessionWatch, condition: Callable[[], bool]) -> bool:
    """Whether the condition came true in time, and no update before it."""
    deadline = time.monotonic() + 10
    while not condition():
        if watch.receive(0.05) is not None or time.monotonic() > deadline:
            return False
    return True


def test_another_process_receives_every_update(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a watcher in another process receives each version of each session, in order, with its state."""
    with Instance(settings) as other:
        other.ask("watch")
        states = [manager.create_session(sample_state(name)) for name in ("a", "b", "c")]
        for number in range(5):
            states = [manager.update_session(state.replace(metadata={"number": number})) for state in states]
        received = [other.ask("receive", timeout_s=5) for _ in range(18)]
        assert {"received": False} == other.ask("receive", timeout_s=0.1)
    assert [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6] == [update["version"] for update in received]
    assert [4, 4, 4] == [update["number"] for update in received[-3:]]


def test_the_iterator_gives_updates(manager: RedisStateManager) -> None:
    """G8: iterating gives each update; an update's state is what a read gives."""
    with manager.watch_sessions() as updates:
        created = manager.create_session(sample_state("a"))
        update = next(iter(updates))
    assert created == update.state
    assert (created.incarnation, created.version, created.updated_at) == (
        update.incarnation,
        update.version,
        update.occurred_at,
    )


def kill_subscriber(client: redis.Redis, watch: SessionWatch) -> None:
    """Kill the connection of this watch on the server."""
    (channel,) = watch._feed.subscription._lines
    if isinstance(channel, BlockingChannel):
        port = channel._socket.getsockname()[1]
    else:
        assert isinstance(channel, AwaitingChannel)
        port = channel._output.get_extra_info("sockname")[1]
    (found,) = [entry for entry in client.client_list(_type="pubsub") if entry["addr"].endswith(f":{port}")]
    client.client_kill_filter(_id=found["id"])


def receive_all(watch: SessionWatch, count: int) -> list[StateUpdate]:
    """The next `count` updates, or as many as come in time."""
    found: list[StateUpdate] = []
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        update = watch.receive(0.2)
        if update is not None:
            found.append(update)
    return found


def test_writes_while_the_connection_was_gone(settings: Settings, manager: RedisStateManager) -> None:
    """G8: after its connection was killed, a watcher ends at the final state of every session, also of new ones."""
    client = admin(settings)
    with manager.watch_sessions() as updates:
        changed, deleted, same = (manager.create_session(sample_state(name)) for name in ("c", "d", "s"))
        assert 3 == len(receive_all(updates, 3))
        kill_subscriber(client, updates)
        for _ in range(5):
            changed = manager.update_session(changed)
        manager.delete_session("d")
        created = manager.create_session(sample_state("n"))
        found = {update.session_id: update for update in receive_all(updates, 3)}
        assert {"c", "d", "n"} == set(found)
        assert (changed, None, created) == (found["c"].state, found["d"].state, found["n"].state)
        assert {RESYNCHRONISED} == {update.event_type for update in found.values()}
        assert (deleted.version, 1) == (found["d"].version, updates.reconnects)
        # and goes on from there
        same = manager.update_session(same)
        assert [same] == [update.state for update in receive_all(updates, 1)]
        assert updates.receive(0.1) is None


def test_the_end_of_what_was_not_heard_of(manager: RedisStateManager, client: redis.Redis) -> None:
    """G8: a session that was there before the watch, and ended while the watch was away, is told to be gone."""
    manager.create_session(sample_state("a"))
    for watch in (manager.watch_session("a"), manager.watch_sessions()):
        with watch as updates:
            kill_subscriber(client, updates)
            manager.delete_session("a")
            found = receive_all(updates, 1)
            assert [("a", 0, RESYNCHRONISED, None)] == [(u.session_id, u.version, u.event_type, u.state) for u in found]
            assert updates.receive(0.1) is None
        manager.create_session(sample_state("a"))


def test_two_threads_on_one_watch(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G8: what one thread resynchronises is not overtaken by what another receives; closing ends both."""
    with Proxy(settings.redis_url) as proxy:
        through = RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url))
        reading, go_on = threading.Event(), threading.Event()
        seen: list[int] = []

        def hold_a_read(data: bytes) -> bytes:
            if b"participant_index" in data and b'"k":' not in data:
                reading.set()
                go_on.wait(10)
            return data

        with through, through.watch_session("a") as updates:
            threads = [threading.Thread(target=updates.run, args=(lambda u: seen.append(u.version),)) for _ in range(2)]
            for thread in threads:
                thread.start()
            state = manager.create_session(sample_state("a"))
            # A version that nobody was told of.
            client.hset(Layout(settings.namespace, settings.lanes).keys_of("a").session, "v", 2)
            proxy.on_reply = hold_a_read
            state = manager.update_session(state.replace(version=2))
            assert reading.wait(10)
            manager.update_session(state)
            go_on.set()
            deadline = time.monotonic() + 10
            while seen[-1:] != [4] and time.monotonic() < deadline:
                time.sleep(0.01)
            updates.close()
            for thread in threads:
                thread.join(10)
        assert ([False, False], sorted(set(seen)), 4) == ([t.is_alive() for t in threads], seen, seen[-1])


def test_a_store_that_has_lost_writes(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G8: where a failover lost what a watcher had heard of, a watcher ends at what is left, and hears what follows."""
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    with manager.watch_sessions() as updates:
        state = manager.create_session(sample_state("a"))
        left = client.dump(key)
        assert isinstance(left, bytes)
        for _ in range(3):
            state = manager.update_session(state)
        assert [1, 2, 3, 4] == [update.version for update in receive_all(updates, 4)]
        # As a replica would have it that took over before it heard of the updates.
        client.restore(key, 60_000_000, left, replace=True)
        kill_subscriber(client, updates)
        assert [(1, RESYNCHRONISED)] == [(u.version, u.event_type) for u in receive_all(updates, 1)]
        stored = manager.get_session("a")
        assert stored is not None
        written = manager.update_session(stored)
        assert [written] == [update.state for update in receive_all(updates, 1)]


def test_a_corrupt_session_does_not_hide_the_others(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a session whose stored bytes are corrupt keeps no watcher from the final state of all others."""
    client = admin(settings)
    with manager.watch_sessions() as updates:
        states = [manager.create_session(sample_state(f"s{number}")) for number in range(5)]
        assert 5 == len(receive_all(updates, 5))
        client.hset(Layout(settings.namespace, settings.lanes).keys_of("s2").session, "s", "no JSON")
        kill_subscriber(client, updates)
        written = {state.session_id: manager.update_session(state) for state in states if state.session_id != "s2"}
        found = {update.session_id: update.state for update in receive_all(updates, 4)}
        assert written == found
        assert 1 == updates.reconnects


def test_a_gap_is_noticed(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a version that was missed, for whatever reason, leads to the stored state."""
    with Proxy(settings.redis_url) as proxy:
        watched = msgspec.structs.replace(settings, redis_url=proxy.url)
        with RedisStateManager.connect(watched) as through, through.watch_session("a") as updates:
            state = manager.create_session(sample_state("a"))
            assert [state] == [update.state for update in receive_all(updates, 1)]
            # one message is lost on the way, and nothing else
            lost = threading.Event()

            def lose_one(data: bytes) -> bytes:
                if b'"v":2,' in data and not lost.is_set():
                    lost.set()
                    return b""
                return data

            proxy.on_reply = lose_one
            state = manager.update_session(state)
            assert lost.wait(5)
            state = manager.update_session(state)
            found = receive_all(updates, 1)
            assert [(3, RESYNCHRONISED, state)] == [(u.version, u.event_type, u.state) for u in found]
            assert updates.receive(0.1) is None


def test_a_deaf_watch_notices(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a connection that stays open and says nothing any more is told from silence, and made again."""
    with Proxy(settings.redis_url) as proxy:
        watched = msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.4)
        with RedisStateManager.connect(watched) as through, through.watch_session("a") as updates:
            state = manager.create_session(sample_state("a"))
            assert 1 == len(receive_all(updates, 1))
            pings = []

            def on_request(data: bytes) -> bytes:
                pings.extend([data] * data.count(b"PING"))
                return data

            proxy.on_request = on_request
            # silence is no deafness: signs of life are asked for, and come, or no other would be asked for
            assert nothing_until(updates, lambda: len(pings) > 2)
            assert 0 == updates.reconnects
            silent = True
            proxy.on_reply = lambda data: b"" if silent else data
            state = manager.update_session(state)
            assert nothing_until(updates, lambda: updates.silence_s > 2 * watched.timeout_s)
            silent = False
            assert [state] == [update.state for update in receive_all(updates, 1)]
            assert updates.reconnects >= 1


def test_one_bad_message_does_not_end_the_watch(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a message that cannot be read leads to a resynchronisation, and the next update still comes."""
    client = admin(settings)
    keys = Layout(settings.namespace, settings.lanes).keys_of("a")
    with manager.watch_sessions() as updates:
        for bad in (b"no JSON", b"{}", b'{"i":"a","k":"update","e":"e","o":"o","n":1,"v":1,"c":1,"u":1,"s":{"bad":1}}'):
            client.publish(keys.lane_channel, bad)
        created = manager.create_session(sample_state("a"))
        assert [created] == [update.state for update in receive_all(updates, 1)]
        client.publish(keys.lane_channel, b"no JSON")
        assert updates.receive(0.1) is None
        updated = manager.update_session(created)
        assert [updated] == [update.state for update in receive_all(updates, 1)]


def test_old_versions_are_dropped(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a version that was seen already, or an older one, is not given again."""
    client = admin(settings)
    channel = Layout(settings.namespace, settings.lanes).keys_of("a").lane_channel
    with client.pubsub() as raw, manager.watch_sessions() as updates:
        raw.subscribe(channel)
        state = manager.create_session(sample_state("a"))
        manager.update_session(state)
        assert [1, 2] == [update.version for update in receive_all(updates, 2)]
        messages: list[bytes] = []
        deadline = time.monotonic() + 10
        while len(messages) < 2 and time.monotonic() < deadline:
            message = raw.get_message(timeout=1)
            if message and message["type"] == "message":
                messages.append(message["data"])
        for message_again in messages:
            client.publish(channel, message_again)
        assert updates.receive(0.2) is None


def test_a_watch_of_one_session(manager: RedisStateManager) -> None:
    """G8: a watch of one session hears of that one and of no other."""
    with manager.watch_session("a") as updates:
        manager.create_session(sample_state("b"))
        created = manager.create_session(sample_state("a"))
        manager.delete_session("a")
        assert [created, None] == [update.state for update in receive_all(updates, 2)]
        assert updates.receive(0.1) is None


def test_nothing_is_missed_since_a_read(manager: RedisStateManager) -> None:
    """G8: a watch since a state that was read begins with what was written between the read and the watch."""
    created = manager.create_session(sample_state("a"))
    with manager.watch_session("a", since=created) as updates:
        assert updates.receive(0.1) is None
    updated = manager.update_session(created)
    with manager.watch_session("a", since=created) as updates:
        assert [updated] == [update.state for update in receive_all(updates, 1)]
    manager.delete_session("a")
    with manager.watch_session("a", since=updated) as updates:
        assert [(None, updated.version)] == [(update.state, update.version) for update in receive_all(updates, 1)]


def test_the_callback_form(manager: RedisStateManager) -> None:
    """A callback gets each update, also after one on which it failed; closing the watch ends the loop."""
    seen: list[int] = []

    def callback(update: StateUpdate) -> None:
        seen.append(update.version)
        if update.version == 1:
            raise ZeroDivisionError

    watch = manager.watch_session("a").__enter__()
    thread = threading.Thread(target=watch.run, args=(callback,))
    thread.start()
    manager.update_session(manager.create_session(sample_state("a")))
    deadline = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.close()
    thread.join(10)
    assert (False, [1, 2]) == (thread.is_alive(), seen)


def test_messages_are_received(manager: RedisStateManager) -> None:
    """A session's messages reach who receives them, in order, null among them; other sessions' do not."""
    with manager.receive_messages("a") as received:
        manager.broadcast_to_session("b", "not this one")
        for message in ({"type": "tick"}, None, [1, 2]):
            assert 1 == manager.broadcast_to_session("a", message)
        assert [({"type": "tick"},), (None,), ([1, 2],)] == [received.receive(5) for _ in range(3)]
        assert () == received.receive(0.1)
        manager.broadcast_to_session("a", "again")
        assert "again" == next(iter(received))


def test_a_server_that_cannot_be_reached(settings: Settings) -> None:
    """A watch that cannot begin says so."""
    with Proxy(settings.redis_url) as proxy:
        watched = RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url))
    with pytest.raises(StoreUnavailable), watched.watch_sessions():
        pass
    watched.close()


def test_a_closed_watch_is_closed(manager: RedisStateManager) -> None:
    """A watch that was left gives nothing more, and iterating over it ends."""
    with manager.watch_sessions() as updates:
        pass
    with pytest.raises(StoreUnavailable):
        updates.receive(0)
    assert [] == list(updates)
