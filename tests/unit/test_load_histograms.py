from __future__ import annotations

import base64
import math
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.histograms import LONGEST_US, Counts, Histogram, Histograms, Name, rank

# Each is made of tens of thousands of counts.
relaxed = settings(deadline=None, database=None, max_examples=10)
values_us = st.lists(st.floats(0.0, 1e6) | st.floats(1e6, 1.5 * LONGEST_US), min_size=1, max_size=60)
names = st.builds(Name, st.sampled_from(["turn", "turn.update"]), st.sampled_from(["ok", "error"]), st.just("latency"))
QUANTILES = (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
# Three digits of a value that is a whole number of microseconds.
DIGITS = 1e-3


def of(values: list[float]) -> Histogram:
    """A histogram of values."""
    found = Histogram()
    for value_us in values:
        found.record(value_us)
    return found


def counted(values: list[float]) -> list[int]:
    """The values as a histogram takes them."""
    return [min(max(1, round(value_us)), LONGEST_US) for value_us in values]


@relaxed
@given(
    recorded=st.lists(st.tuples(st.integers(0, 2), names, st.floats(0.0, 1.5 * LONGEST_US)), max_size=60),
    order=st.permutations(range(3)),
)
def test_merging_loses_nothing(recorded: list[tuple[int, Name, float]], order: list[int]) -> None:
    """Histograms of several processes, merged in any order, are what one process would have counted."""
    processes = [Histograms() for _ in order]
    alone = Histograms()
    for process, name, value_us in recorded:
        processes[process][name].record(value_us)
        alone[name].record(value_us)
    merged = Histograms()
    for place in order:
        merged.add(processes[place].encoded())
    assert len(recorded) == sum(len(merged[name]) for name in merged)
    assert list(alone) == list(merged)
    for name in alone:
        assert list(alone[name].buckets()) == list(merged[name].buckets())
        assert (alone[name].beyond, alone[name].longest_ms()) == (merged[name].beyond, merged[name].longest_ms())


@relaxed
@given(values=values_us)
def test_quantiles_are_true_to_three_digits(values: list[float]) -> None:
    """A quantile is the smallest value that its share of all are not above, to a thousandth, and never less."""
    found, true = of(values), np.array(counted(values))
    for share in QUANTILES:
        exact_ms = float(np.quantile(true, share, method="inverted_cdf")) / 1e3
        assert exact_ms <= found.at_ms(share) <= exact_ms * (1 + DIGITS), share
    assert len(values) == len(found)
    assert float(true.max()) / 1e3 <= found.longest_ms() <= float(true.max()) / 1e3 * (1 + DIGITS)
    assert math.isclose(true.mean() / 1e3, found.mean_ms(), rel_tol=DIGITS)


@pytest.mark.parametrize("count", [1, 31, 1_300, 5_300])
def test_a_share_is_never_less_than_asked_for(count: int) -> None:
    """Of 31 the 30th is p95: 29 of them would be 93.5 % only."""
    found = of([float(value_us) for value_us in range(1, count + 1)])
    for share in QUANTILES:
        at = rank(share, count)
        assert at >= share * count - 1e-6
        assert at == max(1, math.ceil(round(share * count, 6)))
        assert at / 1e3 <= found.at_ms(share) <= at / 1e3 * (1 + DIGITS)


@relaxed
@given(values=values_us, limit_ms=st.floats(0.001, 1e6))
def test_what_is_over_a_limit_is_counted(values: list[float], limit_ms: float) -> None:
    """None that is over a limit is missed; and none is counted that is below it by more than a thousandth."""
    found, true = of(values).over(limit_ms), np.array(counted(values)) / 1e3
    assert (true > limit_ms).sum() <= found <= (true > limit_ms * (1 - DIGITS)).sum()


@relaxed
@given(values=values_us)
def test_what_is_beyond_is_counted(values: list[float]) -> None:
    """A value above ten minutes is counted as ten minutes, and as beyond; through a text, too."""
    found = Histogram()
    found.add(of(values).encoded())
    assert sum(round(value_us) > LONGEST_US for value_us in values) == found.beyond
    assert len(values) == len(found)


@given(values=values_us)
def test_what_was_kept_as_it_came_is_counted_the_same(values: list[float]) -> None:
    """A process keeps values as they come, and a histogram that adds them has what it would have counted itself."""
    counts, whole, added = Counts(), Histogram(), Histogram()
    for value in [*values, LONGEST_US + 5]:
        counts.record(value)
        whole.record(value)
    added.add(counts.encoded())
    assert (added.encoded(), len(added)) == (whole.encoded(), len(values) + 1)


@pytest.mark.parametrize("pairs", [(0, 1), (5, 0), (LONGEST_US + 1, 1), (5,)])
def test_what_cannot_have_come_is_refused(pairs: tuple[int, ...]) -> None:
    """A value that is none, or half of what was sent, changes nothing."""
    found = Histogram()
    with pytest.raises(ValueError, match="not a histogram"):
        found.add(f"0#{base64.b64encode(array('I', pairs).tobytes()).decode()}")
    assert len(found) == 0


def test_of_nothing() -> None:
    """An empty histogram says 0, and adds nothing to another."""
    found = Histogram()
    assert (0, 0.0, 0.0, 0.0, 0, []) == (
        len(found),
        found.at_ms(0.5),
        found.longest_ms(),
        found.mean_ms(),
        found.over(1.0),
        list(found.buckets()),
    )
    other = of([5.0])
    other.add(found.encoded())
    assert 1 == len(other)


def broken() -> list[str]:
    """Texts that are no histograms."""
    whole = of([1.0, 50.0, 7e8]).encoded()
    _, _, text = whole.partition(":")
    data = bytearray(base64.b64decode(text))
    turned = bytes(data[:-8]) + bytes(255 - value for value in data[-8:])
    cut = base64.b64encode(bytes(data[: len(data) // 2])).decode()
    noise = base64.b64encode(np.random.default_rng(1).bytes(64)).decode()
    inverted = base64.b64encode(turned).decode()
    counts = ["", ":", "0:", text, f"x:{text}", f"-1:{text}", f":{text}"]
    return [*counts, "0:!!", f"0:{cut}", whole[:-5], f"0:{inverted}", f"0:{noise}"]


@pytest.mark.parametrize("text", broken())
def test_a_broken_text_changes_nothing(text: str) -> None:
    """What is no histogram is refused, and nothing of it is added."""
    found = of([3.0])
    with pytest.raises(ValueError, match="histogram"):
        found.add(text)
    assert (1, 0) == (len(found), found.beyond)


def test_a_broken_name_is_refused() -> None:
    """What is no name is refused as a broken histogram is."""
    for text in ("turn", "turn/ok", "turn/ok/latency/more"):
        with pytest.raises(ValueError, match="unpack"):
            Histograms().add({text: Histogram().encoded()})


def test_outcomes_are_counted_together() -> None:
    """Those of several outcomes are one histogram, and those of others are left out."""
    found = Histograms()
    for outcome, value_us in (("ok", 10.0), ("conflict", 20.0), ("error", 30.0)):
        found[Name("turn", outcome, "latency")].record(value_us)
        found[Name("turn", outcome, "service")].record(1.0)
    assert [(0.01, 1), (0.02, 1)] == list(found.of("turn", "latency", ["ok", "conflict"]).buckets())
    assert 0 == len(found.of("create", "latency", ["ok"]))
