"""The audit's schema: its migrations, its partitions, its roles, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit import chain, migrations
from kairos_core.audit.batch import prepare
from kairos_core.audit.jobs import DrainQueue
from kairos_core.audit.verify import verify_trail
from kairos_core.audit.watch import Watch
from kairos_core.cli import main
from kairos_core.errors import ConfigurationError
from kairos_core.settings import child_environment
from loadtests.waiting import wait_until
from tests.in_outbox import entries, moved

if TYPE_CHECKING:
    from kairos_core.audit.outbox import Outbox

# What there is in a schema, each with all that makes it what it is, in a query of its own.
CATALOGUE = {
    "columns": "SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default,"
    " collation_name FROM information_schema.columns WHERE table_schema = %s",
    "constraints": "SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = %s::regnamespace AND contype <> 'n'",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %s",
    "triggers": "SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    " WHERE relnamespace = %s::regnamespace AND NOT tgisinternal",
    "functions": "SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc WHERE pronamespace = %s::regnamespace",
    "comments": "SELECT relname, attname, description FROM pg_description JOIN pg_class ON pg_class.oid = objoid"
    " LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0"
    " WHERE relnamespace = %s::regnamespace AND pg_description.classoid = 'pg_class'::regclass",
    "kinds": "SELECT relname, relkind, pg_get_partkeydef(oid) FROM pg_class WHERE relnamespace = %s::regnamespace",
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane."""
    return msgspec.structs.replace(settings, lanes=1)


def catalogue(connection: psycopg.Connection, schema: str) -> dict[str, list[Any]]:
    """All that is in a schema, but for the record of its migrations and the partitions."""
    return {
        name: sorted(
            (
                tuple(str(value).replace(f"{schema}.", "").replace(f"'{schema}'", "") for value in row)
                for row in connection.execute(query, [schema])
            ),
        )
        for name, query in CATALOGUE.items()
    }


def without_migrations(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What there is besides the record of what was applied."""
    return {
        name: [row for row in rows if not any("schema_migrations" in value for value in row)]
        for name, rows in found.items()
    }


def test_the_migrations_lead_to_the_schema(settings: Settings, connection: psycopg.Connection) -> None:
    """The schema that is read is the one that is made: tables, keys, checks, indexes, triggers, functions, comments."""
    read, made = f"{settings.namespace}_read", settings.namespace
    text = resources.files("kairos_core").joinpath("audit", "sql", "schema.sql").read_text(encoding="utf-8")
    for schema, step in ((read, None), (made, migrations.migrate)):
        with connection.transaction():
            if step is not None:
                step(connection, schema)
                continue
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(sql.SQL("SET LOCAL search_path TO {}, pg_temp").format(sql.Identifier(schema)))
            connection.execute(text.encode())
    expected = without_migrations(catalogue(connection, read))
    assert all(expected.values())
    assert expected == without_migrations(catalogue(connection, made))
    migrations.drop_schema(connection, read)


def test_everything_has_a_comment(writer: AuditWriter, settings: Settings, connection: psycopg.Connection) -> None:
    """Whoever opens the database is told what each table and each column is."""
    del writer
    silent = connection.execute(
        "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0"
        " WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        " AND relname <> 'schema_migrations' AND (col_description(pg_class.oid, attnum) IS NULL"
        " OR obj_description(pg_class.oid, 'pg_class') IS NULL)",
        [settings.namespace],
    )
    assert [] == silent.fetchall()


def partitions(connection: psycopg.Connection) -> list[str]:
    """The names of the events' partitions."""
    rows = connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'sync_events'::regclass ORDER BY relname"
    )
    return [name for (name,) in rows]


def months(first: datetime, count: int) -> list[str]:
    """The names of so many partitions from a month on."""
    return [
        f"sync_events_{first.year + (first.month - 1 + n) // 12}_{(first.month - 1 + n) % 12 + 1:02}"
        for n in range(count)
    ]


