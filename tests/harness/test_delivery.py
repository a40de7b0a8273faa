from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from kairos_core import Settings
from loadtests.delivery import Delivered, Subscriber
from loadtests.inside import NotedClock
from loadtests.states import sample_state
from loadtests.subjects.kairos import Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core import RedisStateManager


def test_the_clock_shows_now_until_an_arrival_is_noted() -> None:
    """Without an arrival, each reading is the time of the reading."""
    clock = NotedClock()
    before = time.monotonic()
    first, second = clock(), clock()
    assert before <= first <= second <= time.monotonic()


def test_the_clock_shows_an_arrival_once() -> None:
    """A noted arrival is the next reading and no other: the round after it begins now."""
    clock = NotedClock()
    started = clock()
    arrival_s = time.monotonic()
    clock.note(arrival_s)
    assert arrival_s == clock()
    assert started <= arrival_s < clock() <= time.monotonic()


def test_the_clock_shows_the_newest_arrival() -> None:
    """Of two arrivals that are noted before a reading, the newer counts, and the older is forgotten."""
    clock = NotedClock()
    clock.note(1.0)
    clock.note(2.0)
    assert 2.0 == clock()
    assert 2.0 < clock()


@pytest.mark.parametrize("how", ["kairos", "wire"])
def test_each_update_is_noted_when_it_arrives(settings: Settings, manager: RedisStateManager, how: str) -> None:
    """Another process notes each write once, in order, at a time between the write's start and the answer's receipt."""
    with Subscriber(settings, how) as subscriber:
        writes: list[Callable[[], object]] = [
            partial(manager.create_session, sample_state("one")),
            lambda: manager.update_session(manager.get_session("one") or sample_state("gone")),
            partial(manager.create_session, sample_state("two")),
            lambda: manager.update_session(manager.get_session("one") or sample_state("gone")),
            partial(manager.delete_session, "one"),
        ]
        versions = []
        for write in writes:
            before = time.monotonic()
            write()
            version, arrival_s = subscriber.arrival()
            assert before <= arrival_s <= time.monotonic()
            versions.append(version)
    assert [1, 2, 1, 3, 4] == versions


def test_no_update_of_a_burst_is_missed(settings: Settings, manager: RedisStateManager) -> None:
    """Writes that follow each other faster than they are noted are all noted, in order."""
    count = 200
    with Subscriber(settings, "kairos") as subscriber:
        state = manager.create_session(sample_state("burst"))
        for _ in range(count):
            state = manager.update_session(state)
        noted = [subscriber.arrival()[0] for _ in range(count + 1)]
    assert [*range(1, count + 2)] == noted


def test_nothing_of_another_namespace_is_noted(settings: Settings, manager: RedisStateManager) -> None:
    """A subscriber notes its own namespace's updates and no other's."""
    other = Settings(
        redis_url=settings.redis_url, postgres_url=settings.postgres_url, namespace=f"{settings.namespace}_other"
    )
    with Subscriber(other, "kairos") as subscriber, type(manager).connect(other) as ours:
        state = manager.create_session(sample_state("same"))
        manager.update_session(state)
        ours.create_session(sample_state("same"))
        ours.delete_session("same")
        assert [1, 2] == [subscriber.arrival()[0] for _ in range(2)]


def test_a_delivered_update_ends_when_it_arrives(settings: Settings, manager: RedisStateManager) -> None:
    """The second reading of the clock, taken when the call has returned, is the arrival in the other process."""
    clock = NotedClock()
    with Subscriber(settings, "kairos") as subscriber:
        delivered = Delivered(Update(manager, "delivered"), subscriber, clock)
        for _ in range(3):
            call = delivered.prepare()
            started = clock()
            result = call()
            returned = time.monotonic()
            arrived = clock()
            assert started <= arrived <= returned
            delivered.finish(result)
    state = manager.get_session("delivered")
    assert state is not None
    assert 4 == state.version


def test_a_missed_update_is_an_error(settings: Settings, manager: RedisStateManager) -> None:
    """An arrival that is not the update that was sent ends the measurement."""
    with Subscriber(settings, "kairos") as subscriber:
        delivered = Delivered(Update(manager, "missed"), subscriber, NotedClock())
        manager.create_session(sample_state("intruder"))
        with pytest.raises(AssertionError, match="version 1 arrived after 1"):
            delivered.prepare()()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its process is not waited for
def test_a_subscriber_that_cannot_subscribe_is_an_error(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    """A subscriber that never gets ready is an error at once, and not a wait without end."""
    nowhere = Settings(
        redis_url="redis://127.0.0.1:1/0", postgres_url=settings.postgres_url, namespace=settings.namespace
    )
    with pytest.raises(RuntimeError, match=r"loadtests\.subscriber ended"):
        Subscriber(nowhere, "kairos")
    assert "KAIROS_REDIS_URL" in capfd.readouterr().err
