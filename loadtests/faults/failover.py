"""Failover: a primary is killed, its replica takes its place, and it comes back as a replica."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from loadtests.faults.arenas import PAIRS
from loadtests.faults.fault import Fault, Window
from loadtests.servers.valkeys import wait_until_watched
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from loadtests.faults.arenas import Arena
    from loadtests.history import History
    from loadtests.servers.valkeys import Node


class _Failover(Fault):
    """SIGKILL of a primary that has a replica.

    What it acknowledged and had not sent yet is lost, and nobody is told: replication does not wait. Where writes wait
    for the replica (`replicated`), those that were told that they had reached it are kept.
    """

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        # A replica needs a second and more to take over; it comes back when that has happened.
        self.parameters["hold_s"] = round(chance.uniform(0.3, 1.0), 3)
        self.parameters["primary"] = chance.randrange(3)
        self._killed: Node | None = None
        self._successor: Node | None = None

    def before(self, arena: Arena) -> None:
        """Wait until the replica follows and could take over, and choose."""
        arena.note_roles()
        self._killed, self._successor = self._couple(arena)
        assert arena.launcher is not None  # noqa: S101 - checked
        arena.launcher.wait_for_replica(self._killed)
        self._wait_until_watched(arena)

    def _couple(self, arena: Arena) -> tuple[Node, Node]:
        """The primary to be killed, and its replica."""
        raise NotImplementedError

    def _wait_until_watched(self, arena: Arena) -> None:
        """Wait until those who are to decide know how things are."""
        raise NotImplementedError

    def strike(self, arena: Arena) -> None:
        """Kill the primary."""
        assert arena.launcher is not None  # noqa: S101 - checked
        assert self._killed is not None  # noqa: S101 - chosen before
        arena.launcher.kill(self._killed)
        loss: dict[str, Any] = {
            "at_ns": time.monotonic_ns(),
            "back_ns": 0,
            "why": f"the primary was killed, and replication does not wait ({arena.kind})",
        }
        if arena.durability.startswith("replicated"):
            loss["kept"] = arena.durability
        self.losses.append(loss)

    def undo(self, arena: Arena) -> None:
        """Wait for the replica to take over, and let the killed one follow it."""
        assert arena.launcher is not None  # noqa: S101 - checked
        killed, successor = self._killed, self._successor
        assert killed is not None  # noqa: S101 - chosen before
        assert successor is not None  # noqa: S101
        try:
            # One that came back empty before that would be the primary again, and its replica would be empty, too.
            wait_for("a primary in the place of the killed one", lambda: successor.role() == "master")
        finally:
            now = time.monotonic_ns()
            for loss in self.losses:
                loss["back_ns"] = loss["back_ns"] or now
            self.evidence["taken over"] = successor.role() == "master"
            self.evidence["after_s"] = (now - self.begin_ns) / 1e9
            arena.note(arena.launcher.restart(killed, *self._follow(successor)))

    def _follow(self, successor: Node) -> tuple[str, ...]:
        """What the configuration of the killed one needs to follow its successor."""
        raise NotImplementedError

    def after(self, arena: Arena) -> None:
        """Wait until everything is as before, in other roles."""
        assert arena.launcher is not None  # noqa: S101 - checked
        assert self._killed is not None  # noqa: S101 - chosen before
        assert self._successor is not None  # noqa: S101
        killed, successor = self._killed, self._successor
        wait_for("the killed one as a replica", lambda: killed.role() == "slave")
        arena.launcher.wait_for_replica(successor)
        arena.note_roles()
        self._wait_until_watched(arena)

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """The other one is primary now, and attempts failed or waited for it."""
        del arena, history
        assert self._killed is not None  # noqa: S101 - chosen before
        assert self._successor is not None  # noqa: S101
        has_hit = bool(self.evidence["taken over"]) and (
            window.faulty > 0 or window.longest_ms > max(500.0, window.before_ms)
        )
        ports = f"{self._successor.port} took over from {self._killed.port}"
        return has_hit, f"{ports} within {self.evidence['after_s']:.1f} s"


class SentinelFailover(_Failover):
    """The sentinels decide."""

    name = "failover"
    kinds = PAIRS

    def _couple(self, arena: Arena) -> tuple[Node, Node]:
        assert arena.pair is not None  # noqa: S101 - of this kind
        return arena.pair.primary, arena.pair.replica

    def _follow(self, successor: Node) -> tuple[str, ...]:
        # Told by the sentinels, it would follow only after ten seconds.
        return (f"replicaof {successor.host} {successor.port}",)

    def _wait_until_watched(self, arena: Arena) -> None:
        pair = arena.pair
        assert pair is not None  # noqa: S101 - of this kind
        for sentinel in pair.sentinels:
            wait_until_watched(sentinel, pair.primary)


class ClusterFailover(_Failover):
    """The other primaries decide."""

    name = "failover in the cluster"
    kinds = ("cluster",)

    def _couple(self, arena: Arena) -> tuple[Node, Node]:
        assert arena.cluster is not None  # noqa: S101 - of this kind
        place = int(self.parameters["primary"])
        return arena.cluster.primaries[place], arena.cluster.replicas[place]

    def _follow(self, successor: Node) -> tuple[str, ...]:
        # It has written down the cluster, and finds its place by itself.
        del successor
        return ()

    def _wait_until_watched(self, arena: Arena) -> None:
        assert arena.cluster is not None  # noqa: S101 - of this kind
        arena.cluster.wait_until_ok()


FAILOVER: tuple[type[Fault], ...] = (SentinelFailover, ClusterFailover)
