from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from loadtests.at_once import StartedLateError
from loadtests.environment import as_administrator
from loadtests.orders import Helper, OrderError
from loadtests.servers.levels import level_servers
from loadtests.studies import durability
from loadtests.studies.study import Bench
from loadtests.updating import updates_ns

if TYPE_CHECKING:
    from kairos_core import Settings


def test_each_level_is_measured() -> None:
    """Every level is there for every number of processes, with what was written in the time."""
    bench = Bench("quick", lambda _: None, lambda *_: None, lambda _: None)
    with level_servers() as stores:
        points = durability.points(bench, stores, (1, 2), 1, 0.15)
    assert {(level, count) for level in stores for count in (1, 2)} == {(point.subject, point.x) for point in points}
    for point in points:
        assert point.values["p50_ms"] > 0
        assert point.values["updates_per_s"] == pytest.approx(point.values["count"] / 0.15)


def test_a_level_that_is_not_kept_is_an_error(settings: Settings) -> None:
    """A server that does not keep what a level promises is not measured under its name."""
    bench = Bench("quick", lambda _: None, lambda *_: None, lambda _: None)
    with pytest.raises(OrderError, match=r"loadtests\.updating ended"):
        durability.points(bench, {"replicated": as_administrator(settings).redis_url}, (1,), 1, 0.1)


class Late(Helper):
    """A process that says that it began late."""

    def __init__(self, *late_s: float) -> None:
        self.late_s = list(late_s)

    def tell(self, do: str, **_: object) -> None:
        """Be told to write."""
        assert "update" == do

    def answer(self) -> dict[str, object]:
        """Two samples."""
        return {"samples_ns": [1, 2], "late_s": self.late_s.pop(0) if len(self.late_s) > 1 else self.late_s[0]}


def test_processes_that_did_not_write_at_once_are_an_error() -> None:
    """What one wrote while another did not is no number for two."""
    assert [1, 2, 1, 2] == updates_ns([Late(0.0), Late(0.01)], "memory", 0.1)
    # Once more is no error: a machine may be busy.
    assert [1, 2, 1, 2] == updates_ns([Late(0.0), Late(0.5, 0.0)], "memory", 0.1)
    with pytest.raises(StartedLateError, match=r"one of 2 processes began 0\.50 s late"):
        updates_ns([Late(0.0), Late(0.5)], "memory", 0.1)
