from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from kairos_core import (
    AsyncRedisStateManager,
    Durability,
    DurabilityNotReached,
    InvalidState,
    KairosError,
    OutcomeUnknown,
    RedisStateManager,
    Settings,
    SyncState,
    VersionConflict,
    commands,
    durability,
    link,
)
from kairos_core.errors import ConfigurationError
from loadtests import mutants
from loadtests.environment import new_namespace
from loadtests.servers.proxy import Proxy
from loadtests.states import sample_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loadtests.servers.valkeys import Launcher, Node

ALWAYS = ("appendonly yes", "appendfsync always")
# A call that falls short takes most of it.
TIMEOUT_S = 1.0
# What a busy machine may add to it.
PATIENCE_S = 10.0


class Pair(NamedTuple):
    """A server and its replica."""

    primary: Node
    replica: Node


@pytest.fixture(scope="module")
def disk(launcher: Launcher) -> Node:
    """A server that answers when the disk has a write."""
    return launcher.start(*ALWAYS)


@pytest.fixture(scope="module")
def pair(launcher: Launcher) -> Pair:
    """A server with a replica."""
    primary = launcher.start()
    found = Pair(primary, launcher.replica_of(primary))
    launcher.wait_for_replica(primary)
    return found


@pytest.fixture
def paused(launcher: Launcher, pair: Pair) -> Iterator[Pair]:
    """The pair, whose replica goes on again at the end; the test pauses it."""
    yield pair
    launcher.resume(pair.replica)
    launcher.wait_for_replica(pair.primary)
    with pair.primary.client(socket_timeout=PATIENCE_S) as client:
        client.set("until", "here")
        assert client.wait(1, round(PATIENCE_S * 1000)) == 1


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mutants break is whole again at the end."""
    for name in ("CREATE", "UPDATE", "DELETE"):
        monkeypatch.setattr(commands, name, getattr(commands, name))
    monkeypatch.setattr(link, "achieved", durability.achieved)
    monkeypatch.setattr(link, "_exchange_more", link._exchange_more)
    monkeypatch.setattr(durability, "fsync_lacks", durability.fsync_lacks)


def settings_for(url: str, level: str = "memory", timeout_s: float = TIMEOUT_S) -> Settings:
    """Settings with a namespace of their own."""
    return Settings(redis_url=url, namespace=new_namespace("safe"), durability=level, timeout_s=timeout_s)


def connected(node: Node, level: str = "memory", timeout_s: float = TIMEOUT_S) -> RedisStateManager:
    """A manager whose server knows all scripts."""
    manager = RedisStateManager.connect(settings_for(node.url, level, timeout_s))
    state = manager.create_session(sample_state("warm"), durability="memory")
    manager.update_session(state, durability="memory")
    manager.delete_session("warm", durability="memory")
    return manager


def stored(manager: RedisStateManager, session_id: str) -> SyncState:
    """A session that is there."""
    state = manager.get_session(session_id)
    assert state is not None
    return state


def kept(error: DurabilityNotReached) -> SyncState:
    """The state that a write made which fell short."""
    assert isinstance(error.result, SyncState)
    return error.result


def each_write(manager: RedisStateManager, level: str | None = None) -> list[tuple[str, Any]]:
    """Every kind of write, with what it returned or, where it fell short, the error."""
    results: list[tuple[str, Any]] = []

    def note(name: str, call: Callable[[], Any]) -> SyncState:
        try:
            results.append((name, call()))
        except DurabilityNotReached as error:
            results.append((name, error))
            # Of the deletion, the flag, which nobody looks at.
            return error.result  # type: ignore[return-value]
        return results[-1][1]  # type: ignore[no-any-return]

    state = note("create", lambda: manager.create_session(sample_state("a"), durability=level))
    note("update", lambda: manager.update_session(state, durability=level))
    note("mutate", lambda: manager.mutate_session("a", turned, durability=level))
    note("delete", lambda: manager.delete_session("a", durability=level))
    return results


def turned(state: SyncState) -> SyncState:
    """One turn on."""
    return state.replace(metadata={"turns": state.metadata.get("turns", 0) + 1})


def told(call: Callable[[], SyncState | bool]) -> tuple[Any, Durability]:
    """What a write returned, and how safe it is said to be, whether that was enough or not."""
    try:
        result = call()
    except DurabilityNotReached as error:
        return error.result, error.achieved
    return result, result.durability if isinstance(result, SyncState) else Durability.REPLICATED


# --- fsync


@pytest.mark.parametrize(("manager_level", "call_level"), [("fsync", None), ("memory", "fsync"), ("fsync", "fsync")])
def test_fsync_is_reached(disk: Node, manager_level: str, call_level: str | None) -> None:
    """G11: where the server answers when the disk has a write, each kind of write is fsync, by manager or by call."""
    with connected(disk, manager_level) as manager:
        results = each_write(manager, call_level)
        assert [("create", 1), ("update", 2), ("mutate", 3)] == [(name, one.version) for name, one in results[:3]]
        assert {Durability.FSYNC} == {state.durability for _, state in results[:3]}
        assert results[3] == ("delete", True)


def test_less_can_be_asked_for(disk: Node) -> None:
    """G11: a call may ask for less than its manager: then the server is asked for nothing, and no more is claimed."""
    with connected(disk, "fsync") as manager, disk.client() as client:
        before = client.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"]
        results = each_write(manager, "memory")
        assert {Durability.MEMORY} == {state.durability for _, state in results[:3]}
        assert before == client.info("commandstats").get("cmdstat_waitaof", {"calls": 0})["calls"]


def test_what_is_read_claims_nothing(disk: Node) -> None:
    """G11: only the answer to a write says how safe it is; who reads a state learns nothing of that."""
    with connected(disk, "fsync") as manager:
        written = manager.create_session(sample_state("a"))
        read = stored(manager, "a")
        assert written == read
        assert (Durability.FSYNC, Durability.MEMORY) == (written.durability, read.durability)


UNSAFE = [
    (("appendonly yes", "appendfsync everysec"), "appendfsync is everysec"),
    (("appendonly yes", "appendfsync no"), "appendfsync is no"),
    (("appendonly no", "appendfsync always"), "appendonly is no"),
    ((*ALWAYS, "no-appendfsync-on-rewrite yes"), "no-appendfsync-on-rewrite is yes"),
]


@pytest.mark.parametrize(("config", "cause"), UNSAFE, ids=[cause for _, cause in UNSAFE])
def test_unsafe_ground_is_refused(launcher: Launcher, config: tuple[str, ...], cause: str) -> None:
    """G11, G14: a manager of fsync does not start on a server that would acknowledge before the disk has a write."""
    node = launcher.start(*config)
    with pytest.raises(ConfigurationError, match=f"KAIROS_DURABILITY: .*{cause}"):
        RedisStateManager.connect(settings_for(node.url, "fsync"))
    # A single call that asks for it is applied, and told.
    with connected(node) as manager:
        with pytest.raises(DurabilityNotReached) as caught:
            manager.create_session(sample_state("a"), durability="fsync")
        assert caught.value.result == stored(manager, "a")
    launcher.kill(node)


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("appendfsync", "everysec", "appendfsync is everysec"),
        ("appendfsync", "no", "appendfsync is no"),
        ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite is yes"),
        # The server itself refuses to be asked.
        ("appendonly", "no", "appendonly is disabled"),
    ],
)
def test_a_configuration_that_is_changed_later(launcher: Launcher, name: str, value: str, cause: str) -> None:
    """G11: the ground is looked at after each write: once it is unsafe, writes fall short, are applied, and say why."""
    node = launcher.start(*ALWAYS)
    with connected(node, "fsync") as manager, node.client() as client:
        state = manager.create_session(sample_state("a"))
        client.config_set(name, value)
        with pytest.raises(DurabilityNotReached) as caught:
            manager.update_session(state)
        error = caught.value
        assert cause in error.cause
        assert (Durability.FSYNC, Durability.MEMORY) == (error.wanted, error.achieved)
        assert (2, Durability.MEMORY) == (kept(error).version, kept(error).durability)
        assert error.result == stored(manager, "a")
        assert manager.resolve(error.operation_id) is True
        assert [1, 2, 3] == [
            state.version,
            kept(error).version,
            manager.mutate_session("a", turned, durability="memory").version,
        ]
    launcher.kill(node)


@pytest.mark.usefixtures("restored")
def test_waitaof_alone_is_not_believed(launcher: Launcher) -> None:
    """G11: under everysec the server says that the disk has a write; a core that believes it claims fsync."""
    node = launcher.start("appendonly yes", "appendfsync everysec")
    with connected(node, timeout_s=PATIENCE_S) as manager:
        state = manager.create_session(sample_state("a"))
        assert Durability.MEMORY == told(lambda: manager.update_session(state, durability="fsync"))[1]
        mutants.apply("configuration_not_asked")
        later = stored(manager, "a")
        assert Durability.FSYNC == told(lambda: manager.update_session(later, durability="fsync"))[1]
    launcher.kill(node)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheState(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recent"))


def pages_not_on_disk(file: Path) -> int:
    """How many pages of a file the disk does not have yet, by Linux' cachestat.

    Raises:
        OSError: this system has no such call, which came with Linux 6.5.
    """
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    state = _CacheState()
    with file.open("rb") as opened:
        # The same number on all architectures but alpha; a range of 0 and 0 is the whole file.
        found = syscall(451, opened.fileno(), ctypes.byref(_Range(0, 0)), ctypes.byref(state), 0)
    if found != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    return int(state.dirty + state.writeback)


@pytest.fixture
def cache_can_be_seen(tmp_path: Path) -> None:
    """Skips where the system does not tell what its disk has."""
    probe = tmp_path / "probe"
    probe.write_bytes(b"probe")
    try:
        if pages_not_on_disk(probe) == 0:
            pytest.skip("this file system does not tell what its disk has")
    except (OSError, AttributeError):
        pytest.skip("this system does not tell what its disk has")


def acknowledged_without_disk(node: Node, level: str) -> int:
    """After how many of 50 acknowledged writes the disk did not have the server's file yet."""
    with node.client(decode_responses=True) as client:
        folder = Path(client.config_get("dir")["dir"], client.config_get("appenddirname")["appenddirname"])
    # A disk that others use, too, may take seconds for one of them.
    with connected(node, timeout_s=30) as manager:
        state = manager.create_session(sample_state("a"), durability=level)
        count = 0
        for _ in range(50):
            state = manager.update_session(state, durability=level)
            count += sum(pages_not_on_disk(file) for file in folder.glob("*.aof")) > 0
    return count


