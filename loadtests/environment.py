"""Where the harness works: servers, a namespace and a schema of its own, and nothing left behind."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec
import redis
from psycopg import sql

from kairos_core import addresses
from kairos_core.acl import ROLES, account
from kairos_core.audit.migrations import drop_schema
from kairos_core.audit.postgres import connect_postgres
from kairos_core.errors import ConfigurationError, one_line
from kairos_core.ground import store_client
from kairos_core.local import local_servers
from kairos_core.settings import Settings, servers_given

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_SCAN_COUNT = 1_000
_ANYTHING = "anything"
# Of an account that the harness made, by its login: the logins of all roles there, and of who may do anything.
_logins: dict[str, dict[str, str]] = {}


def new_namespace(purpose: str) -> str:
    """A namespace that nobody else has: no two runs meet, not even on the same servers."""
    return f"kairos_{purpose}_{secrets.token_hex(6)}"


@contextmanager
def harness(namespace: str) -> Iterator[Settings]:
    """Settings for a run: the servers that the environment names, or embedded ones.

    On given servers everything stays in keys and a schema that begin with `namespace`; they are removed at the end.
    RQ's keys go there too, in this process (if rq is not imported yet) and in those it starts.

    Raises:
        ConfigurationError: names the setting and the cause in one line.
    """
    given = Settings.from_env()
    with _rq_prefix(f"{namespace}:rq"):
        if not servers_given():
            with local_servers() as servers:
                yield msgspec.structs.replace(
                    given,
                    redis_url=servers.redis_url,
                    postgres_url=servers.postgres_url,
                    queue_url=None,
                    namespace=namespace,
                )
            return
        settings = msgspec.structs.replace(given, namespace=namespace)
        if addresses.parse(settings.redis_url).endpoints:
            raise ConfigurationError(
                "KAIROS_REDIS_URL",
                "the harness measures one server: give the address of one, without Sentinel or cluster",
            )
        # All are tried before anything is written to one.
        connect_postgres(settings).close()
        _ping("KAIROS_REDIS_URL", settings.redis_url)
        if settings.queue_url:
            _ping("KAIROS_QUEUE_URL", settings.queue_url)
        try:
            yield settings
        finally:
            remove_traces(settings)


@contextmanager
def _rq_prefix(prefix: str) -> Iterator[None]:
    previous = os.environ.get("RQ_KEY_PREFIX")
    os.environ["RQ_KEY_PREFIX"] = prefix
    try:
        yield
    finally:
        if previous is None:
            del os.environ["RQ_KEY_PREFIX"]
        else:
            os.environ["RQ_KEY_PREFIX"] = previous


class Account(NamedTuple):
    """An account on the store.

    Attributes:
        user, password: of it.
        rules: what it may do, and its password, in the words of ACL SETUSER.
    """

    user: str
    password: str
    rules: list[str]

    @property
    def login(self) -> str:
        """User and password as in an address."""
        return f"{self.user}:{self.password}"

    @property
    def line(self) -> str:
        """It in a server's configuration, where it is also after a restart."""
        return " ".join(["user", self.user, *(f'"{rule}"' for rule in self.rules)])


def new_account(role: str, namespace: str, parts: Collection[str] = (), *, queue_prefix: str) -> Account:
    """An account with a password of its own, for all namespaces that begin with this one; see `kairos_core.acl`."""
    user, password = f"{namespace}-{role}", secrets.token_urlsafe(24)
    _, _, *rules = account(role, f"{namespace}*", parts, queue_prefix=queue_prefix)
    return Account(user, password, [f">{password}" if rule == ">PASSWORD" else rule for rule in rules])


def note_accounts(url: str, accounts: Mapping[str, Account]) -> None:
    """Note that there are these accounts, by their role, where this address's may do anything."""
    found = {role: one.login for role, one in accounts.items()} | {_ANYTHING: _login(url)}
    _logins.update(dict.fromkeys((one.login for one in accounts.values()), found))


def make_accounts(settings: Settings) -> Settings:
    """Make the accounts of all roles on a server of one's own; the settings with the core's.

    They are for all namespaces that begin with that of the settings.
    """
    prefix = f"{settings.namespace}:rq"
    accounts = {role: new_account(role, settings.namespace, queue_prefix=prefix) for role in ROLES}
    with redis.Redis.from_url(settings.redis_url) as client:
        for one in accounts.values():
            client.execute_command("ACL", "SETUSER", one.user, *one.rules)
    note_accounts(settings.redis_url, accounts)
    return msgspec.structs.replace(settings, redis_url=with_login(settings.redis_url, accounts["core"].login))


def admin(settings: Settings) -> redis.Redis:
    """A client of the store that may do anything: to look at what is stored, and to disturb.

    For tests, whose settings have the core's account only; where they have any other, that one is used.
    """
    return redis.Redis.from_url(as_administrator(settings).redis_url)


def as_administrator(settings: Settings) -> Settings:
    """The same settings with an account that may do anything in place of one that was made; any other stays."""
    return _with_role(settings, _ANYTHING)


def as_worker(settings: Settings) -> Settings:
    """The same settings with the worker's account in place of another that was made; any other stays."""
    return _with_role(settings, "worker")


def as_recovery(settings: Settings) -> Settings:
    """The same settings with the account of `kairos recover` in place of another that was made; any other stays."""
    return _with_role(settings, "recover")


def _with_role(settings: Settings, role: str) -> Settings:
    login = _login(settings.redis_url)
    found = _logins.get(login, {}).get(role, login)
    return msgspec.structs.replace(settings, redis_url=with_login(settings.redis_url, found))


def with_login(url: str, login: str) -> str:
    """An address with another login; without one, where it is empty."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc="@".join(filter(None, [login, parts.netloc.rpartition("@")[2]]))))


def _login(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[0]


def _ping(setting: str, url: str) -> None:
    client = store_client(url, setting=setting, socket_connect_timeout=5, socket_timeout=5)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        raise ConfigurationError(setting, one_line(error)) from error
    finally:
        client.close()


def remove_traces(settings: Settings) -> None:
    """Remove every key and schema whose name begins with the namespace, and nothing else."""
    for url in {settings.redis_url, settings.queue_url or settings.redis_url}:
        with redis.Redis.from_url(url) as client:
            batch: list[bytes] = []
            for key in client.scan_iter(match=f"{settings.namespace}*", count=_SCAN_COUNT):
                batch.append(key)
                if len(batch) >= _SCAN_COUNT:
                    client.unlink(*batch)
                    batch.clear()
            if batch:
                client.unlink(*batch)
    with connect_postgres(settings) as connection:
        schemas = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", [settings.namespace]
        ).fetchall()
        for (schema,) in schemas:
            drop_schema(connection, schema)


def row_counts(settings: Settings, table: str) -> int:
    """The number of rows of one of the namespace's tables."""
    with connect_postgres(settings) as connection:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(settings.namespace, table))
        ).fetchone()
    return int(row[0]) if row else 0
