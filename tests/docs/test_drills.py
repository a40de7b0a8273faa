"""The drills of docs/operations: what befalls servers is done to real ones, and what is typed says what is written.

The store is a Valkey with deploy/valkey.conf, PostgreSQL a
database of its own, and the namespace that of the documents. `kairos` is run in this process, since a process for each
command would take half a second; all else is run in a shell.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg
import pytest
import redis
import yaml
from IPython.core.interactiveshell import InteractiveShell
from psycopg import sql
from traitlets.config import Config

from kairos_core import AuditWriter, RedisStateManager, Settings, SyncStatus
from kairos_core.audit import member, status
from kairos_core.audit.jobs import DrainQueue
from kairos_core.errors import StoreUnavailable
from kairos_core.layout import Layout
from kairos_core.local import free_port
from loadtests.environment import as_worker, new_account, note_accounts, with_login
from loadtests.losses import Store
from loadtests.servers.valkeys import valkeys
from loadtests.states import sample_state
from loadtests.waiting import wait_for
from tests.docs.drills import DOCUMENTS, Ground, configuration, drills
from tests.docs.markdown import ROOT, blocks, program
from tests.docs.shell import commands_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loadtests.servers.valkeys import Node

needs_redis_cli = pytest.mark.skipif(
    shutil.which("redis-cli") is None,
    reason="there is no redis-cli: what docs/operations says of it is not tested (Debian: redis-tools)",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks."""
    monkeypatch.setattr(status, "LOOK_S", 0.01)
    monkeypatch.setattr("kairos_core.audit.store._PAUSES_S", (0.0,))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A Valkey with the configuration that is recommended."""
    with valkeys() as launcher:
        yield launcher.start(*configuration())


@pytest.fixture(scope="module")
def database(servers: Settings) -> Iterator[str]:
    """The address of a database that has nothing in it."""
    name = f"drills_{secrets.token_hex(4)}"
    with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            pytest.skip(f"the drills of docs/operations take a database of their own: {error}")
        yield urlsplit(servers.postgres_url)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def ground(node: Node, database: str, tmp_path: Path) -> Iterator[Ground]:
    """A store as the documents have it: a few sessions, of which all is recorded."""
    accounts = {
        role: new_account(role, "kairos", queue_prefix=os.environ["RQ_KEY_PREFIX"])
        for role in ("core", "worker", "recover")
    }
    with node.client() as client:
        client.flushall()
        for one in accounts.values():
            client.execute_command("ACL", "SETUSER", one.user, *one.rules)
        note_accounts(node.url, accounts)
        url = with_login(node.url, accounts["core"].login)
        settings = Settings(redis_url=url, postgres_url=database)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS kairos CASCADE")
        with RedisStateManager.connect(settings) as manager, AuditWriter.connect(settings) as writer:
            writer.migrate()
            with Store(settings, client, manager, writer) as store:
                for name in ("table-1", "table-2", "table-12"):
                    state = manager.create_session(sample_state(name))
                    manager.update_session(state.replace(metadata={"turns": 1}), event_type="turn")
                store.drain()
                yield Ground(store, node, tmp_path)


def test_a_store_that_is_lost_comes_back(ground: Ground) -> None:
    """G12, G13: the drill for a store that came back empty: it is seen, restored, and seen to be whole."""
    ground.store.lose()
    ground.play("the store is lost", 1, 0, 0, 0)
    assert {"table-1", "table-2", "table-12"} == {
        name for name, state in ground.store.manager.get_sessions(["table-1", "table-2", "table-12"]).items() if state
    }


@needs_redis_cli
def test_a_store_that_was_put_back_is_seen_and_mended(ground: Ground) -> None:
    """G12, G13: the drill for a session that is older than its record: left alone; once taken away, restored."""
    store = ground.store
    key = store.layout.keys_of("table-1").session
    old, state = store.client.dump(key), store.manager.get_session("table-1")
    assert old is not None
    assert state is not None
    newer = store.manager.update_session(state.replace(metadata={"turns": 7}))
    store.drain()
    store.client.restore(key, 3_600_000, old, replace=True)
    ground.play("an old state", 1, 1)
    ground.play("an old state is taken away")
    restored = store.manager.get_session("table-1")
    assert restored is not None
    assert newer.metadata == restored.metadata


def test_postgres_may_be_away_and_put_back(ground: Ground) -> None:
    """G7, G13: without PostgreSQL writes go on; from a backup, all that it has not is named."""
    store = ground.store
    ground.play("a backup")
    state = store.manager.get_session("table-12")
    assert state is not None
    state = store.manager.update_session(state.replace(metadata={"turns": 1}))
    store.drain()
    store.manager.update_session(state.replace(metadata={"turns": 2}))
    away = "postgresql://127.0.0.1:1/postgres"
    ground.play("PostgreSQL is away", 2, 0, KAIROS_POSTGRES_URL=away)
    store.rows("DROP SCHEMA kairos CASCADE")
    ground.play("PostgreSQL was put back", 0, 0, 1)


def test_dead_letters_are_read_and_replayed(ground: Ground) -> None:
    """G7: the drill for rows that PostgreSQL refuses."""
    store = ground.store
    store.rows("ALTER TABLE sync_events ADD CONSTRAINT no_chess CHECK (event_type <> 'chess.move') NOT VALID")
    state = store.manager.get_session("table-12")
    assert state is not None
    store.manager.update_session(state, event_type="chess.move")
    store.drain()
    ground.play("dead letters", 0, 1)
    store.rows("ALTER TABLE sync_events DROP CONSTRAINT no_chess")
    ground.play("dead letters are replayed")


@needs_redis_cli
def test_a_full_memory_is_seen_and_widened(ground: Ground) -> None:
    """G10: the drill for a store that takes no more: it is refused, seen, and goes on."""
    store = ground.store
    limit = str(store.client.config_get("maxmemory")["maxmemory"])
    store.client.config_set("maxmemory", int(store.client.info("memory")["used_memory"]) // 2)
    try:
        with pytest.raises(StoreUnavailable) as refused:
            store.manager.create_session(sample_state("table-13"))
        ground.play("a full memory", 1)
        ground.play("more memory")
    finally:
        store.client.config_set("maxmemory", limit)
    assert refused.value.definite
    store.manager.create_session(sample_state("table-13"))


def test_what_is_recommended_is_found_well(ground: Ground) -> None:
    """G14: a Valkey with deploy/valkey.conf is healthy by `kairos health`, and what it cannot give is told."""
    ground.play("the configuration")
    info = ground.store.client.info()
    assert (1, "noeviction", 4 * 2**30) == (info["aof_enabled"], info["maxmemory_policy"], info["maxmemory"])
    ground.play("a durability that is not there", 1)
    text = (ROOT / "deploy" / "valkey.conf").read_text(encoding="utf-8")
    set_there = dict(line.split(maxsplit=1) for line in configuration())
    _, _, table = (DOCUMENTS / "durability.md").read_text(encoding="utf-8").partition("| option |")
    told = re.findall(r"^\| `([a-z-]+)[^`]*` \| ", table, re.MULTILINE)
    assert len(told) > 5
    assert [] == [name for name in told if name not in set_there]
    # Each line has its reason above it.
    assert [] == [line for line in set_there if f"\n{line} " in text and not re.search(rf"#.*\n(\w.*\n)*{line} ", text)]


def test_the_first_look_and_an_upgrade(ground: Ground) -> None:
    """What is typed first, and before and after an upgrade, says that all is well; other lanes are refused."""
    ground.play("the first look")
    ground.play("the trail")
    ground.play("an upgrade")
    ground.play("lanes", 1)


def test_accounts_and_roles(ground: Ground) -> None:
    """The accounts and the role are made by what is typed, and a worker records with them."""
    ground.play("an account")
    try:
        ground.play("a role")
        with psycopg.connect(ground.store.settings.postgres_url, user="recorder") as one:
            assert one.execute("SELECT count(*) FROM kairos.sync_events").fetchone() == (6,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                one.execute("DELETE FROM kairos.sync_events")
        one.close()
    finally:
        ground.store.rows("DROP OWNED BY recorder")
        ground.store.rows("DROP ROLE recorder")


@needs_redis_cli
def test_redis_cli_reads_what_is_stored(ground: Ground) -> None:
    """redis-cli makes the core's account, and reads a session, its deadline and what waits of it."""
    ground.play("an account is made")
    state = ground.store.manager.get_session("table-12")
    assert state is not None
    ground.store.manager.update_session(state.replace(metadata={"turns": 3}))
    with redis.Redis.from_url(with_login(ground.node.url, "kairos-core:long-and-secret")) as client:
        assert client.ping()
    said = ground.play("redis-cli")
    assert '"turns":3' in said[1]
    assert '"turns":3' in said[5]
    with ground.node.client() as client:
        client.execute_command("ACL", "DELUSER", "kairos-core")


