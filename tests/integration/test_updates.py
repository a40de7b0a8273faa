from __future__ import annotations

import time

import pytest
import redis

from kairos_core import CorruptState, RedisStateManager, Settings, StoreUnavailable
from kairos_core.layout import Layout
from loadtests.instances import Instance
from loadtests.states import sample_state


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


def test_a_lost_connection_is_not_silence(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a watcher whose connection was killed says that updates may have been missed."""
    client = redis.Redis.from_url(settings.redis_url)
    with manager.watch_sessions() as updates:
        channel = Layout(settings.namespace, settings.lanes).lane_channels[0]
        assert client.pubsub_numsub(channel) == [(channel.encode(), 1)]
        kill_subscriber(client, updates)
        with pytest.raises(StoreUnavailable, match="watch"):
            updates.receive(10)


def kill_subscriber(client: redis.Redis, updates: object) -> None:
    """Kill the connection of this watch on the server."""
    pubsub = updates._pubsub  # type: ignore[attr-defined]
    port = pubsub.connection._sock.getsockname()[1]
    (found,) = [entry for entry in client.client_list(_type="pubsub") if entry["addr"].endswith(f":{port}")]
    client.client_kill_filter(_id=found["id"])


def test_one_bad_message_does_not_end_the_watch(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a message that is not ours is reported with its channel, and the next update still comes."""
    client = redis.Redis.from_url(settings.redis_url)
    channel = Layout(settings.namespace, settings.lanes).lane_channels[3]
    with manager.watch_sessions() as updates:
        for bad in (b"no JSON", b"{}", b'{"i":"a","k":"update","e":"e","o":"o","n":1,"v":1,"c":1,"u":1,"s":{"bad":1}}'):
            client.publish(channel, bad)
            with pytest.raises(CorruptState) as caught:
                updates.receive(5)
            assert channel == caught.value.key
        created = manager.create_session(sample_state("a"))
        update = updates.receive(5)
    assert update is not None
    assert created == update.state


def test_old_versions_are_dropped(settings: Settings, manager: RedisStateManager) -> None:
    """G8: a version that was seen already, or an older one, is not given again."""
    client = redis.Redis.from_url(settings.redis_url)
    channel = Layout(settings.namespace, settings.lanes).keys_of("a").lane_channel
    with client.pubsub() as raw, manager.watch_sessions() as updates:
        raw.subscribe(channel)
        state = manager.create_session(sample_state("a"))
        manager.update_session(state)
        assert [1, 2] == [update.version for _ in range(2) if (update := updates.receive(5))]
        messages: list[bytes] = []
        deadline = time.monotonic() + 10
        while len(messages) < 2 and time.monotonic() < deadline:
            message = raw.get_message(timeout=1)
            if message and message["type"] == "message":
                messages.append(message["data"])
        for message_again in messages:
            client.publish(channel, message_again)
        assert updates.receive(0.2) is None


def test_a_closed_watch_is_closed(manager: RedisStateManager) -> None:
    """A watch that was left gives nothing more, and iterating over it ends."""
    with manager.watch_sessions() as updates:
        pass
    with pytest.raises(StoreUnavailable):
        updates.receive(0)
    assert [] == list(updates)
