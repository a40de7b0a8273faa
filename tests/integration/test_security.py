"""Secrets never appear in errors, logs or on a terminal (see test_tls.py and test_acl.py for the rest of G12)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest
import redis
import trustme

from kairos_core import AsyncRedisStateManager, AuditWriter, RedisStateManager, Settings
from kairos_core.addresses import parse
from kairos_core.audit.jobs import check_queue
from kairos_core.audit.outbox import Outbox
from kairos_core.blocking import BlockingTransport
from kairos_core.errors import ConfigurationError
from kairos_core.ground import store_client
from kairos_core.operations import Operations
from kairos_core.settings import child_environment, without_password
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from loadtests.servers.valkeys import Launcher

ROOT = Path(__file__).resolve().parents[2]
# One for all: in each test it is the password of everything, and nothing that is said may have it, or a part of it.
SECRET = f"Tr0ub4dor-{secrets.token_hex(8)}"
COLOURS = ("sync", "async")


@pytest.fixture(scope="module")
def places(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the addresses of the tests lead, as host:port, by what is there; and a file, by its path."""
    node = launcher._start("server", SECRET, [])
    sentinel = launcher._start("sentinel", SECRET, [f"sentinel monitor kairos {node.host} {node.port} 1"])
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("store.example.org").configure_cert(context)
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "weak", "reset", "on", f">{SECRET}", "~*", "+@all", "-@scripting")
    with (
        socket.socket() as closed,
        socket.create_server(("127.0.0.1", 0)) as silent,
        Proxy(node.url, tls=context) as tls,
        Proxy(node.url) as babbling,
    ):
        closed.bind(("127.0.0.1", 0))
        babbling.on_reply = lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        yield {
            "good": f"{node.host}:{node.port}",
            "sentinel": f"{sentinel.host}:{sentinel.port}",
            "closed": f"127.0.0.1:{closed.getsockname()[1]}",
            "silent": f"127.0.0.1:{silent.getsockname()[1]}",
            "tls": tls.url.rpartition("@")[2].partition("/")[0],
            "babbling": babbling.url.rpartition("@")[2].partition("/")[0],
            "authority": quote(str(file), safe=""),
        }


def said_by(error: BaseException | None) -> str:
    """All that an error says, and those that it came from or came after, suppressed or not; as text, not as source."""
    said: list[str] = []
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        said += [str(found), repr(found), repr(found.args), repr(vars(found)), *getattr(found, "__notes__", [])]
        said += traceback.format_exception_only(found)
        waiting += [found.__cause__, found.__context__, *getattr(found, "exceptions", ())]
    return "\n".join(said)


def assert_kept(text: str) -> None:
    """Neither the secret nor a half of it is in a text, as it is or percent-encoded."""
    half = len(SECRET) // 2
    for part in (SECRET, SECRET[:half], SECRET[half:], quote(SECRET, safe="")):
        assert part not in text


