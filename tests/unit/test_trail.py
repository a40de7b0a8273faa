"""The decision of a verification: from rows to findings, and from what store and trail say to findings."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core import session
from kairos_core.audit import chain
from kairos_core.audit.comparison import UNREADABLE, Look, Recorded, Waiting, compare
from kairos_core.audit.findings import Kind, Letter
from kairos_core.audit.trail import Anchor, Known, Latest, Row, judge
from kairos_core.errors import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kairos_core.audit.trail import Verdict

NOW_US = 1_790_000_000_000_000
LIFE = 7


def row(stamp: tuple[int, int], position: int, before: bytes, kind: str = "update") -> Row:
    """A row that follows one with this hash."""
    created_at = session.moment(NOW_US).isoformat()
    text = f'{{"sync_mode": "global", "status": "running", "created_at": "{created_at}", "n": {position}}}'
    snapshot = text.encode()
    operation_id, occurred_us, recorded_us = f"{position:032x}", NOW_US + position, NOW_US + 1_000 + position
    digest = chain.digest((operation_id, "a", *stamp, kind), occurred_us, snapshot, "x")
    hashed = chain.following(before, digest, recorded_us)
    return Row(*stamp, position, operation_id, kind, "x", occurred_us, recorded_us, hashed, snapshot)


def rows(stamps: Iterable[tuple[int, int]], anchor: Anchor | None = None) -> list[Row]:
    """Rows that were recorded in this order."""
    found: list[Row] = []
    before, position = (anchor.chain_hash, anchor.position) if anchor else (chain.NO_HASH, 0)
    for stamp in stamps:
        position += 1
        found.append(row(stamp, position, before))
        before = found[-1].chain_hash
    return found


def latest(recorded: list[Row], **changes: Any) -> Latest:
    """The latest row that goes with rows, in the order of recording."""
    newest = max(recorded, key=lambda one: one[:2])
    ended = newest.occurred_us if newest.kind in {"delete", "expire"} else None
    times = NOW_US, newest.occurred_us, ended
    tail = recorded[-1].position, recorded[-1].chain_hash, newest.snapshot
    return Latest(newest.incarnation, newest.version, "global", "running", *times, *tail)._replace(**changes)


def verdict(
    recorded: list[Row], says: Latest | None, anchor: Anchor | None = None, letters: Iterable[Letter] = ()
) -> Verdict:
    """What is found of one session."""
    events = [("a", one) for one in sorted(recorded, key=lambda one: one[:2])]
    by_stamp = {letter.stamp: letter for letter in letters}
    (found,) = judge(events, [Known("a", says, anchor)], {"a": by_stamp} if by_stamp else {})
    return found


def kinds(found: Verdict) -> dict[Kind, int]:
    """How many of each kind."""
    return {finding.kind: finding.number for finding in found.findings}


ONE_LIFE = [(LIFE, version) for version in range(1, 11)]


@given(st.permutations([*ONE_LIFE, (LIFE + 1, 1), (LIFE + 1, 2)]))
def test_rows_that_are_complete_hold(stamps: list[tuple[int, int]]) -> None:
    """G13: all versions in one chain hold, in whatever order they were recorded."""
    recorded = rows(stamps)
    found = verdict(recorded, latest(recorded))
    assert {Kind.UNENDED: 1} == kinds(found)
    assert (12, 12, recorded[-1].chain_hash) == found[1:4]


@given(st.integers(0, 9), st.sampled_from(Row._fields), st.data())
def test_any_change_of_a_row_is_found(place: int, field: str, data: st.DataObject) -> None:
    """G13: whichever column of whichever row is changed, to whatever value, is found."""
    recorded = rows(ONE_LIFE)
    says = latest(recorded)
    before = getattr(recorded[place], field)
    other: st.SearchStrategy[Any] = st.integers(1, 20)
    if isinstance(before, str):
        other = st.text(min_size=1)
    elif isinstance(before, bytes):
        other = st.binary(min_size=32, max_size=32) if field == "chain_hash" else st.just(b'{"n": 12}')
    recorded[place] = recorded[place]._replace(**{field: data.draw(other.filter(lambda value: value != before))})
    assert {kind for kind in kinds(verdict(recorded, says)) if kind.is_violation}


@given(st.sets(st.integers(0, 9), min_size=1))
def test_any_rows_that_are_gone_are_found(gone: set[int]) -> None:
    """G13: whichever rows are taken out: so many versions are missing, and so many places in the chain."""
    recorded = rows(ONE_LIFE)
    left = [one for place, one in enumerate(recorded) if place not in gone]
    assert {Kind.MISSING: len(gone), Kind.UNCHAINED: len(gone)} == kinds(verdict(left, latest(recorded)))


def test_altered_rows_are_told_one_by_one() -> None:
    """G13: one altered row is one finding, that names it: those behind it are judged by themselves."""
    recorded = rows(ONE_LIFE)
    says = latest(recorded)
    recorded[3] = recorded[3]._replace(event_type="y")
    found = verdict(recorded, says)
    assert {Kind.ALTERED: 1} == kinds(found)
    assert "session a: version 4 of incarnation 7 was altered: its hash is not that of what it holds" == str(
        found.findings[0]
    )


def test_forks_are_found() -> None:
    """G13: two rows of one version, or of one place in the chain, are found, whichever was there first."""
    recorded = rows([(LIFE, 1), (LIFE, 2), (LIFE, 2), (LIFE, 3)])
    assert {Kind.FORKED: 1} == kinds(verdict(recorded, latest(recorded)))
    recorded = rows(ONE_LIFE)
    twin = row((LIFE, 11), 5, recorded[3].chain_hash)
    assert {Kind.FORKED: 1, Kind.UNLIKE: 1} == kinds(verdict([*recorded, twin], latest(recorded)))


@pytest.mark.parametrize(
    "changes",
    [
        {"incarnation": LIFE - 1},
        {"version": 9},
        {"sync_mode": "count_up"},
        {"status": "paused"},
        {"created_us": 1},
        {"updated_us": 1},
        {"deleted_us": 1},
        {"chain_length": 9},
        {"chain_hash": bytes(32)},
        {"snapshot": b'{"n": 11}'},
        {"snapshot": b"none"},
    ],
    ids=str,
)
def test_the_latest_row_is_compared(changes: dict[str, Any]) -> None:
    """G13: a latest row is what the events lead to, in each of its columns."""
    recorded = rows(ONE_LIFE)
    assert {Kind.UNLIKE: 1} == kinds(verdict(recorded, latest(recorded, **changes)))


def test_the_same_state_in_other_letters_is_the_same() -> None:
    """A state is compared by its value."""
    recorded = rows(ONE_LIFE)
    spelt = recorded[-1].snapshot.replace(b'"n": 10', b'"n": 1e1')
    assert {} == kinds(verdict(recorded, latest(recorded, snapshot=spelt)))


def test_an_end_is_compared() -> None:
    """G13: the latest row of a session that ended says when, and that of one that lives says nothing."""
    recorded = rows(ONE_LIFE)
    recorded.append(row((LIFE, 11), 11, recorded[-1].chain_hash, "delete"))
    assert {} == kinds(verdict(recorded, latest(recorded)))
    assert {Kind.UNLIKE: 1} == kinds(verdict(recorded, latest(recorded, deleted_us=None)))


def test_sessions_of_one_table_only() -> None:
    """G13: events without a latest row are found, and a latest row without events."""
    recorded = rows(ONE_LIFE)
    assert {Kind.UNLIKE: 1} == kinds(verdict(recorded, None))
    found = verdict([], latest(recorded))
    assert {Kind.MISSING: 10, Kind.UNCHAINED: 10} == kinds(found)
    assert "versions 1 to 10 of incarnation 7 are missing" in {finding.text for finding in found.findings}


def letter(version: int, settlement: str | None = None) -> Letter:
    """A dead letter."""
    return Letter(Stamp(LIFE, version), 3, f"{version}-0", settlement, "22P05 refused")


def test_dead_letters_are_told_from_what_is_missing() -> None:
    """G13: of versions that are not recorded, those that are dead letters are named as such, also the last ones."""
    stamps = [stamp for stamp in ONE_LIFE if stamp[1] not in {3, 4, 5, 10}]
    recorded = rows(stamps)
    found = verdict(recorded, latest(recorded), None, [letter(4), letter(7), letter(10, "discarded")])
    assert {Kind.BURIED: 2, Kind.MISSING: 2} == kinds(found)
    assert [
        "version 4 of incarnation 7 is not recorded, it waits as dead letter 4-0 of lane 3: 22P05 refused",
        "version 3 of incarnation 7 is missing",
    ] == [finding.text for finding in found.findings]
    (alone,) = verdict([], None, None, [letter(10, "discarded")]).findings
    assert "version 10 of incarnation 7 was discarded: dead letter 10-0 of lane 3" == alone.text


def test_sessions_are_judged_one_by_one_and_in_order() -> None:
    """G13: sessions of which there are events, a latest row, an anchor or a dead letter are all judged."""
    recorded = rows(ONE_LIFE)
    known = [Known("a", None, None), Known("c", latest(recorded), None), Known("d", None, None)]
    events = [(session_id, one) for session_id in ("b", "d") for one in recorded]
    found = list(judge(events, known, {"e": {Stamp(1, 1): letter(1)}}))
    assert ["a", "b", "c", "d", "e"] == [one.session_id for one in found]
    assert [0, 10, 0, 10, 0] == [one.rows for one in found]


def split(stamps: list[tuple[int, int]], positions: int) -> tuple[list[Row], Anchor]:
    """Rows of which the first so many are elsewhere: the others, and the anchor."""
    recorded = rows(stamps)
    last = recorded[positions - 1]
    return recorded[positions:], Anchor(last.position, last.incarnation, last.version, last.chain_hash)


def test_what_is_left_behind_an_anchor_holds() -> None:
    """G13: what is left of a session whose older rows are elsewhere is verified from there on."""
    left, anchor = split(ONE_LIFE, 4)
    assert {} == kinds(verdict(left, latest(left), anchor))
    assert {Kind.MISSING: 1, Kind.UNCHAINED: 1} == kinds(verdict(left[1:], latest(left), anchor))
    altered = [left[0]._replace(event_type="y"), *left[1:]]
    assert {Kind.ALTERED: 1} == kinds(verdict(altered, latest(left), anchor))
    # none is left
    _, whole = split(ONE_LIFE, 10)
    assert {} == kinds(verdict([], latest(rows(ONE_LIFE)), whole))
    assert {Kind.UNLIKE: 1} == kinds(verdict([], None, whole))


def test_a_row_that_was_recorded_late_is_elsewhere() -> None:
    """G13: where an old version was recorded late, and is elsewhere, the rows before it in the chain are verified."""
    late = [stamp for stamp in ONE_LIFE if stamp != (LIFE, 2)]
    recorded = rows([*late[:6], (LIFE, 2), *late[6:]])
    # versions 1 to 3 are elsewhere: positions 1, 2 and 7
    gone = [one for one in recorded if one.version <= 3]
    left = [one for one in recorded if one.version > 3]
    anchor = Anchor(7, LIFE, 3, gone[-1].chain_hash)
    assert {} == kinds(verdict(left, latest(recorded), anchor))
    altered = [one._replace(event_type="y") if one.version == 5 else one for one in left]
    assert {Kind.ALTERED: 1} == kinds(verdict(altered, latest(recorded), anchor))


def test_a_chain_that_began_later_holds() -> None:
    """G13: rows from before there was a chain are elsewhere; the chain begins with the first one behind them."""
    anchor = Anchor(0, LIFE, 4, b"")
    recorded = rows(ONE_LIFE[4:], anchor)
    assert {} == kinds(verdict(recorded, latest(recorded), anchor))
    assert {Kind.MISSING: 4} == kinds(verdict(recorded, latest(recorded)))


STORED, WRITTEN_US, LOOKED_US = Stamp(LIFE, 5), 1_000, 9_000
LIVES, ENDED = Recorded(STORED, False, WRITTEN_US), Recorded(STORED, True, WRITTEN_US)
_UPDATE, _DELETE = Waiting("update", WRITTEN_US), Waiting("delete", WRITTEN_US)


def stamp(version: int) -> Stamp:
    """A version of the one life."""
    return Stamp(LIFE, version)


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        # as it is, and as it is while something is on its way
        (Look(LOOKED_US, STORED, {}, LIVES, {}, STORED), None),
        (Look(LOOKED_US, stamp(7), {stamp(6): _UPDATE, stamp(7): _UPDATE}, LIVES, {}, stamp(9)), None),
        (Look(LOOKED_US, stamp(4), {}, LIVES, {}, STORED), None),
        (Look(LOOKED_US, stamp(1), {stamp(1): _UPDATE}, None, {}, stamp(1)), None),
        (Look(LOOKED_US, Stamp(LIFE + 1, 1), {Stamp(LIFE + 1, 1): _UPDATE}, ENDED, {}, Stamp(LIFE + 1, 1)), None),
        (Look(LOOKED_US, None, {}, ENDED, {}, None), None),
        (Look(LOOKED_US, None, {stamp(6): _DELETE}, LIVES, {}, None), None),
        (Look(LOOKED_US, stamp(1), {stamp(1): _UPDATE, stamp(2): _DELETE}, None, {}, None), None),
        # it came or went while it was looked at
        (Look(LOOKED_US, STORED, {}, LIVES, {}, None), None),
        (Look(LOOKED_US, None, {}, LIVES._replace(updated_us=LOOKED_US), {}, None), None),
        (Look(LOOKED_US, None, {stamp(6): Waiting("update", LOOKED_US)}, LIVES, {}, None), None),
        # what cannot be
        (Look(LOOKED_US, stamp(7), {stamp(7): _UPDATE}, LIVES, {}, stamp(7)), Kind.UNRECORDED),
        (Look(LOOKED_US, stamp(1), {}, None, {}, stamp(1)), Kind.UNRECORDED),
        (Look(LOOKED_US, Stamp(LIFE + 1, 1), {}, ENDED, {}, Stamp(LIFE + 1, 1)), Kind.UNRECORDED),
        (Look(LOOKED_US, None, {}, None, {}, None), Kind.UNRECORDED),
        (Look(LOOKED_US, stamp(6), {}, LIVES, {stamp(6): letter(6)}, stamp(6)), Kind.BURIED),
        (Look(LOOKED_US, None, {}, LIVES, {stamp(6): letter(6)}, None), Kind.BURIED),
        (Look(LOOKED_US, stamp(4), {}, LIVES, {}, stamp(4)), Kind.BEHIND),
        (Look(LOOKED_US, stamp(4), {}, ENDED, {}, stamp(4)), Kind.BEHIND),
        (Look(LOOKED_US, STORED, {stamp(6): _UPDATE}, LIVES, {}, STORED), Kind.BEHIND),
        (Look(LOOKED_US, None, {}, LIVES, {}, None), Kind.LOST),
        (Look(LOOKED_US, None, {stamp(6): _UPDATE}, LIVES, {}, None), Kind.LOST),
        (Look(LOOKED_US, UNREADABLE, {}, LIVES, {}, UNREADABLE), Kind.UNREADABLE),
    ],
)
def test_store_and_trail_are_compared(look: Look, expected: Kind | None) -> None:
    """G13: what is on its way is none of what cannot be, and each of what cannot be is told by its name."""
    found = compare("a", look, passed_us=WRITTEN_US)
    assert expected == (found and found.kind)


def test_a_session_whose_time_has_passed_is_not_lost() -> None:
    """G13: a session that is not in the store any more is lost, unless its time has passed since its last write."""
    for waiting, passed_us in itertools.product(({}, {stamp(6): _UPDATE}), (WRITTEN_US, WRITTEN_US + 1)):
        found = compare("a", Look(LOOKED_US, None, waiting, LIVES, {}, None), passed_us)
        assert found is not None
        assert (Kind.EXPIRED if passed_us > WRITTEN_US else Kind.LOST) == found.kind
