from __future__ import annotations

import pytest

from loadtests.load.generator import Seconds

S = 10**9


def test_who_always_looks_late_misses_no_second() -> None:
    """Ten minutes have six hundred shares, though each is looked at a little late."""
    seconds, now_ns, found = Seconds(7, 1.0), 7, 0
    while found < 600:
        now_ns += round(seconds.left_s(now_ns) * S) + 9_000_000
        shares = seconds.look(now_ns, 1.0 + 0.25 * (now_ns - 7) / S)
        assert shares == [0.25]
        found += 1
    assert now_ns < 7 + 601 * S


def test_a_stall_has_its_seconds_too() -> None:
    """Of seconds that nobody looked at in time each has the mean; before one is over, nothing is said of it."""
    seconds = Seconds(0, 0.0)
    assert [] == seconds.look(S - 1, 0.5)
    assert [0.5] == seconds.look(S, 0.5)
    assert [0.1] * 4 == seconds.look(5 * S, 0.9)
    assert [pytest.approx(1 / 1.1, abs=1e-4)] == seconds.look(6 * S + S // 10, 1.9)
    assert seconds.left_s(6 * S + S // 10) == 0.9
