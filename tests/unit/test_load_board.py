from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.board import Board, Now
from loadtests.load.facts import Moment
from loadtests.load.histograms import Histograms, Name
from loadtests.load.progress import Progress, line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

relaxed = settings(deadline=None, database=None, max_examples=25)
TURN = Name("turn", "ok", "latency")
names = st.sampled_from([TURN, Name("turn", "conflict", "latency"), Name("turn.get", "ok", "service")])
# Seconds far apart, so that some were encoded when another report tells of them.
calls = st.lists(st.tuples(names, st.integers(1, 10**9)), max_size=3)
reports = st.lists(st.dictionaries(st.integers(0, 9), calls, max_size=4), max_size=3)


def encoded(values: Iterable[tuple[Name, float]]) -> dict[str, str]:
    """Histograms of some values, as a process sends them."""
    found = Histograms()
    for name, value_us in values:
        found[name].record(value_us)
    return found.encoded()


def turns(*values_us: float) -> dict[str, str]:
    """Likewise, of turns."""
    return encoded((TURN, value) for value in values_us)


def told(board: Board) -> list[dict[str, list[tuple[float, int]]]]:
    """What it counted, in numbers."""
    found = []
    for second in board.seconds():
        histograms = Histograms()
        histograms.add(second)
        found.append({str(name): list(one.buckets()) for name, one in histograms.items()})
    return found


@relaxed
@given(first=reports, second=reports, order=st.randoms(use_true_random=False))
def test_reports_merge_in_any_order(
    first: list[dict[int, list[tuple[Name, int]]]],
    second: list[dict[int, list[tuple[Name, int]]]],
    order: object,
) -> None:
    """Whichever report comes first, the same is counted, and nothing is lost."""
    sent = [
        (place, number, {at: encoded(values) for at, values in one.items()})
        for place, ones in enumerate((first, second))
        for number, one in enumerate(ones, 1)
    ]
    in_order, mixed = Board(2), Board(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loadtests.load.board._OPEN_SECONDS", 2)
        for report in sent:
            in_order.take(*report)
        order.shuffle(sent)  # type: ignore[attr-defined]
        for report in sent:
            mixed.take(*report)
    assert told(in_order) == told(mixed)
    assert [] == in_order.notes == mixed.notes == mixed.missing({0: len(first), 1: len(second)})
    counted = sum(count for one in told(mixed) for buckets in one.values() for _, count in buckets)
    assert counted == sum(len(values) for one in (*first, *second) for values in one.values())


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ([(0, 1), (0, 1)], "report 1 of process 0 came twice"),
        ([(0, 0)], "report 0 of process 0"),
        ([(2, 1)], "a report came from process 2"),
        ([(0, 1), (0, 3)], "1 of the first 3 reports of process 0 did not come"),
        ([(0, 2), (0, 3)], "1 of the first 3 reports"),
    ],
)
def test_lost_and_doubled_reports_are_noted(sent: list[tuple[int, int]], words: str) -> None:
    """A report that is lost, doubled, or of nobody makes the run invalid, and is not counted twice."""
    board = Board(2)
    for place, number in sent:
        board.take(place, number, {0: turns(1_000)})
    assert any(words in note for note in board.notes), board.notes
    counted = sum(count for one in told(board) for _, count in one[str(TURN)])
    assert counted == len({one for one in sent if one[0] < 2 and one[1] > 0})


def test_the_last_reports_are_missed() -> None:
    """Reports that a process says it sent and that never came are missed, and so is a process that says nothing."""
    board = Board(3)
    for place, number in [(0, 1), (0, 2), (1, 1), (1, 2)]:
        board.take(place, number, {0: turns(1_000)})
    assert [] == board.notes
    assert [
        "of 3 reports of process 0 1 did not come, the first is 3",
        "process 1 sent 1 reports, but report 2 came",
        "process 2 does not say how many reports it sent; 0 came",
    ] == board.missing({0: 3, 1: 1})


