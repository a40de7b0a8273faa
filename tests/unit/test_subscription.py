"""The subscription over servers that are made up: what comes, and when, is the test's to say."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import hiredis
import pytest
from redis import exceptions as foreign

from kairos_core.addresses import Endpoint
from kairos_core.errors import StoreUnavailable
from kairos_core.link import Link
from kairos_core.subscription import Subscription
from kairos_core.topology import SLOTS, ByCluster, BySentinel, OneServer
from kairos_core.transport import BrokenChannel, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kairos_core.topology import Route

A, B, C = (Endpoint("10.0.0.1", port) for port in (1, 2, 3))
TIMEOUT_S = 0.05
ENDED = object()  # the end of a connection

Words = list[bytes]


class Server:
    """Answers each command by what `answers` gives for its name: a list of replies, or a function that gives one."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"PING": [[b"pong", b""]], "ROLE": [[b"master", 0, []]], **answers}
        self.channels: list[FakeChannel] = []
        self.asked: list[Words] = []

    def answer(self, words: Words) -> list[Any]:
        """The replies to a command; none: it says nothing."""
        self.asked.append(words)
        found = self.answers.get(words[0].decode(), [])
        return list(found(words) if callable(found) else found)

    def publish(self, channel: bytes, data: bytes) -> None:
        """Send a message to all who are connected."""
        for open_one in self.channels:
            open_one.came.append([b"smessage", channel, data])


class FakeChannel:
    """A connection to such a server."""

    def __init__(self, node: Endpoint, server: Server) -> None:
        self.node = node
        self.server = server
        self.came: list[Any] = []
        self.is_open = True
        server.channels.append(self)

    def is_quiet(self) -> bool:
        """Whether nothing came."""
        return not self.came

    def wake(self) -> None:
        """Nobody waits in another thread."""

    def abandon(self) -> None:
        """There is one process."""

    async def send(self, data: bytes, deadline: float) -> None:
        """Send commands."""
        del deadline
        reader = hiredis.Reader()
        reader.feed(data)
        while (words := reader.gets()) is not False:
            self.came.extend(self.server.answer(words))

    async def receive(self, deadline: float) -> Any:
        """What came, or the deadline."""
        del deadline
        if not self.came:
            raise TimeoutError
        if self.came[0] is ENDED:
            raise ConnectionResetError("the server closed the connection")
        return self.came.pop(0)

    async def exchange(self, data: bytes, deadline: float) -> Any:
        """Send a command and take its reply."""
        await self.send(data, deadline)
        return await self.receive(deadline)

    def ask(self, data: bytes, deadline: float) -> Any:
        """The same at once."""
        return run(self.exchange(data, deadline))

    def close(self) -> None:
        """Close it."""
        self.is_open = False
        with contextlib.suppress(ValueError):
            self.server.channels.remove(self)


class FakeTransport:
    """Connects to made-up servers; a place without one refuses."""

    blocks = True
    one_server = A

    def __init__(self, servers: dict[Endpoint, Server]) -> None:
        self.servers = servers
        self.opened: list[Endpoint] = []

    def home(self) -> object:
        """One for all."""
        return 0

    async def open(self, node: Endpoint, time_left_s: float, *, to_sentinel: bool = False) -> FakeChannel:
        """Connect."""
        del time_left_s, to_sentinel
        self.opened.append(node)
        if node not in self.servers:
            raise foreign.ConnectionError("refused")
        return FakeChannel(node, self.servers[node])

    async def sleep(self, pause_s: float) -> None:
        """Wait, for real."""
        time.sleep(pause_s)  # noqa: ASYNC251

    def lock(self) -> Any:
        """Nobody else is there."""
        raise NotImplementedError

    async def receive_any(self, channels: Sequence[FakeChannel], deadline: float) -> tuple[FakeChannel, Any] | None:
        """What came on one of them, or the deadline."""
        while True:
            for channel in channels:
                if channel.came and channel.came[0] is ENDED:
                    raise BrokenChannel(channel, ConnectionResetError("ended"))
                if channel.came:
                    return channel, channel.came.pop(0)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.001)  # noqa: ASYNC251


def confirm(words: Words) -> list[Any]:
    """What a server confirms a subscription with."""
    return [[words[0].lower(), name, 1] for name in words[1:]]


