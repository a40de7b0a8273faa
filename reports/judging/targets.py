"""The targets: of the latency benchmarks, the load tests, the studies and the coverage of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.load.findings import NEVER_MS
from loadtests.load.targets import shows_too_little
from loadtests.load.validity import is_searched
from reports.evidence import COVERAGE, LATENCY, LOAD, STUDIES
from reports.findings import Target
from reports.results import words
from reports.statistics import RUNS_TO_PASS, Verdict
from reports.study_bars import PointMissingError, bars
from reports.study_bars import judged as judged_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtests.load.findings import Line, TargetResult
    from loadtests.studies.study import Result
    from reports.evidence import Evidence, LoadTest
    from reports.findings import Coverage
    from reports.results import Judgement, Run
    from reports.study_bars import Bar

FULL = "full"
TOO_LITTLE = "Not judged here, where too little is measured of it: PROFILE=full does."
# Shares in % of the core that the tests must reach.
REACHED = (
    ("state managers", "managers_percent", 90.0),
    ("audit", "audit_percent", 85.0),
    ("the whole core", "all_percent", 80.0),
)
_RATE = "rows/s"
# What studies measure, in words.
_VALUES = {
    "p50_ms": "median time",
    "slowest_share": "what the slowest has of an even share",
    "updates_per_s": "updates a second",
    "useful_per_s": "useful writes a second",
}
# What a scenario counts and must not have any of; of a whole number, none is below one.
_NONE = 1.0


def targets(evidence: Evidence, profile: str) -> list[Target]:
    """All of them, in the order in which they are shown.

    Args:
        evidence: what the run left behind.
        profile: `full`, or one that measures less: of that, some are shown and not judged.
    """
    found = of_latency(evidence.latency) if evidence.latency else []
    for name, test in evidence.loads.items():
        found += of_load(name, test, profile)
    found += of_studies(evidence.studies, profile)
    return [*found, *of_coverage(evidence.coverage)]


def of_latency(run: Run) -> list[Target]:
    """Those that the profile judges, and behind them those that only a full run does."""
    judged = [_of_judgement(run, one, one.verdict, "") for one in run.judgements]
    return [*judged, *(_of_judgement(run, one, None, TOO_LITTLE) for one in run.unjudged)]


def _of_judgement(run: Run, one: Judgement, verdict: Verdict | None, note: str) -> Target:
    counted = one.counted
    if verdict is Verdict.INCONCLUSIVE:
        note = _doubt(run, one)
    return Target(
        source="latency",
        what=f"{one.operation} {one.statistic}",
        unit=one.unit,
        value=one.measured.value,
        lower=one.measured.lower,
        upper=one.measured.upper,
        interval=f"one-sided 95 % bounds over {one.measured.runs} runs",
        limit=one.limit,
        is_below=one.unit != _RATE,
        calls=counted.calls if counted else None,
        over=counted.over if counted else None,
        allowed=counted.allowed if counted else None,
        verdict=verdict,
        file=LATENCY,
        note=note,
    )


def _doubt(run: Run, one: Judgement) -> str:
    if one.measured.runs < RUNS_TO_PASS:
        return f"{one.measured.runs} runs, where {RUNS_TO_PASS} are needed to pass: measure all of them."
    if one.counted is not None and not one.counted.holds:
        return f"{one.counted}: more calls are over the limit than chance allows."
    return f"Too near to the limit for how much {run.manifest['runs']} runs differ: measure again, or more."


def of_load(name: str, test: LoadTest, profile: str) -> list[Target]:
    """What a load test was to reach, and what must not be in it."""
    lines = test.verdict.lines
    found = [_of_result(name, one, profile) for one in test.verdict.targets]
    until = "What came before the knee." if is_searched(test.load) else ""
    found += [target for target in (_failures(name, lines, until),) if target is not None]
    found += [_of_line(name, one, profile) for one in _grown(lines)]
    if test.verdict.reasons:
        # It is among what makes the run invalid; here nothing may look as if it were met.
        found = [_replaced(one, "The load test shows nothing: see what makes it invalid.") for one in found]
    return found


def _of_result(name: str, one: TargetResult, profile: str) -> Target:
    is_time = one.unit == "ms"
    is_judged = profile == FULL or (is_time and not shows_too_little(one))
    sentence = one.sentence
    if one.measured is not None and is_time and one.measured >= NEVER_MS:
        sentence = f"so many failed that the percentile is never reached; {sentence}".rstrip("; ")
    return Target(
        source="load",
        what=_words(name, one),
        unit={"times": "×"}.get(one.unit, one.unit),
        value=one.measured,
        lower=one.lower,
        upper=one.upper,
        interval="" if one.lower is None else "two-sided, 95 %, over blocks of time",
        # A knee is where it is: all that is asked for is that there is one.
        limit=0.0 if one.target.is_knee else one.limit,
        is_below=not one.target.is_knee,
        calls=one.calls if is_time else None,
        over=one.over if is_time else None,
        allowed=one.allowed if is_time else None,
        verdict=Verdict(one.verdict.value) if is_judged else None,
        file=f"{LOAD}/{name}/load_verdict.json",
        note=" ".join(text for text in (_sentence(sentence), "" if is_judged else TOO_LITTLE) if text),
    )


def _words(name: str, one: TargetResult) -> str:
    """`audit_outage: turn.update p99 away over before`."""
    target = one.target
    what = f"{name}: {target.operation} {target.statistic}"
    if target.is_knee:
        return f"{name}: steps a second with {target.operation} {target.statistic} below {one.limit:g} ms"
    window = f" {target.window}" if target.window else ""
    return f"{what}{window} over {target.over}" if target.over else f"{what}{window}"


def _failures(name: str, lines: Sequence[Line], until: str) -> Target | None:
    """All that failed, as one target: a load test has none of it, or it is not met."""
    counts = [one for one in lines if not one.unit]
    if not counts:
        return None
    what = [f"{one.what}: {one.measured:,.0f}" for one in counts if one.measured]
    verdicts = {one.verdict.value for one in counts}
    worst = next(word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in verdicts)
    return Target(
        source="load",
        what=f"{name}: calls that failed or were given up",
        unit="calls",
        value=float(sum(one.measured for one in counts)),
        limit=_NONE,
        is_below=True,
        verdict=Verdict(worst),
        file=f"{LOAD}/{name}/load_verdict.json",
        note=" ".join(filter(None, (_sentence("; ".join(what)), until))),
    )


def _grown(lines: Sequence[Line]) -> list[Line]:
    """Of what must not grow, whatever is over its limit or unknown, and the one that is nearest to it."""
    grown = [one for one in lines if one.unit]
    wrong = [one for one in grown if one.verdict != "PASS"]
    return wrong or sorted(grown, key=lambda one: one.limit - one.measured)[:1]


def _of_line(name: str, one: Line, profile: str) -> Target:
    is_judged = profile == FULL or one.verdict != "INCONCLUSIVE"
    return Target(
        source="load",
        what=f"{name}: growth of {one.what}",
        unit=one.unit,
        value=one.measured,
        limit=one.limit,
        is_below=True,
        verdict=Verdict(one.verdict.value) if is_judged else None,
        file=f"{LOAD}/{name}/load_verdict.json",
        note=_sentence(one.sentence) if is_judged else TOO_LITTLE,
    )


def _replaced(one: Target, note: str) -> Target:
    """The same, in doubt."""
    facts = {field: getattr(one, field) for field in one.__struct_fields__}
    return Target(**(facts | {"verdict": Verdict.INCONCLUSIVE, "note": note}))


def of_studies(studies: dict[str, Result], profile: str) -> list[Target]:
    """The bars of the studies that are there."""
    return [_of_bar(bar, studies[bar.study], profile) for bar in bars(studies)]


def _of_bar(bar: Bar, result: Result, profile: str) -> Target:
    is_judged = profile == FULL
    limit = bar.above if bar.above is not None else bar.below
    assert limit is not None  # noqa: S101 - a bar has one of the two
    facts = {
        "source": "study",
        "what": _bar_in_words(bar, result),
        "unit": "×" if bar.against or bar.value.endswith("_share") else _unit(bar.value),
        "limit": limit,
        "is_below": bar.above is None,
        "file": f"{STUDIES}/{bar.study}.json",
    }
    try:
        found = judged_bar(bar, result)
    except PointMissingError as error:
        doubt = Verdict.INCONCLUSIVE if is_judged else None
        return Target(**facts, value=None, verdict=doubt, note=_sentence(str(error)))  # type: ignore[arg-type]
    return Target(
        **facts,  # type: ignore[arg-type]
        value=found.seen.value,
        lower=found.seen.lower,
        upper=found.seen.upper,
        interval=f"one-sided 95 % bounds over {found.seen.runs} repetitions",
        verdict=found.verdict if is_judged else None,
        note=_note(found.verdict) if is_judged else TOO_LITTLE,
    )


def _note(verdict: Verdict) -> str:
    near = "Too near to the bar for how much the repetitions differ: measure again, when the machine is quiet."
    return near if verdict is Verdict.INCONCLUSIVE else ""


def _bar_in_words(bar: Bar, result: Result) -> str:
    """`contention: useful writes a second over WATCH/MULTI, writers: 8`."""
    over = f" over {words(bar.value, bar.against)}" if bar.against else ""
    return f"{bar.study}: {_VALUES.get(bar.value, bar.value.replace('_', ' '))}{over}, {result.axis}: {bar.x}"


def _unit(value: str) -> str:
    """What the name of a value ends in."""
    return "/s" if value.endswith("_per_s") else value.rpartition("_")[2]


def of_coverage(coverage: Coverage | None) -> Iterator[Target]:
    """How much the tests reach, where that was measured of this very core."""
    if coverage is None or not coverage.is_of_this:
        return
    for what, field, limit in REACHED:
        value = getattr(coverage, field)
        yield Target(
            source="coverage",
            what=f"coverage of {what}",
            unit="%",
            value=value,
            limit=limit,
            is_below=False,
            verdict=Verdict.PASS if value > limit else Verdict.FAIL,
            file=COVERAGE,
        )


def _sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
