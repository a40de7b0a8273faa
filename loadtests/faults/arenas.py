"""Servers to attack: a store of one kind, its audit, and what a fault needs to get hold of them.

All servers of an arena are started here and end with it. Where they were given instead (`given`), an arena has no
handle to them: only what the harness started itself, its processes and its proxy, can be disturbed.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec
import redis

from kairos_core import AuditWriter, Settings
from loadtests.environment import as_worker, new_account, new_namespace, note_accounts, with_login
from loadtests.faults.way import way_to
from loadtests.servers.postgres import own_postgres
from loadtests.servers.valkeys import SERVICE, Cluster, Launcher, Node, SentinelPair, valkeys
from loadtests.servers.worker import worker_pool
from loadtests.temporary import temporary_folder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from loadtests.environment import Account
    from loadtests.faults.way import Way
    from loadtests.servers.postgres import Postgres

# What there is, of the harness's own: one server that has all on disk, one that has all in memory, one whose disk is a
# second late; a pair under Sentinel, without and with waiting for the replica; a cluster with replicas.
KINDS = ("fsync", "memory", "everysec", "sentinel", "replicated", "cluster")
ONE_SERVER = KINDS[:3]
PAIRS = KINDS[3:5]
GIVEN = "given"

TIMEOUT_S = 1.5
WORKERS = 2
# A server that is silent for so long is replaced; what is stopped for a moment only, is not, nor what waits for a busy
# machine.
DOWN_AFTER_MS = 1_500

_CONFIG = {
    "fsync": ("appendonly yes", "appendfsync always"),
    "everysec": ("appendonly yes", "appendfsync everysec"),
}
_DURABILITY = {"fsync": "fsync", "replicated": "replicated:1"}
# Only the core waits for a disk or a replica.
_PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "core": {
        "fsync": ("fsync",),
        "sentinel": ("sentinel",),
        "replicated": ("sentinel", "replicated"),
        "cluster": ("cluster",),
    },
    "worker": {"sentinel": ("sentinel",), "replicated": ("sentinel",), "cluster": ("cluster",)},
}


class InstanceLike(Protocol):
    """An instance of the service under attack, as a fault sees it."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    @property
    def number(self) -> int:
        """Its process number in the histories."""
        ...

    def kill(self) -> None:
        """End it with SIGKILL."""


