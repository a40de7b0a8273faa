"""What is drawn of a run is what was measured."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from loadtests.judging import counterexample
from loadtests.judging.checker import Facts, check
from loadtests.judging.story import Story, history_of
from loadtests.load.facts import Moment, Outage
from loadtests.load.findings import NEVER_MS, KneeStep, Speed
from loadtests.load.histograms import Histograms, Name
from loadtests.load.timeline import Timeline
from loadtests.load.verdict import LoadVerdict
from loadtests.studies.study import Point, Result
from loadtests.validation import FaultResult
from reports.evidence import LoadTest
from reports.figures import audit, comparison, faults, latency, load, rivals, scaling, style, trend, violation
from reports.figures.rivals import Row, forest
from reports.findings import Latency, LoadRow, Report, Target
from reports.statistics import Comparison, Verdict
from reports.usl import fit_usl, law
from tests.made_load import made, scenario, target

if TYPE_CHECKING:
    from reports.figures.style import Picture

MISSED = "#d55e00"
PALETTE = {style.BLUE, style.ORANGE, style.GREEN, style.RED, style.SKY, style.PURPLE}


def texts(picture: Picture | None) -> list[str]:
    """The texts of a figure, which is XML by itself, loads nothing, and has all its ink from around it."""
    assert picture is not None
    # It was written here.
    root = ET.fromstring(picture.svg)  # noqa: S314
    assert "http" not in "".join(value for one in root.iter() for value in one.attrib.values())
    assert {colour.lower() for colour in PALETTE} >= set(re.findall(r"#[0-9a-f]{6}\b", picture.svg.lower()))
    found = [one for one in root.iter() if one.tag.endswith("}text")]
    for one in found:
        assert "currentColor" in one.get("style", "") + one.get("fill", ""), one.text
    return [(one.text or "").strip() for one in found]


def ids(svg: str) -> list[str]:
    """All ids of a picture, or of several."""
    return re.findall(r'\bid="([^"]+)"', svg)


def points_in(picture: Picture, colour: str) -> list[list[tuple[float, float]]]:
    """The places of the lines of a colour, in points of the picture, y downwards."""
    # A page may have another shade of the blue.
    svg = re.sub(r"var\(--blue, (#\w+)\)", r"\1", picture.svg)
    lines = re.findall(rf'<path d="([^"]+)"[^>]*style="fill: none; stroke: {colour.lower()}', svg)
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", one.replace("\n", " "))]
        for one in lines
    ]


def run_of(samples: dict[str, dict[str, list[Any]]], judgements: list[Any] | None = None) -> Any:
    """As much of a run as the figures look at."""

    def per_run(operation: str, subject: str, _: str) -> list[float]:
        return [float(np.quantile(one, 0.5, method="inverted_cdf")) for one in samples[operation][subject]]

    return SimpleNamespace(samples=samples, judgements=judgements or [], per_run=per_run, compare=None)


def test_a_spectrum_is_of_the_percentiles() -> None:
    """At each place it has what numpy says of the raw values, from the fastest call to the slowest."""
    samples = np.random.default_rng(1).lognormal(size=5_000)
    found = latency.spectrum(samples)
    assert samples.min() == found.ms[0]
    assert samples.max() == found.ms[-1]
    assert 1.0 == found.x[0]
    for x, ms in zip(found.x[:-1], found.ms[:-1], strict=True):
        assert np.quantile(samples, 1 - 1 / x, method="inverted_cdf") == ms
    assert np.all(np.diff(found.ms) >= 0)
    with pytest.raises(ValueError, match="no calls"):
        latency.spectrum(np.empty(0))


def test_a_spectrum_has_its_target_as_a_step() -> None:
    """It is flat at the limit up to its percentile, goes up there, and has its words; the numbers are described."""
    samples = {"get_session": {"kairos": [np.linspace(0.1, 1.0, 1_000)], "floor": [np.linspace(0.05, 0.5, 1_000)]}}
    limit = SimpleNamespace(
        operation="get_session", statistic="p95", unit="ms", limit=5.0, measured=SimpleNamespace(value=0.955)
    )
    (picture,) = latency.spectra(run_of(samples, [limit]))
    found = texts(picture)
    assert {"Kairos", "raw socket", "target: p95 < 5 ms", "0 %", "50 %", "90 %", "99 %", "99.9 %"} <= set(found)
    assert "bare redis-py" not in found
    flat, up = points_in(picture, style.TARGET)
    assert flat[0][1] == flat[-1][1]
    assert up[0][0] == up[-1][0] == flat[-1][0]
    assert flat[-1][1] == up[0][1] > up[-1][1]
    # 1 / (1 - 0.95) of 1 / (1 - 0.999), on a logarithmic axis that ends at the last of 1,000 calls.
    kairos = points_in(picture, style.BLUE)[0]
    assert math.log(20) / math.log(1_000) == pytest.approx(
        (flat[-1][0] - kairos[0][0]) / (kairos[-1][0] - kairos[0][0]), abs=0.01
    )
    assert "1,000 calls of get_session" in picture.description
    assert "p95 0.955, p99 0.991 ms" in picture.description


def test_a_mean_is_no_step() -> None:
    """Where the mean alone has a target there is a line of it, and no percentile is claimed."""
    limit = SimpleNamespace(
        operation="delivery", statistic="mean", unit="ms", limit=2.0, measured=SimpleNamespace(value=0.5)
    )
    (picture,) = latency.spectra(run_of({"delivery": {"kairos": [np.linspace(0.1, 1.0, 100)]}}, [limit]))
    assert 1 == len(points_in(picture, style.TARGET))
    assert "target: mean < 2 ms" in texts(picture)


def test_what_was_not_timed_is_not_drawn() -> None:
    """No samples: no picture and no error."""
    nothing = run_of({})
    assert [] == latency.spectra(nothing)
    assert latency.drift(nothing) is None
    assert rivals.ratios(nothing) is None
    assert rivals.medians(nothing) is None
    assert latency.distributions(nothing) is None


def test_drift_says_how_far_the_machine_wandered() -> None:
    """The later half of the runs over the earlier one, in words; and Kairos beside itself, run by run."""
    floor = [np.full(5, value) for value in (0.1, 0.2, 0.15)]
    again = [np.full(5, 0.2)] * 3
    ours = [np.full(5, value) for value in (0.2, 0.21, 0.22)]
    picture = latency.drift(run_of({"get_session": {"floor": floor, "again": again, "kairos": ours}}))
    assert "halves differ 1.17 times (at most 5), runs 2.00" in texts(picture)
    assert "get_session over itself, × (median 1.050)" in texts(picture)
    alone = latency.drift(run_of({"get_session": {"floor": floor[:1]}}))
    assert "halves differ 1.00 times (at most 5), runs 1.00" in texts(alone)


def test_medians_are_of_the_runs() -> None:
    """Each that updates has its median over the runs and how many times Kairos' that is."""
    samples = {
        "kairos": [np.full(3, value) for value in (0.1, 0.2, 0.3)],
        "lock": [np.full(3, value) for value in (0.8, 0.9, 0.7)],
    }
    found = texts(rivals.medians(run_of({"update_session": samples})))
    assert "0.200 ms" in found
    assert "0.800 ms · 4.00 ×" in found


