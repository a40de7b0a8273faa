"""`kairos up --data`: what was written is there the next time, and nobody else is let in meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis

from kairos_core import kept
from kairos_core.errors import ConfigurationError
from kairos_core.local import local_servers
from kairos_core.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder through which every account may pass."""
    path = Path(tempfile.mkdtemp(prefix="kt-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def refusal(path: Path, valkey: int = 9, postgresql: int = 18) -> str:
    """Why servers of these versions may not have this folder."""
    with ExitStack() as stack, pytest.raises(ConfigurationError) as raised:
        kept.keep(path, (valkey, postgresql), stack)
    assert "--data" == raised.value.setting
    return raised.value.cause


def test_data_is_kept_from_one_run_to_the_next(folder: Path) -> None:
    """`kairos up --data` goes on with what is there, prints its settings for a program, and lets nobody else in."""
    data = folder / "data"
    command = [sys.executable, "-m", "kairos_core.cli", "up", "--data", str(data)]
    environment = {**os.environ, "KAIROS_LOCAL_FOLDER": str(folder), "KAIROS_LOCAL_REDIS_PORT": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([*command, "--json"], **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = json.loads(process.stdout.readline())
        with redis.Redis.from_url(found["KAIROS_REDIS_URL"]) as client:
            client.set("a", "kept")
        with psycopg.connect(found["KAIROS_POSTGRES_URL"]) as connection:
            connection.execute("CREATE TABLE kept (a int)")
        connection.close()
        assert "in use by another `kairos up`" in refusal(data)
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(DEADLINE_S)
        assert f"keeps their data in {data}\n" in process.stderr.read()
    assert ["data"] == [path.name for path in folder.iterdir()]
    cluster = data / "postgres" / "data"
    owner = cluster.stat().st_uid
    with subprocess.Popen(["/bin/sleep", "600"], user=owner, cwd="/") as other:
        # Killed, it leaves this; and the number may be another process's by now.
        (cluster / "postmaster.pid").write_text(f"{other.pid}\n{cluster}\n1\n5432\n/tmp\n\n0 0\nready\n")
        os.chown(cluster / "postmaster.pid", owner, -1)
        try:
            _is_kept(folder, data)
        finally:
            other.kill()


def _is_kept(folder: Path, data: Path) -> None:
    with local_servers(LocalSettings(folder=str(folder)), data) as servers:
        with redis.Redis.from_url(servers.redis_url) as client:
            assert b"kept" == client.get("a")
        with psycopg.connect(servers.postgres_url) as connection:
            assert [] == connection.execute("SELECT * FROM kept").fetchall()
        connection.close()


def test_a_folder_that_is_none_of_ours_is_refused(folder: Path) -> None:
    """A folder in use, of another version, with something else in it, or that cannot be made, is one line each."""
    data = folder / "data"
    data.mkdir()
    # Left by a run that was killed as it began.
    (data / "kairos.json.new").write_text("{")
    with ExitStack() as stack:
        first = kept.keep(data, (9, 18), stack)
        assert "in use by another `kairos up`" in refusal(data)
        # Held by whoever inherited it, such as a server whose supervisor was killed.
        inherited = os.dup(first.lock)
    assert "in use by another `kairos up`" in refusal(data)
    os.close(inherited)
    assert "is of Valkey 9 and PostgreSQL 18 (format 1), and this is Valkey 9 and PostgreSQL 19" in refusal(data, 9, 19)
    assert "Valkey 10" in refusal(data, 10, 18)
    with ExitStack() as stack:
        assert first._replace(lock=0) == kept.keep(data, (9, 18), stack)._replace(lock=0)
    (data / "kairos.json").write_text("{")
    assert "cannot be read" in refusal(data)
    (folder / "other").mkdir()
    (folder / "other" / "mine").touch()
    assert "has other files in it" in refusal(folder / "other")
    assert "is no folder" in refusal(folder / "other" / "mine")
    assert "is no folder" in refusal(folder / "other" / "mine" / "below")
    assert ["mine"] == [path.name for path in (folder / "other").iterdir()]


def test_a_new_folder_lets_postgresql_through_whatever_the_umask(folder: Path) -> None:
    """A folder made under a strict umask lets the account through that PostgreSQL runs as; its parts let nobody in."""
    before = os.umask(0o077)
    try:
        with ExitStack() as stack:
            found = kept.keep(folder / "data", (9, 18), stack)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder / "data", found.valkey, found.postgres)]
    assert [0o711, 0o700, 0o700] == modes


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL has an account of its own only where root starts it")
def test_a_folder_that_postgres_cannot_reach_is_refused_before_it_is_made(folder: Path) -> None:
    """Root's closed home, most of all: a line, and nothing of ours left in it."""
    (folder / "closed").mkdir(mode=0o700)
    servers = local_servers(LocalSettings(folder=str(folder)), folder / "closed" / "data")
    with pytest.raises(ConfigurationError, match="is closed to the account nobody"), servers:
        pass
    assert [] == list((folder / "closed").iterdir())
