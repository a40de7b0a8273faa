"""`kairos audit verify`: what was done to the trail, or to the store, is found and named; what was not, is not."""

from __future__ import annotations

import itertools
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how

from kairos_core import AuditWriter, RedisStateManager, Settings, session
from kairos_core.audit import chain, store
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.findings import Finding, Kind
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.trail import judge
from kairos_core.audit.verify import verify, verify_trail
from kairos_core.errors import ConfigurationError, VersionConflict
from kairos_core.layout import Layout
from loadtests.environment import as_worker
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state
from tests.in_schema import change, in_schema
from tests.strategies import json_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from kairos_core import SyncState
    from kairos_core.audit.verify import Report

VERSIONS = 6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks wrong is looked at again at once: here, nothing is on its way."""
    monkeypatch.setattr(store, "_PAUSES_S", (0.0,))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two lanes."""
    return msgspec.structs.replace(settings, lanes=2)


def drain(outbox: Outbox, writer: AuditWriter) -> None:
    """Empty all lanes."""
    for lane in range(2):
        drain_lane(outbox, writer, lane)


def session_with(state: SyncState, number: int) -> SyncState:
    """The state with this number in it, and text that JSON and COPY each escape."""
    return state.replace(metadata={"n": number, "text": 'a "b" \\ \\n \t\n\x01 é'})


@pytest.fixture
def trail(settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox) -> Settings:
    """Three sessions of six versions, which are recorded; `c` was deleted with the last one. The worker's settings."""
    for name in "abc":
        manager.create_session(sample_state(name))
        for number in range(VERSIONS - 2):
            manager.mutate_session(name, partial(session_with, number=number))
    manager.mutate_session("a", lambda state: state)
    manager.mutate_session("b", lambda state: state)
    manager.delete_session("c")
    drain(outbox, writer)
    return as_worker(settings)


def found(report: Report) -> dict[Kind, int]:
    """How many of each kind that breaks a guarantee."""
    return {kind: number for kind, number in report.found.items() if number and kind.is_violation}


def test_what_was_not_touched_holds(trail: Settings) -> None:
    """G13: a trail as it was recorded holds, against the store, too; the worker's account is enough to see that."""
    report = verify(trail)
    assert {} == found(report)
    assert (3, 3 * VERSIONS, 2, 0) == (report.sessions, report.events, report.compared, report.violations)
    assert (report.first, report.not_compared) == (None, None)


def copied(values: str, where: str) -> str:
    """A statement that puts a copy of a row in, with other values for its first columns."""
    return (
        f"INSERT INTO sync_events SELECT {values}, kind, event_type, occurred_at + interval '1 second', recorded_at,"
        f" state_snapshot, chain_hash FROM sync_events WHERE session_id = 'b' AND {where}"
    )


