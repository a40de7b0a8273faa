"""What a load test showed, in the words of its verdict."""

from __future__ import annotations

import enum

import msgspec

from loadtests.load.histograms import LONGEST_US
from loadtests.scenarios import Target  # noqa: TC001 - msgspec reads it when it decodes

# What failed counts as the longest there is.
NEVER_MS = LONGEST_US / 1e3


class Speed(enum.StrEnum):
    """What a load test says of a claim."""

    PASS = "PASS"  # noqa: S105 - not a secret
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    # The run itself is none: nothing follows from it.
    INVALID = "INVALID"


# What remains of several verdicts is the first of these that is among them.
_WORST = (Speed.INVALID, Speed.FAIL, Speed.INCONCLUSIVE)


def worst(verdicts: list[Speed]) -> Speed:
    """What remains of several verdicts; of none, a doubt."""
    for one in _WORST:
        if one in verdicts:
            return one
    return Speed.PASS if verdicts else Speed.INCONCLUSIVE


class TargetResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a target.

    Attributes:
        target: see Target.
        unit: of what is measured: `ms`; `times`, of a percentile in one window over that in another; `/s`, of a knee.
        limit: what it must be below, in this unit (of a knee, the limit of the percentile, in milliseconds).
        verdict: PASS, FAIL or INCONCLUSIVE.
        measured: what it is; None: nothing was.
        lower, upper: its two-sided 95 % interval, by a bootstrap over blocks of time; None: there is none.
        calls: how many were looked at.
        over: how many of them were over the limit; what failed is among them, whatever its time.
        allowed: how many may be, were they independent, so that the percentile is below the limit with 95 %
            confidence; None: there are too few calls to tell, or it is no percentile of milliseconds.
        sentence: why the verdict is what it is, where that is not plain.
    """

    target: Target
    unit: str
    limit: float
    verdict: Speed
    measured: float | None = None
    lower: float | None = None
    upper: float | None = None
    calls: int = 0
    over: int = 0
    allowed: int | None = None
    sentence: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Something beside the targets that must not be: what, how much of it there was, and how much may be."""

    what: str
    measured: float
    limit: float
    unit: str
    verdict: Speed
    sentence: str = ""


class KneeStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a load that grows.

    Attributes:
        number: from 1.
        from_s, until_s: when, in whole seconds since the beginning.
        offered_per_s: steps of all sessions that were planned for it.
        begun_per_s: those that were done in it.
        percentile_ms: the target's.
        calls: how many it is of.
        waiting_first_ms, waiting_last_ms: median waiting in its first and in its last third.
        cpu: the highest share of a processor that any process of the generator had, on average over five seconds.
        late_share: which share of its steps the generator began late by its own fault.
        is_saturated: whether the generator could not offer it, so that it says nothing of the system.
        is_taken: whether the system takes it.
        why: it is not taken, or says nothing.
    """

    number: int
    from_s: int
    until_s: int
    offered_per_s: float
    begun_per_s: float
    percentile_ms: float
    calls: int
    waiting_first_ms: float
    waiting_last_ms: float
    cpu: float
    late_share: float
    is_saturated: bool
    is_taken: bool
    why: str = ""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took in the time that is judged, in milliseconds (see `histograms.Name`)."""

    operation: str
    outcome: str
    part: str
    calls: int
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    longest: float


def in_words(value_ms: float) -> str:
    """A time as people read it, with its unit; what failed never was."""
    if value_ms >= NEVER_MS:
        return "never"
    return f"{value_ms:,.{2 if value_ms < 100 else 0}f} ms"
