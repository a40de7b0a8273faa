"""The load tests as they are asked for: `scenarios.toml`, scaled to the time and the size that somebody has."""

from __future__ import annotations

import itertools
import math
from functools import cache
from importlib import resources
from typing import Annotated

import msgspec

from kairos_core.errors import ConfigurationError

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
STATISTICS = ("p50", "p95", "p99", "p999")
# What a target can be of: see `Target`.
OPERATIONS = (
    *("create", "start", "turn", "message", "end", "delivery", "message_delivery"),
    *(
        "create.create",
        "start.update",
        "turn.get",
        "turn.update",
        "message.send",
        "end.get",
        "end.update",
        "end.delete",
    ),
)


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a load test is to reach.

    Attributes:
        operation: `create`, `start`, `turn`, `end` or `message`, from when it was due until it was answered; one of its
            attempts alone (`turn.get`, `turn.update`), from when it was sent; or `delivery` (of an update) and
            `message_delivery`, from before it was sent until another process was told.
        statistic: p50, p95, p99 or p999.
        below_ms: what it must be below.
        window: in which of the scenario's windows; empty: from the end of the ramp on.
        at_most: how many times that in the window `over` it may be; instead of `below_ms`.
        over: which window it is compared with.
        is_knee: whether it is judged in each step of a load that grows, to find the last one that the system takes.
    """

    operation: str
    statistic: str
    below_ms: Positive | None = None
    window: str = ""
    at_most: Positive | None = None
    over: str = ""
    is_knee: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be judged."""
        if self.operation not in OPERATIONS:
            raise ValueError(f"operation: there is no {self.operation}; there are {', '.join(OPERATIONS)}")
        if self.statistic not in STATISTICS:
            raise ValueError(f"statistic: there is no {self.statistic}; there are {', '.join(STATISTICS)}")
        if (self.below_ms is None) == (self.at_most is None):
            raise ValueError("below_ms or at_most, and not both")
        if (self.at_most is None) == bool(self.over):
            raise ValueError("over goes with at_most")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load test.

    Attributes:
        about: what it is for, in a sentence.
        subject: what alone it is of; empty: any.
        sessions: how many live at any time.
        duration_s: how long something is offered.
        think_s: how long the players of a session think, on average (exponential).
        life_turns: turns of a session until it ends, on average.
        ramp_s: over how long the first sessions are created.
        settle_s: how long a session that was created is left alone before its first turn, and its place after it.
        is_shared: whether each session is written by all processes, and not by one.
        message_s: the average time between two messages to a session; None: there are none.
        listeners: how many watchers, and as many receivers of messages, each session has in every process, besides the
            watch of all sessions that every process has.
        hands: how many calls a process makes at the same time, at the most.
        phases: from which share of the time on the load is how many times as high.
        steps, step_factor: in how many steps of the same length it grows, each so many times as high as the one before.
        audit_away: from which share of the time on PostgreSQL is away, for which share of it; None: it is not.
        receipt_ttl_s: how long receipts of writes are kept; None: as the settings say.
        max_growth: by which share the memory of a process may grow after a tenth of the time (a minute of ten); None:
            that is not looked at.
        windows: parts of the time, by name: their shares of it, from and to.
        targets: see Target.
    """

    about: str
    subject: str = ""
    sessions: Count
    duration_s: Positive
    think_s: Positive
    life_turns: Count
    ramp_s: Positive = 5.0
    settle_s: Positive = 0.5
    is_shared: bool = False
    message_s: Positive | None = None
    listeners: Annotated[int, msgspec.Meta(ge=0)] = 0
    hands: Count = 32
    phases: list[tuple[Share, Positive]] = []
    steps: Count = 1
    step_factor: Positive = 1.0
    audit_away: tuple[Share, Share] | None = None
    receipt_ttl_s: Positive | None = None
    max_growth: Positive | None = None
    windows: dict[str, tuple[Share, Share]] = {}
    targets: list[Target] = []

    def __post_init__(self) -> None:
        """Refuse what means nothing, before it is run; msgspec says in which scenario."""
        if [begins for begins, _ in self.phases] != sorted(begins for begins, _ in self.phases):
            raise ValueError("phases: not in the order of time")
        if self.audit_away is not None and sum(self.audit_away) > 1:
            raise ValueError("audit_away: beyond the end")
        for name, (begins, ends) in self.windows.items():
            if begins >= ends:
                raise ValueError(f"windows: {name} ends before it begins")
        for target in self.targets:
            unknown = {target.window, target.over} - {"", *self.windows}
            if unknown:
                raise ValueError(f"targets: there is no window {min(unknown)}")

    def factor_at(self, at_s: float) -> float:
        """How many times as high as at the beginning the load is to be at a moment."""
        share = at_s / self.duration_s
        factor = self.step_factor ** min(self.steps - 1, int(share * self.steps))
        for begins, times in self.phases:
            if share >= begins:
                factor = times
        return factor

    def stretches(self) -> list[tuple[float, float]]:
        """Where the load is as high all the time: when each such stretch ends, in seconds, and its factor."""
        shares = {number / self.steps for number in range(1, self.steps)} | {begins for begins, _ in self.phases}
        edges_s = [share * self.duration_s for share in sorted({0.0, 1.0, *shares})]
        # Of the middle: at an edge itself, how it was rounded decides.
        return [(ends_s, self.factor_at((begins_s + ends_s) / 2)) for begins_s, ends_s in itertools.pairwise(edges_s)]

    def window_s(self, name: str) -> tuple[float, float]:
        """A window's beginning and end, in seconds since the beginning; without a name, from the end of the ramp on."""
        if not name:
            return min(self.ramp_s + self.settle_s, self.duration_s / 2), self.duration_s
        begins, ends = self.windows[name]
        return begins * self.duration_s, ends * self.duration_s

    def step_s(self, number: int) -> tuple[float, float]:
        """Beginning and end of a step of a load that grows, numbered from 0; the first begins behind the ramp."""
        length_s = self.duration_s / self.steps
        begins_s = number * length_s
        return (max(begins_s, self.window_s("")[0]) if number == 0 else begins_s), begins_s + length_s

    def scaled(self, time: float = 1.0, size: float = 1.0) -> Scenario:
        """The same in so many times the time, with so many times the sessions: the load of each is as it was.

        Raises:
            ConfigurationError: a scale is no number above 0.
        """
        for name, scale in (("TIME", time), ("SIZE", size)):
            if not (scale > 0 and math.isfinite(scale)):
                raise ConfigurationError(name, f"{scale}: a number above 0 is needed")
        return msgspec.structs.replace(
            self,
            sessions=max(1, round(self.sessions * size)),
            duration_s=self.duration_s * time,
            ramp_s=self.ramp_s * time,
        )


@cache
def scenarios() -> dict[str, Scenario]:
    """All of them, by name, in the order of the file."""
    text = resources.files("loadtests").joinpath("scenarios.toml").read_bytes()
    return msgspec.toml.decode(text, type=dict[str, Scenario])


def offered() -> dict[str, Scenario]:
    """Those of any subject."""
    return {name: one for name, one in scenarios().items() if not one.subject}


def scenario_named(name: str) -> Scenario:
    """One of them.

    Raises:
        ConfigurationError: there is none of this name.
    """
    known = scenarios()
    if name not in known:
        missing = f"there is no {name}" if name else "which one"
        raise ConfigurationError("SCENARIO", f"{missing}; there are {', '.join(offered())}")
    return known[name]
