"""Who may do what in the audit's schema, and how it is told which migrations were applied."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec
import psycopg
import pytest
from psycopg import sql

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.audit import migrations
from kairos_core.audit.outbox import Outbox
from kairos_core.cli import main
from kairos_core.settings import servers_given
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state
from loadtests.waiting import wait_until
from tests.in_outbox import entries, moved

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane."""
    return msgspec.structs.replace(settings, lanes=1)


@contextmanager
def role_of_a_worker(settings: Settings, connection: psycopg.Connection) -> Iterator[Settings]:
    """Settings with an account on PostgreSQL that has what `kairos migrate --grant-worker` gives, and no more."""
    name, password = f"{settings.namespace}_worker", secrets.token_hex(8)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password)))
    parts = urlsplit(settings.postgres_url)
    place = parts.netloc.rpartition("@")[2]
    account = parts._replace(netloc=f"{name}:{quote(password)}@{place}")
    try:
        yield msgspec.structs.replace(settings, postgres_url=urlunsplit(account))
    finally:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def may_make_roles(connection: psycopg.Connection) -> bool:
    """Whether the given server's account can make the one that is to be tested."""
    found = connection.execute("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user").fetchall()
    return not servers_given() or found == [(True,)]


def test_the_role_of_a_worker(
    settings: Settings,
    worker_settings: Settings,
    manager: RedisStateManager,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A worker records with a role that can insert and read: no row can be changed with it, and nothing made."""
    if not may_make_roles(connection):
        pytest.skip("the given account may not make roles")
    monkeypatch.setenv("KAIROS_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("KAIROS_NAMESPACE", settings.namespace)
    with role_of_a_worker(worker_settings, connection) as limited:
        assert main(["migrate", "--grant-worker", f"{settings.namespace}_worker"]) == 0
        assert "may record, and read" in capsys.readouterr().out
        outbox = Outbox.connect(limited)
        written = entries(manager, outbox)
        with AuditWriter.connect(limited) as writer:
            assert writer.migrate() == []
            # A month that has no partition, a dead letter, and a batch that is written again.
            assert writer.write(0, [moved(written[0], -400), *written[1:]]) == 3
            assert writer.write(0, written[1:]) == 0
            assert (
                writer.write(
                    0, [written[2]._replace(message=msgspec.structs.replace(written[2].message, operation_id="x"))]
                )
                == 0
            )
            for statement in (
                "UPDATE sync_events SET version = 9",
                "DELETE FROM sync_events",
                "TRUNCATE sync_events",
                "UPDATE sync_sessions SET version = 9",
                "DELETE FROM sync_participants",
                "INSERT INTO sync_sessions SELECT * FROM sync_sessions",
                "DELETE FROM audit_dead_letters",
                "INSERT INTO audit_dead_letters VALUES (0, '1-1', now(), NULL, '', '', now(), 'discarded')",
                "UPDATE audit_dead_letters SET reason = ''",
                "SELECT sync_detach_partitions(now())",
                "ALTER TABLE sync_events DISABLE TRIGGER ALL",
                "CREATE TABLE more (a integer)",
                "DELETE FROM schema_migrations",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), writer._connection.transaction():
                    writer._connection.execute(statement.encode())
        manager.update_session(manager.create_session(sample_state("b")))
        with worker_pool(limited) as pool:
            assert wait_until(lambda: not any(outbox.depths()))
        assert pool.returncode == 0
        outbox.close()
    assert [("a", 3), ("b", 2)] == connection.execute(
        "SELECT session_id, chain_length FROM sync_sessions ORDER BY session_id"
    ).fetchall()


def test_a_role_that_is_not_there(
    writer: AuditWriter, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped role is one line, and status 2."""
    del writer
    monkeypatch.setenv("KAIROS_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("KAIROS_NAMESPACE", settings.namespace)
    assert main(["migrate", "--grant-worker", "nobody at all"]) == 2
    assert "there is no role 'nobody at all'" in capsys.readouterr().err


def test_a_role_that_cannot_grant(
    settings: Settings,
    writer: AuditWriter,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An account that owns nothing is told that it cannot grant: PostgreSQL itself only warns."""
    if not may_make_roles(connection):
        pytest.skip("the given account may not make roles")
    with role_of_a_worker(settings, connection) as limited:
        name = f"{settings.namespace}_worker"
        writer.grant_worker(name)
        monkeypatch.setenv("KAIROS_POSTGRES_URL", limited.postgres_url)
        monkeypatch.setenv("KAIROS_NAMESPACE", settings.namespace)
        assert main(["migrate", "--grant-worker", name]) == 2
        assert "cannot grant" in capsys.readouterr().err


def test_the_status_of_the_migrations(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`kairos migrate --status` says what is to be applied, and when what was; it makes nothing."""
    monkeypatch.setenv("KAIROS_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("KAIROS_NAMESPACE", settings.namespace)
    for _ in range(2):
        assert main(["migrate", "--status"]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert len(migrations.migrations()) == sum(line.endswith("to be applied") for line in lines)
    assert main(["migrate"]) == 0
    capsys.readouterr()
    assert main(["migrate", "--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [one.name for one in migrations.migrations()] == [line.split()[0] for line in lines]
    assert all(" applied 2" in line for line in lines)
    assert main(["migrate", "--status", "--json"]) == 0
    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [one.name for one in migrations.migrations()] == [one["name"] for one in told if one["applied_at"]]
    assert [2, 2] == [main(["migrate", *more]) for more in (["--json"], ["--status", "--grant-worker", "x"])]
