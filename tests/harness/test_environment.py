from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
import redis
from psycopg import sql

from kairos_core import RedisStateManager, Settings
from kairos_core.errors import ConfigurationError
from kairos_core.local import Servers, local_servers
from kairos_core.settings import LocalSettings
from loadtests.environment import harness, new_namespace, row_counts
from loadtests.servers.worker import worker_pool
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 30.0


class Given(NamedTuple):
    """Servers that the environment names, with other things on them.

    Attributes:
        servers: their addresses.
        client: a connection to Valkey.
        queue: a connection to its database 1.
        connection: a connection to PostgreSQL.
        namespace: the one that the harness is to use.
    """

    servers: Servers
    client: redis.Redis
    queue: redis.Redis
    connection: psycopg.Connection
    namespace: str

    def contents(self) -> dict[str, object]:
        """Every key as the server stores it and whether it expires, and every schema's tables with their rows."""
        found: dict[str, object] = {}
        for number, client in enumerate((self.client, self.queue)):
            for key in client.scan_iter():
                found[f"{number} {key.decode(errors='replace')}"] = client.dump(key), client.ttl(key) > 0
        tables = self.connection.execute(
            "SELECT nspname, relname FROM pg_namespace LEFT JOIN pg_class ON relnamespace = pg_namespace.oid"
            " AND relkind IN ('r', 'p') WHERE nspname !~ '^(pg_|information_schema)'"
        ).fetchall()
        for schema, table in tables:
            found[f"{schema}.{table}"] = self.rows(schema, table) if table else None
        return found

    def rows(self, schema: str, table: str) -> list[tuple[object, ...]]:
        """The rows of a table."""
        return self.connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table))).fetchall()

    def ours(self) -> list[str]:
        """The keys and tables that begin with the namespace, without database number."""
        names = [name.partition(" ")[2] or name for name in self.contents()]
        return [name for name in names if name.startswith(self.namespace)]


@pytest.fixture(scope="module")
def embedded() -> Iterator[Servers]:
    """Servers that are given: to the harness, they are somebody's."""
    folder = Path(tempfile.mkdtemp(prefix="kt-"))
    folder.chmod(0o711)
    with local_servers(LocalSettings(folder=str(folder))) as servers:
        yield servers
    shutil.rmtree(folder)


@pytest.fixture
def given(embedded: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Given]:
    """The environment names servers that hold keys of several types and schemas, some named nearly like ours."""
    monkeypatch.setenv("KAIROS_REDIS_URL", embedded.redis_url)
    monkeypatch.setenv("KAIROS_POSTGRES_URL", embedded.postgres_url)
    monkeypatch.setenv("KAIROS_QUEUE_URL", "")
    # Whoever starts servers all the same fails.
    monkeypatch.setenv("KAIROS_LOCAL_FOLDER", "/dev/null")
    # The harness sets it; so that other tests have their own again afterwards.
    monkeypatch.setenv("RQ_KEY_PREFIX", os.environ["RQ_KEY_PREFIX"])
    namespace = new_namespace("given")
    with (
        redis.Redis.from_url(embedded.redis_url) as client,
        redis.Redis.from_url(queue_url(embedded)) as queue,
        psycopg.connect(embedded.postgres_url, autocommit=True) as connection,
    ):
        found = Given(embedded, client, queue, connection, namespace)
        schemas = ["kairos", namespace[:-1], f"other_{namespace}", namespace.upper()]
        put_foreign_keys(client, namespace)
        put_foreign_keys(queue, namespace)
        for schema in schemas:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            table = sql.Identifier(schema, "sync_events")
            connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 1 AS id, 'kept' AS what").format(table))
        yield found
        client.flushall()
        for schema in schemas:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    connection.close()


def queue_url(servers: Servers) -> str:
    """Another database of the same Valkey."""
    return servers.redis_url.removesuffix("/0") + "/1"


def put_foreign_keys(client: redis.Redis, namespace: str) -> None:
    """Keys of every type, under names of Kairos and RQ as others have them, and under names nearly like ours."""
    client.set("kairos:x", "text")
    client.set("kairos:layout", "format=1 lanes=3")
    client.hset("kairos:{L00}:s:one", mapping={"n": 1, "v": 1})
    client.xadd("kairos:{L00}:outbox", {"o": "1"})
    client.zadd("kairos:{L00}:deadlines", {"one": 1.5})
    client.set("rq:queue:x", "text", ex=3600)
    client.rpush("rq:queue:default", "a", "b")
    client.sadd("rq:queues", "rq:queue:default")
    client.set(namespace[:-1], "one letter less")
    client.set(f"other:{namespace}:x", "not at the beginning")
    client.set(namespace.upper(), "in capitals")
    client.set(b"\xff\x00*?[", "no text")


