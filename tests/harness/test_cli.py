from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from kairos_core.local import Servers, local_servers
from kairos_core.settings import LocalSettings
from tests.at_hand import MODULE, at_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Finished = Callable[[str, str, str], subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0
# All that run side by side are waited for by the first test.
pytestmark = pytest.mark.timeout(180)
SECRET = "hunter2-in-plain-sight"  # noqa: S105 - the one that must not be shown
LOCKED = "locked"

COMMANDS = {
    "migrate": ("kairos_core.cli", "migrate"),
    "worker": ("kairos_core.cli", "worker", "--workers", "1"),
    "measure": ("loadtests.measure", "RUN"),
    "reports": ("reports", "--runs", "RUN"),
}
# What the line must say, by what is wrong.
CAUSES = {
    "unreachable": "connection refused",
    "scheme": "must begin with",
    "http": "protocol error",
    "password": "password",
    "option": "libpq",
    "missing": "is not set",
}
# Which command is tried with which wrong address; more are tried once, below.
REDIS = [
    ("worker", "unreachable"),
    ("measure", "unreachable"),
    ("reports", "unreachable"),
    ("migrate", "scheme"),
    ("worker", "scheme"),
    ("measure", "scheme"),
    ("reports", "scheme"),
    ("worker", "http"),
    ("measure", "http"),
    ("worker", "password"),
    ("measure", "password"),
    ("reports", "password"),
    ("measure", "missing"),
    ("reports", "missing"),
]
POSTGRES = [
    ("migrate", "unreachable"),
    ("worker", "unreachable"),
    ("measure", "unreachable"),
    ("reports", "unreachable"),
    ("migrate", "scheme"),
    ("worker", "scheme"),
    ("measure", "scheme"),
    ("migrate", "password"),
    ("worker", "password"),
    ("measure", "password"),
    ("migrate", "option"),
    ("measure", "missing"),
    ("reports", "missing"),
]


@pytest.fixture(scope="module")
def embedded() -> Iterator[Servers]:
    """Servers that work, with a PostgreSQL account that needs a password."""
    folder = Path(tempfile.mkdtemp(prefix="kt-"))
    folder.chmod(0o711)
    with local_servers(LocalSettings(folder=str(folder))) as servers:
        with psycopg.connect(servers.postgres_url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'another'".encode())
            connection.execute(b"CREATE ROLE weak LOGIN")
            shown = connection.execute("SHOW hba_file").fetchone()
            assert shown is not None
            file = Path(shown[0])
            # The first line that fits counts.
            file.write_text(f"local all {LOCKED} scram-sha-256\n{file.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        connection.close()
        yield servers
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    """A port on which something answers that is not Redis."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def redis_urls(embedded: Servers, closed_port: int, http_port: int) -> dict[str, str]:
    """Addresses at which no Redis answers as it should, by what is wrong with them."""
    host = embedded.redis_url.rpartition("@")[2]
    return {
        "unreachable": f"redis://:{SECRET}@127.0.0.1:{closed_port}/0",
        "scheme": f"http://:{SECRET}@127.0.0.1:{closed_port}/0",
        "http": f"redis://:{SECRET}@127.0.0.1:{http_port}/0",
        "password": f"redis://:{SECRET}@{host}",
        "slash": f"redis://:{SECRET}/@{host}",
        "option": f"redis://:{SECRET}@{host}?no_such_option={SECRET}",
        "value": f"redis://:{SECRET}@{host}?socket_timeout={SECRET}",
        "missing": "",
    }


@pytest.fixture(scope="module")
def postgres_urls(embedded: Servers, closed_port: int) -> dict[str, str]:
    """Addresses at which no PostgreSQL answers as it should, by what is wrong with them."""
    folder = embedded.postgres_url.partition("host=")[2]
    return {
        "unreachable": f"postgresql://user:{SECRET}@127.0.0.1:{closed_port}/postgres",
        "scheme": f"mysql://user:{SECRET}@127.0.0.1:{closed_port}/postgres",
        "password": f"postgresql://{LOCKED}:{SECRET}@/postgres?host={quote(folder, safe='')}",
        "slash": f"postgresql://user:{SECRET}/@127.0.0.1:{closed_port}/postgres",
        "at": f"postgresql://user:part@{SECRET}@127.0.0.1:{closed_port}/postgres",
        "percent": f"postgresql://user:{SECRET}%zz@127.0.0.1:{closed_port}/postgres",
        "option": f"postgresql://user:{SECRET}@127.0.0.1:{closed_port}/postgres?no_such_option=1",
        "rights": f"postgresql://weak@/postgres?host={quote(folder, safe='')}",
        "missing": "",
    }


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What runs a module without Python's start."""
    with at_hand(tmp_path_factory.mktemp("kairos") / "at_hand", "loadtests.measure", "reports.__main__") as found:
        yield found


def run(program: Path, command: str, runs: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings, and none of this process's own; fail where it does not end in time."""
    arguments = [str(runs) if word == "RUN" else word for word in COMMANDS[command]]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    return subprocess.run(
        [program, MODULE, *arguments],
        cwd=ROOT,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(
    program: Path,
    embedded: Servers,
    redis_urls: dict[str, str],
    postgres_urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Finished]:
    """What became of a command with one wrong setting, by command, setting and what is wrong; all run side by side."""
    right = {"KAIROS_REDIS_URL": embedded.redis_url, "KAIROS_POSTGRES_URL": embedded.postgres_url}
    values = {
        **{(command, "KAIROS_REDIS_URL", wrong): redis_urls[wrong] for command, wrong in REDIS},
        **{(command, "KAIROS_POSTGRES_URL", wrong): postgres_urls[wrong] for command, wrong in POSTGRES},
        **{(command, "KAIROS_LANES", "abc"): "abc" for command in COMMANDS},
        **{("worker", "KAIROS_REDIS_URL", wrong): redis_urls[wrong] for wrong in ("slash", "option", "value")},
        ("worker", "KAIROS_POSTGRES_URL", "slash"): postgres_urls["slash"],
        **{("migrate", "KAIROS_POSTGRES_URL", wrong): postgres_urls[wrong] for wrong in ("at", "percent", "rights")},
    }
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            case: pool.submit(run, program, case[0], folder / str(number), {**right, case[1]: value})
            for number, (case, value) in enumerate(values.items())
        }
        yield lambda *case: jobs[case].result()
        # Where only some were asked for.
        pool.shutdown(cancel_futures=True)


def assert_refused(finished: subprocess.CompletedProcess[str], setting: str, cause: str) -> None:
    """One line that names setting and cause, without a password, and status 2."""
    lines = finished.stderr.splitlines()
    assert 1 == len(lines), finished.stderr
    assert lines[0].startswith(f"kairos: {setting}: ")
    assert cause.lower() in lines[0].lower()
    assert SECRET not in finished.stdout + finished.stderr
    assert 2 == finished.returncode


@pytest.mark.parametrize(("command", "wrong"), REDIS)
def test_a_redis_that_cannot_be_used_is_named(finished: Finished, command: str, wrong: str) -> None:
    """A wrong KAIROS_REDIS_URL ends every command promptly, with one line that names it and says what is wrong."""
    assert_refused(finished(command, "KAIROS_REDIS_URL", wrong), "KAIROS_REDIS_URL", CAUSES[wrong])


@pytest.mark.parametrize(("command", "wrong"), POSTGRES)
def test_a_postgresql_that_cannot_be_used_is_named(finished: Finished, command: str, wrong: str) -> None:
    """A wrong KAIROS_POSTGRES_URL ends every command promptly, with one line that names it and says what is wrong."""
    assert_refused(finished(command, "KAIROS_POSTGRES_URL", wrong), "KAIROS_POSTGRES_URL", CAUSES[wrong])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_number_that_is_none_is_named(finished: Finished, command: str) -> None:
    """A setting that is not the number it should be ends every command with one line that names it."""
    assert_refused(finished(command, "KAIROS_LANES", "abc"), "KAIROS_LANES", "a whole number, of digits only")


def test_a_profile_of_the_benchmarks_alone_is_named(program: Path, tmp_path: Path) -> None:
    """A report has no profile `tiny`; that is one line, and not a traceback."""
    command = [str(program), MODULE, "loadtests.measure", str(tmp_path / "run"), "--profile", "tiny"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert 2 == finished.returncode
    assert "kairos: --profile: tiny is of the benchmarks alone (--benchmarks)\n" == finished.stderr


@pytest.mark.parametrize("command", ["measure", "reports"])
def test_runs_that_cannot_be_written_are_named(program: Path, embedded: Servers, tmp_path: Path, command: str) -> None:
    """A folder for runs that cannot be made is named before anything is measured."""
    (tmp_path / "file").write_text("mine")
    environment = {"KAIROS_REDIS_URL": embedded.redis_url, "KAIROS_POSTGRES_URL": embedded.postgres_url}
    finished = run(program, command, tmp_path / "file" / "runs", environment)
    assert_refused(finished, "--runs", "not a directory")
    assert "" == finished.stdout
    assert "mine" == (tmp_path / "file").read_text()


@pytest.mark.parametrize("name", ["KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL"])
def test_a_password_with_a_slash_is_not_shown(finished: Finished, name: str) -> None:
    """A password that should have been percent-encoded makes no address, and is not shown."""
    assert_refused(finished("worker", name, "slash"), name, "")


@pytest.mark.parametrize("wrong", ["at", "percent"])
def test_a_password_that_libpq_cannot_read_is_not_shown(finished: Finished, wrong: str) -> None:
    """A password that should have been percent-encoded is not shown by the driver, either."""
    assert_refused(finished("migrate", "KAIROS_POSTGRES_URL", wrong), "KAIROS_POSTGRES_URL", "")


@pytest.mark.parametrize("wrong", ["option", "value"])
def test_an_option_that_redis_does_not_have_is_named(finished: Finished, wrong: str) -> None:
    """An option in KAIROS_REDIS_URL that the client does not know, or cannot read, is one line, too."""
    assert_refused(finished("worker", "KAIROS_REDIS_URL", wrong), "KAIROS_REDIS_URL", "")


def test_an_account_without_rights_is_named(finished: Finished) -> None:
    """An account that may not create the schema is one line, too."""
    assert_refused(finished("migrate", "KAIROS_POSTGRES_URL", "rights"), "KAIROS_POSTGRES_URL", "permission denied")
