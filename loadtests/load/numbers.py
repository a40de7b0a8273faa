"""How the processes of a load test are numbered in its histories: so many numbers for each, its hands first."""

from __future__ import annotations

from typing import Final

NUMBERS: Final = 256
MOST_HANDS: Final = 200
WATCHER: Final = 200
LISTENERS: Final = 201
MOST_LISTENERS: Final = 50
CLOSER: Final = 255
# A history's number has 16 bits.
MOST_PLACES: Final = 250


def number_of(place: int, member: int) -> int:
    """The number of a member of the process in this place."""
    return 1 + NUMBERS * place + member
