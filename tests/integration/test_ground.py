from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

import msgspec
import pytest

from kairos_core import AuditWriter, RedisStateManager, Settings
from kairos_core.errors import ConfigurationError
from loadtests.servers.proxy import Proxy
from loadtests.servers.valkeys import valkeys


def test_unreachable_store(settings: Settings) -> None:
    """G14: a port where nothing listens is named with its setting."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL: .*refused"):
            RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=url))


def test_too_old_a_store(settings: Settings) -> None:
    """G14: a server that says it is version 6.2.14 is refused."""
    with Proxy(settings.redis_url) as proxy:
        proxy.on_reply = lambda data: data.replace(b"redis_version:7.2.4", b"redis_version:6.2.1")
        with pytest.raises(ConfigurationError, match=r"KAIROS_REDIS_URL: the server is version 6\.2\.1"):
            RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url))


def test_wrong_password(settings: Settings) -> None:
    """G14: a wrong password is refused, and appears in no message."""
    url = f"redis://:wrong@{urlsplit(settings.redis_url).netloc.rpartition('@')[2]}/0"
    with pytest.raises(ConfigurationError) as caught:
        RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=url))
    assert "KAIROS_REDIS_URL" in str(caught.value)
    assert "wrong" not in str(caught.value).replace("wrong number", "")


def test_something_else_answers(settings: Settings) -> None:
    """G14: a server of another protocol is refused, not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL"):
            RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=url, timeout_s=2.0))


def test_another_layout(settings: Settings) -> None:
    """G14: a process with another number of lanes would look for sessions in the wrong place, and is refused."""
    RedisStateManager.connect(settings).close()
    with pytest.raises(ConfigurationError, match=r"KAIROS_LANES: .*lanes=16.*lanes=8"):
        RedisStateManager.connect(msgspec.structs.replace(settings, lanes=8))


@pytest.mark.parametrize("host", ["127.0.0.1:1", "/nowhere"])
def test_unreachable_audit(host: str, settings: Settings) -> None:
    """G14: a PostgreSQL that is not there is named with its setting, in one line."""
    url = f"postgresql://postgres@{host}/postgres" if ":" in host else f"postgresql:///postgres?host={host}"
    with pytest.raises(ConfigurationError) as caught:
        AuditWriter.connect(msgspec.structs.replace(settings, postgres_url=url))
    assert str(caught.value).startswith("KAIROS_POSTGRES_URL: ")
    assert "\n" not in str(caught.value)


def test_an_evicting_store(settings: Settings) -> None:
    """G14: a server that may evict sessions is refused."""
    with Proxy(settings.redis_url) as proxy:
        proxy.on_reply = lambda data: data.replace(b"maxmemory_policy:noeviction", b"maxmemory_policy:allkeyslru")
        with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL: maxmemory-policy is allkeyslru"):
            RedisStateManager.connect(msgspec.structs.replace(settings, redis_url=proxy.url))


ACCOUNTS = [
    (["+@all", "~*", "&*"], None),
    (["+@all", "~*", "resetchannels"], "the account may not run PUBLISH"),
    (["+@all", "-publish", "~*", "&*"], "the account may not run PUBLISH"),
    (["+@all", "-xadd", "~*", "&*"], "the account may not run XADD"),
    (["+@all", "-hset", "~*", "&*"], "the account may not run HSET"),
    (["+@all", "-pexpire", "~*", "&*"], "the account may not run PEXPIRE"),
    (["+@all", "~other:*", "&*"], "NOPERM No permissions to access a key"),
]


def test_an_account_that_may_not_do_all() -> None:
    """G4, G14: an account whose scripts would stop half-way is refused before the first write."""
    # On a server of its own: accounts belong to the server's owner.
    with valkeys() as launcher:
        node = launcher.start()
        client = node.client()
        found: list[str | None] = []
        for number, (rules, _) in enumerate(ACCOUNTS):
            client.execute_command("ACL", "SETUSER", f"u{number}", "reset", "on", ">secret", *rules)
            url = f"redis://u{number}:secret@{node.host}:{node.port}/0"
            try:
                RedisStateManager.connect(Settings(redis_url=url, namespace=f"n{number}")).close()
            except ConfigurationError as error:
                found.append(error.cause)
            else:
                found.append(None)
        assert [expected for _, expected in ACCOUNTS] == [
            cause and next((e for _, e in ACCOUNTS if e and cause.startswith(e)), cause) for cause in found
        ]
        assert {b"n0:layout"} == set(client.scan_iter())
        client.close()


def test_a_replica() -> None:
    """G2, G14: a replica, which answers what is old and loses what it takes, is refused."""
    with valkeys() as launcher:
        primary = launcher.start()
        replica = launcher.replica_of(primary)
        RedisStateManager.connect(Settings(redis_url=primary.url)).close()
        with pytest.raises(ConfigurationError, match="KAIROS_REDIS_URL: the server is no primary: its role is slave"):
            RedisStateManager.connect(Settings(redis_url=replica.url))
