from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from kairos_core.addresses import Endpoint, parse
from kairos_core.layout import Layout, slot_of
from kairos_core.topology import (
    SLOTS,
    ByCluster,
    BySentinel,
    OneServer,
    not_the_primary,
    redirection,
    route_to,
)

relaxed = settings(deadline=None, database=None)

A, B, C, D = (Endpoint("10.0.0.1", port) for port in (1, 2, 3, 4))
HERE = Endpoint("10.9.9.9", 9)
THIRDS = [[0, 5460, [b"10.0.0.1", 1, b"id"]], [5461, 10922, [b"10.0.0.1", 2]], [10923, 16383, [b"10.0.0.1", 3]]]

# What a reply may be made of.
replies = st.recursive(
    st.none() | st.integers() | st.binary(max_size=8) | st.just(RuntimeError("ERR")) | st.sampled_from([b"", b"?"]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def cluster() -> ByCluster:
    """A route that knows all slots."""
    route = ByCluster([A, B])
    assert route.learn(THIRDS, A)
    return route


@relaxed
@given(tag=st.text(min_size=1).filter(lambda text: "{" not in text and "}" not in text))
def test_slots_are_those_of_redis_py(tag: str) -> None:
    """The slot of a tag is the one that redis-py finds for every key that has the tag."""
    assert key_slot(tag.encode()) == slot_of(tag) == key_slot(f"kairos:{{{tag}}}:s:1".encode())


@pytest.mark.parametrize("lanes", [1, 16, 1024])
def test_all_of_a_lane_is_in_one_slot(lanes: int) -> None:
    """By redis-py's account, all keys and channels of a lane are in the lane's slot."""
    layout = Layout("kairos", lanes)
    for number in range(200):
        keys = layout.keys_of(f"session-{number}")
        names = [*keys[1:], layout.message_channel(f"session-{number}"), layout.receipt(keys.lane, "0" * 32)]
        names += [layout.lease(keys.lane), layout.deadlines[keys.lane], layout.lives[keys.lane]]
        assert {layout.slots[keys.lane]} == {key_slot(name.encode()) for name in names}
    assert layout.layout_slot == key_slot(layout.layout_key.encode())


def test_which_route() -> None:
    """An address decides which route is taken; the one server is the transport's."""
    one = route_to(parse("redis://h"), HERE)
    assert isinstance(one, OneServer)
    assert (HERE, (), True) == (one.node(5), one.candidates(), one.is_final)
    one.suspect(HERE)
    one.moved(5, A)
    assert (HERE, False) == (one.node(5), one.learn(THIRDS, HERE))
    by_sentinel = route_to(parse("redis+sentinel://a:1,b/s"), HERE)
    assert isinstance(by_sentinel, BySentinel)
    assert ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "s") == by_sentinel.question
    assert [Endpoint("a", 1), Endpoint("b", 26379)] == by_sentinel.candidates()
    by_cluster = route_to(parse("redis+cluster://a:1,b"), HERE)
    assert isinstance(by_cluster, ByCluster)
    assert [Endpoint("a", 1), Endpoint("b", 6379)] == by_cluster.candidates()


def test_slots_of_a_cluster() -> None:
    """Each slot's primary is the one that the reply names, at the borders, too."""
    route = cluster()
    assert [A, A, B, B, C, C] == [route.node(slot) for slot in (0, 5460, 5461, 10922, 10923, SLOTS - 1)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"10.0.0.1", "10.0.0.1"),
        (b"::1", "::1"),
        (b"node.example.com", "node.example.com"),
        (None, HERE.host),
        (b"", HERE.host),
        (b"?", HERE.host),
    ],
)
def test_names_of_nodes(host: bytes | None, expected: str) -> None:
    """A node is found by number or by name; one whose name is not known is where the one that was asked is."""
    route = ByCluster([A])
    more = [b"id", [b"hostname", b"h"]]
    assert route.learn([[0, SLOTS - 1, [host, 7, *more], [b"replica", 8, *more]]], HERE)
    assert Endpoint(expected, 7) == route.node(0)


