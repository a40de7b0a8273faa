"""Sessions that the store has lost are restored from the audit (G12), on real servers."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from kairos_core import (
    AuditBacklogFull,
    AuditWriter,
    InvalidState,
    RedisStateManager,
    SessionExists,
    SessionNotFound,
    Settings,
    StoreUnavailable,
    SyncStatus,
    VersionConflict,
    messages,
    recovery,
    session,
)
from kairos_core.audit import chain
from kairos_core.audit.batch import prepare
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.audit.postgres import lock_number
from kairos_core.audit.recorded import BURIED, END_DISCARDED, OUT_OF_ORDER, Records
from kairos_core.cli import main
from kairos_core.commands import GRACE_MS
from kairos_core.errors import ConfigurationError
from kairos_core.expiry import Expiry
from kairos_core.layout import Layout
from kairos_core.recovery import CROWDED, NO_SESSION, WAITING, Case, Recovery
from kairos_core.session import MAX_INTEGER
from kairos_core.settings import child_environment
from kairos_core.transport import run
from loadtests.environment import as_recovery, as_worker
from loadtests.states import sample_state
from loadtests.valkeys import valkeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from kairos_core import SyncState
    from kairos_core.audit.recorded import Recorded
    from loadtests.valkeys import Launcher

LANES = 2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few lanes, so that there are several sessions in each."""
    return msgspec.structs.replace(settings, lanes=LANES)


@pytest.fixture
def store(settings: Settings, client: redis.Redis, manager: RedisStateManager, writer: AuditWriter) -> Iterator[Store]:
    """The test's store, and its audit."""
    found = Store(settings, client, manager, writer)
    yield found
    found.outbox.close()


class Store:
    """A store, its audit, and what befalls it."""

    def __init__(
        self, settings: Settings, client: redis.Redis, manager: RedisStateManager, writer: AuditWriter
    ) -> None:
        self.settings = settings
        self.client = client
        self.manager = manager
        self.writer = writer
        self.layout = Layout(settings.namespace, settings.lanes)
        self.outbox = Outbox.connect(as_worker(settings))

    def drain(self) -> None:
        """Record all that waits."""
        for lane in range(self.settings.lanes):
            drain_lane(self.outbox, self.writer, lane)

    def create(self, *names: str) -> dict[str, SyncState]:
        """Create and update sessions, and record that."""
        found = {}
        for name in names:
            state = self.manager.create_session(sample_state(name))
            found[name] = self.manager.update_session(state.replace(metadata={"name": name, "float": 1e22}))
        self.drain()
        return found

    def lose(self, *names: str) -> None:
        """Lose these sessions; without names, all that the namespace has."""
        keys = [self.layout.keys_of(name).session for name in names]
        for key in keys or list(self.client.scan_iter(match=f"{self.settings.namespace}:*")):
            self.client.delete(key)

    def recover(self, name: str | None = None, *, patience_s: float = 0.2, **options: Any) -> recovery.Report:
        """Run a recovery under its account."""
        found = as_recovery(self.settings)
        with Recovery(found, Records.connect(found), patience_s=patience_s, **options) as connected:
            return connected.recover_all() if name is None else connected.recover_one(name)

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """The rows of a query in the test's schema, if it has some."""
        with psycopg.connect(self.settings.postgres_url) as connection:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.settings.namespace)))
            cursor = connection.execute(query.encode(), arguments)
            found = cursor.fetchall() if cursor.description else []
        connection.close()
        return found

    def events(self, name: str) -> list[Any]:
        """What is recorded of a session, in the order of recording."""
        return self.rows(
            "SELECT incarnation, version, kind, event_type FROM sync_events WHERE session_id = %s ORDER BY position",
            name,
        )


def counts(report: recovery.Report) -> dict[str, int]:
    """How many there were of each case."""
    return {case.value: count for case, count in report.counts.items() if count}


def names(count: int) -> list[str]:
    """Ids of sessions, in all lanes."""
    return [f"s{number}" for number in range(count)]


def same(expected: SyncState, found: SyncState | None) -> bool:
    """Whether a state is the same but for what the server assigns."""
    assigned = {"incarnation": 0, "version": 0, "created_at": None, "updated_at": None}
    return found is not None and expected.replace(**assigned) == found.replace(**assigned)


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
    store.outbox.remove_through(lane, last_entry.entry_id)
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