@dataclass
class Arena:
    """What is attacked, and by what it can be got hold of.

    Attributes:
        kind: one of KINDS, or GIVEN.
        settings: of instances, without a proxy; see `settings_for`.
        worker_settings: of the pool.
        launcher: of the store's servers; None: they are not ours.
        node: the store, where it is one server of ours.
        pair: the store, where it is a pair of ours; the roles are those of now.
        cluster: the store, where it is a cluster of ours; the roles are those of now.
        queue: the queue's own server, where there is one of ours.
        postgres: the audit's server; None: it is not ours.
        pool: the audit's workers; None: there are none.
        workers: how many.
        proxy: on the way to the store, where it is one server.
        instances: what is running; filled by whoever starts them.
    """

    kind: str
    settings: Settings
    worker_settings: Settings
    launcher: Launcher | None = None
    node: Node | None = None
    pair: SentinelPair | None = None
    cluster: Cluster | None = None
    queue: Node | None = None
    postgres: Postgres | None = None
    pool: subprocess.Popen[str] | None = None
    workers: int = 0
    proxy: Way | None = None
    instances: list[InstanceLike] = field(default_factory=list)

    @property
    def durability(self) -> str:
        """What instances ask for."""
        return self.settings.durability

    @property
    def may_lose(self) -> bool:
        """Whether a store that is killed here may lose acknowledged writes."""
        return self.kind != "fsync"

    @property
    def is_own(self) -> bool:
        """Whether the servers are ours to stop, to pause and to fill."""
        return self.launcher is not None

    def settings_for(self, *, proxied: bool) -> Settings:
        """The settings of instances in a round; by way of the proxy only where it is needed, since it takes time.

        Raises:
            LookupError: by way of a proxy, which is not here.
        """
        if not proxied:
            return self.settings
        if self.proxy is None:
            raise LookupError(f"arena {self.kind} has no proxy")
        return msgspec.structs.replace(self.settings, redis_url=self.proxy.url)

    def nodes(self) -> list[Node]:
        """All servers of the store, where they are ours."""
        if self.pair is not None:
            return [self.pair.primary, self.pair.replica]
        if self.cluster is not None:
            return [*self.cluster.primaries, *self.cluster.replicas]
        return [self.node] if self.node is not None else []

    def primaries(self) -> list[Node]:
        """Those that take writes, as they are noted here; see `acting`."""
        if self.pair is not None:
            return [self.pair.primary]
        if self.cluster is not None:
            return list(self.cluster.primaries)
        return self.nodes()

    def acting(self) -> list[int]:
        """The ports of those that are primaries by their own account, of those that answer."""
        return sorted(node.port for node in self.nodes() if node.role() == "master")

    def note(self, node: Node) -> None:
        """Note that a server was started again: its port is the same, its process is not."""
        if self.node is not None and self.node.port == node.port:
            self.node = node
        if self.pair is not None:
            self.pair = self.pair._replace(
                primary=_newer(self.pair.primary, node), replica=_newer(self.pair.replica, node)
            )
        if self.cluster is not None:
            self.cluster = self.cluster._replace(
                primaries=tuple(_newer(one, node) for one in self.cluster.primaries),
                replicas=tuple(_newer(one, node) for one in self.cluster.replicas),
            )

    def note_roles(self) -> None:
        """Note which servers are primaries now; each keeps its place, or has that of its partner."""
        if self.pair is not None and self.pair.replica.role() == "master" and self.pair.primary.role() != "master":
            self.pair = self.pair._replace(primary=self.pair.replica, replica=self.pair.primary)
        if self.cluster is not None:
            acting = set(self.acting())
            couples = [
                (replica, primary) if replica.port in acting and primary.port not in acting else (primary, replica)
                for primary, replica in zip(self.cluster.primaries, self.cluster.replicas, strict=True)
            ]
            self.cluster = self.cluster._replace(
                primaries=tuple(primary for primary, _ in couples), replicas=tuple(replica for _, replica in couples)
            )

    def queue_client(self) -> redis.Redis:
        """A client of the server that has the queue, with short patience."""
        for owner in [self.queue, *self.primaries()]:
            if owner is not None:
                return owner.client(decode_responses=True)
        url = self.worker_settings.queue_url or self.worker_settings.redis_url
        return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True)


def _newer(known: Node, node: Node) -> Node:
    return node if known.port == node.port else known