def test_psql_reads_the_trail(ground: Ground) -> None:
    """With psql, one reads what an operator asks for: histories, changes, rates, lags, what lives, what is dead."""
    state = ground.store.manager.get_session("table-12")
    assert state is not None
    ground.store.manager.update_session(state.replace(status=SyncStatus.PAUSED), event_type="clock.stopped")
    ground.store.drain()
    said = ground.play("psql")
    assert "clock.stopped" in said[0]
    assert "paused" in said[1]


def test_rq_and_rq_dashboard_show_the_queue_and_its_workers(ground: Ground) -> None:
    """RQ's own programs, and rq-dashboard, read what a pool of Kairos has made: its queue, its workers, its JSON."""
    (shown,) = commands_of(drills()["rq-dashboard"])
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(ground.running(shown.command.replace("9181", str(port))))

        def read(page: str) -> str:
            try:
                with urlopen(f"http://127.0.0.1:{port}/0/{page}", timeout=10) as answer:
                    return str(answer.read().decode())
            except OSError:
                return ""

        state = ground.store.manager.get_session("table-12")
        assert state is not None
        ground.store.manager.update_session(state)
        # As the sweep of a pool does, whose worker comes later; a whole pool is three processes.
        with contextlib.closing(DrainQueue(as_worker(ground.store.settings))) as queue:
            queue.enqueue([ground.store.layout.lane_of("table-12")], "a sweep")
        wait_for("a job on its page", lambda: "drain([0]" in read("data/jobs/kairos-audit/queued/10/asc/1.json"), 30)
        (rq_worker,) = commands_of(drills()["rq worker"])
        stack.enter_context(ground.running(rq_worker.command))
        stack.enter_context(ground.running(shlex.join([sys.executable, *member.command("worker", "text")])))
        wait_for("both workers on its page", lambda: read("data/workers.json").count('"kairos-audit"') == 2, 30)
        wait_for("the queue on its page", lambda: '"kairos-audit"' in read("data/queues.json"), 30)
        assert "RQ" in read("view/queues")
        wait_for("the record", lambda: sum(ground.store.outbox.depths()) == 0, 30)
        said = ground.play("rq")
    assert "2 workers" in said[0]