@pytest.mark.usefixtures("cache_can_be_seen")
def test_the_disk_has_what_is_acknowledged(launcher: Launcher, disk: Node) -> None:
    """G11: when a write is acknowledged at fsync, no page of the server's file is still on its way to the disk.

    The same look finds such pages where the server acknowledges earlier, as under everysec.
    """
    assert 0 == acknowledged_without_disk(disk, "fsync")
    hasty = launcher.start("appendonly yes", "appendfsync everysec")
    assert acknowledged_without_disk(hasty, "memory") > 0
    launcher.kill(hasty)


def acknowledged_until_killed(launcher: Launcher, node: Node, level: str) -> tuple[Settings, list[SyncState]]:
    """What four threads were told is written, until the server was killed under them."""
    settings = settings_for(node.url, level)
    acknowledged: list[SyncState] = []

    def write(manager: RedisStateManager, name: str) -> None:
        with contextlib.suppress(KairosError):
            state = manager.create_session(sample_state(name))
            while True:
                acknowledged.append(state)
                state = manager.update_session(turned(state))

    with RedisStateManager.connect(settings) as manager:
        threads = [threading.Thread(target=write, args=(manager, f"a{number}")) for number in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while len(acknowledged) < 200 and time.monotonic() < deadline:
            time.sleep(0.001)
        launcher.kill(node)
        for thread in threads:
            thread.join(PATIENCE_S)
    assert len(acknowledged) >= 200
    return settings, acknowledged


@pytest.mark.parametrize(("config", "level", "survives"), [(ALWAYS, "fsync", True), ((), "memory", False)])
def test_a_killed_server(launcher: Launcher, config: tuple[str, ...], level: str, survives: bool) -> None:
    """G11: a server that is killed in the middle of it has, when it is back, all that was acknowledged at fsync.

    At memory, on a server that writes no file, it has nothing: so the question can be answered with no.
    """
    settings, acknowledged = acknowledged_until_killed(launcher, (node := launcher.start(*config)), level)
    latest = {state.session_id: state for state in acknowledged}
    launcher.restart(node)
    with RedisStateManager.connect(settings) as manager:
        found = manager.get_sessions(latest)
        there = [
            state is not None
            and state.incarnation == latest[name].incarnation
            and state.version >= latest[name].version
            for name, state in found.items()
        ]
    assert [survives] * 4 == there
    launcher.kill(node)


@pytest.mark.parametrize(("level", "rule"), [("fsync", "-config"), ("fsync", "-waitaof"), ("replicated", "-wait")])
def test_an_account_that_may_not_ask(disk: Node, pair: Pair, level: str, rule: str) -> None:
    """G11: where the server lets nobody look, nothing is claimed: writes fall short, are applied, and say why."""
    node = disk if level == "fsync" else pair.primary
    with node.client() as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "~*", "&*", "+@all", rule)
        url = node.url.replace(f":{node.password}@", "blind:secret@")
        if rule == "-config":
            with pytest.raises(ConfigurationError, match=r"KAIROS_DURABILITY: .*cannot be verified: .*config"):
                RedisStateManager.connect(settings_for(url, level))
        with RedisStateManager.connect(settings_for(url)) as manager:
            for name, error in each_write(manager, level):
                assert isinstance(error, DurabilityNotReached), name
                assert "NOPERM" in error.cause
            assert manager.get_session("a") is None
        client.execute_command("ACL", "DELUSER", "blind")


