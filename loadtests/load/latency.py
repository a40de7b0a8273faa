"""How long something took that was due at a moment, and of whom that is said. No I/O."""

from __future__ import annotations

from typing import NamedTuple


class Latency(NamedTuple):
    """How long a step took, from when it was due; microseconds.

    Users wait for `latency_us`. `lag_us` is the generator's own lateness, which none of them would have met; a run in
    which that is much is none (see `verdict`).

    Attributes:
        waiting_us: until it could begin: what is done with its session before it, or whatever all hands did, took so
            long.
        lag_us: from when it could have begun until it did.
        service_us: until it was answered.
    """

    waiting_us: float
    lag_us: float
    service_us: float

    @property
    def latency_us(self) -> float:
        """From when it was due until it was answered, without the generator's own lateness."""
        return self.waiting_us + self.service_us


def split(*, due_ns: int, session_free_ns: int, hand_free_ns: int, begin_ns: int, end_ns: int) -> Latency:
    """Tell the parts of a step's latency apart.

    Args:
        due_ns: when it was to begin.
        session_free_ns: when what was done before it with its session was answered; 0: nothing was.
        hand_free_ns: when what the hand that took it did before was answered; 0: nothing was.
        begin_ns: when it began.
        end_ns: when it was answered.
    """
    could_begin_ns = min(max(due_ns, session_free_ns, hand_free_ns), begin_ns)
    return Latency(
        waiting_us=max(0, could_begin_ns - due_ns) / 1e3,
        lag_us=(begin_ns - max(could_begin_ns, due_ns)) / 1e3,
        service_us=(end_ns - begin_ns) / 1e3,
    )
