from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
import pytest
import trustme

from kairos_core import AsyncRedisStateManager, RedisStateManager, Settings
from kairos_core.audit.jobs import check_queue
from kairos_core.errors import ConfigurationError
from kairos_core.layout import Layout
from loadtests.environment import admin
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loadtests.servers.valkeys import Launcher, Node

# It takes two seconds to serve: time for other tests, so it is begun with the first one.
pytestmark = pytest.mark.usefixtures("lone_cluster")
COLOURS = ("sync", "async")
# What one record of TLS holds at the most.
RECORD = 16_384
LARGE = 100_000
# Less than `timeout_s`, after which a sign of life is asked for: its answer would stir what lies in TLS unseen.
WAIT_S = 2.0


class Certificates(NamedTuple):
    """An authority, and servers' contexts with certificates that it issued.

    Attributes:
        option: the option of an address that names the authority.
        good: for the address that the proxy has.
        elsewhere: for another host.
        expired: for the right host, until yesterday.
    """

    option: str
    good: ssl.SSLContext
    elsewhere: ssl.SSLContext
    expired: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that nothing on this machine trusts by itself."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    issued = [
        authority.issue_cert("127.0.0.1"),
        authority.issue_cert("store.example.org"),
        authority.issue_cert("127.0.0.1", not_before=now - 9 * day, not_after=now - day),
    ]
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in issued]
    for context, certificate in zip(contexts, issued, strict=True):
        certificate.configure_cert(context)
    return Certificates(f"ssl_ca_certs={quote(str(file), safe='')}", *contexts)


@pytest.fixture
def tls(settings: Settings, certificates: Certificates) -> Iterator[Proxy]:
    """The store behind TLS, with a certificate that is as it should be."""
    with Proxy(settings.redis_url, tls=certificates.good) as running:
        yield running


@pytest.fixture
def secured(settings: Settings, tls: Proxy, certificates: Certificates) -> Settings:
    """Settings that lead to it and trust its authority."""
    return msgspec.structs.replace(settings, redis_url=f"{tls.url}?{certificates.option}", timeout_s=3.0)


def write_and_read(settings: Settings, colour: str) -> int:
    """Connect, write, read; the version that was read."""
    if colour == "sync":
        with RedisStateManager.connect(settings) as manager:
            manager.update_session(manager.create_session(sample_state("a")))
            state = manager.get_session("a")
    else:

        async def in_a_loop() -> Any:
            async with AsyncRedisStateManager.connect(settings) as manager:
                await manager.update_session(await manager.create_session(sample_state("a")))
                return await manager.get_session("a")

        state = asyncio.run(in_a_loop())
    return 0 if state is None else state.version


def refusal(settings: Settings, colour: str) -> str:
    """The refusal to connect, which is one line and names KAIROS_REDIS_URL."""
    with pytest.raises(ConfigurationError) as caught:
        write_and_read(settings, colour)
    assert "KAIROS_REDIS_URL" == caught.value.setting
    assert "\n" not in str(caught.value)
    return caught.value.cause


@pytest.mark.parametrize("colour", COLOURS)
def test_a_trusted_certificate_is_enough(colour: str, secured: Settings) -> None:
    """G12: over TLS, all is as without, once the address names the authority (`ssl_ca_certs`)."""
    assert 2 == write_and_read(secured, colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_an_unknown_authority_is_refused(colour: str, settings: Settings, tls: Proxy) -> None:
    """G12, G14: `rediss://` verifies by itself: an authority that nobody named is not trusted."""
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(msgspec.structs.replace(settings, redis_url=tls.url), colour)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("which", "cause"), [("elsewhere", "not valid for '127.0.0.1'"), ("expired", "certificate has expired")]
)
def test_a_certificate_that_does_not_fit_is_refused(
    which: str, cause: str, colour: str, settings: Settings, certificates: Certificates
) -> None:
    """G12, G14: of a trusted authority, too, a certificate for another host, or an old one, is refused."""
    with Proxy(settings.redis_url, tls=getattr(certificates, which)) as proxy:
        url = f"{proxy.url}?{certificates.option}"
        assert cause in refusal(msgspec.structs.replace(settings, redis_url=url), colour)


def test_an_authority_that_is_not_there_is_named(settings: Settings, tls: Proxy, tmp_path: Path) -> None:
    """G14: a file that cannot be read is named by its option."""
    url = f"{tls.url}?ssl_ca_certs={quote(str(tmp_path / 'none.pem'), safe='')}"
    for colour in COLOURS:
        assert "ssl_ca_certs names no file" in refusal(msgspec.structs.replace(settings, redis_url=url), colour)


