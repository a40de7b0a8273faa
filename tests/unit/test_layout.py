from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kairos_core.layout import FORMAT, Keys, Layout

relaxed = settings(deadline=None, database=None)
ids = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=128)


def hash_tag(key: str) -> str:
    """What a cluster hashes of a key: what stands between the first brace and the next closing one."""
    return key.partition("{")[2].partition("}")[0]


def test_crc16() -> None:
    """The lane is the CRC16 that a cluster uses too (0x31C3 of 123456789), modulo the number of lanes."""
    assert 0x31C3 % 16 == Layout("kairos", 16).lane_of("123456789")
    assert 0x31C3 % 1024 == Layout("kairos", 1024).lane_of("123456789")


def test_names() -> None:
    """Keys and channels are named as the design says; other versions read them."""
    layout = Layout("kairos", 16)
    keys = layout.keys_of("123456789")
    assert keys == Keys(
        lane=3,
        session="kairos:{L03}:s:123456789",
        outbox="kairos:{L03}:outbox",
        session_channel="kairos:{L03}:u:123456789",
        lane_channel="kairos:{L03}:u",
    )
    assert ("kairos:{L03}:deadlines", "kairos:{L03}:life") == (layout.deadlines[3], layout.lives[3])
    assert "kairos:{L03}:m:123456789" == layout.message_channel("123456789")
    assert "kairos:{L03}:op:0123" == layout.receipt(3, "0123")
    assert "kairos:{L03}:lease" == layout.lease(3)
    assert "kairos:layout" == layout.layout_key
    assert f"format={FORMAT} lanes=16" == layout.layout_value


@relaxed
@given(session_id=ids, lanes=st.integers(1, 1024))
def test_one_lane_one_slot(session_id: str, lanes: int) -> None:
    """All that one write touches has one hash tag, which is the lane's alone."""
    layout = Layout("kairos", lanes)
    keys = layout.keys_of(session_id)
    assert 0 <= keys.lane < lanes
    assert {f"L{keys.lane:02d}"} == {
        hash_tag(key) for key in (*keys[1:], layout.lease(keys.lane), layout.receipt(keys.lane, "0"))
    }
    assert (keys.outbox, keys.lane_channel) == (layout.outboxes[keys.lane], layout.lane_channels[keys.lane])


@pytest.mark.parametrize("lanes", [1, 2, 16, 100, 101, 1024])
def test_every_lane_is_its_own(lanes: int) -> None:
    """No two lanes share an outbox, a channel, a lease or a hash tag, past 99 lanes too."""
    layout = Layout("kairos", lanes)
    leases = [layout.lease(lane) for lane in range(lanes)]
    assert [lanes] * 4 == [
        len(set(names)) for names in (layout.outboxes, layout.lane_channels, leases, map(hash_tag, leases))
    ]


@relaxed
@given(one=ids, other=ids)
def test_sessions_do_not_meet(one: str, other: str) -> None:
    """Different ids have different keys and channels, and no id makes a key of another kind."""
    layout = Layout("kairos", 1)
    first, second = layout.keys_of(one), layout.keys_of(other)
    if one != other:
        assert first.session != second.session
        assert first.session_channel != second.session_channel
    names = {first.session, first.session_channel}
    assert not names & {first.outbox, first.lane_channel, layout.lease(0), layout.layout_key}


def test_every_lane_is_used() -> None:
    """Ids that count upwards reach every lane."""
    layout = Layout("kairos", 16)
    assert set(range(16)) == {layout.lane_of(f"session-{number}") for number in range(1_000)}


def test_layouts_that_disagree() -> None:
    """Another number of lanes is another layout, under the same key."""
    one, other = Layout("kairos", 16), Layout("kairos", 17)
    assert one.layout_key == other.layout_key
    assert one.layout_value != other.layout_value
