"""Recoveries beside whoever else is at work (G12): each race by itself; test_recovery_history.py has all at once."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time

import msgspec
import psycopg
import pytest

from kairos_core import AuditBacklogFull, Settings, messages, recovery, session
from kairos_core.audit.batch import prepare
from kairos_core.audit.postgres import lock_number
from kairos_core.audit.recorded import BURIED, END_DISCARDED, Records
from kairos_core.recovery import CROWDED, Case, Recovery
from kairos_core.settings import child_environment
from kairos_core.transport import run
from loadtests.environment import as_recovery
from loadtests.losses import Store, between, counts, main_in, names, once, same
from loadtests.states import sample_state

LANES = 2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few lanes, so that there are several sessions in each."""
    return msgspec.structs.replace(settings, lanes=LANES)


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
            store.outbox.remove(lane, [entry.entry_id for entry in entries[:1]])
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


def test_a_session_that_came_and_went_is_not_restored(store: Store) -> None:
    """G12: a session that is created, deleted and recorded after the audit was read stays deleted."""
    store.create("a")
    store.lose()

    def come_and_go() -> None:
        store.manager.create_session(sample_state("a"))
        store.manager.delete_session("a")
        store.drain()

    with between(once(come_and_go)) as done:
        assert {"ended": 1} == counts(store.recover())
    assert 2 == len(done)
    assert store.manager.get_session("a") is None
    assert "recovered" not in {row[3] for row in store.events("a")}


def test_a_session_that_came_is_not_overwritten(store: Store) -> None:
    """G12: a session that is created after the audit was read is left alone; those beside it are restored."""
    store.create(*names(10))
    store.lose()
    created = []
    with between(once(lambda: created.append(store.manager.create_session(sample_state("s4"))))):
        assert {"live": 1, "restored": 9} == counts(store.recover())
    assert created == [store.manager.get_session("s4")]


def test_creations_that_never_end_do_not_hold_it_up(store: Store) -> None:
    """G10, G12: where another's creation always comes in between, sessions are skipped in the end, with the reason."""
    store.create("a", "b")
    store.lose()
    numbers = itertools.count()

    def crowd() -> None:
        for _ in range(4):
            store.manager.create_session(sample_state(f"crowd{next(numbers)}"))

    with between(crowd) as done:
        report = store.recover()
    assert {"skipped": 2} == {name: count for name, count in counts(report).items() if name != "live"}
    assert CROWDED == report.first[Case.SKIPPED][1]
    assert 2 * recovery._ATTEMPTS >= len(done) > recovery._ATTEMPTS
    assert {"restored": 2} == {name: count for name, count in counts(store.recover()).items() if name != "live"}


def test_a_script_that_is_forgotten_is_sent_again(store: Store) -> None:
    """G5: a server that forgets its scripts in between is taught them again, and each session is restored once."""
    store.create(*names(10))
    store.lose()
    with between(store.client.script_flush):
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


def test_two_recoveries_ahead_of_the_clock_make_no_life_in_common(store: Store) -> None:
    """G12: a session that another recovery restored and its owner deleted stays deleted, wherever the clock stands."""
    lane = store.layout.lane_of("a")
    other = next(name for name in names(50) if store.layout.lane_of(name) == lane)
    store.create("a", other)
    store.lose()
    # As after a restoration that drew far ahead, or a clock that was put back.
    store.client.set(store.layout.lives[lane], time.time_ns() // 1_000 + 60_000_000)

    @once
    def meanwhile() -> None:
        store.recover(other)
        store.manager.delete_session(other)

    with between(meanwhile):
        store.recover()
    assert store.manager.get_session(other) is None
    assert store.manager.get_session("a") is not None
