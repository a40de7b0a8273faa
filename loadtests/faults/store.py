"""Faults of the store: killed and started again, stopped, its clients and scripts thrown out, its memory full."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from loadtests.faults.arenas import KINDS, ONE_SERVER
from loadtests.faults.fault import Fault, Repeated, Window
from loadtests.servers.stopping import Stopped
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    import random

    import redis

    from loadtests.faults.arenas import Arena
    from loadtests.history import History
    from loadtests.servers.valkeys import Node

# A primary that others watch is stopped for less than what they wait before they replace it (`DOWN_AFTER_MS`).
_SHORT_S = (0.2, 0.5)


class ValkeyKilled(Fault):
    """SIGKILL, and a start on the same data: all of it, some of it or none, as the arena has it."""

    name = "Valkey killed"
    kinds = ONE_SERVER

    def before(self, arena: Arena) -> None:
        """Note which run of the server it is."""
        self.evidence["run"] = info(arena.primaries()[0], "server")["run_id"]

    def strike(self, arena: Arena) -> None:
        """Kill it."""
        assert arena.launcher is not None  # noqa: S101 - checked
        self._at_ns = 0
        arena.launcher.kill(arena.primaries()[0])
        self._at_ns = time.monotonic_ns()

    def undo(self, arena: Arena) -> None:
        """Start it again."""
        assert arena.launcher is not None  # noqa: S101 - checked
        arena.note(arena.launcher.restart(arena.primaries()[0]))
        if arena.may_lose:
            why = f"the store was killed, with durability {arena.durability} ({arena.kind})"
            now = time.monotonic_ns()
            self.losses.append({"at_ns": self._at_ns or now, "back_ns": now, "why": why})

    def after(self, arena: Arena) -> None:
        """Wait until it has read what it has on disk."""
        node = arena.primaries()[0]
        wait_for("the store", lambda: str(info(node, "persistence")["loading"]) == "0")
        self.evidence["next run"] = info(node, "server")["run_id"]

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Another run, and attempts that failed or waited for it."""
        del arena, history
        runs = str(self.evidence["run"])[:8], str(self.evidence["next run"])[:8]
        has_hit = runs[0] != runs[1] and _has_stood_still(window, self.lasted_s)
        return has_hit, f"run {runs[0]} became {runs[1]}"


class ValkeyStopped(Fault):
    """SIGSTOP, and SIGCONT: connections stay open and nothing is answered."""

    name = "Valkey stopped"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        if kind not in ONE_SERVER:
            self.parameters["hold_s"] = round(chance.uniform(*_SHORT_S), 3)
        self.parameters["primary"] = chance.randrange(3)
        self._stopped: Stopped | None = None

    def strike(self, arena: Arena) -> None:
        """Stop one of the primaries."""
        primaries = arena.primaries()
        self._stopped = Stopped([primaries[int(self.parameters["primary"]) % len(primaries)].pid])

    def undo(self, arena: Arena) -> None:
        """Let it go on."""
        del arena
        if self._stopped is not None:
            self._stopped.resume()

    def after(self, arena: Arena) -> None:
        """Wait until all answer."""
        for node in arena.primaries():
            info(node, "server")

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """An attempt took about as long as it was stopped, or was given up."""
        del arena, history
        return _has_stood_still(window, self.lasted_s), f"stopped for {self.lasted_s:.1f} s"


class _Commanded(Fault):
    """A command to each of the primaries, again and again."""

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["every_s"] = round(chance.uniform(0.05, 0.4), 3)
        self._repeated: Repeated | None = None
        self._clients: list[redis.Redis] = []
        self._stack = ExitStack()

    def strike(self, arena: Arena) -> None:
        """Do it once, and then again and again."""
        self._clients = [self._stack.enter_context(node.client(decode_responses=True)) for node in arena.primaries()]
        self._once()
        self._repeated = Repeated(self._once, float(self.parameters["every_s"]))

    def undo(self, arena: Arena) -> None:
        """Do it no more."""
        del arena
        repeated, self._repeated = self._repeated, None
        with self._stack:
            if repeated is not None:
                repeated.stop()

    def _once(self) -> None:
        for client in self._clients:
            self.evidence["count"] = self.evidence.get("count", 0) + self.command(client)

    def command(self, client: redis.Redis) -> int:
        """Give the command to one server; how much it did."""
        raise NotImplementedError