# --- replicated


@pytest.mark.parametrize(("manager_level", "call_level"), [("replicated:1", None), ("memory", "replicated")])
def test_replicated_is_reached(pair: Pair, manager_level: str, call_level: str | None) -> None:
    """G11: where a replica answers, each kind of write is replicated, and the replica has it."""
    with connected(pair.primary, manager_level, PATIENCE_S) as manager, pair.replica.client() as replica:
        results = each_write(manager, call_level)
        assert [("create", 1), ("update", 2), ("mutate", 3)] == [(name, one.version) for name, one in results[:3]]
        assert {Durability.REPLICATED} == {state.durability for _, state in results[:3]}
        assert results[3] == ("delete", True)
        state = manager.create_session(sample_state("b"), durability="replicated")
        keys = list(replica.scan_iter(f"{manager._operations._settings.namespace}:*s:b"))
        assert 1 == len(keys)
        assert str(state.incarnation).encode() == replica.hget(keys[0], "n")


def test_more_replicas_than_there_are(pair: Pair) -> None:
    """G11: a manager that asks for two replicas does not start where there is one; a call is told how many have it."""
    with pytest.raises(ConfigurationError, match=r"KAIROS_DURABILITY: replicated:2 .*1 "):
        RedisStateManager.connect(settings_for(pair.primary.url, "replicated:2"))
    with connected(pair.primary) as manager:
        with pytest.raises(DurabilityNotReached) as caught:
            manager.create_session(sample_state("a"), durability=Durability.replicated(2))
        error = caught.value
        assert (Durability.replicated(2), Durability.replicated(1)) == (error.wanted, error.achieved)
        assert Durability.replicated(1) == kept(error).durability
        assert "1 of 2 replicas" in error.cause
        assert error.result == stored(manager, "a")


