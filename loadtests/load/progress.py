"""One line that says how a load test goes: rewritten in place on a terminal, and now and then a new one elsewhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from loadtests.load.board import Now
    from loadtests.load.facts import Moment

# Without a terminal there is a line for each of so many parts of the time.
_PARTS = 10


class Progress:
    """Writes the line.

    Args:
        stream: where to; whether it is a terminal decides how.
        duration_s: how long the load test takes.
        is_quiet: whether nothing is written at all.
    """

    def __init__(self, stream: TextIO, duration_s: float, *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._duration_s = duration_s
        self._is_quiet = is_quiet
        self._rewrites = stream.isatty()
        self._parts_told = 0
        self._is_open = False

    def show(self, at_s: float, now: Now, moment: Moment | None = None) -> None:
        """Say how it goes, if it is time to.

        Args:
            at_s: seconds since the beginning.
            now: how it goes.
            moment: how the servers are; None: that is not known yet.
        """
        if self._is_quiet:
            return
        text = line(at_s, self._duration_s, now, moment)
        if self._rewrites:
            # One that is longer than the terminal is wide would be wrapped, and then no longer rewritten.
            width = max(20, shutil.get_terminal_size().columns - 1)
            self._write(f"\r{text[:width]}\x1b[K")
            self._is_open = True
            return
        parts = min(_PARTS, int(at_s / self._duration_s * _PARTS + 1e-9))
        if parts > self._parts_told:
            self._parts_told = parts
            self._write(f"{text}\n")

    def end(self) -> None:
        """Take the line away, so that what comes next has a line of its own."""
        if self._is_open:
            self._is_open = False
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def line(at_s: float, duration_s: float, now: Now, moment: Moment | None = None) -> str:
    """How it goes, in one line without its end."""
    parts = [
        f"{at_s:4.0f} s",
        f"{now.rate:,.1f}/s",
        f"p50 {now.p50_ms:.2f}  p95 {now.p95_ms:.2f}  p99 {now.p99_ms:.2f} ms",
        f"conflicts {now.conflicts:,}",
    ]
    if now.failures:
        parts.append(f"FAILED {now.failures:,}")
    if moment is not None:
        parts.append(f"outbox {moment.waiting:,}  audit lag {moment.lag_s:.1f} s")
    parts.append(f"{max(0.0, duration_s - at_s):.0f} s left")
    return "  ".join(parts)