def test_what_is_being_recorded_is_waited_for(store: Store) -> None:
    """G12: a deletion that a worker has in hand, and that the store has lost already, is waited for and not undone."""
    store.create("a")
    store.manager.delete_session("a")
    lane = store.layout.lane_of("a")
    entries = store.outbox.read(lane, 10)
    store.lose()
    is_copied, may_commit = threading.Event(), threading.Event()

    def pause(step: str) -> None:
        if step == "copied":
            is_copied.set()
            may_commit.wait(10)

    worker = threading.Thread(target=store.writer.record, args=(lane, prepare(entries), pause))
    worker.start()
    assert is_copied.wait(5)
    threading.Timer(0.3, may_commit.set).start()
    assert {"ended": 1} == counts(store.recover("a"))
    worker.join()
    assert store.manager.get_session("a") is None


def test_a_worker_that_stands_still_is_not_waited_for_long(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """G10: where somebody holds on to a lane, the command ends in time, with status 2 and the reason."""
    store.create("a")
    store.lose()
    impatient = msgspec.structs.replace(as_recovery(store.settings), timeout_s=0.2)
    with psycopg.connect(store.settings.postgres_url) as connection:
        lane, number = store.layout.lane_of("a"), lock_number(store.settings.namespace)
        connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [number, lane])
        assert 2 == main_in(impatient, "recover")
    connection.close()
    assert "kairos: KAIROS_POSTGRES_URL: canceling statement due to lock timeout" in capsys.readouterr().err


def test_a_drain_that_moves_is_waited_for(store: Store) -> None:
    """G12: where much waits before a session's last write, it is waited for as long as the drain moves on."""
    before = store.create("a")["a"]
    lane = store.layout.lane_of("a")
    others = [name for name in names(60) if store.layout.lane_of(name) == lane][:10]
    for name in others:
        store.manager.create_session(sample_state(name))
    later = store.manager.update_session(before.replace(metadata={"later": True}))
    store.lose("a")

    def work() -> None:
        while entries := store.outbox.read(lane, 1):
            store.writer.write(lane, entries)
            store.outbox.remove_through(lane, entries[0].entry_id)
            time.sleep(0.15)

    worker = threading.Thread(target=work)
    worker.start()
    report = store.recover("a", patience_s=0.6)
    worker.join()
    assert {"restored": 1} == counts(report)
    assert same(later, store.manager.get_session("a"))


def bury(store: Store, kind: str, settlement: str | None, version: int) -> None:
    """Put a write of session `a` among the dead letters."""
    (incarnation,) = store.rows("SELECT incarnation FROM sync_sessions WHERE session_id = 'a'")[0]
    message = messages.Message("a", kind, "x", "0" * 32, incarnation, version, 1, 1, msgspec.Raw(b"{}"))
    store.rows(
        "INSERT INTO audit_dead_letters (lane, entry_id, reason, payload, settlement, settled_at)"
        " VALUES (%s, '1-1', 'x', %s, %s, CASE WHEN %s::text IS NOT NULL THEN now() END)",
        store.layout.lane_of("a"),
        messages.encode(message),
        settlement,
        settlement,
    )


@pytest.mark.parametrize(
    ("kind", "settlement", "version", "reason"),
    [
        ("delete", None, 3, BURIED),
        ("update", None, 3, BURIED),
        ("delete", "discarded", 3, END_DISCARDED),
        ("expire", "discarded", 3, END_DISCARDED),
        ("update", "discarded", 3, None),
        ("delete", "replayed", 3, None),
        ("update", None, 2, None),
    ],
)
def test_dead_letters_are_looked_at(
    kind: str, settlement: str | None, version: int, reason: str | None, store: Store
) -> None:
    """G12: a session whose deletion, or later write, PostgreSQL refused is not restored as if there were none."""
    store.create("a")
    bury(store, kind, settlement, version)
    store.rows("INSERT INTO audit_dead_letters (lane, entry_id, reason, payload) VALUES (0, '2-1', 'x', 'no JSON')")
    store.lose()
    report = store.recover()
    assert report.first == ({Case.SKIPPED: ("a", reason)} if reason else {Case.RESTORED: ("a", "")})


