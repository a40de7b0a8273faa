from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.errors import ConfigurationError
from kairos_core.local import Servers, local_servers
from kairos_core.settings import LocalSettings
from loadtests.servers.stopping import is_there
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0

# A process that asks for servers, says which it got, and stays until it is ended.
# It waits in short pieces: Python sees a signal that comes right before a wait only when that wait is over.
ASK = """
import json, select, sys
from kairos_core.local import local_servers
with local_servers() as servers:
    print(json.dumps(servers._asdict()), flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        pass
"""


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, and through which every account may pass."""
    path = Path(tempfile.mkdtemp(prefix="kt-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of this test's own."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """Where the servers are that several tests look at."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="module")
def servers(shared_folder: Path) -> Iterator[Servers]:
    """Servers to look at."""
    with local_servers(LocalSettings(folder=str(shared_folder))) as started:
        yield started


def left(folder: Path, servers: Servers) -> dict[str, object]:
    """What is left of these servers."""
    return {
        "processes": [pid for pid in (servers.valkey_pid, servers.postgres_pid) if is_there(pid)],
        "files": sorted(path.name for path in folder.iterdir()),
    }


NOTHING: dict[str, object] = {"processes": [], "files": []}


@contextlib.contextmanager
def asking(
    folder: Path, user: str | None = None, python: str = sys.executable
) -> Iterator[tuple[subprocess.Popen[str], Servers]]:
    """A process that has servers in this folder; it is killed at the end, if it is still there."""
    process = subprocess.Popen(
        [python, "-c", ASK],
        cwd=ROOT,
        env={**os.environ, "KAIROS_LOCAL_FOLDER": str(folder), "KAIROS_LOCAL_REDIS_PORT": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        user=user,
        # None of root's groups: they would let the other account in where it has no business.
        extra_groups=[] if user else None,
    )
    try:
        assert process.stdout is not None
        yield process, Servers(**json.loads(process.stdout.readline()))
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate()


def refusal(settings: LocalSettings) -> ConfigurationError:
    """The error with which these settings are refused."""
    with pytest.raises(ConfigurationError) as raised, local_servers(settings):
        pass
    return raised.value


def test_valkey_demands_its_password(servers: Servers) -> None:
    """Valkey answers who has its password and nobody else."""
    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.ping()
        port = client.connection_pool.connection_kwargs["port"]
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's list of processes")
def test_the_password_is_in_no_list_and_no_file(servers: Servers, shared_folder: Path) -> None:
    """The password is in no command line, in no environment and in no file, so that nobody can read it there."""
    with redis.Redis.from_url(servers.redis_url) as client:
        password = str(client.connection_pool.connection_kwargs["password"]).encode()
        written = Path(client.config_get("dir")["dir"])
    process = Path("/proc") / str(servers.valkey_pid)
    files = [process / "cmdline", process / "environ", *(path for path in written.rglob("*") if path.is_file())]
    assert shared_folder in written.parents
    assert [] == [path for path in files if password in path.read_bytes()]


def test_servers_listen_on_this_machine_only(servers: Servers, shared_folder: Path) -> None:
    """Valkey listens on loopback and PostgreSQL on a socket in a closed folder: no other machine reaches either."""
    with redis.Redis.from_url(servers.redis_url) as client:
        assert {"bind": "127.0.0.1"} == client.config_get("bind")
    with psycopg.connect(servers.postgres_url) as connection:
        shown = [
            connection.execute(f"SHOW {name}".encode()).fetchone()
            for name in ("listen_addresses", "unix_socket_directories", "unix_socket_permissions")
        ]
    connection.close()
    sockets = [path for path in shared_folder.rglob(".s.PGSQL.*") if path.is_socket()]
    assert [("",), (f'"{sockets[0].parent}"',), ("0700",)] == shown
    assert 0o700 == sockets[0].parent.stat().st_mode & 0o777


def test_servers_are_gone_afterwards(folder: Path) -> None:
    """When the context is left, both processes have ended and the folder is empty again."""
    with local_servers(LocalSettings(folder=str(folder))) as servers:
        assert all(is_there(pid) for pid in (servers.valkey_pid, servers.postgres_pid))
        assert ["kairos-"] == [path.name[:7] for path in folder.iterdir()]
    assert NOTHING == left(folder, servers)


def test_servers_are_gone_after_an_error(folder: Path) -> None:
    """When the body raises, the error comes through and nothing is left."""
    with (
        pytest.raises(ZeroDivisionError),
        local_servers(LocalSettings(folder=str(folder))) as servers,
        # A session that is still open does not hold the shutdown up.
        psycopg.connect(servers.postgres_url),
    ):
        raise ZeroDivisionError
    assert NOTHING == left(folder, servers)


SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def end(number: signal.Signals) -> tuple[dict[str, object], dict[str, object]]:
    """What there is of servers before the process that asked for them is ended by a signal, and after it."""
    with temporary_folder() as folder:
        with asking(folder) as (process, servers):
            before = left(folder, servers)
            process.send_signal(number)
            process.wait(DEADLINE_S)
            wait_until(lambda: left(folder, servers) == NOTHING, DEADLINE_S)
        return before, left(folder, servers)


@pytest.fixture(scope="module")
def ended() -> Iterator[dict[signal.Signals, Future[tuple[dict[str, object], dict[str, object]]]]]:
    """The same for each signal; side by side."""
    with ThreadPoolExecutor(len(SIGNALS)) as pool:
        yield {number: pool.submit(end, number) for number in SIGNALS}


@pytest.mark.parametrize("number", SIGNALS)
def test_servers_are_gone_after_a_signal(
    ended: dict[signal.Signals, Future[tuple[dict[str, object], dict[str, object]]]], number: signal.Signals
) -> None:
    """When the process that asked is ended by a signal, even one that it cannot catch, nothing is left."""
    before, after = ended[number].result()
    assert NOTHING != before
    assert NOTHING == after


def test_two_sets_of_servers_do_not_meet(folder: Path) -> None:
    """Servers that are started beside others, in the same folder, are others, and outlive them."""
    settings = LocalSettings(folder=str(folder))
    longer, shorter = (local_servers(settings) for _ in range(2))
    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        starting = pool.submit(longer.__enter__)
        stack.push(lambda *error: starting.exception() is None and longer.__exit__(*error))
        with shorter as second:
            first = starting.result()
            assert not set(first) & set(second)
        with redis.Redis.from_url(first.redis_url) as client, psycopg.connect(first.postgres_url) as connection:
            assert client.ping()
            assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.close()
    assert NOTHING == left(folder, first)


def test_a_busy_port_is_refused(folder: Path) -> None:
    """A port that another process listens on is named with its setting, and nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refusal(LocalSettings(folder=str(folder), redis_port=port))
    assert ("KAIROS_LOCAL_REDIS_PORT", f"port {port} is in use") == (error.setting, error.cause)
    assert [] == list(folder.iterdir())


def test_a_folder_that_does_not_exist_is_refused(folder: Path) -> None:
    """A folder that is not there is named with its setting and the cause."""
    missing = folder / "missing"
    error = refusal(LocalSettings(folder=str(missing)))
    assert ("KAIROS_LOCAL_FOLDER", f"{missing}: No such file or directory") == (error.setting, error.cause)
    assert [] == list(folder.iterdir())


def test_a_folder_that_is_a_file_is_refused(folder: Path) -> None:
    """A file in the place of the folder is named with its setting and the cause, and left as it is."""
    file = folder / "file"
    file.write_text("mine")
    error = refusal(LocalSettings(folder=str(file)))
    assert ("KAIROS_LOCAL_FOLDER", f"{file}: Not a directory") == (error.setting, error.cause)
    assert "mine" == file.read_text()


def test_a_path_too_long_for_a_socket_is_refused(folder: Path) -> None:
    """A path that no socket can have is named with its setting, and nothing is left in it."""
    long = folder / ("x" * 100)
    long.mkdir()
    error = refusal(LocalSettings(folder=str(long)))
    assert "KAIROS_LOCAL_FOLDER" == error.setting
    assert error.cause.startswith(f"{long}/kairos-")
    assert error.cause.endswith("the path is too long for a Unix socket")
    assert [] == list(long.iterdir())


def test_a_folder_with_a_comma_is_refused(folder: Path) -> None:
    """A path that a PostgreSQL address cannot hold is named with its setting, and nothing is left in it."""
    odd = folder / "one,two"
    odd.mkdir(mode=0o711)
    error = refusal(LocalSettings(folder=str(odd)))
    assert ("KAIROS_LOCAL_FOLDER", True) == (error.setting, "comma" in error.cause)
    assert [] == list(odd.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another account")
def test_a_folder_closed_to_postgresql_is_refused(folder: Path) -> None:
    """For root: a folder that PostgreSQL's account cannot pass through is named with its setting; nothing is left."""
    folder.chmod(0o700)
    error = refusal(LocalSettings(folder=str(folder)))
    assert "KAIROS_LOCAL_FOLDER" == error.setting
    assert "Permission denied" in error.cause
    assert [] == list(folder.iterdir())


def test_a_folder_may_have_any_name(folder: Path) -> None:
    """A folder whose name has a meaning to one of the servers, or in a URL, is as good as any other."""
    odd = folder / "it's 100%41 #1 & more?"
    odd.mkdir(mode=0o711)
    with local_servers(LocalSettings(folder=str(odd))) as servers:
        psycopg.connect(servers.postgres_url).close()


def test_a_relative_folder_is_taken_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder is relative to where the process that asks for servers was started."""
    monkeypatch.chdir(folder)
    (folder / "here").mkdir(mode=0o711)
    with local_servers(LocalSettings(folder="here")) as servers:
        psycopg.connect(servers.postgres_url).close()
    assert [] == list((folder / "here").iterdir())


def test_settings_come_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, the environment says in which folder and on which port the servers run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("KAIROS_LOCAL_FOLDER", str(folder))
    monkeypatch.setenv("KAIROS_LOCAL_REDIS_PORT", str(port))
    with local_servers() as servers:
        assert servers.redis_url.endswith(f"@127.0.0.1:{port}/0")
        assert [f"{path}/postgres" for path in folder.iterdir()] == [servers.postgres_url.partition("host=")[2]]


def test_one_account_after_the_other(folder: Path) -> None:
    """What one account's servers leave behind locks no other account out: root, another, and root again."""
    other = _another_account()
    # As the system's temporary folder is: all may write, and nobody may remove what is another's.
    folder.chmod(0o1777)
    owners = []
    for user in (None, other, None):
        with asking(folder, user) as (process, servers):
            owners.append([path.stat().st_uid for path in folder.iterdir()])
            with redis.Redis.from_url(servers.redis_url) as client:
                assert client.ping()
            process.communicate()
        assert NOTHING == left(folder, servers)
    root, nobody = os.geteuid(), pwd.getpwnam(other).pw_uid
    assert [[root], [nobody], [root]] == owners


def _another_account() -> str:
    """An account that may run this Python; skips the test where there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root may start a process as another account")
    name = "nobody"
    probe = "import kairos_core.local"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", probe],
            cwd=ROOT,
            user=name,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
    except PermissionError as error:
        pytest.skip(f"{name} may not run {error.filename}")
    if tried.returncode != 0:
        pytest.skip(f"{name} cannot run this Python: {tried.stderr.splitlines()[-1]}")
    return name