SWAP = (
    "UPDATE sync_events SET (version, position) = (7 - version, 7 - position)"
    " WHERE session_id = 'b' AND version IN (3, 4)"
)
SWAP_STATES = (
    "UPDATE sync_events AS one SET state_snapshot = other.state_snapshot FROM sync_events AS other"
    " WHERE one.session_id = 'b' AND other.session_id = 'b' AND one.version IN (3, 4)"
    " AND one.version + other.version = 7"
)
# What is done to the trail, what is found, and the first of it in words (N: an incarnation).
WHERE_3 = "WHERE session_id = 'b' AND version = 3"
VIOLATIONS = {
    "snapshot": (
        [f"UPDATE sync_events SET state_snapshot = jsonb_set(state_snapshot, '{{metadata,n}}', '7') {WHERE_3}"],
        {Kind.ALTERED: 1},
        "session b: version 3 of incarnation N was altered: its hash is not that of what it holds",
    ),
    "event_type": ([f"UPDATE sync_events SET event_type = 'x' {WHERE_3}"], {Kind.ALTERED: 1}, "session b: version 3"),
    "kind": ([f"UPDATE sync_events SET kind = 'expire' {WHERE_3}"], {Kind.ALTERED: 1}, "session b: version 3"),
    "operation": (
        [f"UPDATE sync_events SET operation_id = gen_random_uuid() {WHERE_3}"],
        {Kind.ALTERED: 1},
        "session b: version 3",
    ),
    "occurred_at": (
        [f"UPDATE sync_events SET occurred_at = occurred_at + interval '1 microsecond' {WHERE_3}"],
        {Kind.ALTERED: 1},
        "session b: version 3",
    ),
    "recorded_at": (
        [f"UPDATE sync_events SET recorded_at = recorded_at - interval '1 day' {WHERE_3}"],
        {Kind.ALTERED: 1},
        "session b: version 3",
    ),
    "chain_hash": (
        [f"UPDATE sync_events SET chain_hash = decode(repeat('ab', 32), 'hex') {WHERE_3}"],
        # and the one behind it does not follow
        {Kind.ALTERED: 2},
        "session b: version 3",
    ),
    "no time of Python's": (
        [
            "CREATE TABLE far PARTITION OF sync_events FOR VALUES FROM ('9999-01-01') TO ('infinity')",
            f"UPDATE sync_events SET occurred_at = '12026-01-01', recorded_at = 'infinity' {WHERE_3}",
        ],
        {Kind.ALTERED: 1},
        "session b: version 3",
    ),
    "one is gone": (
        [f"DELETE FROM sync_events {WHERE_3}"],
        {Kind.MISSING: 1, Kind.UNCHAINED: 1},
        "session b: the row at position 3 of its chain is gone",
    ),
    "the last is gone": (
        ["DELETE FROM sync_events WHERE session_id = 'b' AND version = 6"],
        {Kind.MISSING: 1, Kind.UNCHAINED: 1},
        "session b: the row at position 6 of its chain is gone",
    ),
    "all are gone": (
        ["DELETE FROM sync_events WHERE session_id = 'b'"],
        {Kind.MISSING: 6, Kind.UNCHAINED: 6},
        "session b: the rows at positions 1 to 6 of its chain are gone",
    ),
    "swapped": (
        [SWAP],
        # and the one behind them does not follow
        {Kind.ALTERED: 3},
        "session b: version 3",
    ),
    "two states swapped": (
        [SWAP_STATES],
        {Kind.ALTERED: 2},
        "session b: version 3",
    ),
    "moved to another session": (
        [f"UPDATE sync_events SET session_id = 'aa' {WHERE_3}"],
        {Kind.UNLIKE: 1, Kind.MISSING: 3, Kind.UNCHAINED: 3},
        "session aa: ",
    ),
    "forged behind the last": (
        [copied("session_id, incarnation, version + 1, position + 1, gen_random_uuid()", "version = 6")],
        {Kind.ALTERED: 1, Kind.UNLIKE: 2},
        "session b: version 7 of incarnation N was altered",
    ),
    "forged in between": (
        [copied("session_id, incarnation, version, position, gen_random_uuid()", "version = 3")],
        {Kind.FORKED: 2},
        "session b: version 3 of incarnation N is recorded twice, for operations",
    ),
    "forged session": (
        [copied("'x', incarnation, version, position, gen_random_uuid()", "version = 1")],
        {Kind.ALTERED: 1, Kind.UNLIKE: 1},
        "session x: version 1",
    ),
    "latest version": (
        ["UPDATE sync_sessions SET version = 5 WHERE session_id = 'b'"],
        {Kind.UNLIKE: 1},
        "session b: sync_sessions says version 5 of incarnation N, its rows reach version 6 of incarnation N",
    ),
    "latest version ahead": (
        ["UPDATE sync_sessions SET version = 7 WHERE session_id = 'b'"],
        {Kind.MISSING: 1},
        "session b: version 7 of incarnation N is missing",
    ),
    "latest end": (
        ["UPDATE sync_sessions SET deleted_at = NULL WHERE session_id = 'c'"],
        {Kind.UNLIKE: 1},
        "session c: sync_sessions has another deleted_at than version 6",
    ),
    "latest state": (
        ["UPDATE sync_sessions SET state_snapshot = '{}', status = 'paused' WHERE session_id = 'b'"],
        {Kind.UNLIKE: 1},
        "session b: sync_sessions has another state_snapshot, status than version 6",
    ),
    "latest hash": (
        ["UPDATE sync_sessions SET chain_hash = decode(repeat('ab', 32), 'hex') WHERE session_id = 'b'"],
        {Kind.UNLIKE: 1},
        "session b: sync_sessions ends its chain at position 6 with another hash",
    ),
    "latest length": (
        ["UPDATE sync_sessions SET chain_length = 8 WHERE session_id = 'b'"],
        {Kind.UNCHAINED: 2},
        "session b: the rows at positions 7 to 8 of its chain are gone",
    ),
    "latest row gone": (
        ["DELETE FROM sync_sessions WHERE session_id = 'b'"],
        {Kind.UNLIKE: 1},
        "session b: it has no row in sync_sessions",
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_what_was_done_to_the_trail_is_found(violation: str, trail: Settings) -> None:
    """G13: whatever is altered, taken out, put in or swapped in the trail is found, counted and named."""
    statements, expected, words = VIOLATIONS[violation]
    change(trail, *statements)
    report = verify_trail(trail)
    assert report.first is not None
    text = re.sub(r"incarnation \d+", "incarnation N", str(report.first))
    assert expected == found(report)
    assert words in text
    if words.startswith("session b"):
        # The others are as they were, and one can be asked for alone.
        assert expected == found(verify_trail(trail, "b"))
        assert {} == found(verify_trail(trail, "a"))


def recompute(settings: Settings, session_id: str) -> None:
    """Make a session's hashes anew, and that of its latest row: what somebody can do who may do anything."""
    with in_schema(settings) as connection:
        connection.execute("SET session_replication_role = replica")
        before = chain.NO_HASH
        for (
            operation_id,
            incarnation,
            version,
            kind,
            event_type,
            occurred_at,
            recorded_at,
            snapshot,
        ) in connection.execute(
            "SELECT operation_id, incarnation, version, kind, event_type, occurred_at, recorded_at,"
            " state_snapshot::text FROM sync_events WHERE session_id = %s ORDER BY version",
            [session_id],
        ).fetchall():
            write = (operation_id.hex, session_id, incarnation, version, kind)
            digest = chain.digest(write, chain.microseconds(occurred_at), snapshot, event_type)
            before = chain.following(before, digest, chain.microseconds(recorded_at))
            connection.execute(
                "UPDATE sync_events SET chain_hash = %s WHERE session_id = %s AND version = %s",
                [before, session_id, version],
            )
        connection.execute("UPDATE sync_sessions SET chain_hash = %s WHERE session_id = %s", [before, session_id])


def test_the_fingerprint_tells_what_the_chain_cannot(trail: Settings) -> None:
    """G13: who makes all hashes anew, or takes a whole session out, does not get the fingerprint that was kept."""
    kept = verify_trail(trail).fingerprint
    assert kept == verify_trail(trail).fingerprint
    recompute(trail, "b")
    assert kept == verify_trail(trail).fingerprint
    change(trail, f"UPDATE sync_events SET event_type = 'x' {WHERE_3}")
    recompute(trail, "b")
    report = verify_trail(trail)
    assert ({}, True) == (found(report), report.fingerprint != kept)
    change(trail, "DELETE FROM sync_events WHERE session_id = 'c'", "DELETE FROM sync_sessions WHERE session_id = 'c'")
    again = verify_trail(trail)
    assert ({}, True) == (found(again), again.fingerprint not in {kept, report.fingerprint})


def key(settings: Settings, session_id: str) -> str:
    """A session's key in the store."""
    return Layout(settings.namespace, settings.lanes).keys_of(session_id).session


def test_a_record_that_was_lost_is_found(
    trail: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox, client: redis.Redis
) -> None:
    """G13: a write whose record left the outbox and went nowhere is found at once, and as a gap once others follow."""
    manager.mutate_session("b", lambda state: state)
    for stream in Layout(trail.namespace, 2).outboxes:
        client.xtrim(stream, maxlen=0)
    assert {} == found(verify_trail(trail))
    report = verify(trail)
    assert {Kind.UNRECORDED: 1} == found(report)
    assert "version 7 of incarnation" in str(report.first)
    assert "is neither recorded nor in the outbox" in str(report.first)
    manager.mutate_session("b", lambda state: state)
    drain(outbox, writer)
    report = verify(trail)
    assert {Kind.MISSING: 1} == found(report)
    assert str(report.first).endswith("is missing")


def test_a_session_that_nobody_recorded_is_found(
    trail: Settings, manager: RedisStateManager, client: redis.Redis
) -> None:
    """G13: a session of which the store's index knows and the trail does not is found, be it stored or not."""
    for name in ("x", "y"):
        manager.create_session(sample_state(name))
    for stream in Layout(trail.namespace, 2).outboxes:
        client.xtrim(stream, maxlen=0)
    client.delete(key(trail, "y"))
    assert {Kind.UNRECORDED: 2} == found(verify(trail))
    assert {Kind.UNRECORDED: 1} == found(verify(trail, "x"))


def test_a_store_that_lost_writes_is_found(trail: Settings, client: redis.Redis) -> None:
    """G13: a store that is behind what is recorded of it, after a failover or a restart, is found."""
    client.hset(key(trail, "b"), "v", 4)
    report = verify(trail)
    assert {Kind.BEHIND: 1} == found(report)
    assert "is recorded, and the store is back at version 4" in str(report.first)


def test_a_session_that_came_back_is_found(
    trail: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox, client: redis.Redis
) -> None:
    """G13: a session that is recorded as deleted, and is in the store as it was before, is found."""
    kept = client.dump(key(trail, "b"))
    assert kept is not None
    manager.delete_session("b")
    drain(outbox, writer)
    client.restore(key(trail, "b"), 100_000, kept)
    # In no index, where a sweep or a watcher looks; but whoever reads it finds it.
    assert {Kind.BEHIND: 1} == found(verify(trail, "b"))
    client.zadd(Layout(trail.namespace, 2).deadlines[Layout(trail.namespace, 2).lane_of("b")], {"b": 1})
    assert {Kind.BEHIND: 1} == found(verify(trail))


def test_a_session_that_was_lost_is_found(trail: Settings, client: redis.Redis) -> None:
    """G13: a session that lives as recorded and is not in the store is lost; not so where its time has passed."""
    client.delete(key(trail, "b"))
    report = verify(trail)
    assert {Kind.LOST: 1} == found(report)
    assert "session b: it lives at version 6" in str(report.first)
    assert {Kind.LOST: 2} == found_after_flush(trail, client)
    report = verify(msgspec.structs.replace(trail, session_ttl_s=0.001))
    assert {} == found(report)
    assert 2 == report.found[Kind.EXPIRED]


def found_after_flush(trail: Settings, client: redis.Redis) -> dict[Kind, int]:
    """What is found where all keys of the namespace are gone."""
    for name in client.scan_iter(match=f"{trail.namespace}:*"):
        client.delete(name)
    return found(verify(trail))


@pytest.mark.parametrize("spoil", ["type", "field"])
def test_a_key_that_holds_no_session_is_found(spoil: str, trail: Settings, client: redis.Redis) -> None:
    """G13: what is no session under a session's key is named, and keeps nobody from judging the others."""
    if spoil == "type":
        client.delete(key(trail, "b"))
        client.set(key(trail, "b"), "x")
    else:
        client.hset(key(trail, "b"), "v", "x")
    client.delete(key(trail, "a"))
    report = verify(trail)
    assert {Kind.UNREADABLE: 1, Kind.LOST: 1} == found(report)


def test_what_waits_is_not_lost(trail: Settings, manager: RedisStateManager) -> None:
    """G13: writes that wait in the outbox, new sessions, changes, ends and new lives, are none that are lost."""
    manager.create_session(sample_state("new"))
    manager.create_session(sample_state("c"))
    manager.mutate_session("c", lambda state: state)
    manager.mutate_session("b", lambda state: state)
    manager.delete_session("a")
    report = verify(trail)
    assert {} == found(report)
    assert 4 == report.compared


def refused(entry: Entry) -> Entry:
    """The same write with a state that PostgreSQL refuses, which holds U+0000."""
    body = msgspec.Raw(bytes(entry.message.body)[:-1] + b',"more":"\\u0000"}')
    return entry._replace(message=msgspec.structs.replace(entry.message, body=body))


@pytest.mark.parametrize("position", [1, 2])
def test_dead_letters_are_named_as_such(
    position: int, trail: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G13: a version that is a dead letter is no mystery: it is named with its place and reason, and is a failure."""
    for _ in range(2):
        manager.mutate_session("b", lambda state: state)
    lane = Layout(trail.namespace, 2).lane_of("b")
    entries = [entry for entry in outbox.read(lane, 10) if isinstance(entry, Entry)]
    entries[position - 1] = refused(entries[position - 1])
    writer.write(lane, entries)
    outbox.remove(lane, [entry.entry_id for entry in entries])
    for report in (verify(trail), verify_trail(trail), verify(trail, "b")):
        assert {Kind.BURIED: 1} == found(report)
        assert f"session b: version {6 + position} of incarnation" in str(report.first)
        assert f"dead letter {entries[position - 1].entry_id.decode()} of lane {lane}: " in str(report.first)
        assert 1 == report.letters


def test_rows_that_were_recorded_late_hold(
    trail: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G13: versions that were recorded behind later ones, as replayed dead letters are, hold in their chain."""
    for _ in range(4):
        manager.mutate_session("b", lambda state: state)
    lane = Layout(trail.namespace, 2).lane_of("b")
    entries = outbox.read(lane, 10)
    writer.write(lane, [entries[0], entries[3]])
    assert {Kind.MISSING: 2} == found(verify_trail(trail))
    writer.write(lane, [entries[2]])
    writer.write(lane, [entries[1]])
    drain(outbox, writer)
    assert {} == found(verify(trail))


def test_what_is_left_of_a_trail_holds(
    trail: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G13: where older partitions were detached, what is left is verified from there on."""
    state = manager.create_session(sample_state("old"))
    for _ in range(5):
        state = manager.update_session(state)
    lane = Layout(trail.namespace, 2).lane_of("old")
    back = timedelta(days=100)
    entries = [entry for entry in outbox.read(lane, 10) if isinstance(entry, Entry)]
    moved = [moved_back(entry, back) if place < 4 else entry for place, entry in enumerate(entries)]
    writer.write(lane, moved)
    outbox.remove(lane, [entry.entry_id for entry in entries])
    assert {} == found(verify(trail))
    detach = f"SELECT sync_detach_partitions('{datetime.now(UTC) - timedelta(days=50)}')"
    change(trail, detach)
    report = verify(trail)
    assert ({}, 3 * VERSIONS + 2) == (found(report), report.events)
    change(trail, "DELETE FROM sync_events WHERE session_id = 'old' AND version = 5")
    assert {Kind.MISSING: 1, Kind.UNCHAINED: 1} == found(verify(trail))


def moved_back(entry: Entry, by: timedelta) -> Entry:
    """The same write, so much earlier."""
    message = entry.message
    moved = msgspec.structs.replace(message, updated_us=message.updated_us - by // timedelta(microseconds=1))
    return entry._replace(message=moved)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("writer")
def test_it_is_right_while_all_are_at_work(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """G13: with writers and a worker at work, a verification finds nothing."""
    # One look in the right order is enough; looking again is for what nobody has thought of.
    monkeypatch.setattr(store, "_PAUSES_S", ())
    stop, failures = threading.Event(), []

    def work(number: int) -> None:
        try:
            with RedisStateManager.connect(settings) as writes:
                for turn in itertools.count():
                    if stop.is_set():
                        return
                    name = f"s{number}-{turn % 7}"
                    state = writes.get_session(name) or writes.create_session(sample_state(name))
                    for _ in range(turn % 5):
                        state = writes.update_session(state)
                    if turn % 3 == 0:
                        writes.delete_session(name)
        except VersionConflict as error:
            failures.append(error)

    reports: list[Report] = []
    deadline = time.monotonic() + 60
    with worker_pool(as_worker(settings)):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            # On a busy machine, twelve may be over before the worker has recorded much.
            while len(reports) < 12 or (reports[-1].events <= 100 and time.monotonic() < deadline):
                reports.append(verify(as_worker(settings)))
                assert ({}, None, None) == (found(reports[-1]), reports[-1].first, reports[-1].not_compared)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert ([], True) == (failures, reports[-1].events > 100)


def test_what_cannot_be_reached_is_said(trail: Settings, client: redis.Redis) -> None:
    """G13: a store that cannot be asked, or is laid out in another way, is no verdict; before the trail is read."""
    with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL"):
        verify(msgspec.structs.replace(trail, redis_url="redis://127.0.0.1:1/0", timeout_s=0.2, receipt_ttl_s=1))
    with pytest.raises(ConfigurationError, match="KAIROS_LANES"):
        verify(msgspec.structs.replace(trail, lanes=3))
    with pytest.raises(ConfigurationError, match="KAIROS_POSTGRES_URL"):
        verify_trail(msgspec.structs.replace(trail, postgres_url="postgresql://127.0.0.1:1/x"))
    # Lost on the way: what was found counts, the rest is not judged.
    change(trail, f"UPDATE sync_events SET event_type = 'x' {WHERE_3}")
    # An index of another type cannot be read.
    for name in Layout(trail.namespace, 2).deadlines:
        client.set(name, "x")
    report = verify(trail)
    assert ({Kind.ALTERED: 1}, None) == (found(report), report.compared)
    assert report.not_compared


@pytest.mark.usefixtures("trail")
def test_a_partition_that_goes_away_meanwhile(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """G13: what looks wrong in one snapshot is looked at in another one before it is judged."""
    looks = []

    def judged(events: Any, known: Any, letters: Any) -> Any:
        looks.append(1)
        verdicts = judge(events, known, letters)
        return verdicts if len(looks) > 1 else [one._replace(findings=[wrong(one.session_id)]) for one in verdicts]

    monkeypatch.setattr("kairos_core.audit.verify.judge", judged)
    assert ({}, 2) == (found(verify_trail(as_worker(settings))), len(looks))


def wrong(session_id: str) -> Finding:
    """Something that is wrong for a moment."""
    return Finding(Kind.MISSING, session_id, "version 1 is missing")


@pytest.fixture(scope="module")
def bare(servers: Settings) -> Iterator[psycopg.Connection]:
    """A connection to PostgreSQL, without a schema."""
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        yield connection
    connection.close()


@given(json_values())
@how(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_state_survives_jsonb(bare: psycopg.Connection, value: Any) -> None:
    """G13: whatever is in a state, the digest of what PostgreSQL gives back is that of what was sent."""
    body, _ = session.encode(sample_state("a").replace(metadata={"value": value}))
    ((stored,),) = bare.execute("SELECT (%s::jsonb)::text", [body.decode()]).fetchall()
    assert chain.canonical(body) == chain.canonical(stored)
    write = ("0" * 32, "a", 1, 1, "create")
    assert chain.digest(write, 1, body, "x") == chain.digest(write, 1, stored, "x")