def between(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> list[int]:
    """Do something each time between the reading of the audit and the restoration; how often, as a list's length."""
    read = Records.read
    done: list[int] = []

    def reading(self: Records, lane: int, session_ids: Any) -> dict[str, Recorded]:
        found = read(self, lane, session_ids)
        done.append(lane)
        action()
        return found

    monkeypatch.setattr(Records, "read", reading)
    return done


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Something that is done only once."""
    left = [action]

    def act() -> None:
        if left:
            left.pop()()

    return act


def test_a_session_that_came_and_went_is_not_restored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G12: a session that is created, deleted and recorded after the audit was read stays deleted."""
    store.create("a")
    store.lose()

    def come_and_go() -> None:
        store.manager.create_session(sample_state("a"))
        store.manager.delete_session("a")
        store.drain()

    done = between(monkeypatch, once(come_and_go))
    assert {"ended": 1} == counts(store.recover())
    assert 2 == len(done)
    assert store.manager.get_session("a") is None
    assert "recovered" not in {row[3] for row in store.events("a")}


def test_a_session_that_came_is_not_overwritten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G12: a session that is created after the audit was read is left alone; those beside it are restored."""
    store.create(*names(10))
    store.lose()
    created = []
    between(monkeypatch, once(lambda: created.append(store.manager.create_session(sample_state("s4")))))
    assert {"live": 1, "restored": 9} == counts(store.recover())
    assert created == [store.manager.get_session("s4")]


def test_creations_that_never_end_do_not_hold_it_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G10, G12: where another's creation always comes in between, sessions are skipped in the end, with the reason."""
    store.create("a", "b")
    store.lose()
    numbers = itertools.count()

    def crowd() -> None:
        for _ in range(4):
            store.manager.create_session(sample_state(f"crowd{next(numbers)}"))

    done = between(monkeypatch, crowd)
    report = store.recover()
    assert {"skipped": 2} == {name: count for name, count in counts(report).items() if name != "live"}
    assert CROWDED == report.first[Case.SKIPPED][1]
    assert 2 * recovery._ATTEMPTS >= len(done) > recovery._ATTEMPTS
    monkeypatch.undo()
    assert {"restored": 2} == {name: count for name, count in counts(store.recover()).items() if name != "live"}


def test_a_script_that_is_forgotten_is_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: a server that forgets its scripts in between is taught them again, and each session is restored once."""
    store.create(*names(10))
    store.lose()
    between(monkeypatch, store.client.script_flush)
    assert {"restored": 10} == counts(store.recover())
    store.drain()
    assert [(10,)] == store.rows("SELECT count(*) FROM sync_events WHERE event_type = 'recovered'")


def test_a_restoration_sent_again_is_one(store: Store) -> None:
    """G5: a restoration that is sent again, because its answer was lost, is one, and answers as at first."""
    store.create("a")
    store.lose()
    found = as_recovery(store.settings)
    with Recovery(found, Records.connect(found)) as connected:
        lane = store.layout.lane_of("a")
        body, _ = session.encode(sample_state("a"))
        command = connected._commands.restore("a", body, 77, None, "0" * 32)
        ask = connected._link.call_many
        assert [(0, 77)] == run(ask([command]))
        assert [(0, 77)] == run(ask([command]))
        state = store.manager.get_session("a")
        assert state is not None
        store.manager.update_session(state)
        assert [(1, 77, 2)] == run(ask([command]))
        # An incarnation that does not rise is refused, also where the caller knows the latest.
        store.manager.delete_session("a")
        assert [(2,)] == run(ask([connected._commands.restore("a", body, 77, 77, "1" * 32)]))
        assert [(2,)] == run(ask([connected._commands.restore("a", body, 79, 76, "1" * 32)]))
        assert [(0, 79)] == run(ask([connected._commands.restore("a", body, 79, 77, "1" * 32)]))
    assert 4 == len(store.outbox.read(lane, 10))


def test_another_server_in_its_place_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G12: where another server has taken a lane's place, all of its outbox is read again, not only what is new."""
    found = as_recovery(store.settings)
    with Recovery(found, Records.connect(found)) as connected:
        lane = store.layout.lane_of("a")
        backlog = connected._backlogs[lane]
        store.create("b")
        store.manager.create_session(sample_state("a"))
        backlog.look()
        assert (True, False) == (backlog.holds("a"), backlog.holds("b"))
        # One that has lost entries and made others, with lower ids.
        store.lose()
        store.client.xadd(store.layout.outboxes[lane], {"m": b"unreadable"}, id="1-1")
        message = messages.Message("b", "delete", "x", "0" * 32, 1, 2, 1, 1, msgspec.Raw(b"{}"))
        store.client.xadd(store.layout.outboxes[lane], {"m": messages.encode(message)}, id="1-2")
        monkeypatch.setattr(backlog, "_identify", lambda: "another")
        backlog.look()
        assert (False, True) == (backlog.holds("a"), backlog.holds("b"))


def test_what_left_the_outbox_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: a recovery remembers whose writes wait, and not whose have waited."""
    monkeypatch.setattr(recovery, "_REMEMBERED", 5)
    monkeypatch.setattr(recovery, "_SCAN", 3)
    store.settings = msgspec.structs.replace(store.settings, lanes=1)
    found = as_recovery(store.settings)
    with Recovery(found, Records.connect(found)) as connected:
        backlog = connected._backlogs[0]
        lane_names = [name for name in names(40) if store.layout.lane_of(name) == 0]
        for name in lane_names:
            store.manager.create_session(sample_state(name))
        backlog.look()
        assert len(lane_names) == len(backlog._last)
        store.drain()
        for name in lane_names:
            store.manager.delete_session(name)
        backlog.look()
        assert all(backlog.holds(name) for name in lane_names)
        store.drain()
        store.manager.create_session(sample_state(lane_names[0]))
        backlog.look()
        assert [True, False] == [backlog.holds(name) for name in lane_names[:2]]
        monkeypatch.setattr(backlog, "_prune_at", 0)
        backlog.look()
        assert 1 == len(backlog._last)


def test_a_full_outbox_stops_it(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """G10, G12: at half of the outbox' limit it waits for the drain, and stops; run again, it goes on."""
    store.create(*names(40))
    store.lose()
    limit = 10
    store.settings = msgspec.structs.replace(store.settings, outbox_limit=limit)
    with pytest.raises(AuditBacklogFull) as caught:
        store.recover()
    assert limit // 2 == caught.value.depth
    # Those who write now still can.
    assert 1 == store.manager.create_session(sample_state("new")).version
    # The default of its argument.
    options = {"dry_run": False, "even_expired": False, "patience_s": 0.1}
    monkeypatch.setattr(recovery.Recovery.__init__, "__kwdefaults__", options)
    there = as_recovery(store.settings)
    assert 1 == main_in(there, "recover")
    said = capsys.readouterr()
    assert "stopped, and can be run again: the outbox of lane" in said.err
    assert "restored" in said.out
    lost = next(name for name in names(40) if store.manager.get_session(name) is None)
    assert 1 == main_in(there, "recover", lost)
    # With a drain, it comes to its end by itself.
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            store.drain()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        report = store.recover(patience_s=5)
    finally:
        stop.set()
        worker.join()
    assert report.is_complete
    assert 40 == sum(state is not None for state in store.manager.get_sessions(names(40)).values())


def run_command(settings: Settings, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `kairos recover` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kairos_core.cli", "recover", *arguments],
        env=child_environment(as_recovery(settings)),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        **more,
    )


def test_two_at_once(store: Store) -> None:
    """G12: two recoveries at once restore each session once, and neither skips any."""
    store.create(*names(600))
    store.lose()
    command = [sys.executable, "-m", "kairos_core.cli", "recover"]
    environment = child_environment(as_recovery(store.settings))
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=50)[0] for process in processes]
    assert [0, 0] == [process.returncode for process in processes]
    found = [dict(line.split()[:2] for line in text.splitlines()) for text in said]
    assert 600 == sum(int(one["restored"]) for one in found)
    assert [600, 600] == [int(one["restored"]) + int(one["live"]) for one in found]
    store.drain()
    assert [(600, 600)] == store.rows(
        "SELECT count(*), count(DISTINCT session_id) FROM sync_events WHERE event_type = 'recovered'"
    )