def refuse(text: str) -> list[Any]:
    """A refusal."""
    return [hiredis.ReplyError(text)]


def slots(*nodes: Endpoint) -> list[Any]:
    """Every slot is with a node; of several, each has an equal part."""
    size = SLOTS // len(nodes)
    return [[[n * size, (n + 1) * size - 1, [node.host.encode(), node.port, b"id"]] for n, node in enumerate(nodes)]]


def subscribed(servers: dict[Endpoint, Server], route: Route, channels: list[tuple[str, int]]) -> Subscription:
    """A subscription that is not open yet."""
    transport: Any = FakeTransport(servers)
    return Subscription(Link(transport, route, TIMEOUT_S), channels)


def receive(subscription: Subscription, wait_s: float = 0.0) -> tuple[str, bytes] | None:
    """The next message."""
    return run(subscription.receive(time.monotonic() + wait_s))


def lost(subscription: Subscription, before: Callable[[], object] = lambda: None, wait_s: float = TIMEOUT_S) -> str:
    """Why the subscription ends, while this is done before each look."""
    over = time.monotonic() + 10
    while time.monotonic() < over:
        before()
        try:
            receive(subscription, wait_s)
        except StoreUnavailable as error:
            return error.cause
    return "it did not end"


@pytest.mark.parametrize("is_cluster", [False, True])
def test_messages_between_confirmations(*, is_cluster: bool) -> None:
    """G8: what is published to a channel while others are still being confirmed is not lost, and comes first."""
    kind = b"s" if is_cluster else b""

    def confirm_slowly(words: Words) -> list[Any]:
        replies = []
        for name in words[1:]:
            replies += [[words[0].lower(), name, 1], [kind + b"message", name, b"early"]]
        # A message behind the last confirmation stays where it is.
        return replies

    servers = {node: Server(SUBSCRIBE=confirm_slowly, SSUBSCRIBE=confirm_slowly) for node in (A, B)}
    servers[A].answers["CLUSTER"] = servers[B].answers["CLUSTER"] = slots(A, B)
    channels = [("one", 0), ("two", 0), ("three", SLOTS - 1)]
    subscription = subscribed(servers, ByCluster([A]) if is_cluster else OneServer(A), channels)
    run(subscription.open())
    assert (2 if is_cluster else 1) == len(subscription._lines)
    assert [("one", b"early"), ("three", b"early"), ("two", b"early")] == sorted(
        found for _ in range(3) if (found := receive(subscription))
    )
    assert receive(subscription) is None
    # What was early in one life of the subscription is no part of the next.
    subscription._early.append(("one", b"old"))
    assert run(subscription.reopen(time.monotonic()))
    assert b"old" not in [found[1] for _ in range(4) if (found := receive(subscription))]


@pytest.mark.parametrize(
    ("came", "cause"),
    [
        ([[b"sunsubscribe", b"one", 0]], "ended the subscription"),
        (refuse("ERR max number of clients"), "ended the subscription"),
        ([ENDED], "the connection was lost"),
        ([None], "ended the subscription"),
        ([[]], "ended the subscription"),
    ],
)
def test_what_ends_a_subscription(came: list[Any], cause: str) -> None:
    """G8: a channel that was taken away, a refusal or a lost connection ends it; its server is asked for anew."""
    servers = {node: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)) for node in (A, B)}
    route = ByCluster([A])
    subscription = subscribed(servers, route, [("one", 0), ("two", SLOTS - 1)])
    run(subscription.open())
    servers[B].publish(b"two", b"message")
    servers[A].channels[0].came.extend(came)
    assert cause in lost(subscription)
    # Of the server that is well nothing need be asked.
    assert (None, B) == (route.node(0), route.node(SLOTS - 1))
    assert run(subscription.reopen(time.monotonic()))
    assert 1 == subscription.reconnects
    servers[A].publish(b"one", b"again")
    assert ("one", b"again") == receive(subscription)


def test_a_pong_is_a_sign_of_life() -> None:
    """G8: a server that is asked in silence and answers is not lost; each of several is asked."""
    servers = {node: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)) for node in (A, B)}
    subscription = subscribed(servers, ByCluster([A]), [("one", 0), ("two", SLOTS - 1)])
    run(subscription.open())
    assert receive(subscription, 5 * TIMEOUT_S) is None
    assert [True, True] == [[b"PING"] in server.asked for server in servers.values()]
    # In the form, too, that a connection without channels gets.
    servers[A].answers["PING"] = [b"PONG"]
    assert receive(subscription, 3 * TIMEOUT_S) is None
    servers[A].answers["PING"] = []
    assert lost(subscription).startswith("deaf")