def test_a_cell_shows_a_history(ground: Ground) -> None:
    """The program of the documents, as a cell in IPython, leaves a frame that shows itself as a table."""
    ground.store.manager.delete_session("table-12")
    ground.store.drain()
    # Without a history, which would be written to the home of whoever runs this.
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell: Any = InteractiveShell(config=quiet)  # type: ignore[no-untyped-call]
    with patch.dict(os.environ, ground.variables), contextlib.redirect_stdout(io.StringIO()) as said:
        shell.run_cell(program("AuditReader", file="docs/operations/clients.md")).raise_error()
        shown = shell.run_cell("frame")
    assert "3 delete deleted" in said.getvalue()
    assert shown.result._repr_html_().count("<tr") == 4


def test_the_losses_that_are_told_are_those_of_the_report() -> None:
    """The table of losses of the topologies is what the report in the repository measured."""
    stored = json.loads((ROOT / "reports" / "sample" / "validation" / "validation.json").read_text(encoding="utf-8"))
    measured = {
        (one["fault"], f"{one['counts']['writes acknowledged']:,}"): (
            f"{one['counts']['lost (expected)']:,}",
            f"{one['recovery_s']:.2f} s",
        )
        for one in stored["rounds"]
        if one["subject"] == "kairos" and one["recovery_s"] is not None
    }
    text = (DOCUMENTS / "topologies.md").read_text(encoding="utf-8").partition("| arena |")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:11]]
    assert {(row[1], row[2]): (row[3], row[4]) for row in rows}.items() <= measured.items()
    assert {"707"} == {row[3] for row in rows} - {"0"}


def test_each_drill_is_done() -> None:
    """What is a drill in the documents is typed by a test of this file, and nothing else of them is left out."""
    text = Path(__file__).read_text(encoding="utf-8")
    done = set(re.findall(r'(?:play\(|drills\(\)\[)"([^"]+)"', text))
    assert set(drills()) == done | {"sizing", "sizes"}
    of_drills = {(one.file, one.line) for one in drills().values()}
    others = [one for one in blocks("console", "sh") if one.file.startswith("docs/operations")]
    left = [str(one) for one in others if (one.file, one.line) not in of_drills]
    assert left == [str(one) for one in others if re.match(r"(redis-cli -p \d+ (SENTINEL|CLUSTER)|ps -o)", one.text)]


def test_what_is_urgent_is_said_to_be() -> None:
    """Each alert's section says the severity that the alert has, what to look at, and what to do."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    assert found
    for rule in found:
        section = text.partition(f"\n### {rule['alert']}\n")[2].partition("\n### ")[0]
        assert section.strip().startswith(f"*{rule['labels']['severity'].capitalize()}.* "), rule["alert"]
        assert ["Look", "Do"] == re.findall(r"^- \*\*(\w+)\*\*: ", section, re.MULTILINE), rule["alert"]


def test_the_lanes_of_a_cluster_are_as_told() -> None:
    """How evenly lanes lie on three primaries, each with a third of the slots, is what the topologies say."""
    text = (DOCUMENTS / "topologies.md").read_text(encoding="utf-8")
    for lanes, told in ((16, "are 4, 6 and 6"), (64, "64 lanes 19, 22 and 23")):
        counted = Counter(slot * 3 // 16_384 for slot in Layout("kairos", lanes).slots)
        assert re.findall(r"\d+", told)[-3:] == [str(count) for count in sorted(counted.values())]
        assert told in text