# Addresses at which something goes wrong. S is the secret, W a wrong one that has the secret in it, and the words in
# braces are places.
REDIS = {
    "wrong password": "redis://:W@{good}/0",
    "wrong user": "redis://somebody:S@{good}/0",
    "secret user": "redis://S:S@{good}/0",
    "no rights": "redis://weak:S@{good}/0",
    "unreachable": "redis://:S@{closed}/0",
    "silent": "redis://:S@{silent}/0",
    "not redis": "redis://:S@{babbling}/0",
    "no such host": "redis://:S@nowhere.invalid:6379/0",
    "no such socket": "unix://:S@/nowhere/redis.sock",
    "unknown option": "redis://:S@{good}/0?no_such_option=S",
    "secret option": "redis://:S@{good}/0?S=1",
    "odd value": "redis://:S@{good}/0?socket_timeout=S",
    "odd boolean": "redis://:S@{good}/0?decode_responses=S",
    "odd database": "redis://:S@{good}/S",
    "far database": "redis://:S@{good}/4711",
    "odd port": "redis://:S@127.0.0.1:S/0",
    "no scheme": ":S@{good}/0",
    "another scheme": "http://:S@{good}/0",
    "slash": "redis://:x/S@{good}/0",
    "at": "redis://:x@S@{good}/0",
    "hash": "redis://:x#S@{good}/0",
    "question mark": "redis://:x?S@{good}/0",
    "bracket": "redis://:x[S@{good}/0",
    "brackets": "redis://:[S]@{good}/0",
    "percent": "redis://:%zzS@{good}/0",
    "unknown authority": "rediss://:S@{tls}/0",
    "another host": "rediss://:S@{tls}/0?ssl_ca_certs={authority}",
    "no authority": "rediss://:S@{tls}/0?ssl_ca_certs=/nowhere/S",
    "no key": "rediss://:S@{tls}/0?ssl_certfile={authority}&ssl_keyfile={authority}&ssl_password=S",
    "odd verification": "rediss://:S@{tls}/0?ssl_cert_reqs=S",
    "no TLS there": "rediss://:S@{good}/0",
    "TLS there": "redis://:S@{tls}/0",
    "sentinel unreachable": "redis+sentinel://:S@{closed},{closed}/kairos/0?sentinel_password=S",
    "sentinel refuses": "redis+sentinel://:S@{sentinel}/kairos/0?sentinel_password=W",
    "sentinel refuses a user": "redis+sentinel://:S@{sentinel}/kairos/0?sentinel_username=S&sentinel_password=S",
    "sentinel names it": "redis+sentinel://:W@{sentinel}/kairos/0?sentinel_password=S",
    "no such service": "redis+sentinel://:S@{sentinel}/other/0?sentinel_password=S",
    "no service": "redis+sentinel://:S@{sentinel}?sentinel_password=S",
    "sentinel is silent": "redis+sentinel://:S@{silent}/kairos/0?sentinel_password=S",
    "sentinel behind TLS": "rediss+sentinel://:S@{tls}/kairos/0?sentinel_password=S",
    "sentinel's odd option": "redis+sentinel://:S@{sentinel}/kairos/0?sentinel_password=S&socket_timeout=S",
    "sentinel's odd port": "redis+sentinel://:S@h:S,h:1/kairos/0",
    "sentinel's odd path": "redis+sentinel://:S@{sentinel}/kairos/0/S",
    "sentinel's at": "redis+sentinel://:x@S@{sentinel},{sentinel}/kairos/0",
    "cluster unreachable": "redis+cluster://:S@{closed},{closed}",
    "cluster refuses": "redis+cluster://:W@{good}",
    "no cluster": "redis+cluster://:S@{good}",
    "cluster behind TLS": "rediss+cluster://:S@{tls}",
    "cluster's slash": "redis+cluster://:x/S@{good},{good}",
    "cluster's database": "redis+cluster://:S@{good}/1?password=S",
    "cluster's odd option": "redis+cluster://:S@{good}?S=S",
}


def put_in(url: str, places: dict[str, str]) -> str:
    """An address with the secret and the places in it."""
    template = url.replace("S", "\0").replace("W", "\1")
    return template.format(**places).replace("\0", SECRET).replace("\1", f"{SECRET}wrong")


def attempts(make: Callable[[], Settings]) -> Iterator[Callable[[], object]]:
    """All that one can do with settings, each from its beginning."""

    def in_a_loop(do: Callable[[AsyncRedisStateManager], Any]) -> None:
        async def steps() -> None:
            manager = AsyncRedisStateManager.connect(make())
            try:
                await do(manager)
            finally:
                manager.close()

        asyncio.run(steps())

    def unchecked(do: Callable[[RedisStateManager], Any]) -> None:
        manager = RedisStateManager(Operations(make(), BlockingTransport))
        try:
            do(manager)
        finally:
            manager.close()

    async def checked(manager: AsyncRedisStateManager) -> None:
        await manager

    yield lambda: RedisStateManager.connect(make()).close()
    yield lambda: in_a_loop(checked)
    yield lambda: in_a_loop(lambda manager: manager.create_session(sample_state("a")))
    yield lambda: unchecked(lambda manager: manager.create_session(sample_state("a")))
    yield lambda: unchecked(lambda manager: manager.watch_sessions().__enter__())
    yield lambda: Outbox.connect(make()).depths()


