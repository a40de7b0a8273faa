from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from kairos_core import (
    AuditBacklogFull,
    CorruptState,
    InvalidState,
    RedisStateManager,
    SessionExists,
    SessionNotFound,
    Settings,
    SyncStatus,
    VersionConflict,
    commands,
    messages,
)
from kairos_core.commands import GRACE_MS
from kairos_core.layout import Layout
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from kairos_core import SyncState

# What is shown here is shown of both managers.
pytestmark = [
    pytest.mark.usefixtures("colour"),
    pytest.mark.parametrize("colour", ["blocking", "asyncio"], indirect=True),
]


def keys_of(settings: Settings, client: redis.Redis) -> set[bytes]:
    """All keys of the test's namespace."""
    return set(client.scan_iter(match=f"{settings.namespace}:*"))


def test_create_then_get(manager: RedisStateManager) -> None:
    """What was created is read, with what the server assigned."""
    state = sample_state("a")
    created = manager.create_session(state)
    assert created == manager.get_session("a")
    assert created.version == 1
    assert created.created_at == created.updated_at
    assert state.replace(
        incarnation=created.incarnation, version=1, created_at=created.created_at, updated_at=created.updated_at
    ) == (created)
    # the caller's object is as it was
    assert state.version == 0
    assert state.created_at is None


def test_get_of_nothing(manager: RedisStateManager) -> None:
    """A session that does not exist is None, not an error."""
    assert manager.get_session("nothing") is None


def test_create_refuses_what_exists(manager: RedisStateManager) -> None:
    """G1: a second creation is refused with the stored version, and the first state stays."""
    first = manager.create_session(sample_state("a"))
    with pytest.raises(SessionExists) as caught:
        manager.create_session(sample_state("a").replace(status=SyncStatus.CANCELLED))
    assert first.stamp == caught.value.current
    assert caught.value.definite
    assert first == manager.get_session("a")


def test_update_moves_one_version_on(manager: RedisStateManager) -> None:
    """G1: an update keeps the incarnation and the time of creation, and counts the version up."""
    created = manager.create_session(sample_state("a"))
    updated = manager.update_session(created.replace(status=SyncStatus.PAUSED))
    assert (created.incarnation, 2) == updated.stamp
    assert created.created_at == updated.created_at
    assert updated.updated_at is not None
    assert created.updated_at is not None
    assert created.updated_at <= updated.updated_at
    assert updated == manager.get_session("a")
    assert SyncStatus.RUNNING == created.status


def test_stale_update_is_refused(manager: RedisStateManager) -> None:
    """G1: of two writers from one version the second is refused, and is told what is stored."""
    created = manager.create_session(sample_state("a"))
    winner = manager.update_session(created.replace(status=SyncStatus.PAUSED))
    with pytest.raises(VersionConflict) as caught:
        manager.update_session(created.replace(status=SyncStatus.CANCELLED))
    assert (created.stamp, winner.stamp) == (caught.value.expected, caught.value.current)
    assert winner == manager.get_session("a")


def test_former_life_is_refused(manager: RedisStateManager) -> None:
    """G1: a writer from before a deletion cannot touch the session that was created after it."""
    former = manager.create_session(sample_state("a"))
    assert manager.delete_session("a")
    present = manager.create_session(sample_state("a"))
    assert former.version == present.version
    with pytest.raises(VersionConflict):
        manager.update_session(former)
    assert present == manager.get_session("a")


def test_update_of_nothing(manager: RedisStateManager) -> None:
    """An update of a session that is gone says so."""
    created = manager.create_session(sample_state("a"))
    manager.delete_session("a")
    with pytest.raises(SessionNotFound):
        manager.update_session(created)


def test_delete_says_whether_there_was_one(manager: RedisStateManager) -> None:
    """A deletion answers True once."""
    manager.create_session(sample_state("a"))
    assert [True, False] == [manager.delete_session("a"), manager.delete_session("a")]
    assert manager.get_session("a") is None