def test_a_forest_has_every_row() -> None:
    """Each comparison is a row below its operation and has its ratio, also where it has no interval."""
    rows = [
        Row("get_session", "again", Comparison(1.004, 0.99, 1.02, 10)),
        Row("get_session", "bare", Comparison(0.71, 0.69, 0.73, 10)),
        Row("update_session", "watch_multi", Comparison(0.42, 0.40, 0.44, 10)),
        Row("async_get_session", "bare", Comparison(1.25, 0.0, math.inf, 3)),
    ]
    picture = forest(rows)
    found = [text for text in texts(picture) if text[0].isalpha()]
    wanted = ["get_session", "itself", "bare redis-py", "update_session", "WATCH/MULTI"]
    assert [*wanted, "async_get_session", "bare redis.asyncio"] == found
    assert {"0.71 ×", "1.25 ×", "0.42 ×"} <= set(texts(picture))
    assert "get_session over bare redis-py 0.710 (0.690 to 0.730)" in picture.description
    assert MISSED not in picture.svg.lower()
    assert picture.svg == forest(rows).svg
    # Each interval that there is, and no other.
    assert 3 == len([line for line in points_in(picture, style.BLUE) if len(line) == 2 and line[0][1] == line[1][1]])


@pytest.mark.parametrize(("subject", "marked"), [("again", True), ("bare", False)])
def test_a_row_that_fires_is_marked(subject: str, marked: bool) -> None:
    """An operation that differs from itself is seen to; beside others it may."""
    picture = forest([Row("get_session", subject, Comparison(1.2, 1.19, 1.21, 10))])
    assert marked is (MISSED in picture.svg.lower())