def test_a_replica_that_stands_still(launcher: Launcher, paused: Pair) -> None:
    """G10, G11: where the replica is silent, each kind of write falls short by its deadline, and is applied once."""
    calls: list[SyncState] = []

    def counted(state: SyncState) -> SyncState:
        calls.append(state)
        return turned(state)

    with connected(paused.primary, "replicated") as manager, ThreadPoolExecutor() as pool:
        updated, _, _ = (manager.create_session(sample_state(name), durability="memory") for name in "umd")
        launcher.pause(paused.replica)
        start = time.monotonic()
        writes: dict[str, Future[Any]] = {
            "create": pool.submit(manager.create_session, sample_state("c")),
            "update": pool.submit(manager.update_session, updated),
            "mutate": pool.submit(manager.mutate_session, "m", counted),
            "delete": pool.submit(manager.delete_session, "d"),
        }
        errors = {name: write.exception() for name, write in writes.items()}
        # One deadline for all, and what a busy machine adds.
        assert time.monotonic() - start < TIMEOUT_S + PATIENCE_S
        results: dict[str, Any] = {}
        for name, error in errors.items():
            assert isinstance(error, DurabilityNotReached), name
            assert (Durability.REPLICATED, Durability.MEMORY) == (error.wanted, error.achieved)
            assert "0 of 1" in error.cause
            assert manager.resolve(error.operation_id) is True
            results[name] = error.result
        assert results == {
            "create": stored(manager, "c"),
            "update": stored(manager, "u"),
            "mutate": stored(manager, "m"),
            "delete": True,
        }
        assert [1, 2, 2] == [results[name].version for name in ("create", "update", "mutate")]
        assert manager.get_session("d") is None
        assert 1 == len(calls)