@pytest.mark.parametrize("colour", COLOURS)
def test_tls_and_none_do_not_meet(colour: str, settings: Settings, tls: Proxy) -> None:
    """G14: TLS where there is none, and none where there is, end in a refusal in time, the first with a hint."""
    start = time.monotonic()
    with_tls = settings.redis_url.replace("redis://", "rediss://")
    without = tls.url.replace("rediss://", "redis://")
    causes = [
        refusal(msgspec.structs.replace(settings, redis_url=url, timeout_s=0.6), colour) for url in (with_tls, without)
    ]
    assert [True, False] == ["speak TLS: does this port?" in cause for cause in causes]
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("colour", COLOURS)
def test_a_cluster_behind_tls(colour: str, cluster: Node, certificates: Certificates) -> None:
    """G12: on a cluster, every connection speaks TLS and verifies: also to a server that only the cluster named."""
    with Proxy(cluster.url, tls=certificates.good) as seed, Proxy(cluster.url, tls=certificates.good) as named:
        with cluster.client() as client:
            client.config_set("cluster-announce-port", port_of(named))
        seen = threading.Event()

        def on_request(data: bytes) -> bytes:
            seen.set()
            return data

        named.on_request = on_request
        url = seed.url.replace("rediss://", "rediss+cluster://")
        plain = Settings(redis_url=url, timeout_s=3.0, namespace=f"cluster_{colour}")
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(plain, colour)
        assert not seen.is_set()
        trusting = msgspec.structs.replace(plain, redis_url=f"{url}?{certificates.option}")
        assert 2 == write_and_read(trusting, colour)
        assert seen.is_set()


def port_of(proxy: Proxy) -> int:
    """The port on which a proxy listens."""
    return urlsplit(proxy.url).port or 0


@pytest.mark.parametrize("colour", COLOURS)
def test_sentinels_behind_tls(colour: str, launcher: Launcher, certificates: Certificates) -> None:
    """G12: under Sentinel, the sentinels and the primary are both spoken to with TLS, and verified."""
    node = launcher.start()
    lines = [f"sentinel monitor kairos {node.host} {node.port} 1", f"sentinel auth-pass kairos {node.password}"]
    sentinel = launcher._start("sentinel", "", lines)
    with Proxy(node.url, tls=certificates.good) as primary, Proxy(sentinel.url, tls=certificates.good) as asked:
        # The sentinel knows the primary's own port; its answer leads to TLS.
        own, shown = (b"$%d\r\n%d\r\n" % (len(str(port)), port) for port in (node.port, port_of(primary)))
        asked.on_reply = lambda data: data.replace(own, shown)
        login = node.url.removeprefix("redis://").rpartition("@")[0]
        url = f"rediss+sentinel://{login}@127.0.0.1:{port_of(asked)}/kairos/0"
        plain = Settings(redis_url=url, timeout_s=3.0)
        assert "CERTIFICATE_VERIFY_FAILED" in refusal(plain, colour)
        trusting = msgspec.structs.replace(plain, redis_url=f"{url}?{certificates.option}")
        assert 2 == write_and_read(trusting, colour)
        # So are they by RQ, whose client is redis-py's own.
        check_queue(msgspec.structs.replace(trusting, queue_url=trusting.redis_url))
        with pytest.raises(ConfigurationError, match="KAIROS_QUEUE_URL"):
            check_queue(msgspec.structs.replace(trusting, queue_url=url))
    for started in (node, sentinel):
        launcher.kill(started)


def received_at_once(settings: Settings, secured: Settings, colour: str, sent: list[Any]) -> list[Any]:
    """Messages that a script sends together, so that the server writes them together, as a receiver gets them."""
    channel = Layout(settings.namespace, settings.lanes).message_channel("a")
    script = "for number = 1, #ARGV do redis.call('PUBLISH', KEYS[1], ARGV[number]) end"

    def send() -> None:
        with admin(settings) as client:
            client.eval(script, 1, channel, *(msgspec.json.encode(message) for message in sent))

    if colour == "sync":
        with RedisStateManager.connect(secured) as manager, manager.receive_messages("a") as received:
            send()
            return [message for _ in sent for message in received.receive(WAIT_S)]

    async def in_a_loop() -> list[Any]:
        async with AsyncRedisStateManager.connect(secured) as manager, manager.receive_messages("a") as received:
            await asyncio.to_thread(send)
            return [message for _ in sent for message in await received.receive(WAIT_S)]

    return asyncio.run(in_a_loop())