def test_a_comparison_groups_what_became_of_operations() -> None:
    """What is worse has a heading, a cross and the colour of a missed target; the band is the widest."""

    def became(operation: str, ratio: float, word: str, band: float = 1.04) -> Any:
        changed = Comparison(ratio, ratio * 0.98, ratio * 1.02, 10)
        return SimpleNamespace(operation=operation, changed=changed, band=band, word=SimpleNamespace(value=word))

    picture = comparison.comparison([became("get_session", 1.0, "no difference shown")])
    assert picture is not None
    assert MISSED not in picture.svg.lower()
    picture = comparison.comparison(
        [became("get_session", 1.0, "no difference shown"), became("drain", 1.4, "worse", 1.03)]
    )
    assert picture is not None
    assert {"worse", "drain", "1.40 ×"} <= set(texts(picture))
    assert MISSED in picture.svg.lower()
    assert "less than 1.040 times is no change" in picture.description
    assert comparison.comparison([]) is None


def test_a_scaling_curve() -> None:
    """It has its points, the law and its interval; without a fit it has the points alone."""
    points = [
        (number, float(law(number, 3_000, 0.05, 0.01)) * (1 + 0.01 * turn))
        for number in range(1, 9)
        for turn in range(3)
    ]
    fitted = scaling.curved([scaling.Curve("kairos", points, fit_usl(points, resamples=20))])
    bare = scaling.curved([scaling.Curve("kairos", points, None)])
    for picture in (fitted, bare):
        assert {"Kairos", "instances (processes)", "updates a second"} <= set(texts(picture))
        assert "1: 3,030" in picture.description
    assert "contention 0.0" in fitted.description
    assert "no law could be fitted" in bare.description
    assert len(fitted.svg) > len(bare.svg)


def study(name: str, points: list[Point]) -> Result:
    """A study that has these points."""
    return Result(
        format=1, study=name, question="How?", axis="writers", profile="quick", repetitions=3, points=points,
        facts={}, started_at="", finished_at="", notes=[],
    )  # fmt: skip


def test_writers_are_shown_with_their_range() -> None:
    """Medians of the repetitions by place, rising; what was not above 0 has no place on a logarithmic axis."""
    points = [
        Point(subject="kairos", x=x, repetition=number, values={"useful_per_s": 1_000.0 * number / x})
        for x in (8, 1)
        for number in (1, 2, 4)
    ]
    points.append(Point(subject="lock", x=1, repetition=1, values={"useful_per_s": 0.0}))
    found = scaling.spread(scaling.points_of(study("contention", points), "kairos", "useful_per_s"))
    assert ([1, 8], [2_000.0, 250.0], [1_000.0, 125.0], [4_000.0, 500.0]) == found
    picture = scaling.contention(study("contention", points))
    assert picture is not None
    assert "Kairos" in texts(picture)
    assert "Lock" not in texts(picture)
    assert "Kairos: 2,000 at 1, 250 at 8" in picture.description
    assert scaling.contention(study("contention", [])) is None
    assert scaling.instances(study("instances", [])) is None
    assert scaling.growth(study("instead", points)) is None


def timeline_of(turns: dict[int, dict[str, list[float]]]) -> Timeline:
    """What was counted, where turns took so many milliseconds, by second and outcome."""
    seconds = []
    for second in range(max(turns) + 1):
        histograms = Histograms()
        for outcome, some in turns.get(second, {}).items():
            for took_ms in some:
                histograms[Name("turn", outcome, "latency")].record(took_ms * 1_000)
        seconds.append(histograms.encoded())
    return Timeline(seconds)


def test_percentiles_of_a_second_are_those_of_its_calls() -> None:
    """They are what numpy says of the raw values that were answered; an empty second has none."""
    rng = np.random.default_rng(2)
    raw = {second: rng.lognormal(1.0, size=200).tolist() for second in (0, 1, 3)}
    found = timeline_of({second: {"ok": some[:150], "conflict": some[150:]} for second, some in raw.items()})
    for share in (0.50, 0.95, 0.99):
        line = load.latency_over_time(found, share)
        assert [0.5, 1.5, 2.5, 3.5] == line.at_s.tolist()
        assert math.isnan(line.values[2])
        for second, some in raw.items():
            # Histograms have three digits.
            assert np.quantile(some, share, method="inverted_cdf") == pytest.approx(line.values[second], rel=2e-3)