class ClientsKilled(_Commanded):
    """CLIENT KILL of all ordinary connections.

    Except those of sentinels: they make theirs again once a second only, and take a server without for one that is
    down; its replica would take over while it goes on, which is another fault.
    """

    name = "clients killed"
    type: ClassVar[str] = "normal"

    def command(self, client: redis.Redis) -> int:
        """Kill them, except the one that says so."""
        own = client.client_id()
        listed = client.client_list(_type=self.type)
        ids = [one["id"] for one in listed if int(one["id"]) != own and not one["name"].startswith("sentinel-")]
        return int(client.execute_command("CLIENT", "KILL", "ID", *ids)) if ids else 0

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """The server's own count."""
        del arena, history, window
        count = int(self.evidence.get("count", 0))
        return count > 0, f"{count} {self.type} connections were killed"


class SubscribersKilled(ClientsKilled):
    """CLIENT KILL of all connections that are subscribed to something."""

    name = "subscribers killed"
    type = "pubsub"


class ScriptsFlushed(_Commanded):
    """SCRIPT FLUSH: the server knows no script any more."""

    name = "scripts flushed"

    def before(self, arena: Arena) -> None:
        """Count how often a script was not known."""
        self.evidence["unknown"] = sum(errors(node, "NOSCRIPT") for node in arena.primaries())

    def command(self, client: redis.Redis) -> int:
        """Flush; how many scripts there were."""
        count = int(client.info("memory").get("number_of_cached_scripts", 0))
        client.execute_command("SCRIPT", "FLUSH", "SYNC")
        return count

    def after(self, arena: Arena) -> None:
        """Count again."""
        self.evidence["unknown"] = (
            sum(errors(node, "NOSCRIPT") for node in arena.primaries()) - self.evidence["unknown"]
        )

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Scripts that were thrown away, and that somebody asked for afterwards."""
        del arena, history, window
        count, unknown = int(self.evidence.get("count", 0)), int(self.evidence["unknown"])
        return count > 0 and unknown > 0, f"{count} scripts flushed, {unknown} calls met that"


class MemoryFull(Fault):
    """`maxmemory` lowered to what is in use, or below; nothing is evicted, so that writes are refused."""

    name = "memory full"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        # As it is: the drain makes room again and again. Below: there is none.
        self.parameters["share"] = chance.choice([1.0, 0.5])
        self._former: list[tuple[Node, Any]] = []

    def before(self, arena: Arena) -> None:
        """Count the refusals there were."""
        self.evidence["refused"] = sum(errors(node, "OOM") for node in arena.primaries())

    def strike(self, arena: Arena) -> None:
        """Lower the limit of all primaries."""
        for node in arena.primaries():
            with node.client(decode_responses=True) as client:
                self._former.append((node, client.config_get("maxmemory")["maxmemory"]))
                used = int(client.info("memory")["used_memory"])
                client.config_set("maxmemory", max(1, int(used * float(self.parameters["share"]))))

    def undo(self, arena: Arena) -> None:
        """Put the limits back."""
        del arena
        for node, former in self._former:
            with node.client() as client:
                client.config_set("maxmemory", former)

    def after(self, arena: Arena) -> None:
        """Count the refusals there are."""
        self.evidence["refused"] = sum(errors(node, "OOM") for node in arena.primaries()) - self.evidence["refused"]

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """Refusals by the server's count, and by the history's."""
        del arena, history
        refused = int(self.evidence["refused"])
        return refused > 0 and window.faulty > 0, f"{refused} refused for memory"


STORE: tuple[type[Fault], ...] = (
    ValkeyKilled,
    ValkeyStopped,
    ClientsKilled,
    SubscribersKilled,
    ScriptsFlushed,
    MemoryFull,
)
assert all(set(fault.kinds) <= set(KINDS) for fault in STORE)  # noqa: S101 - never servers that were given


def info(node: Node, section: str) -> dict[str, Any]:
    """What a server says of itself."""
    with node.client(decode_responses=True, socket_timeout=10.0) as client:
        found: dict[str, Any] = client.info(section)
        return found


def errors(node: Node, code: str) -> int:
    """How often a server answered with this error since it began."""
    found = info(node, "errorstats").get(f"errorstat_{code}", {})
    return int(found.get("count", 0)) if isinstance(found, dict) else int(str(found).partition("=")[2] or 0)


def _has_stood_still(window: Window, lasted_s: float) -> bool:
    """Whether attempts failed, or one took most of the time."""
    most_ms = 0.7 * lasted_s * 1_000
    return window.faulty > 0 or window.longest_ms > max(most_ms, window.before_ms)
