"""Faults on the way to the store: connections cut, pieces delayed, replies to applied writes that never arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.faults.arenas import ONE_SERVER
from loadtests.faults.fault import Fault, Repeated, Window, with_given
from loadtests.faults.way import Disturbed
from loadtests.waiting import wait_for

if TYPE_CHECKING:
    import random

    from loadtests.faults.arenas import Arena
    from loadtests.faults.way import Way
    from loadtests.history import History


class _OnTheWay(Fault):
    """The proxy's doing."""

    kinds = with_given(*ONE_SERVER)
    touches_servers = False
    uses_proxy = True

    def before(self, arena: Arena) -> None:
        """Note what it has done until now."""
        self.evidence["before"] = self._way(arena).disturbed()

    def undo(self, arena: Arena) -> None:
        """Let everything pass."""
        self.evidence["after"] = self._way(arena).pass_all()

    def _way(self, arena: Arena) -> Way:
        if arena.proxy is None:
            raise LookupError(f"arena {arena.kind} has no proxy")
        return arena.proxy

    def _done(self) -> Disturbed:
        return Disturbed(*(new - old for old, new in zip(self.evidence["before"], self.evidence["after"], strict=True)))


class ConnectionsCut(_OnTheWay):
    """All connections are closed, again and again."""

    name = "connections cut"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["every_s"] = round(chance.uniform(0.03, 0.3), 3)
        self._repeated: Repeated | None = None

    def strike(self, arena: Arena) -> None:
        """Cut them, and again and again."""
        way = self._way(arena)
        way.cut()
        self._repeated = Repeated(way.cut, float(self.parameters["every_s"]))

    def undo(self, arena: Arena) -> None:
        """Cut no more."""
        repeated, self._repeated = self._repeated, None
        try:
            if repeated is not None:
                repeated.stop()
        finally:
            super().undo(arena)

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """The proxy's count."""
        del arena, history, window
        count = self._done().cut
        return count > 0, f"{count} connections were cut"


class Delayed(_OnTheWay):
    """Every piece waits before it passes, in both directions."""

    name = "delayed"

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["delay_ms"] = round(chance.uniform(10.0, 150.0), 1)

    def strike(self, arena: Arena) -> None:
        """Delay from now on."""
        self._way(arena).delay(float(self.parameters["delay_ms"]))

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """The proxy's count, and an attempt that took as long as that."""
        del arena, history
        count = self._done().delayed
        has_hit = count > 0 and window.longest_ms >= 2 * float(self.parameters["delay_ms"])
        return has_hit, f"{count} pieces were delayed by {self.parameters['delay_ms']} ms"


class RepliesDropped(_OnTheWay):
    """Writes are applied, and whoever made them does not hear of it: the connection is closed, or remains silent."""

    name = "replies dropped"
    only_applied = True

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        self.parameters["silently"] = chance.random() < 0.5
        # A caller that hears nothing waits until its deadline; one whose connection is closed goes on at once.
        share = chance.uniform(0.02, 0.2) if self.parameters["silently"] else chance.uniform(0.1, 0.6)
        self.parameters["share"] = round(share, 3)
        self.parameters["seed"] = chance.getrandbits(32)

    def strike(self, arena: Arena) -> None:
        """Drop from now on."""
        share, seed = float(self.parameters["share"]), int(self.parameters["seed"])
        silently = bool(self.parameters["silently"])
        self._way(arena).drop_replies(share, seed, silently=silently, only_applied=self.only_applied)

    def after(self, arena: Arena) -> None:
        """Wait until those who hear nothing have given up."""
        way = self._way(arena)
        wait_for("an end of the silent connections", lambda: not way.disturbed().silent)

    def shows(self, arena: Arena, history: History, window: Window) -> tuple[bool, str]:
        """The proxy's count of writes that had been applied."""
        del arena, history, window
        count = self._done().dropped
        how = "in silence" if self.parameters["silently"] else "with their connection"
        what = "replies to applied writes" if self.only_applied else "replies"
        return count > 0, f"{count} {what} were dropped {how}"


class AnyRepliesDropped(RepliesDropped):
    """The same of a subject of which nobody knows how its store says that a write was applied: any reply."""

    only_applied = False

    def __init__(self, chance: random.Random, kind: str) -> None:
        super().__init__(chance, kind)
        # In silence its first command, which logs it in, would wait as well, and nothing would be written.
        self.parameters["silently"] = False
        self.parameters["share"] = round(chance.uniform(0.02, 0.1), 3)


WAY: tuple[type[Fault], ...] = (ConnectionsCut, Delayed, RepliesDropped)