def test_a_replica_that_comes_back(launcher: Launcher, paused: Pair) -> None:
    """G11: once the replica answers again, the next write is replicated, on the same manager."""
    with connected(paused.primary, "replicated") as manager:
        launcher.pause(paused.replica)
        with pytest.raises(DurabilityNotReached) as caught:
            manager.create_session(sample_state("a"))
        launcher.resume(paused.replica)
        assert Durability.REPLICATED == manager.update_session(kept(caught.value)).durability


def test_a_replica_that_is_killed(launcher: Launcher) -> None:
    """G11: a replica that is gone is not counted, though it was there when the manager started."""
    primary = launcher.start()
    replica = launcher.replica_of(primary)
    launcher.wait_for_replica(primary)
    with connected(primary, "replicated") as manager:
        state = manager.create_session(sample_state("a"))
        launcher.kill(replica)
        with pytest.raises(DurabilityNotReached) as caught:
            manager.update_session(state)
        assert (Durability.MEMORY, 2) == (caught.value.achieved, stored(manager, "a").version)
    launcher.kill(primary)


def test_a_refusal_does_not_wait_for_replicas(launcher: Launcher, paused: Pair) -> None:
    """G10, G11: what was refused needs no replica: it is told long before the deadline, and the manager works on."""
    with connected(paused.primary, "replicated", 20.0) as manager:
        state = manager.create_session(sample_state("a"))
        launcher.pause(paused.replica)
        start = time.monotonic()
        for version in (2, 3, 4):
            # From here on, WAIT on this connection would wait.
            manager.mutate_session("a", turned, durability="memory")
            with pytest.raises(VersionConflict):
                manager.update_session(state)
            assert stored(manager, "a").version == version
        manager.mutate_session("a", turned, durability="memory")
        assert manager.delete_session("nobody") is False
        assert stored(manager, "a").version == 5
        # The server would wait 16 s, each time.
        assert time.monotonic() - start < PATIENCE_S


def test_no_level_is_refused_and_nothing_is_written(pair: Pair) -> None:
    """G11: a call with what is no level changes nothing."""
    with connected(pair.primary) as manager:
        state = manager.create_session(sample_state("a"))
        for call in (manager.update_session, manager.create_session):
            with pytest.raises(InvalidState, match="durability"):
                call(state, durability="replicated:0")
        with pytest.raises(InvalidState, match="durability"):
            manager.delete_session("a", durability="disk")
        assert state == stored(manager, "a")


# --- on the way


