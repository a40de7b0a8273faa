"""Judges the targets of a load test: a percentile below a limit, or not much above that of another window. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from loadtests.load.findings import Speed, TargetResult
from loadtests.load.resampling import CONFIDENCE, FEWEST_BLOCKS, MOST_BLOCKS, SHARES, allowed_over, interval, resampled
from loadtests.load.timeline import part_of

if TYPE_CHECKING:
    from loadtests.load.timeline import Counted, Timeline
    from loadtests.scenarios import Scenario, Target

FEWEST_CALLS = 100
_OPEN = "the limit lies within what might as well have been measured"


def judge_target(timeline: Timeline, scenario: Scenario, target: Target) -> TargetResult:
    """A target that is no knee.

    Raises:
        ValueError: the target has neither a limit nor a window to be compared with.
    """
    if target.below_ms is not None:
        return _judge_limit(timeline, scenario, target, target.below_ms)
    if target.at_most is not None and target.over:
        return _judge_ratio(timeline, scenario, target, target.at_most)
    raise ValueError(f"a target of {target.operation} says neither below_ms nor at_most and over")


def of_window(timeline: Timeline, within: range, operation: str) -> Counted:
    """What users felt of an operation in some seconds, in blocks; what failed as the longest there is."""
    blocks = max(1, min(MOST_BLOCKS, len(within)))
    return timeline.counted(within, blocks, operation=operation, part=part_of(operation))


def too_few(counted: Counted, statistic: str, what: str) -> str:
    """Why so many calls show nothing, in a sentence; empty: they do."""
    needed = max(FEWEST_CALLS, _needed(statistic))
    if counted.calls >= needed:
        return ""
    return f"too few: {counted.calls:,} {what}, where {needed:,} are needed for its {statistic}"


def shows_too_little(result: TargetResult) -> bool:
    """Whether there were too few calls, or too little time, to judge it."""
    return result.verdict == Speed.INCONCLUSIVE and result.sentence.startswith(("too few", "too short"))


def _doubt(counted: Counted, target: Target) -> str:
    """Why there is no interval that can be relied upon, in a sentence; empty: there is."""
    few = too_few(counted, target.statistic, target.operation)
    if few or len(counted.counts) >= FEWEST_BLOCKS:
        return few
    seconds = f"{len(counted.counts)} whole seconds, where {FEWEST_BLOCKS} are needed"
    return f"too short: {target.operation} was judged in {seconds}"


def _judge_limit(timeline: Timeline, scenario: Scenario, target: Target, limit_ms: float) -> TargetResult:
    counted = of_window(timeline, timeline.window(scenario, target.window), target.operation)
    found = TargetResult(target=target, unit="ms", limit=limit_ms, verdict=Speed.INCONCLUSIVE, calls=counted.calls)
    if not counted.calls:
        return _with(found, sentence=f"too few: no {target.operation} at all")
    share = SHARES[target.statistic]
    lower, upper = interval(resampled(counted.values_ms, counted.counts, share), len(counted.counts))
    over, allowed = counted.over(limit_ms), allowed_over(counted.calls, share)
    doubt = _doubt(counted, target)
    verdict, sentence = Speed.INCONCLUSIVE, doubt
    if not doubt and lower >= limit_ms:
        verdict = Speed.FAIL
    elif not doubt and upper < limit_ms and allowed is not None and over <= allowed:
        verdict = Speed.PASS
    elif not doubt:
        sentence = _OPEN if upper >= limit_ms else f"{over:,} over the limit, where {allowed or 0:,} may be by chance"
    return _with(
        found,
        verdict=verdict,
        measured=counted.at_ms(share),
        lower=lower,
        upper=upper,
        over=over,
        allowed=allowed,
        sentence=sentence,
    )


def _judge_ratio(timeline: Timeline, scenario: Scenario, target: Target, at_most: float) -> TargetResult:
    windows = [timeline.window(scenario, name) for name in (target.window, target.over)]
    ours, theirs = (of_window(timeline, within, target.operation) for within in windows)
    calls = ours.calls
    found = TargetResult(target=target, unit="times", limit=at_most, verdict=Speed.INCONCLUSIVE, calls=calls)
    if not ours.calls or not theirs.calls:
        return _with(found, sentence=f"too few: no {target.operation} in a window")
    share = SHARES[target.statistic]
    # Drawn with seeds of their own: that a block is slow in one window says nothing of the other.
    above = resampled(ours.values_ms, ours.counts, share, seed=1)
    below = resampled(theirs.values_ms, theirs.counts, share, seed=2)
    number = min(len(above), len(below))
    lower, upper = interval(above[:number] / below[:number], min(len(ours.counts), len(theirs.counts)))
    doubt = _doubt(ours, target) or _doubt(theirs, target)
    verdict, sentence = Speed.INCONCLUSIVE, doubt
    if not doubt and lower > at_most:
        verdict = Speed.FAIL
    elif not doubt and upper <= at_most:
        verdict = Speed.PASS
    elif not doubt:
        sentence = _OPEN
    base_ms = theirs.at_ms(share)
    return _with(
        found,
        verdict=verdict,
        measured=ours.at_ms(share) / base_ms,
        lower=lower,
        upper=upper,
        over=ours.over(at_most * base_ms),
        sentence=sentence or f"{ours.at_ms(share):.2f} ms, over {base_ms:.2f} ms {target.over}",
    )


def _needed(statistic: str) -> int:
    """The fewest calls of which none over a limit shows that the percentile is below it: 59 of a p95."""
    # The chance that none of so many is over it, were the percentile at the limit, is share to the power of them.
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(SHARES[statistic]))


def _with(found: TargetResult, **changes: object) -> TargetResult:
    return msgspec.structs.replace(found, **changes)
