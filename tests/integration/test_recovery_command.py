"""`kairos recover`: what it says and how it ends, and servers that are killed, empty, full or gone (G12)."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from kairos_core import AuditWriter, RedisStateManager, Settings, StoreUnavailable
from kairos_core.audit.drain import drain_lane
from kairos_core.audit.outbox import Outbox
from kairos_core.errors import ConfigurationError
from kairos_core.recovery import WAITING, Recovery
from kairos_core.settings import child_environment
from loadtests.environment import as_recovery
from loadtests.losses import Store, between, main_in, names, same
from loadtests.states import sample_state

if TYPE_CHECKING:
    from loadtests.servers.valkeys import Launcher

LANES = 2


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Few lanes, so that there are several sessions in each."""
    return msgspec.structs.replace(settings, lanes=LANES)


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
    assert 1 == main_in(there, "recover", "--dry-run", "--json")
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (False, True, 2, 3, 1) == (
        told["is_complete"],
        told["is_dry"],
        *(told["counts"][case] for case in ("restored", "live", "invalid")),
    )
    assert "s1" == told["first"]["invalid"]["session"]
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
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert 0 == main_in(as_recovery(store.settings), "recover")
    said = capsys.readouterr()
    assert "restored, " in said.err
    # The line is erased, and the cursor is there again.
    assert said.err.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
    assert "\r" not in said.out


def run_command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kairos recover` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kairos_core.cli", "recover", *arguments],
        env=child_environment(as_recovery(settings)),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_servers_that_cannot_be_used_are_named(store: Store, settings: Settings) -> None:
    """G14: a store or an audit that cannot be asked ends the command with status 2 and one line that names it."""
    unprepared = msgspec.structs.replace(settings, namespace=f"{settings.namespace}_none")
    finished = run_command(unprepared)
    assert 2 == finished.returncode
    assert "_none is not there: `kairos migrate` makes it" in finished.stderr
    assert "" == finished.stdout
    assert 1 == finished.stderr.count("\n")
    lanes = msgspec.structs.replace(settings, lanes=LANES + 1)
    finished = run_command(lanes)
    assert (2, True) == (finished.returncode, finished.stderr.startswith("kairos: KAIROS_LANES"))
    assert 2 == run_command(settings, "a", "b").returncode
    store.create("a")


def test_a_store_that_goes_away_is_named(store: Store) -> None:
    """G14: where the store goes away in the middle, the command ends with status 2."""
    store.create("a")

    def gone() -> None:
        raise StoreUnavailable("session a", "no answer in time")

    store.lose()
    with between(gone):
        assert 2 == main_in(as_recovery(store.settings), "recover")
