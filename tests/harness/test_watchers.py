from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.crowd import Crowd, UpdateMissedError
from loadtests.environment import as_administrator
from loadtests.states import sample_state
from loadtests.studies import watchers
from loadtests.studies.study import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from kairos_core import RedisStateManager, Settings


def test_each_number_of_watchers_is_measured(settings: Settings) -> None:
    """Every point is there, with every update, and the first is told no later than the last."""
    kept: dict[str, Sequence[int]] = {}
    bench = Bench("quick", lambda _: None, kept.__setitem__, lambda _: None)
    points = watchers.points(bench, as_administrator(settings), (1, 6), 1, 20)
    assert {(how, count) for how in watchers.HOWS for count in (1, 6)} == {(point.subject, point.x) for point in points}
    for point in points:
        values = point.values
        assert 20 == values["count"]
        assert min(4, int(point.x)) == values["processes"]
        assert 0 < values["first_p50_ms"] <= values["median_p50_ms"] <= values["last_p50_ms"]
        assert min(values["update_p50_ms"], values["server_cpu_ms_per_update"]) > 0
        # Of one alone, what else the server does with its memory meanwhile is as much.
        assert values["memory_kb_per_watcher"] > 1 or point.x == 1
        # A state for each.
        assert values["sent_kb_per_update"] > 0.7 * int(point.x)
    assert {20} == {len(samples) for samples in kept.values()}
    assert 4 * len(points) == len(kept)


def test_more_watchers_than_the_server_takes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be measured is said, and not taken for something that was."""
    monkeypatch.setattr(watchers, "_SPARE", 10**9)
    notes: list[str] = []
    bench = Bench("quick", lambda _: None, lambda *_: None, notes.append)
    assert [] == watchers.points(bench, as_administrator(settings), (5,), 1, 3)
    assert ["5 watchers were not measured"] == [note.partition(":")[0] for note in notes]


def test_a_watcher_that_misses_the_last_update_ends_the_study(
    settings: Settings, manager: RedisStateManager, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one of three is not told of the last update, there is an error and no smaller number."""
    monkeypatch.setattr(watchers, "ARRIVAL_TIMEOUT_S", 1.0)

    def listening() -> set[str]:
        return {one["id"] for one in client.client_list(_type="pubsub")}

    before = listening()

    def disturb(number: int) -> None:
        if number == 4:
            client.client_kill_filter(_id=(listening() - before).pop())

    with (
        Crowd(settings, "wire") as crowd,
        pytest.raises(UpdateMissedError, match=r"did not come to 1 of 3 watchers, not within 1 s"),
    ):
        watchers.deliveries(manager, [crowd], client, session_id="missed", count=3, updates=5, before_each=disturb)


@pytest.mark.parametrize("how", watchers.HOWS)
def test_an_update_that_is_not_the_next_is_an_error(settings: Settings, manager: RedisStateManager, how: str) -> None:
    """A watcher that is told of another version than the next has missed one."""
    state = manager.create_session(sample_state("skipped"))
    with Crowd(settings, how) as crowd:
        crowd.watch("skipped", 1, state.version + 3)
        manager.update_session(state)
        with pytest.raises(UpdateMissedError, match="watcher 0 was told of version 2 after 4"):
            crowd.arrivals_ns(10.0)