def test_one_of_several_is_deaf() -> None:
    """G8: one server that says nothing is noticed, also while another one has much to say; it is asked last, then."""
    servers = {node: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)) for node in (A, B)}
    route = ByCluster([A, B])
    subscription = subscribed(servers, route, [("one", 0), ("two", SLOTS - 1)])
    run(subscription.open())
    servers[A].answers["PING"] = []
    assert lost(subscription, lambda: servers[B].publish(b"two", b"message"), 0.005).startswith("deaf")
    assert subscription.silence_s > TIMEOUT_S
    assert [B, A] == route.candidates()


def test_who_receives_may_be_slow() -> None:
    """G8: a sign of life that came while nobody received is one; so is a message, which is not lost."""
    servers = {A: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A))}
    subscription = subscribed(servers, ByCluster([A]), [("one", 0)])
    run(subscription.open())
    for answer in ([[b"pong", b""]], [[b"smessage", b"one", b"message"]]):
        servers[A].answers["PING"] = answer
        asked = len(servers[A].asked)
        while len(servers[A].asked) == asked:
            # Asked, and away before the answer is looked at.
            subscription._lines[next(iter(subscription._lines))].heard_at -= TIMEOUT_S
            run(subscription._check_signs_of_life())
        time.sleep(2 * TIMEOUT_S)
        assert ("one" in str(answer)) == (receive(subscription) is not None)
    assert 0 == subscription.reconnects


def test_silence_goes_on_while_it_is_not_whole() -> None:
    """G8: where one of several servers cannot be listened to, connecting to the others is no sign of life."""
    servers = {node: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)) for node in (A, B)}
    subscription = subscribed(servers, ByCluster([A, B]), [("one", 0), ("two", SLOTS - 1)])
    run(subscription.open())
    servers[B].answers["SSUBSCRIBE"] = []
    servers[B].channels[0].came.append(ENDED)
    assert lost(subscription).startswith("the connection was lost")
    before = subscription.silence_s
    start = time.monotonic()
    assert not run(subscription.reopen(time.monotonic() + 0.1))
    passed_s = time.monotonic() - start
    assert subscription.silence_s >= before + passed_s
    assert [] == servers[A].channels + servers[B].channels
    servers[B].answers["SSUBSCRIBE"] = confirm
    start = time.monotonic()
    assert run(subscription.reopen(time.monotonic() + 10))
    assert subscription.silence_s <= time.monotonic() - start


def test_a_dead_primary_is_asked_for_anew() -> None:
    """G8: a watch alone, beside which nobody writes, finds the server that took the place of a dead one."""
    servers = {A: Server(SSUBSCRIBE=confirm), B: Server(SSUBSCRIBE=confirm)}
    servers[A].answers["CLUSTER"] = servers[B].answers["CLUSTER"] = slots(A)
    subscription = subscribed(servers, ByCluster([A, B]), [("one", 0)])
    run(subscription.open())
    servers[A].channels[0].came.append(ENDED)
    # It is dead, and for a while nobody knows.
    del servers[A]
    assert lost(subscription).startswith("the connection was lost")
    assert not run(subscription.reopen(time.monotonic()))
    servers[B].answers["CLUSTER"] = slots(B)
    assert run(subscription.reopen(time.monotonic() + 5))
    servers[B].publish(b"one", b"message")
    assert ("one", b"message") == receive(subscription)