# Run in a process of its own: restores ten at a time, and kills itself with SIGKILL once some are restored.
KILLED_RECOVERY = """
import os, signal
from kairos_core import Settings, recovery

recovery._CHUNK = 10
restore = recovery.Recovery._restore

def killed(self, *arguments):
    if self.report.restored >= 20:
        commands = self._link.call_many
        async def half(sent):
            await commands(sent[:5])
            os.kill(os.getpid(), signal.SIGKILL)
        self._link.call_many = half
    return restore(self, *arguments)

recovery.Recovery._restore = killed
with recovery.Recovery.connect(Settings.from_env()) as connected:
    connected.recover_all()
"""


def test_killed_half_way(store: Store) -> None:
    """G12: a recovery that is killed half-way and run again restores the rest, and each session once."""
    before = store.create(*names(100))
    store.lose()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RECOVERY],
        env=child_environment(as_recovery(store.settings)),
        check=False,
        timeout=30,
    )
    assert -signal.SIGKILL == killed.returncode
    assert {"live": 25, "restored": 75} == counts(store.recover())
    assert all(same(before[name], state) for name, state in store.manager.get_sessions(before).items())
    store.drain()
    assert [(100, 100)] == store.rows(
        "SELECT count(*), count(DISTINCT session_id) FROM sync_events WHERE event_type = 'recovered'"
    )


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """Servers that may be killed."""
    with valkeys() as started:
        yield started