def test_what_failed_is_no_latency() -> None:
    """An unknown outcome has no time, and is counted among the outcomes."""
    found = timeline_of({0: {"ok": [1.0], "unknown": [900.0]}, 2: {"error": [1.0, 2.0]}})
    assert load.latency_over_time(found, 0.99).values[0] == pytest.approx(1.0, rel=2e-3)
    seen = load.outcomes_over_time(found)
    assert [1.0, 0.0, 0.0] == seen["ok"].values.tolist()
    assert [1.0, 0.0, 0.0] == seen["unknown"].values.tolist()
    assert [0.0, 0.0, 2.0] == seen["error"].values.tolist()


def test_a_long_test_has_no_more_moments_than_can_be_seen() -> None:
    """Several seconds become one, and nothing is lost of what was counted in them."""
    turns = {second: {"ok": [float(second % 7 + 1)] * 3} for second in range(load.MOMENTS + 50)}
    found = timeline_of(turns)
    line, seen = load.latency_over_time(found, 0.5), load.outcomes_over_time(found)["ok"]
    assert 2 == line.step_s == seen.step_s
    assert len(line.values) <= load.MOMENTS
    assert 3 * len(turns) == seen.values.sum() * seen.step_s


def outage_test(timeline: Timeline, **changes: Any) -> LoadTest:
    """A load test with PostgreSQL away from 4 to 8 s."""
    found = made(scenario(duration_s=3.0, ramp_s=1.0)).load
    moments = [
        Moment(at_s=at_s, waiting=waiting, lag_s=lag_s, keys=1)
        for at_s, waiting, lag_s in [
            (-1.0, 9, 9.0), (1.0, 5, 0.1), (5.0, 90, 1.0), (6.0, 500, 2.0), (8.0, 900, 4.0), (9.0, 700, 3.0),
            (9.5, 3, 0.1), (11.0, 0, 0.0),
        ]
    ]  # fmt: skip
    facts = {
        "moments": moments,
        "outage": Outage(from_s=4.0, until_s=8.0, most_waiting=950, longest_lag_s=4.2),
        "name": "audit_outage",
    }
    found = msgspec.structs.replace(found, **(facts | changes))
    verdict = LoadVerdict(verdict=Speed.PASS, name="audit_outage", time=1.0, size=1.0, reasons=[])
    return LoadTest(Path(), found, verdict, "VALID", timeline)


TURNS = {second: {"ok": [1.0, 2.0, 3.0], "dropped": [5.0]} for second in range(12)}


def test_an_outage_is_shaded_where_it_was() -> None:
    """The shaded part of the picture lies between its edges, as the axis has them."""
    picture = load.latency(outage_test(timeline_of(TURNS)))
    assert picture is not None
    assert load.AWAY in texts(picture)
    shaded = re.findall(r'<path d="([^"]+)"[^>]*style="fill: currentColor; opacity', picture.svg)
    edges = {float(x) for x in re.findall(r"[ML] ([\d.]+)", shaded[0])}
    left, right, axis = min(edges), max(edges), points_in(picture, style.BLUE)[0]
    # The line goes from 0.5 to 11.5 s.
    a_second = (axis[-1][0] - axis[0][0]) / 11
    assert axis[0][0] + 3.5 * a_second == pytest.approx(left, abs=0.2)
    assert axis[0][0] + 7.5 * a_second == pytest.approx(right, abs=0.2)
    assert "PostgreSQL was away from 4 to 8 s" in picture.description


def test_outcomes_are_counted_in_words() -> None:
    """How many steps ended how stands beside each, and which did not occur in the caption."""
    picture = load.outcomes(outage_test(timeline_of(TURNS)))
    assert picture is not None
    assert {"ok 36", "dropped 12", "offered", "end of ramp"} <= set(texts(picture))
    assert "No step ended as: conflict, unknown, error." in picture.caption


def test_what_failed_can_be_seen() -> None:
    """A few failures beside thousands that ended well have a scale of their own; where there are none, no such part."""
    well = {second: {"ok": [1.0] * 50} for second in range(5)}
    failed = well | {2: {"ok": [1.0] * 50, "error": [1.0], "unknown": [1.0], "conflict": [1.0]}}
    shown = [texts(load.outcomes(outage_test(timeline_of(turns)))) for turns in (well, failed)]
    assert [False, True] == ["of them not ok, steps a second" in found for found in shown]