def test_partitions_are_made_ahead(writer: AuditWriter, connection: psycopg.Connection) -> None:
    """The months to come have their partitions before anything is written in them, once."""
    ((now,),) = connection.execute("SELECT now()").fetchall()
    assert months(now.astimezone(UTC), 4) == partitions(connection)
    assert writer.make_partitions() == 0
    assert writer.make_partitions(months_ahead=5) == 2


def test_a_pool_makes_partitions(
    worker_settings: Settings, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """A pool that runs for months makes the partitions of those to come, each hour that it runs."""
    found = partitions(connection)
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(found[-1])))
    watch = Watch(worker_settings, DrainQueue(worker_settings))
    watch.look(time.monotonic())
    assert found[:-1] == partitions(connection)
    watch.look(time.monotonic() + 3_600)
    assert found == partitions(connection)
    del writer


def test_a_month_without_a_partition(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: a write of any month is recorded, also where nobody has made the partition: a clock that is wrong."""
    before = partitions(connection)
    written = [moved(entry, days) for entry, days in zip(entries(manager, outbox), (-400, -40, 400), strict=True)]
    # In one batch, and in a batch by itself.
    assert writer.write(0, written[:2]) == 2
    assert writer.write(0, written[2:]) == 1
    assert len(before) + 3 == len(partitions(connection))
    assert [("a", 3)] == connection.execute("SELECT session_id, chain_length FROM sync_sessions").fetchall()
    del settings


@pytest.mark.parametrize("days", [-40, 0, 40])
def test_a_version_is_recorded_once_in_any_month(
    days: int, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: a second writer of a version is refused, also where its time is in another partition."""
    first, second, _ = entries(manager, outbox)
    rival = moved(second, days)
    rival = rival._replace(
        entry_id=b"9-9",
        message=msgspec.structs.replace(
            rival.message, operation_id=f"{1:032x}", updated_us=rival.message.updated_us + 1
        ),
    )
    assert writer.write(0, [first, second]) == 2
    assert writer.write(0, [rival]) == 0
    ((sqlstate, reason),) = connection.execute("SELECT sqlstate, reason FROM audit_dead_letters").fetchall()
    assert sqlstate == "23505"
    assert f"version 2 of session a is recorded for operation {second.message.operation_id}" == reason


def test_an_operation_is_recorded_once(
    manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: an operation that claims a second version is refused, also at another time."""
    first, second, third = entries(manager, outbox)
    message = msgspec.structs.replace(third.message, operation_id=first.message.operation_id)
    assert writer.write(0, [first, second]) == 2
    assert writer.write(0, [third._replace(message=message)]) == 0
    ((reason,),) = connection.execute("SELECT reason FROM audit_dead_letters").fetchall()
    assert f"operation {first.message.operation_id} is recorded as version 1 of session a" == reason


def test_a_late_version(
    manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7, G13: a version that is recorded behind newer ones lengthens the chain, and the session stays as it is."""
    first, second, third = entries(manager, outbox)
    assert writer.write(0, [first, third]) == 2
    assert writer.write(0, [second]) == 1
    rows = connection.execute("SELECT version, position, chain_hash FROM sync_events ORDER BY position").fetchall()
    assert [(1, 1), (3, 2), (2, 3)] == [row[:2] for row in rows]
    found = connection.execute("SELECT version, chain_length, chain_hash FROM sync_sessions").fetchall()
    assert [(3, 3, rows[-1][2])] == found


def test_another_records_a_new_session_meanwhile(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: a session that somebody without the lane's lock records at the same time is no reason to refuse its rows."""
    first, second, _ = entries(manager, outbox)
    futures: list[Future[int]] = []
    with AuditWriter.connect(settings) as other, ThreadPoolExecutor(1) as thread:
        # The lock of another lane is none.
        pid = other._connection.info.backend_pid

        def start_other(step: str) -> None:
            if step == "copied":
                futures.append(thread.submit(other.write, 1, [second]))
                query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
                assert wait_until(lambda: connection.execute(query, [pid]).fetchall() == [("Lock",)])

        assert writer.record(0, prepare([first]), start_other) == 1
        assert futures[0].result(30) == 1
    assert [] == connection.execute("SELECT reason FROM audit_dead_letters").fetchall()
    for table in ("sync_sessions", "sync_participants"):
        versions = connection.execute(sql.SQL("SELECT DISTINCT version FROM {}").format(sql.Identifier(table)))
        assert [(2,)] == versions.fetchall()


def test_a_session_whose_latest_row_is_lost(
    manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: rows of participants that are left of a session without one are no reason to refuse what is written to it."""
    first, second, _ = entries(manager, outbox)
    assert writer.write(0, [first]) == 1
    connection.execute("DELETE FROM sync_sessions")
    connection.commit()
    assert writer.write(0, [second]) == 1
    assert [] == connection.execute("SELECT reason FROM audit_dead_letters").fetchall()
    for table in ("sync_sessions", "sync_participants"):
        versions = connection.execute(sql.SQL("SELECT DISTINCT version FROM {}").format(sql.Identifier(table)))
        assert [(2,)] == versions.fetchall()


def test_the_chain_is_of_what_was_written(
    manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G13: each row's hash can be made again from the rows, over several batches."""
    found = entries(manager, outbox, 5)
    for batch in (found[:1], found[1:3], found[3:]):
        writer.write(0, batch)
    before = chain.NO_HASH
    rows = connection.execute(
        "SELECT operation_id, session_id, incarnation, version, kind, occurred_at, state_snapshot::text, event_type,"
        " recorded_at, chain_hash FROM sync_events ORDER BY position"
    ).fetchall()
    assert len(found) == len(rows)
    for operation_id, session_id, incarnation, version, kind, occurred_at, snapshot, event_type, at, stored in rows:
        write = (operation_id.hex, session_id, incarnation, version, kind)
        digest = chain.digest(write, chain.microseconds(occurred_at), snapshot, event_type)
        before = chain.following(before, digest, chain.microseconds(at))
        assert stored == before


@pytest.mark.parametrize("statement", ["UPDATE {} SET version = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_a_partition_is_append_only_too(
    statement: str, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G13: no row can be changed by way of its partition either."""
    writer.write(0, entries(manager, outbox))
    ((name,),) = connection.execute("SELECT DISTINCT tableoid::regclass::text FROM sync_events").fetchall()
    with pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    assert [(3,)] == connection.execute("SELECT count(*) FROM sync_events").fetchall()


def test_old_partitions_are_detached(
    manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G13: what ends before a moment is taken out as tables of its own, and the chain goes on behind an anchor."""
    first, second, third = entries(manager, outbox)
    writer.write(0, [moved(first, -400), moved(second, -400)])
    writer.write(0, [third])
    old = months(datetime.now(UTC) - timedelta(days=400), 1)
    assert old == writer.detach_partitions(datetime.now(UTC) - timedelta(days=100))
    assert [] == writer.detach_partitions(datetime.now(UTC) - timedelta(days=100))
    assert [(3, 3)] == connection.execute("SELECT version, position FROM sync_events").fetchall()
    kept = connection.execute(
        sql.SQL("SELECT version, position, chain_hash FROM {} ORDER BY position").format(sql.Identifier(old[0]))
    ).fetchall()
    assert [(1, 1), (2, 2)] == [row[:2] for row in kept]
    anchors = connection.execute("SELECT session_id, position, version, chain_hash FROM audit_anchors").fetchall()
    assert [("a", 2, 2, kept[-1][2])] == anchors
    assert [(old[0],)] == connection.execute("SELECT partition FROM audit_detached").fetchall()


def test_what_is_recorded_while_a_month_is_detached(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G13: rows that are committed while a detach waits for its lock go out with the month, and are in the anchor."""
    first, second, _ = entries(manager, outbox)
    writer.write(0, [moved(first, -400)])
    with AuditWriter.connect(settings) as other, ThreadPoolExecutor(1) as thread:
        detached: list[Future[list[str]]] = []

        def detach(step: str) -> None:
            if step == "copied":
                before = datetime.now(UTC) - timedelta(days=100)
                detached.append(thread.submit(other.detach_partitions, before))
                wait_for(connection, other._connection.info.backend_pid)

        assert writer.record(0, prepare([moved(second, -400)]), detach) == 1
        assert len(detached[0].result(30)) == 1
    assert [("a", 2, 2)] == connection.execute("SELECT session_id, position, version FROM audit_anchors").fetchall()
    assert verify_trail(settings).violations == 0


def wait_for(connection: psycopg.Connection, pid: int) -> None:
    """Wait until another connection waits for a lock."""
    query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    assert wait_until(lambda: connection.execute(query, [pid]).fetchall() == [("Lock",)])


def test_two_that_miss_a_month(settings: Settings, writer: AuditWriter, connection: psycopg.Connection) -> None:
    """G7: of two that find the same month missing, one makes it, and the other finds it."""
    make = "SELECT sync_make_partitions('2001-02-03', '2001-02-03')"
    with AuditWriter.connect(settings) as other, ThreadPoolExecutor(1) as thread:
        with writer._connection.transaction():
            assert writer._connection.execute(make).fetchall() == [(1,)]
            found = thread.submit(lambda: other._connection.execute(make).fetchall())
            wait_for(connection, other._connection.info.backend_pid)
        assert found.result(30) == [(0,)]


@pytest.mark.parametrize("moment", ["2027-04-01 BC", "1969-12-31", "2256-01-01", "12026-01-01", "infinity"])
def test_months_of_no_store(moment: str, writer: AuditWriter, connection: psycopg.Connection) -> None:
    """Nobody can make a partition under the name of a month that it is not, or one of a time that no store has."""
    before = partitions(connection)
    with pytest.raises(psycopg.errors.InvalidParameterValue), writer._connection.transaction():
        writer._connection.execute("SELECT sync_make_partitions(%s, %s)", [moment, moment])
    assert before == partitions(connection)


def test_a_late_version_is_detached(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G13: what is left verifies, also where the last row that was detached was a version recorded late."""
    first, second, third, fourth = entries(manager, outbox, 4)
    for entry in (first, third, second):
        writer.write(0, [moved(entry, -400)])
    writer.write(0, [fourth])
    assert verify_trail(settings).violations == 0
    writer.detach_partitions(datetime.now(UTC) - timedelta(days=100))
    anchors = connection.execute("SELECT session_id, position, version FROM audit_anchors").fetchall()
    assert [("a", 3, 3)] == anchors
    assert verify_trail(settings).violations == 0


def test_this_month_is_not_detached(writer: AuditWriter, connection: psycopg.Connection) -> None:
    """A day that is mistyped takes no month out that is still written to, or is to come."""
    before = partitions(connection)
    for days in (35, 400):
        with pytest.raises(ConfigurationError, match="this month is still written to"):
            writer.detach_partitions(datetime.now(UTC) + timedelta(days=days))
    assert [] == writer.detach_partitions(datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    assert before == partitions(connection)


def test_a_detached_month_that_is_written_again(
    settings: Settings, manager: RedisStateManager, outbox: Outbox, writer: AuditWriter, connection: psycopg.Connection
) -> None:
    """G7: a write of a month that has been detached is recorded, in a new partition, and not taken for a bad row."""
    first, second, third = entries(manager, outbox)
    writer.write(0, [moved(first, -400)])
    (old,) = writer.detach_partitions(datetime.now(UTC) - timedelta(days=100))
    assert writer.write(0, [moved(second, -400)]) == 1
    assert f"{old}_2" in partitions(connection)
    assert [f"{old}_2"] == writer.detach_partitions(datetime.now(UTC) - timedelta(days=100))
    with AuditWriter.connect(settings) as another:
        assert another.write(0, [moved(third, -400)]) == 1
    assert f"{old}_3" in partitions(connection)
    assert [] == connection.execute("SELECT reason FROM audit_dead_letters").fetchall()
    assert verify_trail(settings).violations == 0


def test_detaching_by_command(
    settings: Settings,
    manager: RedisStateManager,
    outbox: Outbox,
    writer: AuditWriter,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`kairos audit detach` says what it took out, and what is left verifies; a day that is none is refused."""
    monkeypatch.setenv("KAIROS_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("KAIROS_NAMESPACE", settings.namespace)
    first, second, third = entries(manager, outbox)
    writer.write(0, [moved(first, -400), moved(second, -400)])
    writer.write(0, [third])
    old = months(datetime.now(UTC) - timedelta(days=400), 1)
    day = f"{datetime.now(UTC) - timedelta(days=100):%Y-%m-%d}"
    assert main(["audit", "detach", "--before", day]) == 0
    assert f"{old[0]} is detached\n" == capsys.readouterr().out
    assert main(["audit", "detach", "--before", day]) == 0
    assert "nothing ends by then\n" == capsys.readouterr().out
    assert main(["audit", "verify", "--no-store"]) == 0
    told = capsys.readouterr().out
    assert "1 sessions, 1 events" in told
    assert "1 sessions begin behind an anchor" in told
    fingerprint = verify_trail(settings).fingerprint
    # An anchor that is made up shows in the fingerprint.
    connection.execute("UPDATE audit_anchors SET chain_hash = sha256(chain_hash)")
    assert fingerprint != verify_trail(settings).fingerprint
    connection.execute("DELETE FROM audit_anchors")
    assert main(["audit", "verify", "--no-store"]) == 1
    assert main(["audit", "detach", "--before", "9999-01-01"]) == 2
    assert "this month is still written to" in capsys.readouterr().err
    assert main(["audit", "detach", "--before", "yesterday"]) == 2


def test_rows_from_before_the_chain(
    settings: Settings, connection: psycopg.Connection, manager: RedisStateManager, outbox: Outbox
) -> None:
    """Rows that were recorded before there were hashes stay readable, and the chain begins behind them."""
    first, second, third = entries(manager, outbox)
    early = [one for one in migrations.migrations() if one.number < 3]
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(settings.namespace)))
        connection.execute(
            "CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        for one in early:
            connection.execute(one.text.encode())
            connection.execute(
                "INSERT INTO schema_migrations VALUES (%s, %s, %s)", [one.number, one.name, one.checksum]
            )
        for entry in (first, second):
            *row, snapshot = entry.row()
            connection.execute(
                "INSERT INTO sync_events (operation_id, session_id, incarnation, version, kind, event_type,"
                " occurred_at, state_snapshot) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [*row, snapshot.decode()],
            )
        connection.execute(
            "INSERT INTO sync_sessions SELECT session_id, incarnation, version, state_snapshot ->> 'sync_mode',"
            " state_snapshot ->> 'status', occurred_at, occurred_at, NULL, state_snapshot FROM sync_events"
            " WHERE version = 2"
        )
    with AuditWriter.connect(settings) as writer:
        assert ["0003_partitions_and_chains.sql", "0004_new_sessions_at_once.sql"] == writer.migrate()
        assert writer.write(0, [third]) == 1
    assert [(1,), (2,)] == connection.execute("SELECT version FROM sync_events_before ORDER BY version").fetchall()
    assert [("a", 0, 2)] == connection.execute("SELECT session_id, position, version FROM audit_anchors").fetchall()
    assert [(3, 1)] == connection.execute("SELECT version, position FROM sync_events").fetchall()
    assert [(3, 1)] == connection.execute("SELECT version, chain_length FROM sync_sessions").fetchall()
    with pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("DELETE FROM sync_events_before")


def test_a_later_schema_is_refused(writer: AuditWriter, connection: psycopg.Connection) -> None:
    """A schema that a later version made is not touched by an earlier one."""
    connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later.sql', 'x')")
    with pytest.raises(ConfigurationError, match=r"9999_later\.sql is of a later version"):
        writer.migrate()


def test_what_cannot_be_said_is_no_verdict(settings: Settings, writer: AuditWriter) -> None:
    """A verdict that goes to a device that is full ends the command with one line and status 2, not with "violated"."""
    del writer
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "kairos_core.cli", "audit", "verify", "--no-store"],
            env=child_environment(settings),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (2, 1) == (finished.returncode, finished.stderr.count("\n"))
    assert "No space left on device" in finished.stderr
