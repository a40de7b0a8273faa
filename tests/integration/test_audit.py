from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings, messages, session
from kairos_core.audit import migrations
from kairos_core.audit import writer as audit_writer
from kairos_core.audit.batch import prepare
from kairos_core.audit.drain import STEPS, drain_lane
from kairos_core.audit.jobs import DrainQueue
from kairos_core.audit.outbox import Entry, Outbox
from kairos_core.audit.pool import sweep
from kairos_core.audit.verify import verify_trail
from kairos_core.audit.work import is_transient
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from kairos_core.settings import child_environment
from loadtests.environment import admin, as_worker
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state
from loadtests.waiting import wait_until
from tests.in_schema import rows

if TYPE_CHECKING:
    from kairos_core import SyncState

WRITES = 2_500


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane, so that batches are full."""
    return msgspec.structs.replace(settings, lanes=1)


def write(manager: RedisStateManager, count: int = WRITES) -> list[SyncState]:
    """`count` writes to five sessions, the last of which is deleted at the end."""
    states = [manager.create_session(sample_state(f"s{number}")) for number in range(5)]
    for number in range(count - 6):
        states[number % 5] = manager.update_session(states[number % 5].replace(metadata={"turns": number}))
    manager.delete_session("s4")
    return states


def renamed(entry: Entry, number: int) -> Entry:
    """The same write under another operation id."""
    return entry._replace(message=msgspec.structs.replace(entry.message, operation_id=f"{number:032x}"))


def check_complete(settings: Settings, states: list[SyncState], count: int = WRITES, missing: int = 0) -> None:
    """Check that each write is one row, that the sessions' rows are the last ones, and that the trail verifies.

    Of so many sessions a version is missing, since it is a dead letter.
    """
    assert [(count, count)] == rows(settings, "SELECT count(*), count(DISTINCT operation_id) FROM sync_events")
    assert missing == verify_trail(settings).violations
    # versions 1..N of each session, without gap or fork
    assert [] == rows(
        settings,
        "SELECT session_id FROM sync_events GROUP BY session_id, incarnation"
        " HAVING min(version) <> 1 OR max(version) <> count(*) OR count(DISTINCT version) <> count(*)",
    )
    stored = {row[0]: row[1:] for row in rows(settings, "SELECT session_id, version, deleted_at FROM sync_sessions")}
    for state in states[:4]:
        assert (state.version, None) == stored[state.session_id]
    assert stored["s4"][0] == states[4].version + 1
    assert stored["s4"][1] is not None


def test_every_write_is_one_row(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: every write becomes one row with its full state, and the outbox is empty then."""
    states = write(manager)
    assert WRITES == drain_lane(outbox, writer, 0)
    check_complete(settings, states)
    assert [0] == outbox.depths()
    (snapshot,) = rows(
        settings, "SELECT state_snapshot::text FROM sync_events WHERE session_id = 's0' ORDER BY version DESC LIMIT 1"
    )
    assert msgspec.json.decode(session.to_json(states[0])) == {
        **(found := msgspec.json.decode(snapshot[0])),
        "created_at": found["created_at"].replace("+00:00", "Z"),
        "updated_at": found["updated_at"].replace("+00:00", "Z"),
    }