class Faults:
    """What a proxy does to the replies to one write: the write's own, and the one that follows it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._waiting = threading.Event()

    def drop_reply(self) -> None:
        """Let the next write be applied, and lose its reply with its connection."""
        self._set(lambda _: None, once=True)

    def swallow_all(self) -> None:
        """From the next write on, no reply comes, and no connection ends."""
        self._set(lambda _: b"", once=False)

    def after_reply(self, then: bytes | None) -> None:
        """Let the reply to the next write pass; of what follows it, nothing (b"") or the connection's end (None)."""
        seen: list[bytes] = []

        def passes(data: bytes) -> bytes | None:
            seen.append(data)
            return data if len(seen) == 1 else then

        self._set(passes, once=False)

    def _set(self, reply: Callable[[bytes], bytes | None], *, once: bool) -> None:
        def on_request(data: bytes) -> bytes:
            if b"EVAL" in data:
                self._waiting.set()
            return data

        def on_reply(data: bytes) -> bytes | None:
            if not self._waiting.is_set():
                return data
            if once:
                self._proxy.on_request = self._proxy.on_reply = lambda same: same
            return reply(data)

        self._proxy.on_request, self._proxy.on_reply = on_request, on_reply


@pytest.fixture
def faults(paused: Pair) -> Iterator[tuple[Proxy, Faults]]:
    """A proxy before the pair."""
    with Proxy(paused.primary.url) as proxy:
        yield proxy, Faults(proxy)


def sent_again(pair: Pair, kind: str, pausing: threading.Barrier) -> Durability:
    """How safe a write is said to be that was applied, lost its reply, and was sent again, while no replica has it."""
    with (
        Proxy(pair.primary.url) as proxy,
        connected(pair.primary._replace(url=proxy.url), "replicated") as manager,
    ):
        state = sample_state("a") if kind == "create" else manager.create_session(sample_state("a"))
        pausing.wait(PATIENCE_S)
        Faults(proxy).drop_reply()
        calls: dict[str, Callable[[], SyncState | bool]] = {
            "create": lambda: manager.create_session(state),
            "update": lambda: manager.update_session(state),
            "delete": lambda: manager.delete_session("a"),
        }
        result, reached = told(calls[kind])
        if kind == "delete":
            assert (True, None) == (result, manager.get_session("a"))
        else:
            assert result == stored(manager, "a")
            assert (state.version + 1, reached) == (result.version, result.durability)
        return reached


@pytest.mark.parametrize(
    ("mutant", "expected"),
    [(None, Durability.MEMORY), ("receipt_not_renewed", Durability.REPLICATED)],
    ids=["whole", "receipt_not_renewed"],
)
@pytest.mark.usefixtures("restored")
def test_a_write_sent_again_is_waited_for(
    launcher: Launcher, paused: Pair, mutant: str | None, expected: Durability
) -> None:
    """G5, G11: a write that is sent again on another connection is not called replicated before the first one is.

    WAIT waits for its own connection's writes, and the repeat changes nothing: where the script does not write all the
    same, one that no replica has is called replicated.
    """
    if mutant:
        mutants.apply(mutant)
    kinds = ("create", "update", "delete")
    pausing = threading.Barrier(len(kinds), action=lambda: launcher.pause(paused.replica))
    with ThreadPoolExecutor(len(kinds)) as pool:
        found = list(pool.map(lambda kind: sent_again(paused, kind, pausing), kinds))
    assert [expected] * len(kinds) == found


@pytest.mark.parametrize("mutant", ["replicas_not_counted", "asked_before_the_write"])
@pytest.mark.usefixtures("restored")
def test_the_checks_can_fail(launcher: Launcher, paused: Pair, mutant: str) -> None:
    """G11: a core that does not look at the number, or waits before it writes, claims what no replica has."""
    with connected(paused.primary) as manager:
        state = manager.create_session(sample_state("a"), durability="replicated")
        launcher.pause(paused.replica)
        mutants.apply(mutant)
        assert Durability.REPLICATED == told(lambda: manager.update_session(state, durability="replicated"))[1]


@pytest.mark.parametrize("then", [b"", None], ids=["silence", "end"])
def test_the_write_is_answered_and_the_rest_is_not(
    launcher: Launcher, paused: Pair, faults: tuple[Proxy, Faults], then: bytes | None
) -> None:
    """G6, G11: where the write's own answer came, it is known to be applied, whatever becomes of what follows."""
    proxy, fault = faults
    with connected(paused.primary._replace(url=proxy.url), "replicated") as manager:
        state = manager.create_session(sample_state("a"))
        launcher.pause(paused.replica)
        fault.after_reply(then)
        start = time.monotonic()
        with pytest.raises(DurabilityNotReached) as caught:
            manager.update_session(state)
        assert time.monotonic() - start < TIMEOUT_S + PATIENCE_S
        proxy.on_request = proxy.on_reply = lambda same: same
        assert (2, Durability.MEMORY) == (kept(caught.value).version, caught.value.achieved)
        assert caught.value.result == stored(manager, "a")