def test_no_moment_of_the_trail_is_flattened() -> None:
    """Of many moments so many remain as can be seen, and the highest is among them."""
    values = [float(number % 97) for number in range(3_000)]
    values[1_234] = 1_000.0
    at_s, seen = audit.thinned([float(number) for number in range(3_000)], values)
    assert len(at_s) == len(seen) <= style.POINTS // 2
    assert max(seen) == max(values)
    assert all(values[int(moment)] == value for moment, value in zip(at_s, seen, strict=True))
    assert ([1.0], [2.0]) == audit.thinned([1.0], [2.0])


def test_a_test_without_calls_is_left_out() -> None:
    """Nothing was counted, nothing is drawn; where there are no moments neither."""
    empty = outage_test(Timeline([]), moments=[])
    assert load.latency(empty) is None
    assert load.outcomes(empty) is None
    assert load.knee(empty) is None
    assert audit.lag(empty) is None
    failed = outage_test(timeline_of({0: {"unknown": [1.0]}}), outage=None)
    assert load.latency(failed) is None
    assert load.outcomes(failed) is not None
    assert audit.lag(failed) is not None


def test_the_trail_is_seen_to_be_made_up() -> None:
    """When the oldest entry is young again, after the return; what was before the beginning is not looked at."""
    test = outage_test(timeline_of(TURNS))
    found = audit.waited(test)
    assert 9.5 == found.back_s
    assert 7 == len(found.moments)
    picture = audit.lag(test)
    assert picture is not None
    assert "at the most 950, the oldest 4.2 s old" in picture.description
    assert "was written 1.5 s after its return" in picture.description
    never = audit.lag(outage_test(timeline_of(TURNS), moments=test.load.moments[:6]))
    assert never is not None
    assert "not seen to be made up for" in never.description


def knee_step(number: int, **changes: Any) -> KneeStep:
    """A step of a growing load, which the system takes."""
    facts: dict[str, Any] = {
        "number": number, "from_s": 0, "until_s": 5, "offered_per_s": 100.0 * 2**number,
        "begun_per_s": 90.0 * 2**number, "percentile_ms": 2.0 * number, "calls": 500,
        "waiting_first_ms": 0.0, "waiting_last_ms": 0.0, "cpu": 0.1,
        "late_share": 0.0, "is_saturated": False, "is_taken": True,
    }  # fmt: skip
    return KneeStep(**(facts | changes))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"is_taken": False, "percentile_ms": 80.0, "why": "p95 is 80 ms"}, "knee: 400/s"),
        ({"is_taken": False, "is_saturated": True}, "at least 400/s"),
        ({}, "at least 800/s"),
    ],
)
def test_a_knee_is_the_last_step_that_was_taken(last: dict[str, Any], words: str) -> None:
    """And where nothing ended it, or the generator did, it is said to be at least there."""
    steps = [knee_step(1), knee_step(2), knee_step(3, **last)]
    test = outage_test(timeline_of(TURNS))
    of_it = SimpleNamespace(target=target(statistic="p95", below_ms=50.0, is_knee=True))
    verdict = SimpleNamespace(knee=steps, targets=[of_it])
    picture = load.knee(test._replace(verdict=verdict))  # type: ignore[arg-type]
    assert {words, "limit: 50 ms", "done, % of what was offered"} <= set(texts(picture))


def test_what_was_given_up_has_no_time() -> None:
    """A step most of which was given up stands at the edge and is said to be so, not at the time that stands for it."""
    steps = [knee_step(1), knee_step(2, is_taken=False, percentile_ms=NEVER_MS)]
    of_it = SimpleNamespace(target=target(statistic="p95", below_ms=50.0, is_knee=True))
    verdict = SimpleNamespace(knee=steps, targets=[of_it])
    picture = load.knee(outage_test(timeline_of(TURNS))._replace(verdict=verdict))  # type: ignore[arg-type]
    assert picture is not None
    assert "given up" in texts(picture)
    assert "400/s: never (not taken" in picture.description
    assert not [text for text in texts(picture) if text.startswith(("100,000", "1,000"))]
    assert ([(200.0, 2.0), (400.0, 150.0)], 150.0) == load.places(steps, 50.0)


def test_recoveries_have_a_mark_each() -> None:
    """One for each fault and arena, the slowest fault first; nothing is at the left edge; what did not hit is said."""

    def fault(name: str, arena: str, seconds: float | None, hit: int = 1) -> FaultResult:
        return FaultResult(fault=name, arena=arena, rounds=1, hit=hit, expected_losses=0, recovery_s=seconds)

    some = [fault("quick", "memory", 0.0), fault("slow", "cluster", 1.5), fault("none", "fsync", None, hit=0)]
    picture = faults.recoveries(some)
    found = texts(picture)
    assert picture is not None
    assert {"slow", "quick", "memory", "cluster", "0", "1"} <= set(found)
    assert found.index("slow") < found.index("quick")
    assert "slow: 1.500 s (cluster); quick: 0.000 s (memory)" in picture.description
    assert "These did not hit: none (fsync)" in picture.description
    assert faults.recoveries(some[2:]) is None