@pytest.mark.parametrize("wrong", REDIS)
def test_no_secret_of_the_store_is_told(
    wrong: str, places: dict[str, str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """G12: whatever goes wrong with the store's address, no password is in an error, its causes or a log."""
    url = put_in(REDIS[wrong], places)
    caplog.set_level(logging.DEBUG)
    failures = 0

    def make() -> Settings:
        return Settings(redis_url=url, timeout_s=0.1, namespace="secrets")

    for attempt in attempts(make):
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - any; what it says is looked at
            failures += 1
            if wrong != "secret user":
                assert_kept(said_by(error))
    assert failures
    said = capfd.readouterr()
    assert_kept(caplog.text + said.out + said.err)


@pytest.mark.parametrize("wrong", REDIS)
def test_no_secret_of_the_queue_is_told(wrong: str, places: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """G12: the same holds for the queue's address."""
    url = put_in(REDIS[wrong], places)
    caplog.set_level(logging.DEBUG)
    try:
        check_queue(Settings(queue_url=url, timeout_s=0.1))
    except Exception as error:  # noqa: BLE001
        if wrong != "secret user":
            assert_kept(said_by(error))
    try:
        store_client(url, socket_timeout=0.15).ping()
    except redis.RedisError:
        # redis-py's own, which RQ meets.
        pass
    except Exception as error:  # noqa: BLE001
        assert_kept(said_by(error))
    assert_kept(caplog.text)


POSTGRES = {
    "unreachable": "postgresql://user:S@{closed}/postgres",
    "unreachable hosts": "postgresql://user:S@{closed},{closed}/postgres?password=S",
    "not postgresql": "postgresql://user:S@{tls}/postgres?sslmode=disable",
    "no TLS there": "postgresql://user:S@{tls}/postgres?sslmode=verify-full&sslrootcert={authority}",
    "no authority": "postgresql://user:S@{closed}/postgres?sslmode=verify-full&sslrootcert=/nowhere",
    "no such host": "postgresql://user:S@nowhere.invalid/postgres",
    "no such socket": "postgresql://user:S@/postgres?host=/nowhere",
    "unknown option": "postgresql://user:S@{closed}/postgres?S=1",
    "odd value": "postgresql://user:S@{closed}/postgres?sslmode=S",
    "odd number": "postgresql://user:S@{closed}/postgres?keepalives_idle=S",
    "odd port": "postgresql://user:S@127.0.0.1:S/postgres",
    "odd hosts": "postgresql://user:S@127.0.0.1:1,127.0.0.1:S/postgres",
    "no scheme": "user:S@{closed}/postgres",
    "another scheme": "mysql://user:S@{closed}/postgres",
    "slash": "postgresql://user:x/S@{closed}/postgres",
    "at": "postgresql://user:x@S@{closed}/postgres",
    "hash": "postgresql://user:x#S@{closed}/postgres",
    "question mark": "postgresql://user:x?S@{closed}/postgres",
    "bracket": "postgresql://user:x[S@{closed}/postgres",
    "percent": "postgresql://user:%zzS@{closed}/postgres",
}


@pytest.mark.parametrize("wrong", POSTGRES)
def test_no_secret_of_the_audit_is_told(
    wrong: str, places: dict[str, str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """G12: whatever goes wrong with the audit's address, no password is in an error, its causes or a log."""
    url = put_in(POSTGRES[wrong], places)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigurationError) as caught:
        AuditWriter.connect(Settings(postgres_url=url, timeout_s=0.1))
    assert "KAIROS_POSTGRES_URL" == caught.value.setting
    assert "\n" not in str(caught.value)
    assert_kept(said_by(caught.value))
    said = capfd.readouterr()
    assert_kept(caplog.text + said.out + said.err)


@pytest.fixture
def locked(settings: Settings) -> Iterator[str]:
    """An account of PostgreSQL's, where such may be made."""
    name = f"{settings.namespace}_locked"
    try:
        with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'".encode())
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("this account may make no other")
    yield name
    with psycopg.connect(settings.postgres_url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {name}".encode())


def test_no_secret_of_an_account_without_rights_is_told(settings: Settings, locked: str) -> None:
    """G12: an account that may not prepare the schema is told so, and its password is not."""
    url = settings.postgres_url.replace("postgres@", f"{locked}:{SECRET}@")
    with (
        AuditWriter.connect(msgspec.structs.replace(settings, postgres_url=url)) as writer,
        pytest.raises(ConfigurationError, match="permission denied") as caught,
    ):
        writer.migrate()
    assert_kept(said_by(caught.value))


SHOWN = {"secret user", "odd database", "odd port", "odd hosts", "sentinel's odd port", "sentinel's odd path"}


@pytest.mark.parametrize("wrong", [*REDIS, *POSTGRES])
def test_no_secret_is_in_a_repr(wrong: str, places: dict[str, str]) -> None:
    """G12: what prints settings, or what was made of them, prints no password; nor is one in an address to print."""
    url = put_in((REDIS | POSTGRES)[wrong], places)
    # A port, a path or a user is printed, whatever it is.
    if wrong not in SHOWN:
        assert_kept(without_password(url))
    try:
        settings = Settings(redis_url=url) if wrong in REDIS else Settings(postgres_url=url)
        operations = Operations(settings, BlockingTransport)
    except ConfigurationError:
        return
    link = operations.link
    made = [settings, operations, link, link.transport, link.route, parse(settings.redis_url)]
    rich: Any = settings.__rich_repr__()
    if wrong not in SHOWN:
        assert_kept(" ".join(f"{found!r} {found}" for found in [*made, rich, {"settings": settings}]))


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("redis+sentinel://u:S@a:1,b:2/kairos/0?sentinel_password=S", "redis+sentinel://u@a:1,b:2/kairos/0"),
        ("rediss+cluster://:S@a:1,[::1]:2", "rediss+cluster://a:1,[::1]:2"),
        ("rediss+cluster://u:S@[::1]:1,b:2/0#S", "rediss+cluster://u@[::1]:1,b:2/0"),
        ("postgresql://u:S@a:1,b:2/d?password=S&sslmode=verify-full", "postgresql://u@a:1,b:2/d"),
        ("redis://u:x/S@a", "redis://…"),
        ("redis://u:x@a/S@b", "redis://…"),
        ("u:S@a", "://…"),
    ],
)
def test_an_address_prints_without_its_password(url: str, printed: str) -> None:
    """G12: of any address, also of several servers, all is printed but password and query; of an odd one, no more."""
    assert printed == without_password(url.replace("S", SECRET))


# What a pool starts.
MEMBER = ("member", "worker")
COMMANDS = [
    (("worker",), "KAIROS_REDIS_URL", "sentinel refuses"),
    (("worker",), "KAIROS_QUEUE_URL", "secret option"),
    (("health", "--json"), "KAIROS_REDIS_URL", "wrong password"),
    (("acl", "core"), "KAIROS_REDIS_URL", "brackets"),
    (("migrate",), "KAIROS_POSTGRES_URL", "odd port"),
    (MEMBER, "KAIROS_QUEUE_URL", "wrong password"),
]


def run_command(command: tuple[str, ...], variable: str, wrong: str, places: dict[str, str]) -> tuple[int, str]:
    """The exit status of a command with a wrong address, and all that it said."""
    url = put_in((POSTGRES if variable == "KAIROS_POSTGRES_URL" else REDIS)[wrong], places)
    good = Settings(redis_url=put_in("redis://:S@{good}/0", places), timeout_s=0.5, namespace="terminal")
    program = ["kairos_core.audit.member", "worker"] if command == MEMBER else ["kairos_core.cli", *command]
    process = subprocess.Popen(
        [sys.executable, "-m", *program],
        cwd=ROOT,
        env={**child_environment(good), variable: url},
        # Left open: a member of a pool ends with it.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = ""
        if command == MEMBER:
            # It has been let in when its pool began: it says once what is wrong, tries on, and ends with its pool.
            said = process.stdout.readline()
            process.stdin.close()
        said += process.stdout.read()
    return process.returncode, said


@pytest.fixture(scope="module", autouse=True)
def commands(places: dict[str, str]) -> Iterator[list[Future[tuple[int, str]]]]:
    """The commands, begun with the first test: one tries for seconds, which other tests need not wait for."""
    with ThreadPoolExecutor(2) as pool:
        yield [pool.submit(run_command, *case, places) for case in COMMANDS]


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[f"{case[0][0]}-{case[1]}" for case in COMMANDS])
def test_no_secret_is_told_on_a_terminal(number: int, commands: list[Future[tuple[int, str]]]) -> None:
    """G12: no command prints a password, in a line, a report or a traceback."""
    status, said = commands[number].result()
    assert status
    assert said
    assert_kept(said)


def test_the_check_sees_a_secret() -> None:
    """The checks above fail on an error that tells, and on one that comes from or after such a one."""
    telling = ConfigurationError("KAIROS_REDIS_URL", f"{SECRET} is wrong")
    caused, late = ValueError("x"), ValueError("y")
    caused.__cause__ = KeyError(SECRET[: len(SECRET) // 2])
    # As `raise ... from None` leaves it: not printed, and there.
    late.__context__, late.__suppress_context__ = ValueError(quote(SECRET)), True
    for error in (telling, caused, late):
        with pytest.raises(AssertionError):
            assert_kept(said_by(error))
