"""Every key, channel and lane: the only place that knows how the store is laid out.

A lane is a part of all sessions, chosen by the CRC16 of the id. It is the hash tag of its keys, so everything that
one write touches sits in one cluster slot and one script may touch it all.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# 1: the first layout.
FORMAT = 1
# Sessions of which it is kept what is always the same.
REMEMBERED = 4_096


class Keys(NamedTuple):
    """The keys and channels that every write to a session needs; a lane's others are in the layout."""

    lane: int
    session: str
    outbox: str
    session_channel: str
    lane_channel: str


def slot_of(tag: str) -> int:
    """The hash slot of a key, or of the tag in its braces (Redis Cluster specification, "Key distribution model")."""
    return crc_hqx(tag.encode(), 0) % 16_384


class Layout:
    """Where everything of one namespace is stored.

    Attributes:
        keys_of: the keys and channels of a session, by its id.
    """

    def __init__(self, namespace: str, lanes: int) -> None:
        self.namespace = namespace
        self.lanes = lanes
        self.layout_key = f"{namespace}:layout"
        self.layout_value = f"format={FORMAT} lanes={lanes}"
        self.prefixes = tuple(f"{namespace}:{{L{lane:02d}}}:" for lane in range(lanes))
        self.outboxes = tuple(f"{prefix}outbox" for prefix in self.prefixes)
        self.deadlines = tuple(f"{prefix}deadlines" for prefix in self.prefixes)
        self.lives = tuple(f"{prefix}life" for prefix in self.prefixes)
        # The hash slot of each lane on a cluster, by its tag.
        self.slots = tuple(slot_of(f"L{lane:02d}") for lane in range(lanes))
        self.layout_slot = slot_of(self.layout_key)
        self.lane_channels = tuple(f"{prefix}u" for prefix in self.prefixes)
        # The same few sessions are written again and again.
        self.keys_of: Callable[[str], Keys] = lru_cache(maxsize=REMEMBERED)(self._keys_of)

    def lane_of(self, session_id: str) -> int:
        """The lane of a session: CRC16 (XMODEM, the one that Redis Cluster uses) modulo the number of lanes."""
        return crc_hqx(session_id.encode(), 0) % self.lanes

    def _keys_of(self, session_id: str) -> Keys:
        """The keys and channels of a session."""
        lane = self.lane_of(session_id)
        prefix = self.prefixes[lane]
        # By position: this is on the path of every call.
        return Keys(
            lane, f"{prefix}s:{session_id}", self.outboxes[lane], f"{prefix}u:{session_id}", self.lane_channels[lane]
        )

    def message_channel(self, session_id: str) -> str:
        """The channel of a session's application messages."""
        return f"{self.prefixes[self.lane_of(session_id)]}m:{session_id}"

    def receipt(self, lane: int, operation_id: str) -> str:
        """The key of an operation's receipt."""
        return f"{self.prefixes[lane]}op:{operation_id}"

    def lease(self, lane: int) -> str:
        """The key that a drain holds while it works on a lane."""
        return f"{self.prefixes[lane]}lease"