def test_gaps() -> None:
    """A slot that nobody has is not known; the others are."""
    route = ByCluster([A])
    assert route.learn([[1, 5, [b"h", 7]], [7, 7, [b"i", 8]]], HERE)
    assert [None, "h", "h", None, "i", None] == [
        found.host if (found := route.node(slot)) else None for slot in (0, 1, 5, 6, 7, 8)
    ]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        0,
        b"",
        b"OK",
        [],
        [[]],
        [None],
        [[0, 5]],
        [[0, 5, None]],
        [[0, 5, []]],
        [[0, 5, [b"h"]]],
        [[0, 5, [b"h", None]]],
        [[0, 5, [b"h", b"x"]]],
        [[0, 5, [b"h", 0]]],
        [[0, 5, [b"h", -1]]],
        [[0, 5, [b"h", 65_536]]],
        [[0, 5, [b"\xff", 7]]],
        [[0, 5, [5, 7]]],
        [[0, 5, [[b"h"], 7]]],
        [[5, 0, [b"h", 7]]],
        [[-1, 5, [b"h", 7]]],
        [[0, SLOTS, [b"h", 7]]],
        [[b"a", b"b", [b"h", 7]]],
        [[None, None, [b"h", 7]]],
        [THIRDS[0], [0, 5, None]],
        RuntimeError("ERR This instance has cluster support disabled"),
    ],
)
def test_replies_that_say_nothing(reply: Any) -> None:
    """A reply that does not tell, in whole or in part, changes nothing of what is known."""
    route = cluster()
    assert not route.learn(reply, A)
    assert [A, B, C] == [route.node(slot) for slot in (0, 5461, 10923)]


@relaxed
@given(reply=replies, slot=st.integers(0, SLOTS - 1))
def test_any_reply(reply: Any, slot: int) -> None:
    """Whatever is answered, no error is raised, and what is learned is a place where a server can be."""
    by_cluster, by_sentinel = ByCluster([A]), BySentinel([A, B], "s")
    for route in (by_cluster, by_sentinel):
        learned = route.learn(reply, B)
        found = route.node(slot)
        assert learned or found is None
        assert found is None or (found.host and 0 < found.port < 65_536)
        assert {A, B} >= set(route.candidates()) - {found}


def test_suspects_are_asked_last() -> None:
    """A node that failed has no slots any more, and is asked last; the next answer clears it."""
    route = cluster()
    route.suspect(A)
    assert [None, B, C] == [route.node(slot) for slot in (0, 5461, 10923)]
    assert [C, B, A] == route.candidates()
    route.suspect(C)
    assert [B, {A, C}] == [route.candidates()[0], set(route.candidates()[1:])]
    assert route.learn(THIRDS, B)
    assert ([A, B, C], A) == (sorted(route.candidates()), route.node(0))


def test_a_seed_that_failed_is_asked_last() -> None:
    """Before anything is known, the seeds are asked in their order, those that failed at the end."""
    route = ByCluster([A, B, C])
    assert [A, B, C] == route.candidates()
    route.suspect(A)
    assert [B, C, A] == route.candidates()


def test_every_primary_is_asked_in_its_turn() -> None:
    """G8: one that was cut off from the others, and knows no better than before, is not asked first for ever."""
    route = cluster()
    first = []
    for _ in range(3):
        first.append(route.candidates()[0])
        assert route.learn(THIRDS, first[-1])
    assert [A, B, C] == sorted(first)


def test_nodes_that_are_new_are_asked() -> None:
    """What a cluster has become is asked, not what its address once said; the seeds remain as the last resort."""
    route = ByCluster([D])
    assert route.learn(THIRDS, D)
    assert [D] == list(route.candidates())[-1:]
    assert {A, B, C} == set(route.candidates()[:-1])


