from __future__ import annotations

from reports.time_left import TimeLeft


def test_nothing_is_promised_before_anything_is_known() -> None:
    """As long as no notebook has ended, and no last run tells, it says that it does not know."""
    left = TimeLeft({"a": 2, "b": 4}, {}, lanes=1)
    assert "time left not known yet" == left.words
    left.cell_ended("a", 3.0)
    assert left.seconds is None


def test_a_notebook_is_taken_to_be_like_those_that_are_done() -> None:
    """Without a last run, what is left is as long as the notebooks that ended, less the cells that are done."""
    left = TimeLeft({"a": 2, "b": 4}, {}, lanes=1)
    for seconds in (3.0, 1.0):
        left.cell_ended("a", seconds)
    left.notebook_ended("a")
    assert 4.0 == left.seconds
    left.cell_ended("b", 9.0)
    assert 3.0 == left.seconds
    assert "about 3 s left" == left.words


def test_one_that_ended_early_tells_nothing_of_the_others() -> None:
    """A notebook that failed in its first cell was not a short one."""
    left = TimeLeft({"a": 2, "b": 4}, {}, lanes=1)
    left.cell_ended("a", 1.0)
    left.notebook_ended("a")
    assert left.seconds is None


def test_the_last_run_tells_at_the_pace_of_this_one() -> None:
    """Cells take what they took the last time, twice as long where those so far did."""
    left = TimeLeft({"a": 2, "b": 2}, {"a": [1.0, 2.0], "b": [3.0, 4.0]}, lanes=1)
    assert 10.0 == left.seconds
    left.cell_ended("a", 2.0)
    assert 18.0 == left.seconds


def test_two_at_a_time_take_half_but_no_less_than_one_of_them() -> None:
    """What is left is shared by those that are executed at a time; one notebook cannot be shared."""
    before = {"a": [4.0], "b": [4.0], "c": [1.0]}
    assert 4.5 == TimeLeft(dict.fromkeys(before, 1), before, lanes=2).seconds
    assert 4.0 == TimeLeft({"a": 1, "c": 1}, before, lanes=2).seconds


def test_a_notebook_that_was_changed_is_not_taken_for_what_it_was() -> None:
    """Times of a notebook with another number of cells say nothing; there is then nothing to tell from."""
    assert TimeLeft({"a": 3}, {"a": [1.0, 2.0]}, lanes=1).seconds is None


def test_at_the_end_nothing_is_left() -> None:
    """When all have ended, also early, none is left; what the cells took is kept for the next run."""
    left = TimeLeft({"a": 2}, {}, lanes=1)
    left.cell_ended("a", 1.5)
    left.notebook_ended("a")
    assert 0.0 == left.seconds
    assert {"a": [1.5]} == left.times
