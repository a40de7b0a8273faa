from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from loadtests import ROOT
from loadtests.servers.stopping import is_there
from loadtests.spinner import NotPermittedError, host_awake
from loadtests.studies import awake
from loadtests.studies.study import Bench
from loadtests.waiting import wait_until

if TYPE_CHECKING:
    from kairos_core import Settings

NAMES = {"ping", "get", "get_floor", "update", "update_floor"}
_PARENT = """
import time
from loadtests.spinner import host_awake
with host_awake(60) as pids:
    print(*pids, flush=True)
    time.sleep(60)
"""


def test_both_states_of_the_host_are_measured(settings: Settings) -> None:
    """Every call is there with and without spinners, over its floor, and with the raw PING beside it."""
    kept: dict[str, object] = {}
    bench = Bench("quick", lambda _: None, kept.__setitem__, lambda _: None)
    points = awake.points(bench, settings, 1, 20)
    assert {(name, state) for name in NAMES for state in (awake.ASLEEP, awake.AWAKE)} == {
        (point.subject, point.x) for point in points
    }
    values = {(point.subject, point.x): point.values for point in points}
    for state in (awake.ASLEEP, awake.AWAKE):
        for name in awake.OPERATIONS:
            own, floor = values[name, state], values[f"{name}_floor", state]
            assert own["of_floor_p50"] == pytest.approx(own["p50_ms"] / floor["p50_ms"])
            assert own["ping_p50_us"] == pytest.approx(values["ping", state]["p50_ms"] * 1e3)
            assert awake.bar(name, own["ping_p50_us"]) == own.get("bar_of_floor_p50")
    assert len(points) == len(kept)


@pytest.mark.parametrize(("ping_us", "bars"), [(80.0, (1.3, 1.25)), (40.0, (None, None)), (20.0, (1.7, 1.5))])
def test_the_bar_follows_the_way(ping_us: float, bars: tuple[float | None, float | None]) -> None:
    """The shorter the way to the server, the larger is the part of the rest; between the two nothing is asked."""
    assert bars == (awake.bar("get", ping_us), awake.bar("update", ping_us))


def test_where_idle_priority_is_not_permitted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the host is measured as it is, and the reader is told once."""

    def refused(_: float) -> NoReturn:
        raise NotPermittedError("idle priority: no")

    monkeypatch.setattr(awake, "host_awake", refused)
    notes: list[str] = []
    points = awake.points(Bench("quick", lambda _: None, lambda *_: None, notes.append), settings, 2, 2)
    assert {awake.ASLEEP} == {point.x for point in points}
    assert 2 * len(NAMES) == len(points)
    assert ["The host could not be kept awake, so it was measured only as it is: idle priority: no."] == notes


def test_a_refusal_is_heard() -> None:
    """A spinner that may not have idle priority says so and does not spin: with any other it would disturb."""
    program = (
        "import os, sys\n"
        "def refuse(*_): raise PermissionError(1, 'not permitted')\n"
        "os.sched_setscheduler = refuse\n"
        "from loadtests import spinner\n"
        "sys.argv[1:] = ['60']\n"
        "spinner.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as spinner:
        assert spinner.stdout is not None
        assert "idle priority: [Errno 1] not permitted\n" == spinner.stdout.readline()
        # Long before its 60 s are over.
        assert 0 == spinner.wait(20)


def test_spinners_have_idle_priority_and_end() -> None:
    """There is one for each processor, at a priority at which it takes time from nobody, until it is not wanted."""
    with host_awake(30) as pids:
        assert len(os.sched_getaffinity(0)) == len(pids)
        assert {os.SCHED_IDLE} == {os.sched_getscheduler(pid) for pid in pids}
    assert not any(map(is_there, pids))


def test_spinners_end_by_themselves() -> None:
    """A spinner's time is bounded, whatever becomes of who wants it."""
    with subprocess.Popen(
        [sys.executable, "-m", "loadtests.spinner", "0.1"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as spinner:
        assert 0 == spinner.wait(20)


def test_spinners_end_with_a_parent_that_was_killed() -> None:
    """Nothing spins on where the study was killed."""
    with subprocess.Popen([sys.executable, "-c", _PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        parent.kill()
    assert wait_until(lambda: not any(map(is_there, pids)))