def test_a_killed_server_that_comes_back_empty(launcher: Launcher, settings: Settings) -> None:
    """G12: after SIGKILL of a Valkey that keeps nothing, every recorded session is there again."""
    node = launcher.start()
    there = msgspec.structs.replace(settings, redis_url=node.url)
    with RedisStateManager.connect(there) as manager, AuditWriter.connect(there) as writer, node.client() as client:
        writer.migrate()
        store = Store(there, client, manager, writer)
        before = store.create(*names(50))
        launcher.kill(node)
        with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL"):
            Recovery.connect(there)
        launcher.restart(node)
        assert 0 == client.dbsize()
        assert 0 == main_in(there, "recover")
        assert all(same(before[name], state) for name, state in manager.get_sessions(before).items())
        store.outbox.close()
    launcher.kill(node)


def test_a_cluster(launcher: Launcher, settings: Settings) -> None:
    """G12: on a cluster, sessions of all its servers are restored, lane by lane."""
    cluster = launcher.cluster(replicas=False)
    there = msgspec.structs.replace(settings, redis_url=cluster.url, lanes=16)
    with RedisStateManager.connect(there) as manager, AuditWriter.connect(there) as writer:
        writer.migrate()
        before = {name: manager.create_session(sample_state(name)) for name in names(60)}
        outbox = Outbox.connect(there)
        for lane in range(there.lanes):
            drain_lane(outbox, writer, lane)
        outbox.close()
        sizes = []
        for node in cluster.primaries:
            with node.client() as client:
                sizes.append(client.dbsize())
                client.flushall()
        assert all(sizes)
        assert 0 == main_in(there, "recover")
        assert all(same(before[name], state) for name, state in manager.get_sessions(before).items())
    for node in cluster.primaries:
        launcher.kill(node)


