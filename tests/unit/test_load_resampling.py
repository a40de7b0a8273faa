from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.histograms import Histogram, Histograms, Name, decoded, values_ms
from loadtests.load.resampling import SHARES, allowed_over, interval, percentile, resampled
from loadtests.load.timeline import Deliveries, Timeline
from reports import statistics
from tests.made_load import scenario

relaxed = settings(deadline=None, database=None)
times_us = st.lists(st.floats(1, 1e9), min_size=1, max_size=60)


@relaxed
@given(times_us=times_us, share=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999, 1.0]))
def test_percentiles(times_us: list[float], share: float) -> None:
    """A percentile is the smallest that this share are not above, to three digits; live and in the verdict alike."""
    histogram = Histogram()
    for one in times_us:
        histogram.record(one)
    ordered = sorted(min(one, 600e6) / 1e3 for one in times_us)
    exact = ordered[math.ceil(round(share * len(ordered), 6)) - 1]
    assert exact == pytest.approx(histogram.at_ms(share), rel=1.1e-3, abs=6e-4)
    places, counts = decoded(histogram.encoded())
    assert histogram.at_ms(share) == percentile(values_ms()[places], counts, share)
    assert sum(count for value, count in histogram.buckets() if value > 1.0) == histogram.over(1.0)


@relaxed
@given(calls=st.integers(0, 30_000), name=st.sampled_from(list(SHARES)))
def test_allowed_over(calls: int, name: str) -> None:
    """As many may be over the limit as the report's own statistics allow."""
    expected = statistics.allowed_over(calls, SHARES[name]) if calls else None
    assert expected == allowed_over(calls, SHARES[name])


@pytest.mark.parametrize(("name", "fewest"), [("p50", 5), ("p95", 59), ("p99", 299), ("p999", 2_995)])
def test_fewest_calls(name: str, fewest: int) -> None:
    """A percentile needs so many calls, or nothing is shown by none over the limit."""
    assert (None, 0) == (allowed_over(fewest - 1, SHARES[name]), allowed_over(fewest, SHARES[name]))


def test_the_interval_covers() -> None:
    """Of many runs whose slow moments befall many calls at once, the intervals of most hold the true percentile."""
    rng = np.random.default_rng(1)
    blocks, calls, trials = 20, 200, 40
    values = np.arange(1.0, 800.0) * 2
    shifts = rng.normal(0, 0.3, (trials, blocks, 1))
    spread = rng.normal(0, 0.5, (trials, blocks, calls))
    found = np.clip(np.round(50 * np.exp(shifts + spread)), 1, 799).astype(int)
    truth = 100 * math.exp(1.6449 * math.hypot(0.3, 0.5))
    covered = naive = 0
    for trial in found:
        counts = np.array([np.bincount(block, minlength=800)[1:] for block in trial])
        lower, upper = interval(resampled(values, counts, 0.95), blocks)
        covered += lower <= truth <= upper
        single = counts.sum(axis=0)[None, :]
        ordered = np.repeat(values, single[0])
        low, high = (
            ordered[int(len(ordered) * 0.95 + side * 1.96 * math.sqrt(len(ordered) * 0.0475))] for side in (-1, 1)
        )
        naive += low <= truth <= high
    # An interval over calls, as if they were independent, is far too narrow.
    assert naive < 0.6 * trials < 0.8 * trials < covered


def test_a_draw_is_a_run_that_might_have_been() -> None:
    """Each drawn percentile is that of blocks put together: with two blocks, of either twice, or of both."""
    values = np.arange(1.0, 101.0)
    counts = np.zeros((2, 100), np.int64)
    counts[0, :50] = counts[1, 50:] = 1
    found, often = np.unique(resampled(values, counts, 0.95), return_counts=True)
    assert [48.0, 95.0, 98.0] == found.tolist()
    assert [0.25, 0.5, 0.25] == pytest.approx((often / often.sum()).tolist(), abs=0.05)


def test_few_blocks_widen_the_interval() -> None:
    """Of fewer blocks less is known of how far they are spread."""
    samples = np.linspace(0.0, 1.0, 3_000)
    tenth, twentieth, single = (interval(samples, blocks) for blocks in (10, 20, 1))
    assert tenth[0] < twentieth[0] < single[0] == pytest.approx(0.025)
    assert tenth[1] > twentieth[1] > single[1] == pytest.approx(0.975)


def test_empty_blocks_say_nothing() -> None:
    """Blocks in which nothing was counted neither help nor harm, nor does a draw of nothing else."""
    counts = np.zeros((10, 1), np.int64)
    counts[3] = 1
    assert (5.0, 5.0) == interval(resampled(np.array([5.0]), counts, 0.95), 10)


def test_windows_hold_whole_seconds() -> None:
    """A window takes the seconds that lie within it whole; the last takes what was answered behind the end, too."""
    one = Histograms()
    one[Name("turn", "ok", "latency")].record(1_000)
    timeline = Timeline([one.encoded()] * 18)
    wanted = scenario(windows={"early": (0.1, 0.5), "late": (0.5, 1.0)})
    # Of 14 s: 1.4 to 7 and 7 to the end, and the ramp ends at 1.5.
    assert range(2, 7) == timeline.window(wanted, "early")
    assert range(7, 18) == timeline.window(wanted, "late")
    assert range(2, 18) == timeline.window(wanted, "")
    assert 5 == timeline.count(range(2, 7), operation="turn")
    assert 5 == timeline.counted(range(2, 7), 5, operation="turn", part="latency").calls


def test_what_failed_is_the_longest() -> None:
    """A failure counts as the longest there is, beside what was answered; the rows of the table tell what it took."""
    one = Histograms()
    one[Name("turn", "ok", "latency")].record(1_000)
    one[Name("turn", "error", "latency")].record(2_000)
    timeline = Timeline([one.encoded()])
    found = timeline.counted(range(1), operation="turn", part="latency")
    assert (1, 2) == (found.over(599_000), found.calls)
    assert [2.0, 1.0] == [round(row.longest, 1) for row in timeline.percentiles(range(1))]


@relaxed
@given(sent=st.lists(st.tuples(st.floats(0, 9.99), st.floats(0, 1e6)), min_size=1, max_size=40))
def test_deliveries_are_counted_like_the_rest(sent: list[tuple[float, float]]) -> None:
    """A delivery is counted in the second in which it was sent, in the bucket that a histogram has for it."""
    timeline = Timeline([], Deliveries(np.array([at for at, _ in sent]), np.array([ms for _, ms in sent])))
    histogram = Histogram()
    for _, ms in sent:
        histogram.record(ms * 1e3)
    found = timeline.counted(range(10), 10, operation="delivery", part="latency")
    assert len(sent) == found.calls
    assert [sum(int(at) == second for at, _ in sent) for second in range(10)] == found.counts.sum(axis=1).tolist()
    expected = [value for value, count in histogram.buckets() for _ in range(count)]
    assert np.repeat(found.values_ms, found.total) == pytest.approx(expected, rel=1.1e-3, abs=1.1e-3)
