"""Sessions that the store has lost are restored from the audit (G12), on real servers."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from kairos_core import InvalidState, SessionExists, SessionNotFound, Settings, SyncStatus, VersionConflict, recovery
from kairos_core.audit import chain
from kairos_core.audit.recorded import OUT_OF_ORDER, Records
from kairos_core.commands import GRACE_MS
from kairos_core.expiry import Expiry
from kairos_core.recovery import NO_SESSION, WAITING, Case, Recovery
from kairos_core.session import MAX_INTEGER
from loadtests.environment import as_recovery, as_worker
from loadtests.losses import Store, counts, names, same
from loadtests.states import sample_state

LANES = 2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few lanes, so that there are several sessions in each."""
    return msgspec.structs.replace(settings, lanes=LANES)


def test_all_is_restored(store: Store) -> None:
    """G12: where all is lost, every session that lived is there again, as it was, under a new incarnation."""
    before = store.create(*names(40))
    store.manager.delete_session("s7")
    store.drain()
    store.lose()
    report = store.recover()
    assert {"restored": 39} == counts(report)
    assert (39, True) == (report.total, report.is_complete)
    after = store.manager.get_sessions(before)
    assert after.pop("s7") is None
    for name, state in after.items():
        assert same(before[name], state), name
        assert state is not None
        assert (1, True) == (state.version, state.incarnation > before[name].incarnation)
    # and once more, nothing is left to do
    assert {"live": 39} == counts(store.recover())


def test_some_are_restored(store: Store) -> None:
    """G12: where some are lost, they are restored, and the others are not touched, be their key's end but different."""
    before = store.create(*names(30))
    lost = names(30)[::3]
    store.lose(*lost)
    kept = {name: store.layout.keys_of(name).session for name in names(30) if name not in lost}
    for key in kept.values():
        store.client.pexpire(key, 99_999_999)
    assert {"restored": 10, "live": 20} == counts(store.recover())
    assert all(same(before[name], store.manager.get_session(name)) for name in lost)
    assert {name: before[name] for name in kept} == store.manager.get_sessions(kept)
    assert all(store.client.pttl(key) > 90_000_000 for key in kept.values())


def test_a_dry_run_changes_nothing(store: Store) -> None:
    """G12: a dry run says the same and changes nothing, not even how the store is laid out."""
    store.create(*names(20))
    store.lose()
    found = as_recovery(store.settings)
    with Recovery.connect(found, dry_run=True) as dry:
        assert {"restored": 20} == counts(dry.recover_all())
    assert [] == list(store.client.scan_iter(match=f"{store.settings.namespace}:*"))
    with Recovery.connect(found) as real:
        assert {"restored": 20} == counts(real.recover_all())
    assert store.client.get(store.layout.layout_key) == store.layout.layout_value.encode()


def test_a_stale_writer_is_refused(store: Store) -> None:
    """G12: who holds a state from before the loss overwrites nothing: VersionConflict, with the new incarnation."""
    stale = store.create("a")["a"]
    store.lose()
    with pytest.raises(SessionNotFound):
        store.manager.update_session(stale)
    store.recover()
    with pytest.raises(VersionConflict) as caught:
        store.manager.update_session(stale)
    restored = store.manager.get_session("a")
    assert restored is not None
    assert restored.stamp == caught.value.current
    with pytest.raises(VersionConflict):
        store.manager.delete_session("a", if_unchanged=stale)
    with pytest.raises(SessionExists):
        store.manager.create_session(sample_state("a"))
    assert 2 == store.manager.update_session(restored).version


def test_watchers_hear_of_it(store: Store) -> None:
    """G8, G12: a watcher of all sessions hears of one that is restored, also one that heard of it before."""
    with store.manager.watch_sessions() as fresh:
        before = store.create("a")["a"]
        assert [1, 2] == [getattr(fresh.receive(2), "version", 0) for _ in range(2)]
        store.lose()
        with store.manager.watch_session("a") as late:
            store.recover()
            for updates, event_type in ((late, "recovered"), (fresh, "resynchronised")):
                update = updates.receive(2)
                assert update is not None
                assert (1, event_type) == (update.version, update.event_type)
                assert update.incarnation > before.incarnation
                assert same(before, update.state)