@pytest.mark.parametrize(
    "broken",
    [
        {0: turns(5), 1: {"turn/ok/latency": "0:nothing"}},
        {0: turns(5), 1: {"turn": turns(5)["turn/ok/latency"]}},
        {0: turns(5), 1: {"turn/fine/latency": turns(5)["turn/ok/latency"]}},
        {0: turns(5), -1: turns(5)},
        {0: turns(5), 1: None},
        {0: turns(5), "one": turns(5)},
    ],
)
def test_a_report_that_cannot_be_read_is_noted(broken: Mapping[int, Mapping[str, str]]) -> None:
    """Nothing of a report that is broken anywhere is counted, and the run shows nothing."""
    board = Board(1)
    board.take(0, 1, broken)
    assert [] == board.seconds()
    assert "report 1 of process 0 cannot be read" in board.notes[0]


def test_now_is_of_the_last_whole_seconds() -> None:
    """Rate and percentiles are of turns in the last whole seconds; what went wrong is of all the time."""
    board = Board(1)
    lots = [(TURN, 1_000.0)] * 90 + [(TURN, 9_000.0)] * 10
    board.take(0, 1, {0: encoded([(Name("turn", "conflict", "latency"), 1.0), (Name("end", "error", "latency"), 1.0)])})
    for second in range(1, 15):
        board.take(0, second + 1, {second: encoded(lots if second < 14 else [(TURN, 1.0)])})
    now = board.now(14)
    assert (100.0, 1, 1) == (now.rate, now.conflicts, now.failures)
    assert [1.0, 9.0, 9.0] == [round(value, 1) for value in (now.p50_ms, now.p95_ms, now.p99_ms)]
    # A second of which nobody told yet is not one in which nothing was done.
    assert 100.0 == board.now(100, over_s=2).rate * 2 - 1


def test_now_without_turns_and_without_anything() -> None:
    """Before the first turn all steps are told of, and before the first step nothing."""
    board = Board(1)
    assert Now(0.0, 0.0, 0.0, 0.0, 0, 0) == board.now(0)
    board.take(
        0, 1, {0: encoded([(Name("create", "ok", "latency"), 2_000.0), (Name("turn.get", "ok", "service"), 1.0)])}
    )
    now = board.now(1)
    assert (1.0, 2.0) == (now.rate, round(now.p50_ms, 1))


NOW = Now(312.4, 0.61, 1.32, 2.4, 3, 0)
MOMENT = Moment(at_s=42.0, waiting=120, lag_s=0.2, keys=1)


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_the_line() -> None:
    """All that matters while it runs is in one line of a hundred columns or so; failures only where there are any."""
    wanted = "  42 s  312.4/s  p50 0.61  p95 1.32  p99 2.40 ms  conflicts 3  outbox 120  audit lag 0.2 s  18 s left"
    assert wanted == line(42.0, 60.0, NOW, MOMENT)
    assert "FAILED 7" in line(42.0, 60.0, NOW._replace(failures=7))
    assert "outbox" not in line(42.0, 60.0, NOW)


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is rewritten in place, never wrapped, and taken away at the end."""
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    stream = Terminal()
    progress = Progress(stream, 60.0)
    progress.show(1.0, NOW, MOMENT)
    progress.show(2.0, NOW, MOMENT)
    progress.end()
    progress.end()
    lines = stream.getvalue().replace("\x1b[K", "").split("\r")
    assert ["", "", 59, 59] == [lines[0], lines[-1], *map(len, lines[1:3])]
    assert "\n" not in stream.getvalue()


def test_progress_elsewhere() -> None:
    """Without a terminal there is a plain line for every tenth of the time."""
    stream = io.StringIO()
    progress = Progress(stream, 60.0)
    for second in range(62):
        progress.show(float(second), NOW, MOMENT)
    progress.end()
    lines = stream.getvalue().splitlines()
    assert [6, 12, 18, 24, 30, 36, 42, 48, 54, 60] == [int(one.split()[0]) for one in lines]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet(stream: io.StringIO) -> None:
    """Nothing is written where nobody wants to know."""
    progress = Progress(stream, 60.0, is_quiet=True)
    progress.show(30.0, NOW, MOMENT)
    progress.end()
    assert not stream.getvalue()