def test_a_slot_that_moved() -> None:
    """A server's word for a slot is taken for that one alone."""
    route = cluster()
    route.moved(5, D)
    assert [A, D, A] == [route.node(slot) for slot in (4, 5, 6)]
    assert D in route.candidates()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", (3999, "127.0.0.1", 6381)),
        ("ASK 0 h.example.com:1", (0, "h.example.com", 1)),
        ("MOVED 16383 ::1:7", (16383, "::1", 7)),
        ("MOVED 16383 [::1]:7", (16383, "::1", 7)),
        ("MOVED 5 :7", (5, HERE.host, 7)),
        ("MOVED 5 ?:7", None),
        ("MOVED 16384 h:7", None),
        ("MOVED -1 h:7", None),
        ("MOVED 5 h:0", None),
        ("MOVED 5 h:65536", None),
        ("MOVED 5 h:-7", None),
        ("MOVED 5 h:x", None),
        ("MOVED 5 h", None),
        ("MOVED 5", None),
        ("MOVED", None),
        ("", None),
        ("MOVED x h:7", None),
        ("MOVED 5 h:7 more", None),
    ],
)
def test_redirections(text: str, expected: tuple[int, str, int] | None) -> None:
    """MOVED and ASK name a slot and a node; one that names none, or none that can be, is not followed."""
    found = redirection(text, HERE)
    assert expected == (found and (found[0], *found[1]))


@relaxed
@given(text=st.text())
def test_any_redirection(text: str) -> None:
    """Whatever the text, no error is raised."""
    found = redirection(f"MOVED {text}", HERE)
    assert found is None or (0 <= found[0] < SLOTS and 0 < found[1].port < 65_536)


def test_which_refusals_are_of_the_server() -> None:
    """Some refusals say that another server is to be asked; one for memory, or a lack of rights, does not."""
    assert [True] * 4 == [not_the_primary(code) for code in ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "LOADING")]
    assert not any(not_the_primary(code) for code in ("OOM", "NOPERM", "BUSY", "TRYAGAIN", "MOVED", "ASK", "ERR", ""))


@pytest.mark.parametrize(
    "reply", [None, [], [b"h"], [b"h", b"x"], [b"h", b"0"], [b"", b"7"], [b"h", b"70000"], b"ab", RuntimeError("ERR")]
)
def test_a_sentinel_that_does_not_know(reply: Any) -> None:
    """A sentinel that does not know the service, or makes no sense, changes nothing."""
    route = BySentinel([A, B], "s")
    assert route.learn([b"10.0.0.1", b"3"], A)
    assert not route.learn(reply, B)
    assert C == route.node(0) == route.node(SLOTS - 1)


def test_a_stale_sentinel_is_asked_last() -> None:
    """Where what a sentinel named is no primary, another one is asked next; one that is gone comes last of all."""
    route = BySentinel([A, B, C], "s")
    assert [A, B, C] == route.candidates()
    assert route.learn([b"10.0.0.1", b"4"], A)
    route.suspect(D)
    assert (None, [B, C, A]) == (route.node(0), route.candidates())
    route.suspect(B)
    assert [C, A, B] == route.candidates()
    assert route.learn([b"10.0.0.1", b"4"], B)
    assert {A, B, C} == set(route.candidates())
    assert B == route.candidates()[-1]
    # Not what is the primary: a doubt of another one does not matter.
    route.suspect(HERE)
    assert D == route.node(0)


def test_threads_may_learn_at_once() -> None:
    """Any number of threads may ask at the same time; each answer is taken in."""
    route = BySentinel([A, B, C], "s")
    failures: list[Exception] = []

    def learn(asked: Endpoint) -> None:
        try:
            for _ in range(2_000):
                route.learn([b"10.0.0.1", b"4"], asked)
                assert 3 == len(route.candidates())
        except Exception as error:  # noqa: BLE001 - it is reported
            failures.append(error)

    threads = [threading.Thread(target=learn, args=(asked,)) for asked in (A, B, C) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