def test_the_audit_goes_on(store: Store) -> None:
    """G12, G13: a restoration is an event: version 1 of a new incarnation, chained behind the old life."""
    first = store.create("a")["a"]
    store.lose()
    store.recover()
    restored = store.manager.mutate_session("a", lambda state: state.replace(status=SyncStatus.PAUSED))
    store.drain()
    old, new = first.incarnation, restored.incarnation
    assert [
        (old, 1, "create", "created"),
        (old, 2, "update", "updated"),
        (new, 1, "create", "recovered"),
        (new, 2, "update", "updated"),
    ] == store.events("a")
    assert [(new, 2, None, "paused")] == store.rows(
        "SELECT incarnation, version, deleted_at, status FROM sync_sessions"
    )
    chain_hash = chain.NO_HASH
    for operation, *write, occurred_at, recorded_at, event_type, snapshot, recorded_hash in store.rows(
        "SELECT operation_id, session_id, incarnation, version, kind, occurred_at, recorded_at, event_type,"
        " state_snapshot::text, chain_hash FROM sync_events ORDER BY position"
    ):
        digest = chain.digest((operation.hex, *write), chain.microseconds(occurred_at), snapshot, event_type)
        chain_hash = chain.following(chain_hash, digest, chain.microseconds(recorded_at))
        assert chain_hash == recorded_hash


def test_it_ends_like_any_other(store: Store) -> None:
    """G9: a restored session has the full TTL, is in the index of deadlines, and the sweep ends it."""
    store.create("a")
    store.lose()
    store.recover()
    keys = store.layout.keys_of("a")
    ttl_ms, now_ms = store.settings.session_ttl_s * 1000, time.time() * 1000
    assert ttl_ms - 5_000 < store.client.pttl(keys.session) - GRACE_MS <= ttl_ms
    score = store.client.zscore(store.layout.deadlines[keys.lane], "a") or 0
    assert now_ms + ttl_ms - 5_000 < score <= now_ms + ttl_ms
    # of a shorter one, which is over by now
    store.lose()
    short = msgspec.structs.replace(store.settings, session_ttl_s=0.001)
    found = as_recovery(short)
    with Recovery(found, Records.connect(found), even_expired=True) as connected:
        assert {"restored": 1} == counts(connected.recover_all())
    expiry = Expiry.connect(as_worker(short))
    deadline = time.monotonic() + 5
    while not expiry.sweep() and time.monotonic() < deadline:
        time.sleep(0.01)
    expiry.close()
    store.drain()
    assert store.manager.get_session("a") is None
    assert [(1, "create", "recovered"), (2, "expire", "expired")] == [row[1:] for row in store.events("a")[-2:]]


def test_what_would_have_expired_is_left(store: Store) -> None:
    """G9, G12: a session whose time has passed since it was last written is over, and restored only where asked for."""
    store.create("a")
    store.lose()
    time.sleep(0.02)
    store.settings = msgspec.structs.replace(store.settings, session_ttl_s=0.01)
    report = store.recover()
    assert ({"over": 1}, True) == (counts(report), report.is_complete)
    assert store.manager.get_session("a") is None
    assert {"restored": 1} == counts(store.recover(even_expired=True))