@pytest.mark.parametrize("chunk", [100, 65_536])
@pytest.mark.parametrize("colour", COLOURS)
def test_many_messages_of_one_record(
    colour: str, chunk: int, settings: Settings, secured: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G8: over TLS, messages that come in one record are all received: no poll tells of what TLS has taken already."""
    # A piece that is smaller than a record leaves the rest of it with TLS.
    monkeypatch.setattr("kairos_core.blocking.CHUNK", chunk)
    monkeypatch.setattr("kairos_core.awaiting.CHUNK", chunk)
    sent: list[Any] = list(range(500))
    assert sent == received_at_once(settings, secured, colour, sent)


@pytest.mark.parametrize("colour", COLOURS)
def test_messages_larger_than_a_record(colour: str, settings: Settings, secured: Settings) -> None:
    """G8: over TLS, messages that take several records come whole, and those around them, too."""
    sent: list[Any] = ["first", "x" * LARGE, "y" * (3 * RECORD), *range(50), "z" * (RECORD - 100), "last"]
    assert sent == received_at_once(settings, secured, colour, sent)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_watch_over_tls_goes_on_after_a_cut(
    colour: str, secured: Settings, tls: Proxy, manager: RedisStateManager
) -> None:
    """G8: a watch whose TLS connections were cut ends at the final state of a session, large as it may be."""
    large = {"text": "x" * (3 * RECORD)}

    def disturb() -> None:
        state = manager.create_session(sample_state("a").replace(metadata=large))
        tls.cut()
        for _ in range(5):
            state = manager.update_session(state)

    def is_last(update: Any) -> bool:
        return update is not None and update.version == 6 and update.state.metadata == large

    deadline = time.monotonic() + 15
    if colour == "sync":
        with RedisStateManager.connect(secured) as through, through.watch_sessions() as updates:
            disturb()
            while not is_last(updates.receive(0.5)):
                assert time.monotonic() < deadline
            assert 1 == updates.reconnects
        return

    async def in_a_loop() -> None:
        async with AsyncRedisStateManager.connect(secured) as through, through.watch_sessions() as updates:
            await asyncio.to_thread(disturb)
            while not is_last(await updates.receive(0.5)):
                assert time.monotonic() < deadline
            assert 1 == updates.reconnects

    asyncio.run(in_a_loop())


def test_a_watch_over_tls_is_closed_by_another_thread(secured: Settings) -> None:
    """A thread that waits in a watch over TLS is woken when another closes it, and finds its end, not an error."""
    with RedisStateManager.connect(secured) as manager:
        watch = manager.watch_session("a").__enter__()
        failures: list[BaseException] = []
        ended = threading.Event()

        def iterate() -> None:
            try:
                for _ in watch:
                    pass
            except BaseException as error:  # noqa: BLE001 - looked at below
                failures.append(error)
            ended.set()

        thread = threading.Thread(target=iterate)
        thread.start()
        assert wait_until(watch._feed._receiving.locked)
        watch.close()
        assert ended.wait(5)
        thread.join()
        assert [] == failures


@pytest.mark.parametrize("colour", COLOURS)
def test_a_write_over_tls_that_was_interrupted(colour: str, secured: Settings, tls: Proxy) -> None:
    """G5: over TLS, a write whose answer was lost with its connection is sent again and takes effect once."""
    write_and_read(secured, colour)
    is_write = threading.Event()
    dropped = 0

    def on_request(data: bytes) -> bytes:
        if b"EVALSHA" in data:
            is_write.set()
        return data

    def on_reply(data: bytes) -> bytes | None:
        nonlocal dropped
        if is_write.is_set() and dropped < 2:
            is_write.clear()
            dropped += 1
            return None
        return data

    def arm() -> None:
        tls.on_request, tls.on_reply = on_request, on_reply

    if colour == "sync":
        with RedisStateManager.connect(secured) as manager:
            state = manager.get_session("a")
            assert state is not None
            arm()
            assert 3 == manager.update_session(state).version
    else:

        async def in_a_loop() -> int:
            async with AsyncRedisStateManager.connect(secured) as manager:
                state = await manager.get_session("a")
                assert state is not None
                arm()
                return (await manager.update_session(state)).version

        assert 3 == asyncio.run(in_a_loop())
    assert 2 == dropped


@pytest.mark.parametrize("colour", COLOURS)
def test_a_silent_handshake_ends_by_the_deadline(colour: str, secured: Settings, tls: Proxy) -> None:
    """G10: a server that takes a connection and never shakes hands does not hold the caller."""
    quick = msgspec.structs.replace(secured, timeout_s=0.6)
    tls.close()
    start = time.monotonic()
    with pytest.raises(ConfigurationError):
        write_and_read(quick, colour)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = msgspec.structs.replace(quick, redis_url=f"rediss://127.0.0.1:{port}/0")
        refusal(silent, colour)
    assert time.monotonic() - start < 10