def test_no_answer_at_all(launcher: Launcher, paused: Pair, faults: tuple[Proxy, Faults]) -> None:
    """G6, G11: where the write's own answer did not come either, nothing is claimed, not even that it was applied."""
    proxy, fault = faults
    with connected(paused.primary._replace(url=proxy.url), "replicated") as manager:
        state = manager.create_session(sample_state("a"))
        launcher.pause(paused.replica)
        fault.swallow_all()
        with pytest.raises(OutcomeUnknown) as caught:
            manager.update_session(state)
        proxy.on_request = proxy.on_reply = lambda same: same
        assert manager.resolve(caught.value.operation_id) is True


# --- on an event loop


async def awaiting(node: Node, level: str) -> AsyncRedisStateManager:
    """A manager on this loop whose server knows all scripts."""
    manager = await AsyncRedisStateManager.connect(settings_for(node.url, level))
    state = await manager.create_session(sample_state("warm"), durability="memory")
    await manager.update_session(state, durability="memory")
    return manager


def test_fsync_on_a_loop(disk: Node) -> None:
    """G11: an asyncio manager says the same: fsync where the server is safe, refused where it is not."""

    async def steps() -> None:
        async with await awaiting(disk, "fsync") as manager:
            state = await manager.create_session(sample_state("a"))
            assert Durability.FSYNC == (await manager.update_session(state)).durability
            assert await manager.delete_session("a") is True
        with pytest.raises(ConfigurationError, match="KAIROS_DURABILITY"):
            await AsyncRedisStateManager.connect(settings_for(disk.url, "replicated"))

    asyncio.run(steps())


def test_replicated_on_a_loop(launcher: Launcher, paused: Pair) -> None:
    """G11: an asyncio manager falls short by its deadline, says that the write is applied, and works on."""

    async def steps() -> None:
        async with await awaiting(paused.primary, "replicated") as manager:
            state = await manager.create_session(sample_state("a"))
            assert Durability.REPLICATED == state.durability
            launcher.pause(paused.replica)
            start = time.monotonic()
            with pytest.raises(DurabilityNotReached) as caught:
                await manager.update_session(state)
            assert time.monotonic() - start < TIMEOUT_S + PATIENCE_S
            assert Durability.MEMORY == caught.value.achieved
            assert caught.value.result == await manager.get_session("a")
            with pytest.raises(VersionConflict):
                await manager.update_session(state)
            launcher.resume(paused.replica)
            assert Durability.REPLICATED == (await manager.update_session(kept(caught.value))).durability

    asyncio.run(steps())


def test_sent_again_on_a_loop(launcher: Launcher, paused: Pair, faults: tuple[Proxy, Faults]) -> None:
    """G5, G11: on a loop, too, a write that is sent again is not called replicated before the first one is."""
    proxy, fault = faults

    async def steps() -> None:
        async with await awaiting(paused.primary._replace(url=proxy.url), "replicated") as manager:
            state = await manager.create_session(sample_state("a"))
            launcher.pause(paused.replica)
            fault.drop_reply()
            with pytest.raises(DurabilityNotReached) as caught:
                await manager.update_session(state)
            assert (Durability.MEMORY, 2) == (caught.value.achieved, kept(caught.value).version)

    asyncio.run(steps())


def test_cancelled_while_replicas_are_waited_for(launcher: Launcher, paused: Pair) -> None:
    """G11: a call that is cancelled in its wait leaves no answer behind that would be taken for another's."""

    async def steps() -> None:
        async with await awaiting(paused.primary, "replicated") as manager:
            state = await manager.create_session(sample_state("a"))
            launcher.pause(paused.replica)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await manager.update_session(state)
                read = await manager.get_session("a")
                assert read is not None
                assert state.version + 1 == read.version
                state = read

    asyncio.run(steps())