def test_rivals_one_wins(manager: RedisStateManager) -> None:
    """G1: of many writers from one version exactly one wins."""
    created = manager.create_session(sample_state("a"))
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait()
        try:
            manager.update_session(created.replace(metadata={"writer": number}))
        except VersionConflict:
            outcomes.append("refused")
        else:
            outcomes.append("won")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["refused"] * 7 + ["won"] == sorted(outcomes)


@pytest.mark.parametrize("write", ["create", "update"])
def test_every_write_sets_the_ttl(write: str, settings: Settings, client: redis.Redis) -> None:
    """G9: a session lives for the TTL after its last write, and a read does not prolong it."""
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    with RedisStateManager.connect(settings) as manager:
        state = manager.create_session(sample_state("a"))
        if write == "update":
            client.pexpire(key, 5_000)
            manager.update_session(state)
        written = client.pexpiretime(key)
        assert abs(settings.session_ttl_s + GRACE_MS / 1000 - client.pttl(key) / 1000) < 60
        manager.get_session("a")
        assert written == client.pexpiretime(key)


def test_refused_write_leaves_no_trace(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G4: a refused write changes no key, appends nothing and announces nothing."""
    created = manager.create_session(sample_state("a"))
    manager.update_session(created)
    layout = Layout(settings.namespace, settings.lanes)
    outbox = layout.keys_of("a").outbox
    before = keys_of(settings, client), client.xlen(outbox), client.hgetall(layout.keys_of("a").session)
    with manager.watch_sessions() as updates:
        with pytest.raises(VersionConflict):
            manager.update_session(created)
        with pytest.raises(SessionExists):
            manager.create_session(created)
        assert manager.delete_session("other") is False
        assert updates.receive(0.1) is None
    assert before == (keys_of(settings, client), client.xlen(outbox), client.hgetall(layout.keys_of("a").session))


def test_each_write_is_announced_and_recorded(
    settings: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """G4: a write is in the outbox and with the watchers, under the name that the caller gave it."""
    with manager.watch_sessions() as updates:
        state = manager.create_session(sample_state("a"), event_type="seated")
        state = manager.update_session(state, event_type="clock.pressed")
        manager.delete_session("a", event_type="left")
        received = [updates.receive(5) for _ in range(3)]
    seen = [(u.version, u.event_type, u.state is None) for u in received if u]
    assert [(1, "seated", False), (2, "clock.pressed", False), (3, "left", True)] == seen
    entries: Any = client.xrange(Layout(settings.namespace, settings.lanes).keys_of("a").outbox)
    recorded = [messages.decode(fields[b"m"]) for _, fields in entries]
    assert [(1, "seated", "create"), (2, "clock.pressed", "update"), (3, "left", "delete")] == [
        (message.version, message.event_type, message.kind) for message in recorded
    ]
    assert [u.operation_id for u in received if u] == [message.operation_id for message in recorded]


def test_full_outbox_refuses_writes(settings: Settings, client: redis.Redis) -> None:
    """G10: at the outbox's limit a write is refused, and nothing is dropped to make room."""
    limited = Settings(
        redis_url=settings.redis_url,
        postgres_url=settings.postgres_url,
        namespace=settings.namespace,
        lanes=1,
        outbox_limit=2,
    )
    with RedisStateManager.connect(limited) as manager:
        state = manager.update_session(manager.create_session(sample_state("a")))
        for refused in (
            lambda: manager.update_session(state),
            lambda: manager.create_session(sample_state("b")),
            lambda: manager.delete_session("a"),
        ):
            with pytest.raises(AuditBacklogFull) as caught:
                refused()
            assert (0, 2) == (caught.value.lane, caught.value.depth)
        assert state == manager.get_session("a")
    assert client.xlen(Layout(settings.namespace, 1).outboxes[0]) == 2


def test_one_round_trip(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G3: each operation is one command on the wire, once the server knows the scripts."""
    manager.delete_session(manager.update_session(manager.create_session(sample_state("warm"))).session_id)

    def steps() -> None:
        state = manager.create_session(sample_state("a"))
        state = manager.update_session(state)
        manager.get_session("a")
        manager.delete_session("a")

    assert ["EVALSHA", "EVALSHA", "HMGET", "EVALSHA"] == commands_of(settings, client, steps)


def test_one_round_trip_to_try_again(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G3: a mutation that lost to another writer tries again with one command: the refusal brought what is stored."""
    manager.update_session(manager.create_session(sample_state("a")))
    given: list[int] = []

    def change(state: SyncState) -> SyncState:
        given.append(state.version)
        if len(given) < 3:
            manager.update_session(state)
        return state

    def steps() -> None:
        assert manager.mutate_session("a", change).version == 5

    # Read; twice another's write and the refusal; written.
    assert ["HMGET", *["EVALSHA"] * 5] == commands_of(settings, client, steps)
    assert [2, 3, 4] == given


def test_no_read_of_what_is_known(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """G3: a mutation of a known state is one command; where it is out of date two, no more than if it had been read."""
    stale = manager.create_session(sample_state("a"))
    fresh = manager.update_session(stale)

    def same(state: SyncState) -> SyncState:
        return state

    def touchy(state: SyncState) -> SyncState:
        if state == stale:
            raise ValueError
        return state

    def commands(known: SyncState | None, change: Callable[[SyncState], SyncState] = same) -> list[str]:
        return commands_of(settings, client, lambda: manager.mutate_session("a", change, known=known))

    assert ["EVALSHA"] == commands(fresh)
    assert ["EVALSHA", "EVALSHA"] == commands(stale)
    assert ["HMGET", "EVALSHA"] == commands(None)
    assert ["HMGET", "EVALSHA"] == commands(stale, touchy)
    latest = manager.get_session("a")
    assert latest is not None
    assert 6 == latest.version


def commands_of(settings: Settings, client: redis.Redis, steps: Callable[[], object]) -> list[str]:
    """The commands that the server gets meanwhile, of the test's namespace."""
    seen: list[str] = []
    with client.monitor() as monitor:
        steps()
        client.echo("over")
        for entry in monitor.listen():
            if entry["command"] == "ECHO over":
                break
            # What a script does is marked as Lua's; other tests' and workers' commands name other keys.
            if entry["client_type"] != "lua" and settings.namespace in entry["command"]:
                seen.append(entry["command"].split()[0])
    return seen


def test_an_unknown_script_is_sent_in_full(manager: RedisStateManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: a server that does not know a script, or lost it, gets it within the same call."""
    state = manager.create_session(sample_state("a"))
    text = f"{commands.UPDATE.text}\n-- {state.incarnation}: never seen before\n"
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(commands, "UPDATE", commands.Script("update", text, sha))
    assert manager.update_session(state).version == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"s": b"\xff\x00 no JSON"},
        {"s": b'{"session_id":"a"}'},
        {"v": b"three"},
        {"n": b""},
        {"u": b"9" * 30},
    ],
)
def test_corrupt_bytes_are_reported_and_left(
    fields: dict[str, bytes], settings: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """Stored bytes that do not decode raise CorruptState with the key, and stay as they are."""
    manager.create_session(sample_state("a"))
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    client.hset(key, mapping=fields)  # type: ignore[arg-type]  # the stub wants keys of every type at once
    before = client.hgetall(key)
    with pytest.raises(CorruptState) as caught:
        manager.get_session("a")
    assert key == caught.value.key
    assert before == client.hgetall(key)


@pytest.mark.parametrize("operation", ["get", "create", "update", "delete"])
def test_another_type_under_the_key(
    operation: str, settings: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """A key that holds something else is reported as corrupt by every operation, and left."""
    state = manager.create_session(sample_state("a"))
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    client.delete(key)
    client.set(key, "something else")
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: manager.get_session("a"),
        "create": lambda: manager.create_session(state),
        "update": lambda: manager.update_session(state),
        "delete": lambda: manager.delete_session("a"),
    }
    with pytest.raises(CorruptState):
        calls[operation]()
    assert client.get(key) == b"something else"


@pytest.mark.parametrize("operation", ["create", "update", "delete"])
def test_a_hash_that_is_no_session(
    operation: str, settings: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """A hash without a session's fields is never taken for an absent session, nor written over."""
    state = manager.create_session(sample_state("a"))
    key = Layout(settings.namespace, settings.lanes).keys_of("a").session
    client.delete(key)
    client.hset(key, "foreign", "1")
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: manager.create_session(state),
        "update": lambda: manager.update_session(state),
        "delete": lambda: manager.delete_session("a"),
    }
    with pytest.raises(CorruptState):
        calls[operation]()
    assert {b"foreign": b"1"} == client.hgetall(key)


def test_invalid_states_are_not_sent(settings: Settings, manager: RedisStateManager, client: redis.Redis) -> None:
    """What does not validate raises before it reaches the network."""
    before = keys_of(settings, client)
    for broken in (
        sample_state("a").replace(metadata={"x": float("nan")}),
        sample_state("a").replace(session_id="with space"),
        sample_state("a").replace(max_time_ms=2**60),
    ):
        with pytest.raises(InvalidState):
            manager.create_session(broken)
    with pytest.raises(InvalidState):
        manager.create_session(sample_state("a"), event_type="x" * 51)
    with pytest.raises(InvalidState):
        manager.get_session("a\n")
    assert before == keys_of(settings, client)


def test_incarnations_rise(manager: RedisStateManager) -> None:
    """Each life of a session id has a greater incarnation than the one before."""
    incarnations = []
    for _ in range(20):
        incarnations.append(manager.create_session(sample_state("a")).incarnation)
        manager.delete_session("a")
    assert sorted(set(incarnations)) == incarnations
    assert abs(incarnations[-1] / 1e6 - time.time()) < 3600


def test_one_of_many_is_another_type(manager: RedisStateManager, settings: Settings, client: redis.Redis) -> None:
    """Of many that are read at once, the error names the one that is at fault."""
    manager.create_session(sample_state("a"))
    key = Layout(settings.namespace, settings.lanes).keys_of("b").session
    client.set(key, "something else")
    with pytest.raises(CorruptState) as caught:
        manager.get_sessions(["a", "b", "c"])
    assert key == caught.value.key


def test_arguments_of_the_wrong_kind(manager: RedisStateManager) -> None:
    """What is no id, state, number or function is refused by a typed error before anything is sent."""
    state, wrong = manager.create_session(sample_state("a")), cast("Any", 5)
    calls: list[Callable[[], object]] = [
        lambda: manager.get_session(wrong),
        lambda: manager.get_sessions(wrong),
        lambda: manager.get_sessions("a"),
        lambda: manager.get_sessions(["a", wrong]),
        lambda: manager.get_sessions([["a"]]),  # type: ignore[list-item]
        lambda: manager.create_session(wrong),
        lambda: manager.update_session(wrong),
        lambda: manager.update_session(state, event_type=wrong),
        lambda: manager.update_session(state, durability=wrong),
        lambda: manager.update_session(state, durability="tape"),
        lambda: manager.mutate_session("a", wrong),
        lambda: manager.mutate_session("a", lambda _: wrong),
        lambda: manager.mutate_session("a", lambda s: s, attempts=wrong + 0.5),
        lambda: manager.mutate_session("a", lambda s: s, attempts=0),
        lambda: manager.mutate_session("a", lambda s: s, known=wrong),
        lambda: manager.mutate_session("b", lambda s: s, known=state),
        lambda: manager.delete_session(wrong),
        lambda: manager.delete_session("a", if_unchanged=wrong),
        lambda: manager.delete_session("b", if_unchanged=state),
        lambda: manager.touch_session(wrong),
        lambda: manager.resolve(wrong),
        lambda: manager.broadcast_to_session("a", object()),
        lambda: manager.watch_session(wrong),
        lambda: manager.watch_session("b", since=state),
        lambda: manager.receive_messages(wrong),
    ]
    for call in calls:
        with pytest.raises(InvalidState) as caught:
            call()
        assert caught.value.definite
    assert state == manager.get_session("a")
