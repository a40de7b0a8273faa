from __future__ import annotations

import pytest

from kairos_core import tracking
from kairos_core.errors import Stamp
from kairos_core.tracking import Known, News, Tracker


@pytest.fixture
def tracker() -> Tracker:
    """A tracker that knows version 3 of the first life of session s."""
    found = Tracker()
    assert found.note("s", Stamp(1, 3), alive=True)
    return found


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (Stamp(1, 4), News.NEXT),
        (Stamp(1, 3), News.OLD),
        (Stamp(1, 2), News.OLD),
        (Stamp(0, 99), News.OLD),
        (Stamp(1, 5), News.GAP),
        # A new life, of whose beginning or whose predecessor's end nothing was heard.
        (Stamp(2, 1), News.GAP),
        (Stamp(2, 2), News.GAP),
    ],
)
def test_what_a_message_is(tracker: Tracker, stamp: Stamp, expected: News) -> None:
    """G8: the next version is the next; what is known is old; anything between is a gap, and is noticed."""
    assert expected is tracker.weigh("s", stamp)


def test_the_first_message(tracker: Tracker) -> None:
    """G8: whatever version is heard first of a session is taken."""
    assert News.NEXT is tracker.weigh("t", Stamp(7, 99))


def test_after_the_end(tracker: Tracker) -> None:
    """G8: after a deletion the next life begins at version 1 without a gap; the old one is old."""
    assert tracker.note("s", Stamp(1, 4), alive=False)
    assert News.NEXT is tracker.weigh("s", Stamp(2, 1))
    assert News.GAP is tracker.weigh("s", Stamp(2, 2))
    assert News.OLD is tracker.weigh("s", Stamp(1, 4))
    assert [] == tracker.alive


def test_it_never_goes_back(tracker: Tracker) -> None:
    """G8: what is noted only rises; an end may be noted of the known version, and only once."""
    assert not tracker.note("s", Stamp(1, 2), alive=True)
    assert not tracker.note("s", Stamp(1, 3), alive=True)
    assert Known(Stamp(1, 3), alive=True) == tracker.known("s")
    assert tracker.note("s", Stamp(1, 3), alive=False)
    assert not tracker.note("s", Stamp(1, 3), alive=False)
    assert tracker.note("s", Stamp(2, 1), alive=True)
    assert not tracker.note("s", Stamp(1, 9), alive=True)


def test_it_goes_back_when_told_to(tracker: Tracker) -> None:
    """G8: where the store has lost what was known, what follows the older state is the next."""
    tracker.go_back("s", Stamp(1, 1))
    assert Known(Stamp(1, 1), alive=True) == tracker.known("s")
    assert News.NEXT is tracker.weigh("s", Stamp(1, 2))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """G10: a watcher of many sessions forgets the ones of which it heard longest ago, and does not grow without end."""
    monkeypatch.setattr(tracking, "REMEMBERED", 3)
    tracker = Tracker()
    for version, name in enumerate("abcad"):
        tracker.note(name, Stamp(1, version), alive=True)
    assert ["c", "a", "d"] == tracker.alive
    assert 3 == len(tracker)