def test_a_violation_takes_the_ink_of_the_page(tmp_path: Path) -> None:
    """The checker's picture has colours of its own in a file, and those of the page within one."""
    assert violation.counterexample(tmp_path) is None
    folder = tmp_path / "validation/subjects/check_then_set/rounds/001"
    folder.mkdir(parents=True)
    (folder / "violation.svg").write_bytes(b"\xff\xfe")
    assert violation.counterexample(tmp_path) is None
    story = Story()
    own = story.create(1, 2)
    story.update(3, 3.5, (1, 1))
    story.get(4.5, 9, (1, 1), own)
    records = history_of(story.records)
    svg = counterexample.picture(check(records, Facts()).violations[0], records, Facts())
    assert "prefers-color-scheme" in svg
    (folder / "violation.svg").write_text(svg)
    picture = violation.counterexample(tmp_path)
    assert picture is not None
    assert "<style" not in picture.svg
    assert "p3 get (1, v1)" in texts(picture)
    assert picture.file == "validation/subjects/check_then_set/rounds/001/violation.svg"
    assert "order (session 1)" in picture.description


def report(day: int, verdict: Verdict = Verdict.PASS, profile: str = "quick", **changes: Any) -> Report:
    """A report of a day of January, whose numbers are the day."""
    facts: dict[str, Any] = {
        "latencies": [
            Latency(
                operation="update_session", subject=subject, name=subject, p50=1.0, p95=float(day), p99=3.0, file="",
                p50_smallest=0.5, p50_largest=2.0, ratio=day / 10 if subject == "bare" else None,
            )
            for subject in ("kairos", "bare")
        ],
        "loads": [
            LoadRow(
                name="audit_outage", about="", verdict=Verdict.PASS, correctness="VALID", reasons=[], seconds=1.0,
                instances=2, offered_per_s=1.0, done_per_s=1.0, p50_ms=1.0, p95_ms=1.0, p99_ms=float(day), p999_ms=1.0,
                longest_ms=1.0, steps=1, errors=0, unknown=0, dropped=0, conflicts=0, busiest=0.1, outage_s=None,
                most_waiting=0, longest_lag_s=0.0, file="",
            )
        ],
        "targets": [
            Target(
                source="latency", what="update_session p95", unit="ms", value=1.0, limit=10.0, is_below=True,
                verdict=verdict, file="",
            )
        ],
    }  # fmt: skip
    return Report(
        verdict=verdict, headline="", reasons=[], profile=profile, command="", made_at="",
        started_at=f"2026-01-{day:02d}T00:00:00+00:00", finished_at="", commit="", **(facts | changes),
    )  # fmt: skip


def test_a_trend_is_in_the_order_of_time() -> None:
    """Each run is a mark that says its verdict by shape, and what no run has is not drawn."""
    found = trend.trend([report(5, Verdict.FAIL), report(3), report(9, Verdict.INVALID, "full")])
    titles = [one.title for one in found]
    assert [
        "update_session over bare redis-py",
        "update_session, p95",
        "Turns under load (audit_outage), p99",
    ] == titles
    said = "2026-01-03: 3 (PASS), 2026-01-05: 5 (FAIL), 2026-01-09: 9 (INVALID). The target is 10 ms."
    assert said in found[1].description
    assert "ms, newest 9" in texts(found[1])
    assert "2026-01-09" in texts(found[1])
    assert len(set(ids("".join(one.svg for one in found)))) == len(ids("".join(one.svg for one in found)))
    assert [] == trend.trend([])
    assert [] == trend.trend([report(1, latencies=[], loads=[], targets=[])])


def test_two_pictures_do_not_share_an_id() -> None:
    """Also the same picture twice: each reference leads to what is defined in its own picture."""
    rows = [Row("get_session", "bare", Comparison(0.7, 0.69, 0.73, 10))]
    first, second = (style.alone(forest(rows), f"place {number}") for number in (1, 2))
    assert ids(first.svg)
    assert not set(ids(first.svg)) & set(ids(second.svg))
    for picture in (first, second):
        used = re.findall(r'(?:url\(|href=")#([^)"]+)', picture.svg)
        assert set(used) == set(ids(picture.svg))