def test_participants_are_the_latest(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: a participant's row is that of the session's latest version."""
    state = manager.create_session(sample_state("a"))
    players = tuple(msgspec.structs.replace(player, cycle_count=7) for player in state.participants)
    manager.update_session(state.replace(participants=players))
    drain_lane(outbox, writer, 0, batch=1)
    assert [(0, 2, 7), (1, 2, 7)] == rows(
        settings, "SELECT participant_index, version, cycle_count FROM sync_participants ORDER BY participant_index"
    )


def test_a_batch_written_again_changes_nothing(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: the same batch twice, and overlapping batches, leave one row per write."""
    states = write(manager)
    entries = outbox.read(0, WRITES)
    assert WRITES == writer.write(0, entries)
    assert writer.write(0, entries) == 0
    assert writer.write(0, entries[100:300]) == 0
    check_complete(settings, states)


def test_sessions_never_go_back(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: batches in the wrong order leave the sessions' latest rows."""
    states = write(manager)
    entries = outbox.read(0, WRITES)
    writer.write(0, entries[1_000:])
    writer.write(0, entries[:1_000])
    check_complete(settings, states)


def dead_letters(settings: Settings) -> list[Any]:
    """The dead letters' SQLSTATEs and payloads."""
    return rows(settings, "SELECT sqlstate, convert_from(payload, 'UTF8') FROM audit_dead_letters ORDER BY entry_id")


def test_a_second_writer_of_a_version_is_buried(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: of two writes of one version the second is never recorded as if nothing were wrong: it is a dead letter."""
    manager.create_session(sample_state("a"))
    (entry,) = outbox.read(0, 10)
    assert isinstance(entry, Entry)
    second = renamed(entry, 0)._replace(entry_id=b"9-9")
    assert writer.write(0, [entry, second]) == 1
    ((sqlstate, payload),) = dead_letters(settings)
    assert ("23505", second.message.operation_id) == (sqlstate, msgspec.json.decode(payload)["o"])
    # buried again, it is still one
    assert writer.write(0, [entry, second]) == 0
    assert 1 == len(dead_letters(settings))


def test_poison_does_not_stop_a_lane(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: entries that cannot be read, or are refused, are buried with their reason; all others are rows."""
    client = admin(settings)
    stream = Layout(settings.namespace, settings.lanes).outboxes[0]
    states = write(manager, 1_000)
    good = outbox.read(0, 1)[0]
    assert isinstance(good, Entry)
    refused = msgspec.structs.replace(renamed(good, 1).message, session_id="x", body=msgspec.Raw(b'{"a":"\\u0000"}'))
    poison = [b"no JSON", b"{}", messages.encode(refused)]
    for text in poison:
        client.xadd(stream, {"m": text})
    client.xadd(stream, {"foreign": "1"})
    for _ in range(100):
        states[0] = manager.update_session(states[0])
    assert 1_104 == drain_lane(outbox, writer, 0)
    check_complete(settings, states, 1_100, missing=1)
    found = dead_letters(settings)
    assert [None, None, "22P05", None] == [sqlstate for sqlstate, _ in found]
    assert [text.decode() for text in poison] == [payload for _, payload in found[:3]]
    assert [0] == outbox.depths()


def with_players(*names: str) -> bytes:
    """The body of a session with these participants."""
    players = [
        {"participant_id": name, "participant_index": 0, "total_time_ms": 1, "time_used_ms": 0, "cycle_count": 0}
        | {"is_active": False, "has_expired": False}
        for name in names
    ]
    return msgspec.json.encode({"sync_mode": "global", "status": "pending", "participants": players})


@pytest.mark.parametrize(
    ("body", "sqlstate"),
    [
        (b'{"metadata":{"n":1e9999999999999999999}}', None),
        (with_players("p", "p"), "21000"),
        (with_players("".join(f"{number:x}." for number in range(9_000))), "54000"),
    ],
    ids=["a number", "a participant twice", "an id that no index holds"],
)
def test_odd_bodies_are_buried(
    body: bytes,
    sqlstate: str | None,
    settings: Settings,
    manager: RedisStateManager,
    writer: AuditWriter,
    outbox: Outbox,
) -> None:
    """G7: a record that fails in a way of its own stops no lane; its reason is short, and not the trigger's text."""
    bury_one(settings, manager, writer, outbox, body=msgspec.Raw(body))
    assert [sqlstate] == [found for found, _ in dead_letters(settings)]
    ((reason,),) = rows(settings, "SELECT reason FROM audit_dead_letters")
    assert len(reason) < 400
    assert "INSERT" not in reason


def bury_one(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox, **fields: object
) -> None:
    """Drain one record that is as it should be, one that is not, and another; check that only the second is buried."""
    manager.create_session(sample_state("a"))
    (good,) = outbox.read(0, 1)
    assert isinstance(good, Entry)
    bad = msgspec.structs.replace(renamed(good, 1).message, session_id="x")
    with admin(settings) as client:
        client.xadd(
            Layout(settings.namespace, settings.lanes).outboxes[0],
            {"m": messages.encode(msgspec.structs.replace(bad, **fields))},
        )
    manager.create_session(sample_state("b"))
    assert 3 == drain_lane(outbox, writer, 0)
    assert 1 == len(dead_letters(settings))
    assert [("a",), ("b",)] == rows(settings, "SELECT session_id FROM sync_sessions ORDER BY session_id")


def test_a_letter_of_an_id_that_is_none(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G13: a dead letter with an id that PostgreSQL does not take keeps no verification from its verdict."""
    bury_one(settings, manager, writer, outbox, session_id="a\0b")
    assert (0, 1) == ((report := verify_trail(settings)).violations, report.letters)
    with admin(settings) as client:
        client.xadd(Layout(settings.namespace, settings.lanes).outboxes[0], {"x": "1"})
    drain_lane(outbox, writer, 0)
    found = rows(settings, "SELECT reason FROM audit_dead_letters WHERE payload = convert_to($${b'x': b'1'}$$, 'UTF8')")
    assert [("the entry has no field m: none of Kairos' writers made it",)] == found


def test_large_states_are_read_a_few_at_a_time(manager: RedisStateManager, outbox: Outbox) -> None:
    """G10: a batch is bounded by its bytes, too: a thousand states of a megabyte are never in memory at once."""
    large = {"text": "x" * 900_000}
    for number in range(30):
        manager.create_session(sample_state(f"s{number}").replace(metadata=large))
    entries, has_more = outbox.read_batch(0, 1_000)
    assert (16, True) == (len(entries), has_more)
    manager.delete_session("s0")
    rest, has_more = outbox.read_batch(0, 1_000, entries[-1].entry_id)
    assert (15, False) == (len(rest), has_more)


def test_what_was_not_read_is_not_removed(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: an entry that stands before what was read, as after a failover to a clock that is behind, is not removed."""
    manager.create_session(sample_state("a"))
    stream = Layout(settings.namespace, settings.lanes).outboxes[0]
    (entry,) = outbox.read(0, 1)
    with admin(settings) as client:

        def fail_over(step: str) -> None:
            if step == "committed":
                client.delete(stream)
                client.xadd(stream, {"m": renamed(entry, 1).payload}, id="1-1")  # type: ignore[arg-type]

        drain_lane(outbox, writer, 0, reached=fail_over)
    assert [1] == outbox.depths()


def with_default(settings: Settings, setting: str, value: str) -> Settings:
    """Settings whose connections to PostgreSQL have a default of their own, as a database or a role may have."""
    glue = "&" if "?" in settings.postgres_url else "?"
    options = quote(f"-c {setting}=" + value.replace(" ", "\\ "))
    return msgspec.structs.replace(settings, postgres_url=f"{settings.postgres_url}{glue}options={options}")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("client_encoding", "LATIN1"),
        ("datestyle", "German"),
        ("timezone", "Asia/Kathmandu"),
        ("bytea_output", "escape"),
        ("default_transaction_isolation", "serializable"),
        ("synchronous_commit", "off"),
    ],
)
def test_a_database_with_defaults_of_its_own(
    setting: str, value: str, settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7, G13: whatever a database has by default, what is recorded is what was written, and is on the disk."""
    manager.create_session(sample_state("a").replace(metadata={"who": "Zoë ☃"}))
    odd = with_default(settings, setting, value)
    with AuditWriter.connect(odd) as another:
        assert 1 == drain_lane(outbox, another, 0)
        assert another._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    assert 0 == verify_trail(settings).violations
    assert 0 == verify_trail(odd).violations
    assert [("Zoë ☃",)] == rows(settings, "SELECT state_snapshot #>> '{metadata,who}' FROM sync_events")
    del writer


@pytest.mark.parametrize(
    "statement", ["UPDATE sync_events SET version = 9", "DELETE FROM sync_events", "TRUNCATE sync_events"]
)
def test_events_are_append_only(
    statement: str, settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G13: a recorded row can be neither changed nor removed."""
    manager.create_session(sample_state("a"))
    drain_lane(outbox, writer, 0)
    with pytest.raises(psycopg.errors.RestrictViolation):
        rows(settings, statement)
    assert [(1, 1)] == rows(settings, "SELECT count(*), max(version) FROM sync_events")


# Run in a process of its own: drains lane 0 and kills itself with SIGKILL at the named step.
KILLED_DRAIN = """
import os, signal, sys
from kairos_core import AuditWriter, Settings
from kairos_core.audit import drain
from kairos_core.audit.outbox import Outbox
if len(sys.argv) > 2:
    from loadtests import mutants
    mutants.apply(sys.argv[2])

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

settings = Settings.from_env()
audit, outbox = AuditWriter.connect(settings), Outbox.connect(settings)
step = sys.argv[1]
drain.drain_lane(outbox, audit, 0, reached=lambda now: kill() if now == step else None)
"""


def drain_and_kill(settings: Settings, step: str, *mutant: str) -> None:
    """Run the drain in another process until it kills itself."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_DRAIN, step, *mutant],
        env=child_environment(as_worker(settings)),
        check=False,
        timeout=30,
    )
    assert -signal.SIGKILL == killed.returncode


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_drain_repeats_harmlessly(
    step: str, settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: a drain that is killed at any point, and repeated, leaves each write exactly once."""
    states = write(manager)
    drain_and_kill(settings, step)
    drain_lane(outbox, writer, 0)
    check_complete(settings, states)
    assert [0] == outbox.depths()


@pytest.mark.parametrize(
    ("mutant", "step"),
    [
        ("delete_before_commit", "copied"),
        ("row_dropped", "removed"),
        ("chain_forgotten", "removed"),
    ],
)
def test_broken_drains_are_seen(
    mutant: str, step: str, settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """The check above, and `kairos audit verify`, are red on a drain that loses records or breaks their chain."""
    states = write(manager)
    writer.write(0, outbox.read(0, 500))
    drain_and_kill(settings, step, mutant)
    drain_lane(outbox, writer, 0)
    assert verify_trail(settings).violations
    with pytest.raises(AssertionError):
        check_complete(settings, states)


def test_rows_that_are_not_known_again_are_refused(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """A drain that does not look up what is recorded doubles nothing: the keys refuse it, and it is a dead letter."""
    write(manager, 200)
    entries = outbox.read(0, 200)
    assert 200 == drain_lane(outbox, writer, 0)
    with admin(settings) as client:
        for entry in entries:
            assert isinstance(entry, Entry)
            client.xadd(Layout(settings.namespace, settings.lanes).outboxes[0], {"m": entry.payload})
    drain_and_kill(settings, "removed", "recorded_not_looked_up")
    assert [(200,)] == rows(settings, "SELECT count(*) FROM sync_events")
    assert 200 == len(dead_letters(settings))


def test_random_event_ids_are_seen(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """A drain that does not know its rows again doubles none: the schema refuses them, and they are dead letters."""
    write(manager, 200)
    drain_and_kill(settings, "committed", "random_event_id")
    drain_lane(outbox, writer, 0)
    assert [(200,)] == rows(settings, "SELECT count(*) FROM sync_events")
    assert {"23505"} == {sqlstate for sqlstate, _ in dead_letters(settings)}


def test_two_drains_of_one_lane(
    settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: two drains that work on one lane by accident leave each write exactly once."""
    states = write(manager)
    others = [
        subprocess.Popen([sys.executable, "-c", KILLED_DRAIN, "never"], env=child_environment(as_worker(settings)))
        for _ in range(2)
    ]
    drain_lane(outbox, writer, 0)
    assert [0, 0] == [other.wait(30) for other in others]
    check_complete(settings, states)


@pytest.mark.parametrize(("isolation", "count"), [("read committed", 500), ("repeatable read", 1)])
def test_a_lane_is_written_by_one_at_a_time(
    isolation: str, count: int, settings: Settings, manager: RedisStateManager, writer: AuditWriter, outbox: Outbox
) -> None:
    """G7: who writes the same batch waits for the first to commit, finds everything recorded, and buries nothing."""
    states = write(manager, 500)
    # One that is refused by itself is not looked up again: it is buried.
    batch = prepare(outbox.read(0, count))
    others: list[int] = []
    odd = with_default(settings, "default_transaction_isolation", isolation)
    with AuditWriter.connect(odd) as other, ThreadPoolExecutor(1) as thread:

        def start_other(step: str) -> None:
            if step == "copied":
                others.append(other._connection.info.backend_pid)
                futures.append(thread.submit(other.record, 0, batch))
                wait_for_lock(settings, others[0])

        futures: list[Future[int]] = []
        assert writer.record(0, batch, start_other) == count
        assert futures[0].result(30) == 0
    assert [] == dead_letters(settings)
    drain_lane(outbox, writer, 0)
    check_complete(settings, states, 500)


def test_one_that_stands_still_loses_its_lane(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G7: who stops in the midst of a batch keeps nobody from other lanes, and from its own lane not for ever."""
    patience = "SET lock_timeout = '50ms'; SET idle_in_transaction_session_timeout = '500ms'"
    monkeypatch.setattr(audit_writer, "_PATIENCE", patience)
    states = write(manager, 100)
    batch = prepare(outbox.read(0, 100))
    waits: list[object] = []
    with AuditWriter.connect(settings) as stopped, AuditWriter.connect(settings) as other:
        stopped.migrate()

        def stand_still(step: str) -> None:
            if step == "copied":
                with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
                    other.record(0, batch)
                waits.append(is_transient(refused.value))
                wait_until(other_has_it)

        def other_has_it() -> bool:
            try:
                return other.record(0, batch) == 100
            except psycopg.errors.LockNotAvailable:
                return False

        with pytest.raises(psycopg.Error):
            stopped.record(0, batch, stand_still)
    assert [True] == waits
    check_complete(settings, states, 100)


def wait_for_lock(settings: Settings, pid: int) -> None:
    """Wait until a connection of PostgreSQL waits for another."""
    query = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid:d}"
    assert wait_until(lambda: rows(settings, query) == [("advisory",)])


def test_the_worker_drains(settings: Settings, manager: RedisStateManager, outbox: Outbox) -> None:
    """G7: with a worker running, writes become rows without anybody asking; it ends cleanly on SIGTERM."""
    with worker_pool(as_worker(settings), workers=2) as pool:
        states = write(manager)
        assert wait_until(lambda: not any(outbox.depths()))
        check_complete(settings, states)
    assert pool.returncode == 0


def test_a_lost_jobs_lane_is_handed_out_again(settings: Settings, manager: RedisStateManager, outbox: Outbox) -> None:
    """G7: a lane whose job was lost with its worker is handed out again once its lease has run out."""
    states = write(manager)
    queue = DrainQueue(as_worker(settings))
    assert sweep(outbox, queue, workers=1) == 1
    # held: a second sweep leaves it alone
    assert sweep(outbox, queue, workers=1) == 0
    admin(settings).delete(queue._queue.key)  # the job is lost
    queue.close()
    with worker_pool(as_worker(settings)):
        assert wait_until(lambda: not any(outbox.depths()))
    check_complete(settings, states)


def test_migrations_apply_once(settings: Settings, writer: AuditWriter) -> None:
    """Migrations are applied in order and once, and recorded with their checksum."""
    assert [] == writer.migrate()
    expected = [(m.number, m.name, m.checksum) for m in migrations.migrations()]
    assert expected == rows(settings, "SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    assert list(range(1, len(expected) + 1)) == [number for number, _, _ in expected]


def test_a_changed_migration_is_refused(settings: Settings, writer: AuditWriter) -> None:
    """A schema whose applied migration is not the one of this version is not touched."""
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("UPDATE {} SET checksum = 'x'").format(sql.Identifier(settings.namespace, "schema_migrations"))
        )
    connection.close()
    with pytest.raises(ConfigurationError, match=r"0001_events_and_sessions\.sql differs"):
        writer.migrate()
