"""What a load test showed, at the end in a terminal: in a hundred columns and plain words. No I/O."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from loadtests.judging.verdict import Status
from loadtests.load.findings import NEVER_MS, Speed, in_words
from loadtests.load.timeline import OK, OUTCOMES, STEPS, part_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from loadtests.load.findings import KneeStep, Line, Percentiles, TargetResult
    from loadtests.load.verdict import LoadVerdict

WIDTH = 100
TURN = "turn"
# Of a wait that is shorter nothing is seen with two digits.
_NOTHING_MS = 0.005
_SPEED = {
    Speed.PASS: "all targets are met",
    Speed.FAIL: "something that was asked for was not reached",
    Speed.INCONCLUSIVE: "something could not be told",
    Speed.INVALID: "the run shows nothing",
}
_CORRECTNESS = {
    Status.VALID: "all that was seen is explained",
    Status.VIOLATION: "something that was seen must not be",
    Status.UNDECIDED: "something could not be told",
}


def summary(verdict: LoadVerdict, correctness: Status | None, doubts: Sequence[str] = ()) -> list[str]:
    """It in lines.

    Args:
        verdict: on the speed.
        correctness: the judge's verdict; None: nobody judged.
        doubts: what the judge says, where it is not VALID: sentences.
    """
    right = f"{correctness}: {_CORRECTNESS[correctness]}" if correctness else "nobody judged"
    begins_s, ends_s = verdict.judged_s
    scale = "" if verdict.time == verdict.size == 1 else f" (TIME={verdict.time:g} SIZE={verdict.size:g})"
    head = (
        f"{verdict.name}{scale}: {verdict.offered_per_s:,.1f} steps/s offered, {verdict.done_per_s:,.1f} done, from"
        f" {begins_s} s to {ends_s} s; {verdict.planned:,} steps in all"
    )
    parts = [
        _wrapped(f"speed {verdict.verdict}: {_because(verdict)}; correctness {right}"),
        _wrapped(head),
        _generator(verdict),
        *(_wrapped(f"why it shows nothing: {reason}") for reason in verdict.reasons),
        *(_wrapped(f"correctness: {doubt}") for doubt in doubts),
        _percentiles(verdict.percentiles),
        _outcomes(verdict.counts),
        _targets(verdict.targets),
        *(_wrapped(f"  {one.replace('_', ' ')}: not judged, none is told of another's") for one in verdict.unjudged),
        _lines(verdict.lines),
        _knee(verdict.knee),
    ]
    return [line for part in parts for line in part]


def _because(verdict: LoadVerdict) -> str:
    """What the verdict is for: the first of it."""
    first = [
        f"{_name(one)}, {one.sentence or f'{_measured(one)}, where the limit is {_limit(one)}'}"
        for one in verdict.targets
        if one.verdict == verdict.verdict
    ]
    first += [f"{one.what}, {one.sentence or one.measured}" for one in verdict.lines if one.verdict == verdict.verdict]
    if verdict.verdict == Speed.PASS or not (verdict.reasons or first):
        return _SPEED[verdict.verdict]
    if verdict.reasons:
        return f"{_SPEED[verdict.verdict]} ({verdict.reasons[0]})"
    return f"{_SPEED[verdict.verdict]} ({first[0]})"


def _generator(verdict: LoadVerdict) -> list[str]:
    """How near the generator itself was to its limits."""
    if not verdict.busiest:
        return []
    lags = [one for one in verdict.percentiles if (one.operation, one.outcome, one.part) == (TURN, OK, "lag")]
    late = f"; it began turns late by {_ms(lags[0].p50)} ms (p50) and {_ms(lags[0].p99)} ms (p99)" if lags else ""
    count = len(verdict.busiest)
    who = "1 process, which" if count == 1 else f"{count} processes, none of which"
    share = f"wanted a processor for more than {100 * max(verdict.busiest):.0f} % of the time"
    return _wrapped(f"generator: {who} {share}{late}")


def _percentiles(rows: Sequence[Percentiles]) -> list[str]:
    """Of each step what users felt, and what it is made of; of each attempt and delivery its time."""
    found: list[tuple[str, ...]] = [("of that time, in ms", "ended", "calls", "p50", "p95", "p99", "p99.9", "longest")]
    operations = _ordered(one.operation for one in rows)
    for operation in operations:
        if _is_alone(operation, operations):
            continue
        parts = ("latency", "waiting", "service") if operation in _waited(rows) else (part_of(operation),)
        for outcome in OUTCOMES:
            for part in parts:
                for one in rows:
                    if (one.operation, one.outcome, one.part) == (operation, outcome, part):
                        name = f"  {part}" if part != parts[0] else operation.replace("_", " ")
                        found.append(_row(name, one))
    return ["", *_table(found)] if len(found) > 1 else []


def _waited(rows: Sequence[Percentiles]) -> set[str]:
    """The steps that had to wait: where none did, the service is all there is."""
    return {one.operation for one in rows if one.part == "waiting" and one.longest >= _NOTHING_MS}


def _is_alone(operation: str, operations: Iterable[str]) -> bool:
    """Whether it is the only attempt of its step, which then says the same."""
    step, dot, _ = operation.partition(".")
    return bool(dot) and sum(one.startswith(f"{step}.") for one in operations) == 1


def _ordered(operations: Iterable[str]) -> list[str]:
    """Steps as a session lives through them, then the rest."""
    found = set(operations)
    return [one for one in (*STEPS, *sorted(found - set(STEPS))) if one in found]


def _row(name: str, one: Percentiles) -> tuple[str, ...]:
    times = (one.p50, one.p95, one.p99, one.p999, one.longest)
    return (name, one.outcome, f"{one.calls:,}", *map(_ms, times))


def _outcomes(counts: dict[str, dict[str, int]]) -> list[str]:
    rows: list[tuple[str, ...]] = [("in all, how it ended", *OUTCOMES)]
    for operation in _ordered(counts):
        found = counts[operation]
        # Of attempts only what was not as it should be: that all are well, their steps say.
        is_told = operation in STEPS or ("." in operation and set(found) != {OK})
        if is_told:
            rows.append((operation, *(f"{found.get(outcome, 0):,}" for outcome in OUTCOMES)))
    return ["", *_table(rows)] if len(rows) > 1 else []


def _targets(results: Sequence[TargetResult]) -> list[str]:
    if not results:
        return []
    rows: list[tuple[str, ...]] = [("target", "measured", "95 % interval", "limit", "over it", "verdict")]
    notes = []
    for one in results:
        is_known = one.lower is not None and one.upper is not None
        between = f"{_amount(one.lower, one.unit)} to {_amount(one.upper, one.unit)}" if is_known else "-"
        over = "-" if one.unit == "/s" else f"{one.over:,} of {one.calls:,}"
        rows.append((_name(one), _measured(one), between, _limit(one), over, one.verdict))
        if one.sentence:
            notes += _wrapped(f"  {_name(one)}: {one.sentence}")
    return ["", *_table(rows), *notes]


def _name(one: TargetResult) -> str:
    """A target: `turn p99`."""
    target = one.target
    where = f" {target.window}" if target.window else ""
    name = f"{target.operation} {target.statistic}{where}".replace("_", " ")
    return f"{name} / {target.over}" if one.unit == "times" else name


def _measured(one: TargetResult) -> str:
    if one.measured is None:
        return "-"
    return in_words(one.measured) if one.unit == "ms" else f"{_amount(one.measured, one.unit)} {one.unit}"


def _limit(one: TargetResult) -> str:
    return f"{one.limit:g} times" if one.unit == "times" else f"< {one.limit:g} ms"


def _lines(lines: Sequence[Line]) -> list[str]:
    """What may not be, or not grow: in full where it is, and in few words where it is not."""
    if not lines:
        return []
    rows: list[tuple[str, ...]] = [("beside the targets", "measured", "limit", "verdict")]
    notes = []
    for one in _gathered(lines):
        digits = 1 if one.unit else 0
        unit = f" {one.unit}" if one.unit else ""
        rows.append((one.what, f"{one.measured:,.{digits}f}{unit}", f"{one.limit:,.{digits}f}{unit}", one.verdict))
        if one.sentence and (one.verdict != Speed.PASS or one.unit):
            notes += _wrapped(f"  {one.what}: {one.sentence}")
    return ["", *_table(rows), *notes]


def _gathered(lines: Sequence[Line]) -> list[Line]:
    """Of processes of one kind in which all is well, the one that is nearest to the limit."""
    found: dict[str, Line] = {}
    for one in lines:
        kind = one.what.rstrip(" 0123456789")
        is_one_of_many = kind != one.what and one.verdict == Speed.PASS
        name = kind if is_one_of_many else one.what
        if name not in found or one.measured > found[name].measured:
            found[name] = one
    return list(found.values())


def _knee(steps: Sequence[KneeStep]) -> list[str]:
    if not steps:
        return []
    rows: list[tuple[str, ...]] = [
        ("step", "offered/s", "done/s", "percentile", "waiting first, last", "generator", "the system")
    ]
    notes = []
    for one in steps:
        word = "takes it" if one.is_taken else "not told" if one.is_saturated else "does not"
        waiting = f"{_ms(one.waiting_first_ms)}, {_ms(one.waiting_last_ms)} ms"
        rates = (f"{one.offered_per_s:,.0f}", f"{one.begun_per_s:,.0f}")
        rows.append((f"{one.number}", *rates, f"{_ms(one.percentile_ms)} ms", waiting, f"{one.cpu:.0%}", word))
        if one.why:
            notes += _wrapped(f"  step {one.number}: {one.why}")
    return ["", *_table(rows), *notes]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of equal width; the first to the left, the last as it comes, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place == 0 or not _is_number(rows, place) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(rows: Sequence[tuple[str, ...]], place: int) -> bool:
    return all(row[place][:1] in "-<0123456789n" for row in rows[1:])


def _wrapped(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=True, break_on_hyphens=False)


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return _ms(value) if unit == "ms" else f"{value:,.2f}" if unit == "times" else f"{value:,.0f}"


def _ms(value: float) -> str:
    """Milliseconds in three digits or so; what failed never was."""
    if value >= NEVER_MS:
        return "never"
    return f"{value:,.{2 if value < 100 else 0}f}"