def write_and_record(settings: Settings) -> None:
    """Four writes, which a worker moves to PostgreSQL."""
    with worker_pool(settings), RedisStateManager.connect(settings) as manager:
        for number in range(3):
            state = manager.create_session(sample_state(f"session-{number}"))
        manager.update_session(state)
        deadline = time.monotonic() + DEADLINE_S
        while row_counts(settings, "sync_events") < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_given_servers_are_used_and_none_is_started(given: Given) -> None:
    """Where the environment names servers, the run uses them, under its own namespace, and starts none."""
    with harness(given.namespace) as settings:
        assert (given.servers.redis_url, given.servers.postgres_url) == (settings.redis_url, settings.postgres_url)
        assert given.namespace == settings.namespace
        with RedisStateManager.connect(settings) as manager:
            manager.create_session(sample_state("here"))
        assert any(name.endswith(":s:here") for name in given.ours())


def test_ours_is_removed_and_nothing_else_touched(given: Given) -> None:
    """Keys, RQ's keys and schema of a run with workers begin with its namespace, and only they are removed."""
    before = given.contents()
    with harness(given.namespace) as settings:
        write_and_record(settings)
        ours = given.ours()
        assert any(name.startswith(f"{given.namespace}:rq:") for name in ours)
        assert f"{given.namespace}.sync_events" in ours
        during = given.contents()
        assert {name: value for name, value in during.items() if name in before} == before
        assert len(during) == len(before) + len(ours)
    assert before == given.contents()


def test_a_queue_elsewhere_is_cleaned_too(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """RQ's keys in a Redis of their own are removed from there, and foreign keys stay there, too."""
    monkeypatch.setenv("KAIROS_QUEUE_URL", queue_url(given.servers))
    before = given.contents()
    with harness(given.namespace) as settings:
        assert queue_url(given.servers) == settings.queue_url
        write_and_record(settings)
        assert list(given.queue.scan_iter(match=f"{given.namespace}:rq:*"))
        assert [] == list(given.client.scan_iter(match=f"{given.namespace}:rq:*"))
    assert before == given.contents()


def test_ours_is_removed_after_an_error(given: Given) -> None:
    """When the body raises, the error comes through, and the run's traces are removed all the same."""

    def fail_within() -> None:
        with harness(given.namespace) as settings:
            write_and_record(settings)
            assert given.ours()
            raise ZeroDivisionError

    before = given.contents()
    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert before == given.contents()


def test_many_keys_are_removed(given: Given) -> None:
    """However many keys a run leaves, none is left."""
    before = given.contents()
    with harness(given.namespace) as settings:
        given.client.mset({f"{settings.namespace}:{number}": "x" for number in range(5_000)})
    assert before == given.contents()


def test_two_runs_on_the_same_servers_do_not_meet(given: Given) -> None:
    """The end of one run removes nothing of another that goes on."""
    with harness(given.namespace) as settings, RedisStateManager.connect(settings) as manager:
        created = manager.create_session(sample_state("mine"))
        with harness(new_namespace("given")) as other, RedisStateManager.connect(other) as others:
            assert others.get_session("mine") is None
            others.create_session(sample_state("mine"))
        assert created == manager.get_session("mine")


@pytest.mark.parametrize("name", ["KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL", "KAIROS_QUEUE_URL"])
def test_nothing_is_written_where_a_server_is_missing(given: Given, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where one server cannot be reached, the setting is named, and nothing is written to the others."""
    scheme = "postgresql" if name == "KAIROS_POSTGRES_URL" else "redis"
    before = given.contents()
    # Port 1 is for root, and nobody has a server there.
    monkeypatch.setenv(name, f"{scheme}://127.0.0.1:1/0")
    with pytest.raises(ConfigurationError) as raised, harness(given.namespace):
        pass
    assert name == raised.value.setting
    assert before == given.contents()


@pytest.mark.parametrize("name", ["KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"])
def test_half_a_set_of_servers_is_refused(given: Given, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Where only one server is named, the missing setting is, and no other server is started in its place."""
    monkeypatch.setenv(name, " ")
    with pytest.raises(ConfigurationError) as raised, harness(given.namespace):
        pass
    assert name == raised.value.setting
    assert "set both or none" in raised.value.cause


def test_no_server_given_starts_embedded_ones(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names no server, embedded ones are started, and the run leaves the others alone."""
    before = given.contents()
    monkeypatch.setenv("KAIROS_REDIS_URL", "")
    monkeypatch.setenv("KAIROS_POSTGRES_URL", "")
    monkeypatch.delenv("KAIROS_LOCAL_FOLDER")
    with harness(given.namespace) as settings, RedisStateManager.connect(settings) as manager:
        assert settings.redis_url != given.servers.redis_url
        assert settings.postgres_url != given.servers.postgres_url
        manager.create_session(sample_state("elsewhere"))
        assert before == given.contents()
