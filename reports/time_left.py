"""How long executing the notebooks will still take: from what their cells took the last time, and now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Of the last run's pace, whatever the first cells took: one slow cell is not a slow machine.
_PACES = (0.25, 4.0)


class TimeLeft:
    """What is still to be done, in seconds; it is told when cells end.

    Args:
        cells: code cells by notebook, in the order in which they are executed.
        before: seconds of each of them the last time, by notebook; a notebook whose cells are other is left out.
        lanes: how many notebooks are executed at a time.
    """

    def __init__(self, cells: Mapping[str, int], before: Mapping[str, Sequence[float]], lanes: int) -> None:
        self._cells = dict(cells)
        self._before = {name: list(before[name]) for name in cells if len(before.get(name, ())) == cells[name]}
        self._lanes = lanes
        self._took: dict[str, list[float]] = {name: [] for name in cells}
        self._ended: set[str] = set()

    def cell_ended(self, name: str, seconds: float) -> None:
        """A cell of a notebook has ended."""
        self._took[name].append(seconds)

    def notebook_ended(self, name: str) -> None:
        """A notebook has ended, be it early."""
        self._ended.add(name)

    @property
    def times(self) -> dict[str, list[float]]:
        """What the cells took, by notebook: what the next run is told of this one."""
        return {name: took for name, took in self._took.items() if took}

    @property
    def seconds(self) -> float | None:
        """What is left, or None as long as there is nothing to tell it from."""
        left = [self._left(name) for name in self._cells if name not in self._ended]
        known = [seconds for seconds in left if seconds is not None]
        if not left:
            return 0.0
        if len(known) < len(left):
            return None
        return max(sum(known) / self._lanes, *known)

    @property
    def words(self) -> str:
        """The same for a reader."""
        seconds = self.seconds
        return "time left not known yet" if seconds is None else f"about {max(1, round(seconds))} s left"

    def _left(self, name: str) -> float | None:
        took = self._took[name]
        if name in self._before:
            return sum(self._before[name][len(took) :]) * self._pace
        whole = [sum(self._took[other]) for other in self._ended if len(self._took[other]) == self._cells[other]]
        if not whole:
            return None
        # Like those that are done; of its cells, as many as are left.
        return sum(whole) / len(whole) * (1 - len(took) / self._cells[name])

    @property
    def _pace(self) -> float:
        """How many times as long the cells take now as the last time."""
        now = sum(sum(took) for name, took in self._took.items() if name in self._before)
        then = sum(sum(self._before[name][: len(took)]) for name, took in self._took.items() if name in self._before)
        return min(max(now / then, _PACES[0]), _PACES[1]) if now > 0 and then > 0 else 1.0