@pytest.mark.parametrize("first", [A, B])
def test_a_primary_that_was_cut_off(first: Endpoint) -> None:
    """G8: an old primary that answers and takes itself for the primary is noticed, whomever the route asks first."""
    old = Server(SSUBSCRIBE=confirm, CLUSTER=slots(A))
    servers = {A: old, B: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)), C: Server(CLUSTER=slots(A, B))}
    subscription = subscribed(servers, ByCluster([first, A, B, C]), [("one", 0), ("two", SLOTS - 1)])
    servers[A].answers["CLUSTER"] = slots(A, B)
    run(subscription.open())
    # B and C go on without A, which hears nothing of it.
    servers[A].answers["CLUSTER"] = slots(A, B)
    servers[B].answers["CLUSTER"] = servers[C].answers["CLUSTER"] = slots(B)
    assert "another server" in lost(subscription)
    assert run(subscription.reopen(time.monotonic() + 5))
    # What A says in its turn is noticed, and put right, as often as it is asked.
    for _ in range(4):
        servers[B].publish(b"one", b"message")
        try:
            assert ("one", b"message") == receive(subscription, TIMEOUT_S)
        except StoreUnavailable:
            assert run(subscription.reopen(time.monotonic() + 5))


def test_a_primary_that_the_sentinels_left() -> None:
    """G8: an old primary that answers is left when a sentinel names another, also while one still names the old."""
    sentinels = [Endpoint("10.0.0.9", port) for port in (7, 8, 9)]
    servers = {node: Server(SUBSCRIBE=confirm) for node in (A, B)}
    names: dict[Endpoint, Endpoint] = dict.fromkeys(sentinels, A)

    def name(sentinel: Endpoint) -> Callable[[Words], list[Any]]:
        return lambda _: [[names[sentinel].host.encode(), b"%d" % names[sentinel].port]]

    servers |= {sentinel: Server(SENTINEL=name(sentinel)) for sentinel in sentinels}
    subscription = subscribed(servers, BySentinel(sentinels, "s"), [("one", 0)])
    run(subscription.open())
    assert receive(subscription, 4 * TIMEOUT_S) is None
    names[sentinels[1]] = names[sentinels[2]] = B
    assert "another server" in lost(subscription)
    servers[A].answers["ROLE"] = [[b"slave", b"h", 1, b"connected", 0]]
    assert run(subscription.reopen(time.monotonic() + 5))
    assert [B] == [channel.node for channel in subscription._lines]


@pytest.mark.parametrize(
    ("text", "is_final", "tries"),
    [
        ("NOPERM this user has no permissions to access one of the channels", False, 1),
        ("NOPERM this user has no permissions to access one of the channels", True, 1),
        ("LOADING the dataset", True, 1),
        ("LOADING the dataset", False, 2),
        ("CLUSTERDOWN Hash slot not served", False, 2),
        ("MOVED 0 10.0.0.1:1", False, 2),
    ],
)
def test_a_refusal_at_the_beginning(text: str, tries: int, *, is_final: bool) -> None:
    """G10: what may pass is tried again until the deadline, where another server may come; what will not is said."""
    servers = {A: Server(SUBSCRIBE=refuse(text), SSUBSCRIBE=refuse(text), CLUSTER=slots(A))}
    subscription = subscribed(servers, OneServer(A) if is_final else ByCluster([A]), [("one", 0)])
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=text.partition(" ")[0]):
        run(subscription.open())
    assert time.monotonic() - start < TIMEOUT_S + 5
    tried = [words for words in servers[A].asked if words[0].endswith(b"SUBSCRIBE")]
    assert (tries == 1) == (len(tried) == 1)
    assert [] == servers[A].channels


def test_a_redirection_at_the_beginning() -> None:
    """G8: a server that has the channel's slot no longer says who has, and the watch begins there."""
    servers = {
        A: Server(SSUBSCRIBE=refuse("MOVED 0 10.0.0.1:2"), CLUSTER=slots(A)),
        B: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A)),
    }
    subscription = subscribed(servers, ByCluster([A]), [("one", 0), ("two", 0)])
    run(subscription.open())
    assert [B] == [channel.node for channel in subscription._lines]


def test_no_connection_is_left_over() -> None:
    """Whatever fails while it is opened, also an interruption, every connection is closed."""
    servers = {node: Server(SSUBSCRIBE=confirm, CLUSTER=slots(A, B)) for node in (A, B)}

    def interrupt(_: Words) -> list[Any]:
        raise KeyboardInterrupt

    servers[B].answers["SSUBSCRIBE"] = interrupt
    subscription = subscribed(servers, ByCluster([A]), [("one", 0), ("two", SLOTS - 1)])
    with pytest.raises(KeyboardInterrupt):
        run(subscription.open())
    assert [] == servers[A].channels + servers[B].channels
    with pytest.raises(StoreUnavailable, match="not open"):
        receive(subscription)