def main_in(settings: Settings, *arguments: str) -> int:
    """Run the command with these settings in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.to_env().items():
            patch.setenv(name, value)
        return main(arguments)


def test_a_server_that_comes_back_with_an_old_snapshot(
    launcher: Launcher, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """G12: sessions that are there and older than what is recorded are counted and named, and left as they are."""
    node = launcher.start('save ""', "appendonly no")
    there = msgspec.structs.replace(settings, redis_url=node.url)
    with RedisStateManager.connect(there) as manager, AuditWriter.connect(there) as writer, node.client() as client:
        writer.migrate()
        store = Store(there, client, manager, writer)
        before = store.create(*names(10))
        client.save()
        later = {name: manager.update_session(before[name]) for name in names(4)}
        store.create("new")
        store.drain()
        launcher.kill(node)
        launcher.restart(node)
        assert 1 == main_in(there, "recover")
        said = capsys.readouterr().out
        assert {"restored": "1", "live": "6", "older": "4"} == {
            line.split()[0]: line.split()[1] for line in said.splitlines() if line.split()[1] != "0"
        }
        assert (
            f"first s0: it is there, and left alone, but the store has lost later writes: it is {before['s0'].stamp}"
            in said
        )
        assert f"recorded is {later['s0'].stamp}" in said
        assert before["s0"] == manager.get_session("s0")
        store.outbox.close()
    launcher.kill(node)


def test_a_store_without_memory_is_said(
    launcher: Launcher, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """G4, G12: a store that is full refuses, nothing is half restored, and the command says so with status 1."""
    node = launcher.start()
    there = msgspec.structs.replace(settings, redis_url=node.url)
    with RedisStateManager.connect(there) as manager, AuditWriter.connect(there) as writer, node.client() as client:
        writer.migrate()
        store = Store(there, client, manager, writer)
        store.create("a")
        client.flushall()
        client.set(store.layout.layout_key, store.layout.layout_value)
        client.config_set("maxmemory", 1)
        assert [1, 1] == [main_in(there, "recover"), main_in(there, "recover", "a")]
        assert 2 == capsys.readouterr().err.count("kairos: the store refused: OOM")
        assert [store.layout.layout_key.encode()] == client.keys()
        client.config_set("maxmemory", 0)
        assert 0 == main_in(there, "recover", "a")
        store.outbox.close()
    launcher.kill(node)


def test_one_session_says_which_case_it_is(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """G12: asked for one session, the command says what is the matter with it, and restores it where it is lost."""
    store.create("lost", "there", "gone", "corrupt", "waiting", "bent")
    store.manager.delete_session("gone")
    store.drain()
    store.manager.delete_session("waiting")
    store.lose("lost", "corrupt")
    store.rows("UPDATE sync_sessions SET state_snapshot = '{}' WHERE session_id = 'corrupt'")
    key = store.layout.keys_of("bent").session
    store.client.hset(key, "v", 1)
    there = as_recovery(store.settings)
    expected = {
        ("lost", "--dry-run"): (0, "restored: it is lost, and would be restored"),
        ("lost",): (0, "restored: it was lost, and is there again"),
        ("there",): (0, "live: it is there"),
        ("gone",): (0, "ended: it was deleted, or has expired"),
        ("corrupt",): (1, "invalid: it was left alone: "),
        ("waiting", "--dry-run"): (1, f"skipped: it is not there, and was left alone: {WAITING}"),
        ("bent",): (1, "older: it is there, and left alone"),
        ("nobody",): (1, "unknown: nothing is recorded of it"),
    }
    for arguments, (status, text) in expected.items():
        assert status == main_in(there, "recover", *arguments), arguments
        assert capsys.readouterr().out.startswith(f"session {arguments[0]}: {text}"), arguments
    short = msgspec.structs.replace(there, session_ttl_s=0.001)
    store.lose("there")
    assert 0 == main_in(short, "recover", "there")
    assert "over: it is lost, and would have expired by now: --even-expired restores it" in capsys.readouterr().out
    assert 0 == main_in(short, "recover", "there", "--even-expired")
    assert 2 == main_in(there, "recover", "no id")


def test_the_command_sums_up(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """G12: of all sessions, the command counts each case and names the first one to look at."""
    store.create(*names(6))
    store.lose("s0", "s1", "s2")
    store.rows("UPDATE sync_sessions SET state_snapshot = '{}' WHERE session_id = 's1'")
    there = as_recovery(store.settings)
    assert 1 == main_in(there, "recover", "--dry-run")
    assert "would be restored          2" in capsys.readouterr().out
    assert 1 == main_in(there, "recover")
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [["restored", "2"], ["live", "3"], ["over", "0"], ["skipped", "0"], ["invalid", "1"]] == lines
    store.rows("UPDATE sync_sessions SET deleted_at = now() WHERE session_id = 's1'")
    assert 0 == main_in(there, "recover")


def test_progress_is_shown_on_a_terminal(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where standard error is a terminal, a line there says how far it is; it is gone at the end."""
    store.create(*names(5))
    store.lose()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert 0 == main_in(as_recovery(store.settings), "recover")
    said = capsys.readouterr()
    assert "restored, " in said.err
    assert said.err.endswith("\r\033[K")
    assert "\r" not in said.out


def test_servers_that_cannot_be_used_are_named(store: Store, settings: Settings) -> None:
    """G14: a store or an audit that cannot be asked ends the command with status 2 and one line that names it."""
    unprepared = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_none")
    finished = run_command(unprepared)
    assert 2 == finished.returncode
    assert finished.stderr.startswith('kairos: KAIROS_POSTGRES_URL: relation "sync_sessions" does not exist')
    assert 1 == finished.stderr.count("\n")
    lanes = msgspec.structs.replace(settings, lanes=LANES + 1)
    finished = run_command(lanes)
    assert (2, True) == (finished.returncode, finished.stderr.startswith("kairos: KAIROS_LANES"))
    assert 2 == run_command(settings, "a", "b").returncode
    store.create("a")


def test_a_store_that_goes_away_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """G14: where the store goes away in the middle, the command ends with status 2."""
    store.create("a")

    def gone() -> None:
        raise StoreUnavailable("session a", "no answer in time")

    between(monkeypatch, gone)
    store.lose()
    assert 2 == main_in(as_recovery(store.settings), "recover")


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
