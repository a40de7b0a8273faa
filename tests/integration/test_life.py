from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import psycopg
import pytest
from psycopg import sql

from kairos_core import (
    CorruptState,
    InvalidState,
    OutcomeUnknown,
    RedisStateManager,
    SessionNotFound,
    Settings,
    StoreUnavailable,
    VersionConflict,
    commands,
)
from kairos_core.addresses import parse
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.blocking import BlockingTransport
from kairos_core.commands import GRACE_MS, new_operation_id
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from kairos_core.transport import run
from loadtests.environment import admin, as_worker
from loadtests.servers.proxy import Proxy
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from kairos_core import SyncState

# What is shown here is shown of both managers.
pytestmark = [
    pytest.mark.usefixtures("colour"),
    pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True),
]


def count_up(state: SyncState) -> SyncState:
    """One turn more."""
    return state.replace(metadata={**state.metadata, "turns": state.metadata["turns"] + 1})


def test_mutate_retries_on_conflict(settings: Settings) -> None:
    """G1: many threads that mutate one session all get their change in, and the caller's function sees each state."""
    with RedisStateManager.connect(settings) as manager:
        manager.create_session(sample_state("a"))
        threads = [
            threading.Thread(target=lambda: [manager.mutate_session("a", count_up) for _ in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        final = manager.get_session("a")
    assert final is not None
    assert (200, 201) == (final.metadata["turns"], final.version)


def test_mutate_gives_up(manager: RedisStateManager) -> None:
    """G10: a mutation whose rivals always win ends in the conflict, after as many attempts as were allowed."""
    manager.create_session(sample_state("a"))
    calls = 0

    def with_a_rival(state: SyncState) -> SyncState:
        nonlocal calls
        calls += 1
        manager.update_session(count_up(state))
        return state

    with pytest.raises(VersionConflict):
        manager.mutate_session("a", with_a_rival, attempts=3)
    assert 3 == calls


def test_mutate_goes_on_with_what_is_stored_now(manager: RedisStateManager) -> None:
    """G1: a mutation is derived from what is stored when it is written, also where that is another life by then."""
    given: list[SyncState] = [manager.create_session(sample_state("a"))]
    stored: list[SyncState] = [given[0]]

    def with_a_rival(state: SyncState) -> SyncState:
        given.append(state)
        if len(given) == 2:
            manager.delete_session("a")
            stored.append(manager.create_session(count_up(state)))
        elif len(given) < 9:
            stored.append(manager.update_session(count_up(state)))
        return state.replace(metadata={**state.metadata, "by": "mutate"})

    written = manager.mutate_session("a", with_a_rival)
    assert stored == given[1:]
    assert written == manager.get_session("a")
    assert (stored[-1].incarnation, stored[-1].version + 1) == written.stamp
    assert (stored[-1].metadata | {"by": "mutate"}) == written.metadata


def test_mutate_of_what_ends_meanwhile(manager: RedisStateManager) -> None:
    """A mutation whose session is deleted between its read and its write says so, and nothing comes back to life."""
    manager.create_session(sample_state("a"))

    def with_an_end(state: SyncState) -> SyncState:
        manager.delete_session("a")
        return state

    with pytest.raises(SessionNotFound):
        manager.mutate_session("a", with_an_end)
    assert manager.get_session("a") is None


@pytest.mark.parametrize("fields", [{"s": b"no JSON", "v": b"9"}, {"v": b"1.5"}, {"u": b"x", "v": b"9"}])
def test_mutate_of_what_is_spoilt_meanwhile(
    fields: dict[str, bytes], settings: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """What a refusal brings and does not decode is CorruptState, as if it had been read, and is left as it is."""
    manager.create_session(sample_state("a"))
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session

    def with_a_vandal(state: SyncState) -> SyncState:
        client.hset(key, mapping=fields)  # type: ignore[arg-type]  # the stub wants keys of every type at once
        return state

    with pytest.raises(CorruptState) as caught:
        manager.mutate_session("a", with_a_vandal)
    assert key == caught.value.key
    assert list(fields.values()) == client.hmget(key, *fields)


def test_mutate_writes_the_session_that_was_asked_for(manager: RedisStateManager) -> None:
    """G1: a function that returns another session's state, or another version's, is refused, and nothing is written."""
    one, other = (manager.create_session(sample_state(name)) for name in "ab")
    latest = manager.update_session(one)
    for wrong in (other, one, latest.replace(version=7), latest.replace(session_id="b")):
        with pytest.raises(InvalidState, match="change: "):
            manager.mutate_session("a", lambda _, wrong=wrong: wrong)  # type: ignore[misc]
    assert {"a": latest, "b": other} == manager.get_sessions(["a", "b"])


def test_mutate_of_nothing(manager: RedisStateManager) -> None:
    """A mutation of a session that does not exist says so, and never calls the function."""
    with pytest.raises(SessionNotFound):
        manager.mutate_session("a", count_up)
    with pytest.raises(InvalidState):
        manager.mutate_session("a", count_up, attempts=0)


def test_an_error_in_the_function_is_the_caller_s(manager: RedisStateManager) -> None:
    """What the caller's function raises comes out, and nothing was written."""
    manager.create_session(sample_state("a"))
    with pytest.raises(ZeroDivisionError):
        manager.mutate_session("a", lambda _: 1 // 0)  # type: ignore[arg-type,return-value]
    stored = manager.get_session("a")
    assert stored is not None
    assert 1 == stored.version


def test_get_many(manager: RedisStateManager) -> None:
    """Many sessions are read at once, in any number; each is what a read of it gives."""
    created = {name: manager.create_session(sample_state(name)) for name in (f"s{number}" for number in range(1_203))}
    found = manager.get_sessions([*created, "nothing", "s0"])
    assert created | {"nothing": None} == found
    assert {} == manager.get_sessions([])


def test_delete_only_if_unchanged(manager: RedisStateManager) -> None:
    """G1: a deletion that was derived from a version is refused once there is another."""
    created = manager.create_session(sample_state("a"))
    updated = manager.update_session(created)
    with pytest.raises(VersionConflict) as caught:
        manager.delete_session("a", if_unchanged=created)
    assert updated.stamp == caught.value.current
    assert manager.delete_session("a", if_unchanged=updated)
    assert not manager.delete_session("a", if_unchanged=updated)


def test_messages_are_not_state(settings: Settings, manager: RedisStateManager) -> None:
    """A broadcast reaches who listens, and changes nothing."""
    client = admin(settings)
    created = manager.create_session(sample_state("a"))
    assert 0 == manager.broadcast_to_session("a", {"type": "tick"})
    with client.pubsub() as listener:
        listener.subscribe(Layout(settings.namespace, settings.lanes).message_channel("a"))
        assert listener.get_message(timeout=5) is not None
        assert 1 == manager.broadcast_to_session("a", {"type": "tick", "at": [1, None]})
        message = listener.get_message(timeout=5)
    assert message is not None
    assert {"type": "tick", "at": [1, None]} == msgspec.json.decode(message["data"])
    assert created == manager.get_session("a")
    with pytest.raises(InvalidState):
        manager.broadcast_to_session("a", float("nan"))


@pytest.fixture
def cut_off(settings: Settings) -> Iterator[tuple[Proxy, RedisStateManager]]:
    """A manager behind a proxy."""
    with (
        Proxy(settings.redis_url) as proxy,
        RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url, timeout_s=0.5)) as manager,
    ):
        # The server must know all scripts, or a reply that is dropped might only have asked for one.
        manager.delete_session(manager.update_session(manager.create_session(sample_state("warm"))).session_id)
        yield proxy, manager


def test_resolve_of_an_applied_write(cut_off: tuple[Proxy, RedisStateManager], manager: RedisStateManager) -> None:
    """G6: a write that was applied, and whose answer was lost, is resolved as applied."""
    proxy, through = cut_off
    state = through.create_session(sample_state("a"))
    asked = threading.Event()

    def note(data: bytes) -> bytes:
        if b"EVAL" in data:
            asked.set()
        return data

    proxy.on_request = note
    proxy.on_reply = lambda data: None if asked.is_set() else data
    with pytest.raises(OutcomeUnknown) as caught:
        through.update_session(state)
    assert manager.resolve(caught.value.operation_id) is True
    assert manager.resolve(caught.value.operation_id) is True


def test_resolve_of_a_lost_write(cut_off: tuple[Proxy, RedisStateManager], manager: RedisStateManager) -> None:
    """G6: a write that never arrived is resolved as not applied; if it arrives after that, it is refused."""
    proxy, through = cut_off
    state = through.create_session(sample_state("a"))
    held: list[bytes] = []

    def hold(data: bytes) -> bytes | None:
        if b"EVAL" not in data:
            return data
        held.append(data)
        return None

    proxy.on_request = hold
    with pytest.raises(OutcomeUnknown) as caught:
        through.update_session(state)
    assert manager.resolve(caught.value.operation_id) is False
    # It arrives late, word for word.
    proxy.on_request = lambda data: data
    transport = BlockingTransport(parse(proxy.url), 5)
    channel = run(transport.open(transport.one_server, 5))
    assert [5] == run(channel.exchange(held[0], time.monotonic() + 5))
    channel.close()
    assert state == manager.get_session("a")
    assert manager.resolve(caught.value.operation_id) is False


def test_a_write_that_was_given_up_says_so(manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """G6: a writer whose operation was resolved as not applied meanwhile is told that it was not applied."""
    state = manager.create_session(sample_state("a"))
    given_up = new_operation_id(Layout("x", 16).lane_of("a"))
    assert manager.resolve(given_up) is False
    monkeypatch.setattr(commands, "new_operation_id", lambda _: given_up)
    with pytest.raises(StoreUnavailable, match="given up") as caught:
        manager.update_session(state)
    assert caught.value.definite


def test_resolve_of_what_is_too_old(manager: RedisStateManager) -> None:
    """G6: a write of long ago, whose receipt may have run out, is said to be unknown; and an id must be one."""
    fresh = new_operation_id(3)
    assert manager.resolve(f"{0:012x}{fresh[12:]}") is None
    for wrong in ("", "x" * 32, fresh[:-1], fresh + "0", fresh[:-3] + "fff"):
        with pytest.raises(InvalidState):
            manager.resolve(wrong)


@pytest.fixture
def brief(settings: Settings) -> Settings:
    """Settings with sessions that live for a fifth of a second."""
    return msgspec.structs.replace(settings, session_ttl_s=0.2)


def wait_for_expiry(expiry: Expiry, count: int) -> None:
    """Sweep until `count` sessions have ended."""
    ended, deadline = 0, time.monotonic() + 10
    while ended < count and time.monotonic() < deadline:
        ended += expiry.sweep()
        time.sleep(0.01)
    assert count == ended


def test_expiry_is_an_event(brief: Settings) -> None:
    """G9: an expiry is announced and recorded with the last state, as a version of its own, and the session is gone."""
    outbox, expiry = Outbox.connect(as_worker(brief)), Expiry.connect(as_worker(brief))
    with RedisStateManager.connect(brief) as manager, manager.watch_sessions() as updates:
        created = manager.create_session(sample_state("a"))
        updated = manager.update_session(created)
        start = time.monotonic()
        wait_for_expiry(expiry, 1)
        # not before its time, which began before the update was answered
        assert time.monotonic() - start > 0.1
        assert manager.get_session("a") is None
        seen = [updates.receive(5) for _ in range(3)]
        assert 0 == expiry.sweep()
    last = seen[-1]
    assert last is not None
    assert (created.incarnation, 3, "expired", None) == (last.incarnation, last.version, last.event_type, last.state)
    entry = outbox.read(Layout(brief.namespace, brief.lanes).lane_of("a"), 10)[-1]
    assert isinstance(entry, Entry)
    assert ("expire", 3) == (entry.message.kind, entry.message.version)
    assert updated.metadata == msgspec.json.decode(entry.row()[-1])["metadata"]
    expiry.close()
    outbox.close()


def test_every_write_and_touch_prolongs(settings: Settings) -> None:
    """G9: writes and touches put the end off, reads do not; a deleted session does not expire."""
    # A busy machine may stand still for longer than the sessions of other tests live.
    brief = msgspec.structs.replace(settings, session_ttl_s=0.5)
    expiry = Expiry.connect(as_worker(brief))
    with RedisStateManager.connect(brief) as manager:
        written, touched, read, deleted = (manager.create_session(sample_state(name)) for name in "wtrd")
        manager.delete_session(deleted.session_id)
        # Until the end of the one that is only read: then the others, which are as old, are past theirs, too.
        deadline = time.monotonic() + 10
        while manager.get_session(read.session_id) is not None and time.monotonic() < deadline:
            written = manager.update_session(written)
            assert manager.touch_session(touched.session_id)
            expiry.sweep()
        assert [True, True, False, False] == [
            manager.get_session(state.session_id) is not None for state in (written, touched, read, deleted)
        ]
        wait_for_expiry(expiry, 2)
        assert not manager.touch_session("t")
    expiry.close()


def test_the_worker_sweeps(brief: Settings) -> None:
    """G9: with a worker running, sessions end by themselves and the audit has their end."""
    with worker_pool(as_worker(brief)), RedisStateManager.connect(brief) as manager:
        for number in range(20):
            manager.create_session(sample_state(f"s{number}"))
        deadline = time.monotonic() + 20
        ended: list[tuple[int, int]] = []
        with psycopg.connect(brief.postgres_url, autocommit=True) as connection:
            query = sql.SQL(
                "SELECT count(*), count(deleted_at) FROM {} JOIN {} USING (session_id) WHERE kind = 'expire'"
            ).format(sql.Identifier(brief.namespace, "sync_events"), sql.Identifier(brief.namespace, "sync_sessions"))
            while ended != [(20, 20)] and time.monotonic() < deadline:
                ended = connection.execute(query).fetchall()
        connection.close()
        assert [(20, 20)] == ended
        assert [None] == list({manager.get_session(f"s{number}") for number in range(20)})


def test_one_that_cannot_be_ended_keeps_none_from_its_end(settings: Settings) -> None:
    """G9: a key of another type among those that are due does not stop the sweep, and is left."""
    one_lane = msgspec.structs.replace(settings, lanes=1, namespace=f"{settings.namespace}_one")
    client, layout = admin(settings), Layout(one_lane.namespace, 1)
    expiry = Expiry.connect(as_worker(one_lane))
    with RedisStateManager.connect(one_lane) as manager:
        for name in "abc":
            manager.create_session(sample_state(name))
            client.pexpire(layout.keys_of(name).session, 1_000_000)
        client.zadd(layout.deadlines[0], {"a": 1, "b": 2, "c": 3})
        client.delete(layout.keys_of("a").session)
        client.set(layout.keys_of("a").session, "something else", px=1_000_000)
        assert 2 == expiry.sweep()
        assert b"something else" == client.get(layout.keys_of("a").session)
        assert {"b": None, "c": None} == manager.get_sessions(["b", "c"])
    expiry.close()


def test_a_shorter_ttl_elsewhere(settings: Settings) -> None:
    """G9: the sweep looks at a session in time also where it was created by a process with a much longer TTL."""
    client, keys = admin(settings), Layout(settings.namespace, settings.lanes).keys_of("a")
    long_lived = msgspec.structs.replace(settings, session_ttl_s=30 * 86_400.0)
    expiry = Expiry.connect(as_worker(settings))
    with RedisStateManager.connect(long_lived) as former, RedisStateManager.connect(settings) as present:
        state = former.create_session(sample_state("a"))
        deadlines = Layout(settings.namespace, settings.lanes).deadlines[keys.lane]
        for _ in range(2):
            looked_at_ms = client.zscore(deadlines, "a")
            assert isinstance(looked_at_ms, float)
            assert looked_at_ms / 1000 < time.time() + GRACE_MS / 1000 + 60
            # As if that time had come, and the session had long to live.
            client.zadd(deadlines, {"a": 1})
            assert 0 == expiry.sweep()
        present.update_session(state)
    expiry.close()


def test_a_mark_is_not_cut_short(
    settings: Settings, manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G6: what was given up stays so however often it arrives: its mark outlives any receipt."""
    client, layout = admin(settings), Layout(settings.namespace, settings.lanes)
    state = manager.create_session(sample_state("a"))
    given_up = new_operation_id(layout.lane_of("a"))
    assert manager.resolve(given_up) is False
    monkeypatch.setattr(commands, "new_operation_id", lambda _: given_up)
    calls: list[Callable[[], object]] = [
        lambda: manager.delete_session("a"),
        lambda: manager.update_session(state),
        lambda: manager.update_session(state.replace(version=7)),
        lambda: manager.create_session(sample_state("a")),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="given up"):
            call()
    assert client.pttl(layout.receipt(layout.lane_of("a"), given_up)) > 3_600_000


def test_a_key_that_lost_its_end_is_left(settings: Settings, manager: RedisStateManager) -> None:
    """G9: an index entry without a session, or with something else under its key, is dropped and nothing is touched."""
    client = admin(settings)
    expiry = Expiry.connect(as_worker(settings))
    layout = Layout(settings.namespace, settings.lanes)
    keys, deadlines = layout.keys_of("a"), layout.deadlines[layout.lane_of("a")]
    manager.create_session(sample_state("a"))
    manager.delete_session("a")
    client.zadd(deadlines, {"a": 1})
    client.hset(keys.session, "foreign", "1")
    client.pexpire(keys.session, 100_000)
    assert 0 == expiry.sweep()
    assert {b"foreign": b"1"} == client.hgetall(keys.session)
    assert 0 == client.zcard(deadlines)
    # one whose end was taken away by another hand lives on
    endless = manager.create_session(sample_state("b"))
    client.persist(layout.keys_of("b").session)
    client.zadd(layout.deadlines[layout.lane_of("b")], {"b": 1})
    assert 0 == expiry.sweep()
    assert endless == manager.get_session("b")
    expiry.close()