def test_an_incarnation_rises_where_the_clock_was_put_back(store: Store) -> None:
    """G12: where the recorded incarnation is in the future, the new one, and those after it, are above it."""
    future = (time.time_ns() // 1000) + 10**12
    for life in store.layout.lives:
        store.client.set(life, future)
    before = store.create("a")["a"]
    assert before.incarnation > future
    store.lose()
    assert {"restored": 1} == counts(store.recover())
    restored = store.manager.get_session("a")
    assert restored is not None
    assert restored.incarnation > before.incarnation
    store.manager.delete_session("a")
    assert store.manager.create_session(sample_state("a")).incarnation > restored.incarnation
    store.drain()
    assert [False] == [row[0] for row in store.rows("SELECT deleted_at IS NOT NULL FROM sync_sessions")]


def test_a_deletion_under_a_clock_put_back_is_not_undone(store: Store) -> None:
    """G12: a life with a lower number that was recorded after a higher one raises a doubt, and nothing is restored."""
    for life in store.layout.lives:
        store.client.set(life, (time.time_ns() // 1000) + 10**12)
    store.create("a")
    store.lose()
    store.create("a")
    store.manager.delete_session("a")
    store.drain()
    report = store.recover()
    assert {Case.SKIPPED: ("a", OUT_OF_ORDER)} == report.first
    assert store.manager.get_session("a") is None


def test_older_versions_recorded_late_raise_no_doubt(store: Store) -> None:
    """G12: an older version of the same life that is recorded behind it, a replayed dead letter, changes nothing."""
    state = store.manager.create_session(sample_state("a"))
    last = store.manager.update_session(state.replace(metadata={"last": True}))
    lane = store.layout.lane_of("a")
    first_entry, last_entry = store.outbox.read(lane, 10)
    store.writer.write(lane, [last_entry])
    store.writer.write(lane, [first_entry])
    store.outbox.remove(lane, [entry.entry_id for entry in store.outbox.read(lane, 100)])
    store.lose()
    assert {"restored": 1} == counts(store.recover())
    assert same(last, store.manager.get_session("a"))


# Each is a way in which a recorded state is none: as SQL on the row of session `a`.
CORRUPT = {
    "no state": "state_snapshot = '{}'",
    "no object": "state_snapshot = '[1]'",
    "another's": "state_snapshot = jsonb_set(state_snapshot, '{session_id}', '\"b\"')",
    "another version": "state_snapshot = jsonb_set(state_snapshot, '{version}', '9')",
    "out of bounds": "state_snapshot = jsonb_set(state_snapshot, '{total_time_ms}', '1e20')",
    "two alike": "state_snapshot = jsonb_set(state_snapshot, '{participants,1,participant_index}', '0')",
    "an odd id": "state_snapshot = jsonb_set(state_snapshot, '{participants,1,participant_id}', '\"a b\"')",
    "an incarnation that leaves no room": f"incarnation = {MAX_INTEGER},"
    f" state_snapshot = jsonb_set(state_snapshot, '{{incarnation}}', '{MAX_INTEGER}')",
}


@pytest.mark.parametrize("change", CORRUPT)
def test_a_corrupt_record_is_left(change: str, store: Store) -> None:
    """G12: a recorded state that does not validate is reported and left; the others are restored."""
    store.create("a", "b", "c")
    store.lose()
    store.rows(f"UPDATE sync_sessions SET {CORRUPT[change]} WHERE session_id = 'a'")
    report = store.recover()
    assert ({"restored": 2, "invalid": 1}, False) == (counts(report), report.is_complete)
    session_id, reason = report.first[Case.INVALID]
    assert ("a", True) == (session_id, bool(reason))
    assert store.manager.get_session("a") is None
    assert not store.client.exists(store.layout.keys_of("a").session)


def test_what_is_no_session_is_left(store: Store) -> None:
    """G12: keys that hold something else are reported and left as they are, and do not hide the others."""
    store.create(*names(12))
    store.lose()
    keys = [store.layout.keys_of(name).session for name in names(3)]
    store.client.set(keys[0], "mine")
    store.client.hset(keys[1], mapping={"n": "x", "v": "y"})
    # Not seen before the script looks at it.
    store.client.hset(keys[2], "other", "1")
    report = store.recover()
    assert {"restored": 9, "invalid": 3} == counts(report)
    assert NO_SESSION == report.first[Case.INVALID][1]
    assert [b"mine", {b"n": b"x", b"v": b"y"}, {b"other": b"1"}] == [
        store.client.get(keys[0]),
        store.client.hgetall(keys[1]),
        store.client.hgetall(keys[2]),
    ]


def test_a_deletion_that_waits_is_not_undone(store: Store) -> None:
    """G12: a session whose deletion is in the outbox still is not restored; nor is one whose update is there."""
    before = store.create("a", "b", "c")
    store.manager.delete_session("a")
    later = store.manager.update_session(before["b"].replace(metadata={"later": True}))
    store.lose("b", "c")
    report = store.recover()
    assert {"restored": 1, "skipped": 2} == counts(report)
    assert WAITING == report.first[Case.SKIPPED][1]
    assert [None, None] == [store.manager.get_session(name) for name in "ab"]
    store.drain()
    assert {"restored": 1, "live": 1} == counts(store.recover())
    assert store.manager.get_session("a") is None
    assert same(later, store.manager.get_session("b"))


def test_what_waits_is_waited_for(store: Store) -> None:
    """G12: what waits in the outbox is waited for, where it is drained meanwhile, and taken into account."""
    before = store.create("a", "b")
    store.manager.delete_session("a")
    later = store.manager.update_session(before["b"].replace(metadata={"later": True}))
    store.lose("b")
    drain = threading.Timer(0.4, store.drain)
    drain.start()
    report = store.recover(patience_s=5)
    drain.join()
    assert {"restored": 1, "ended": 1} == counts(report)
    assert same(later, store.manager.get_session("b"))


def test_an_id_that_is_none_is_refused(store: Store) -> None:
    """G12: an id that no session can have is refused before anything is asked."""
    with pytest.raises(InvalidState):
        store.recover("a b")


def test_large_states_are_few_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: of large states, fewer are held at once; pages and those that wait are bounded, too."""
    for name, value in {"_PAGE": 7, "_CHUNK": 4, "_CHUNK_BYTES": 3_000, "_DEFERRED": 2}.items():
        monkeypatch.setattr(recovery, name, value)
    store.create(*names(50))
    for name in names(50)[:9]:
        store.manager.delete_session(name)
    store.lose(*names(50)[9:])
    assert {"restored": 41, "skipped": 9} == counts(store.recover(patience_s=0))
    store.drain()
    assert {"live": 41} == counts(store.recover())
