"""How long it took until other instances were told of a write."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.history import Kind, Outcome, join, token
from loadtests.judging.story import Story, history_of
from loadtests.load.delivery import deliveries, never_told

# Hands 1 and 2 with the watcher 50 are one instance, with 60, which does not count; hand 3 with 51 another, 52 a third.
OWN = {1: 0, 2: 0, 50: 0, 60: 0, 3: 1, 51: 1, 52: 2}
WATCHERS = (50, 51, 52)


def told(story: Story) -> tuple[list[float], list[float]]:
    """The times of a story's deliveries, and when what was delivered was sent, in milliseconds."""
    found = deliveries(history_of(story.records), WATCHERS, OWN)
    return found.took_ms.tolist(), (found.start_ns / 1e6).tolist()


def test_only_other_instances_count() -> None:
    """A write counts once for each watcher of another instance, from before it was sent, whoever of them wrote it."""
    story = Story()
    first = story.create(10, 12, process=1)
    second = story.update(30, 33, (1, 1), process=3)
    third = story.update(20, 21, (1, 1), process=2, session=2)
    story.told(13, (1, 1), first, watcher=50)
    story.told(14.5, (1, 1), first, watcher=51)
    # It may be told of before who wrote it is answered.
    story.told(31, (1, 2), second, watcher=50)
    story.told(32, (1, 2), second, watcher=51)
    story.told(34, (1, 2), second, watcher=52)
    story.told(27, (1, 2), third, watcher=51, session=2)
    assert ([4.5, 7.0, 1.0, 4.0], [10.0, 20.0, 30.0, 30.0]) == told(story)


def test_what_is_no_delivery_of_a_write() -> None:
    """What was read later, a removal, nobody's write, another's who is not named, and a watcher that does not count."""
    story = Story()
    write = story.create(10, 12, process=3)
    read = story.get(11, 12, (1, 1), write, process=3)
    beside = story.create(10, 12, process=9, session=2)
    gone = story.delete(15, 16, process=3, at=(1, 2))
    story.told(13, (1, 1), write, watcher=50, kind=Kind.RESYNCHRONISED)
    story.told(13, (1, 1), read, watcher=50)
    story.told(13, (1, 1), token(3, 999), watcher=50)
    story.told(13, (1, 1), 0, watcher=50)
    story.told(13, (1, 1), 2**64 - 1, watcher=50)
    story.told(13, (1, 1), beside, watcher=50, session=2)
    story.told(17, (1, 2), gone, watcher=50, kind=Kind.TOLD_REMOVED)
    story.told(13, (1, 1), write, watcher=60)
    assert ([], []) == told(story)
    assert 0 == len(deliveries(join([]), WATCHERS, OWN).took_ms)
    story.told(13, (1, 1), write, watcher=50)
    assert ([3.0], [10.0]) == told(story)


def test_what_was_written_without_an_answer_counts() -> None:
    """Who waits for an update waits for it whatever became of its writer."""
    story = Story()
    write = story.add(Kind.UPDATE, 10, None, of=(1, 1), process=3, outcome=Outcome.UNKNOWN)
    story.told(18, (1, 2), write, watcher=50)
    assert ([8.0], [10.0]) == told(story)


def test_who_is_never_told_is_not_forgotten() -> None:
    """What was acknowledged, and what watchers of other instances missed of it, but for what they read instead."""
    story = Story()
    first = story.create(10, 12, process=1)
    story.update(20, 21, (1, 1), process=1)
    story.add(Kind.UPDATE, 30, None, of=(1, 2), process=1, outcome=Outcome.UNKNOWN)
    second = story.create(40, 42, process=1, session=2)
    story.create(50, 52, process=9, session=3)
    story.told(13, (1, 1), first, watcher=51)
    story.told(13, (1, 1), first, watcher=52)
    story.told(43, (1, 1), second, watcher=51, session=2)
    # It read the session after both, and may have been told of both so.
    story.told(60, (1, 2), 0, watcher=52, kind=Kind.RESYNCHRONISED)
    missing = never_told(history_of(story.records), WATCHERS, OWN)
    # The update, by 51; the second session, by 52. Who wrote them is told by nobody else.
    assert [20.0, 40.0] == (missing / 1e6).tolist()
    assert 0 == len(never_told(join([]), WATCHERS, OWN))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_looking_at_each_would_say(seed: int) -> None:
    """Among many writes and watchers in any order, the same as by comparing each with each."""
    rng = np.random.default_rng(seed)
    story = Story()
    writes = [
        (story.update(start, start + 1, (1, 1), process=int(process)), start, OWN[int(process)])
        for start, process in zip(rng.integers(1, 1_000, 40).tolist(), rng.choice([1, 2, 3], 40), strict=True)
    ]
    expected = []
    for writer, start, place in writes:
        for watcher in rng.choice(WATCHERS, 2, replace=False).tolist():
            after = int(rng.integers(1, 50))
            story.told(start + after, (1, 2), writer, watcher=watcher)
            if OWN[watcher] != place:
                expected.append((start, after))
    rng.shuffle(story.records)
    took, started = told(story)
    assert sorted(expected) == sorted(zip(started, took, strict=True))
    assert started == sorted(started)