class Ground:
    """A launcher and a PostgreSQL, which arenas share: each has a schema of its own. Made by `own_ground`."""

    def __init__(self, launcher: Launcher, postgres: Postgres, folder: Path) -> None:
        self._launcher = launcher
        self._postgres = postgres
        self._folder = folder

    @contextmanager
    def arena(self, kind: str, *, workers: int = WORKERS, timeout_s: float = TIMEOUT_S, **more: Any) -> Iterator[Arena]:
        """An arena of one of KINDS.

        Args:
            kind: which.
            workers: of the pool; 0: no pool.
            timeout_s: of instances.
            more: further settings of instances and workers.
        """
        namespace = new_namespace(kind)
        arena = self._store(kind, namespace, timeout_s, more)
        with contextlib.ExitStack() as stack:
            stack.callback(self._end, arena)
            with AuditWriter.connect(arena.worker_settings) as writer:
                writer.migrate()
            if arena.node is not None:
                arena.proxy = stack.enter_context(way_to(arena.settings.redis_url))
            if workers:
                log = self._folder / f"{namespace}.log"
                arena.pool = stack.enter_context(worker_pool(arena.worker_settings, workers, log))
                arena.workers = workers
            yield arena

    def _end(self, arena: Arena) -> None:
        sentinels = arena.pair.sentinels if arena.pair else ()
        for node in (*sentinels, *arena.nodes(), *([arena.queue] if arena.queue else [])):
            self._launcher.kill(node)

    def _store(self, kind: str, namespace: str, timeout_s: float, more: dict[str, Any]) -> Arena:
        accounts = _accounts(kind, namespace)
        lines = [one.line for one in accounts.values()]
        config = (*_CONFIG.get(kind, ()), *lines)
        handles: dict[str, Any] = {"launcher": self._launcher, "postgres": self._postgres}
        queue_url = None
        if kind in ONE_SERVER:
            handles["node"] = self._launcher.start(*config)
            url = handles["node"].url
        elif kind in PAIRS:
            handles["pair"] = self._launcher.sentinel_pair(*config)
            _be_patient(handles["pair"].sentinels)
            url = handles["pair"].url
        elif kind == "cluster":
            handles["cluster"] = self._launcher.cluster(True, *config, node_timeout_ms=DOWN_AFTER_MS)
            handles["queue"] = self._launcher.start(*lines)
            url, queue_url = handles["cluster"].url, handles["queue"].url
        else:
            raise LookupError(f"there is no arena {kind}: {', '.join(KINDS)}")
        note_accounts(url, accounts)
        core, worker = accounts["core"].login, accounts["worker"].login
        settings = Settings(
            redis_url=with_login(url, core),
            postgres_url=self._postgres.url,
            queue_url=queue_url and with_login(queue_url, core),
            namespace=namespace,
            timeout_s=timeout_s,
            durability=_DURABILITY.get(kind, "memory"),
            **more,
        )
        worker_settings = msgspec.structs.replace(
            settings,
            redis_url=with_login(url, worker),
            queue_url=queue_url and with_login(queue_url, worker),
            timeout_s=Settings().timeout_s,
        )
        return Arena(kind, settings, worker_settings, **handles)


@contextmanager
def own_ground() -> Iterator[Ground]:
    """What arenas stand on; all of it ends at the end, whatever happens."""
    with (
        temporary_folder("pools") as folder,
        own_postgres() as postgres,
        valkeys() as launcher,
    ):
        yield Ground(launcher, postgres, folder)


@contextmanager
def given(
    settings: Settings, *, workers: int = WORKERS, timeout_s: float = TIMEOUT_S, log: Path | None = None
) -> Iterator[Arena]:
    """An arena on servers that somebody else started, and on which this harness may do what instances and workers do.

    Args:
        settings: from `environment.harness`, which removes what was written.
        workers: of the pool; 0: no pool.
        timeout_s: of instances.
        log: of the pool; None: it goes with the arena.
    """
    arena = Arena(GIVEN, msgspec.structs.replace(settings, timeout_s=timeout_s), as_worker(settings))
    with contextlib.ExitStack() as stack:
        with AuditWriter.connect(arena.worker_settings) as writer:
            writer.migrate()
        # The proxy talks to its server in the clear.
        if urlsplit(settings.redis_url).scheme == "redis":
            arena.proxy = stack.enter_context(way_to(settings.redis_url))
        if workers:
            log = log or stack.enter_context(temporary_folder("pools")) / "log"
            arena.pool = stack.enter_context(worker_pool(arena.worker_settings, workers, log))
            arena.workers = workers
        yield arena


def _accounts(kind: str, namespace: str) -> dict[str, Account]:
    """The core's and the worker's accounts in an arena of one of KINDS."""
    # That of the pool's processes, which take it from this one.
    prefix = os.environ.get("RQ_KEY_PREFIX", "rq")
    return {role: new_account(role, namespace, _PARTS[role].get(kind, ()), queue_prefix=prefix) for role in _PARTS}


def _be_patient(sentinels: Sequence[Node]) -> None:
    """Let the sentinels wait for longer until they replace a primary."""
    for sentinel in sentinels:
        with sentinel.client() as client:
            client.execute_command("SENTINEL", "SET", SERVICE, "down-after-milliseconds", DOWN_AFTER_MS)
