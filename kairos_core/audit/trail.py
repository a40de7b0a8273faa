"""What the rows of a session must be: without gap or fork, in one chain, as its latest row says. No I/O.

Rows come in the order of versions, in which the trail can be read by its index; the chain is in the order of recording.
That is the same but for rows that were recorded late, such as dead letters that were replayed: these are kept until
their turn in the chain comes, which is all that is kept.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kairos_core import session
from kairos_core.audit import chain
from kairos_core.audit.findings import Finding, Kind
from kairos_core.errors import Stamp
from kairos_core.messages import ENDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kairos_core.audit.findings import Letter


class Row(NamedTuple):
    """A row of `sync_events`; times in microseconds since 1970."""

    incarnation: int
    version: int
    position: int
    operation_id: str
    kind: str
    event_type: str
    occurred_us: int
    recorded_us: int
    chain_hash: bytes
    snapshot: bytes


class Anchor(NamedTuple):
    """The last row of a session that is elsewhere: what is here begins behind it."""

    position: int
    incarnation: int
    version: int
    chain_hash: bytes


class Latest(NamedTuple):
    """A row of `sync_sessions`; times in microseconds since 1970."""

    incarnation: int
    version: int
    sync_mode: str
    status: str
    created_us: int
    updated_us: int
    deleted_us: int | None
    chain_length: int
    chain_hash: bytes
    snapshot: bytes


class Known(NamedTuple):
    """What is known of a session beside its events."""

    session_id: str
    latest: Latest | None
    anchor: Anchor | None


class Verdict(NamedTuple):
    """What a session's rows are found to be.

    Attributes:
        session_id: the session.
        rows: how many there are.
        length: where its chain ends.
        chain_hash: the hash of the last row there.
        findings: what is wrong, one of a kind.
        anchor: the position and the hash behind which the rows begin; 0 and none where all are here.
    """

    session_id: str
    rows: int
    length: int
    chain_hash: bytes
    findings: list[Finding]
    anchor: tuple[int, bytes] = (0, b"")


NO_ANCHOR = Anchor(0, 0, 0, chain.NO_HASH)
_NO_LETTERS: dict[Stamp, Letter] = {}


def judge(
    events: Iterable[tuple[str, Row]], known: Iterable[Known], letters: Mapping[str, dict[Stamp, Letter]]
) -> Iterator[Verdict]:
    """Judge sessions one by one.

    Args:
        events: the rows, each with its session's id, by (session id, incarnation, version).
        known: what else is known of sessions, by session id.
        letters: the dead letters that were not replayed, by session.
    """
    others = iter(known)
    other = next(others, None)
    left = dict(letters)
    for session_id, rows in groupby(events, itemgetter(0)):
        while other is not None and other.session_id < session_id:
            yield _verdict(other, (), left.pop(other.session_id, _NO_LETTERS))
            other = next(others, None)
        of_session = Known(session_id, None, None)
        if other is not None and other.session_id == session_id:
            of_session, other = other, next(others, None)
        yield _verdict(of_session, map(itemgetter(1), rows), left.pop(session_id, _NO_LETTERS))
    while other is not None:
        yield _verdict(other, (), left.pop(other.session_id, _NO_LETTERS))
        other = next(others, None)
    for session_id in sorted(left):
        yield _verdict(Known(session_id, None, None), (), left[session_id])


def _verdict(known: Known, rows: Iterable[Row], letters: dict[Stamp, Letter]) -> Verdict:
    trail = _Trail(known, letters)
    for row in rows:
        trail.add(row)
    return trail.finish()


class _Trail:
    """The rows of one session, as they come."""

    def __init__(self, known: Known, letters: dict[Stamp, Letter]) -> None:
        self._known = known
        self._anchor = known.anchor or NO_ANCHOR
        self._letters = dict(letters)
        self._found: dict[Kind, Finding] = {}
        self._rows = 0
        self._last: Row | None = None
        # Up to where versions are accounted for, and which are not.
        self._reached = Stamp(self._anchor.incarnation, self._anchor.version)
        self._gaps: list[tuple[int, int, int]] = []
        # Where the chain has come to; rows that are before their turn; rows from before the anchor that are still here.
        self._position, self._hash = self._anchor.position, self._anchor.chain_hash
        self._early: dict[int, _Link] = {}
        self._older: dict[int, _Link] = {}

    def add(self, row: Row) -> None:
        """Take the next row, in the order of versions."""
        self._rows += 1
        self._place(row)
        self._last = row
        try:
            write = (row.operation_id, self._known.session_id, row.incarnation, row.version, row.kind)
            digest = chain.digest(write, row.occurred_us, row.snapshot, row.event_type)
            computable = -(2**63) <= row.recorded_us < 2**63
        except session.MALFORMED:
            digest, computable = b"", False
        link = _Link(row, digest if computable else None)
        position = row.position
        if position == self._position + 1:
            self._follow(link)
            while self._early and (early := self._early.pop(self._position + 1, None)) is not None:
                self._follow(early)
        elif position in self._early or position in self._older or self._anchor.position <= position <= self._position:
            self._note(Kind.FORKED, f"{_stamp(row)} claims position {position} of the chain, which another row has")
        elif position < self._anchor.position:
            self._older[position] = link
        else:
            self._early[position] = link

    def finish(self) -> Verdict:
        """There are no more rows: what they are."""
        self._close_chain()
        self._check_latest()
        self._explain_gaps()
        found = list(self._found.values())
        anchor = (self._anchor.position, self._anchor.chain_hash)
        return Verdict(self._known.session_id, self._rows, self._position, self._hash, found, anchor)

    def _note(self, kind: Kind, text: str, number: int = 1) -> None:
        before = self._found.get(kind)
        self._found[kind] = (
            Finding(kind, self._known.session_id, text, number)
            if before is None
            else before._replace(number=before.number + number)
        )

    def _place(self, row: Row) -> None:
        """See to it that versions are 1, 2, 3 and so on in each incarnation."""
        stamp, last = _stamp(row), self._last
        if self._letters:
            self._letters.pop(stamp, None)
        if last is not None and stamp == _stamp(last):
            self._note(
                Kind.FORKED, f"{stamp} is recorded twice, for operations {last.operation_id} and {row.operation_id}"
            )
        if stamp <= self._reached:
            return
        first = 1
        if row.incarnation == self._reached.incarnation:
            first = self._reached.version + 1
        elif last is not None and last.kind not in ENDS:
            self._note(Kind.UNENDED, f"{_stamp(last)} is no end, and incarnation {row.incarnation} began behind it")
        if row.version > first:
            self._gaps.append((row.incarnation, first, row.version - 1))
        self._reached = stamp

    def _follow(self, link: _Link) -> None:
        """Take the row whose turn in the chain it is."""
        row = link.row
        if link.digest is None or chain.following(self._hash, link.digest, row.recorded_us) != row.chain_hash:
            self._note(Kind.ALTERED, f"{_stamp(row)} was altered: its hash is not that of what it holds")
        # Its own, altered or not: so the rows behind it are judged by themselves.
        self._position, self._hash = row.position, row.chain_hash

    def _close_chain(self) -> None:
        """Take the rows whose turn never came: some before them are gone."""
        for position in sorted(self._early):
            if position > self._position + 1:
                self._miss(self._position + 1, position - 1)
                self._position, self._hash = position, self._early[position].row.chain_hash
            else:
                self._follow(self._early[position])
        for position, link in sorted(self._older.items()):
            before = self._older.get(position - 1)
            if before is not None and not link.follows(before.row.chain_hash):
                self._note(Kind.ALTERED, f"{_stamp(link.row)} was altered: its hash is not that of what it holds")

    def _miss(self, first: int, last: int) -> None:
        text = f"the row at position {first}" if first == last else f"the rows at positions {first} to {last}"
        self._note(Kind.UNCHAINED, f"{text} of its chain {'is' if first == last else 'are'} gone", last - first + 1)

    def _check_latest(self) -> None:
        latest = self._known.latest
        if latest is None:
            if self._rows or self._known.anchor:
                self._note(Kind.UNLIKE, "it has no row in sync_sessions")
            return
        if latest.chain_length > self._position:
            self._miss(self._position + 1, latest.chain_length)
        elif (latest.chain_length, latest.chain_hash) != (self._position, self._hash):
            says = f"sync_sessions ends its chain at position {latest.chain_length}"
            text = (
                f"{says}, its rows at {self._position}"
                if latest.chain_length != self._position
                else f"{says} with another hash"
            )
            self._note(Kind.UNLIKE, text)
        stamp = Stamp(latest.incarnation, latest.version)
        if stamp > self._reached:
            first = self._reached.version + 1 if stamp.incarnation == self._reached.incarnation else 1
            self._gaps.append((stamp.incarnation, first, stamp.version))
        elif stamp < self._reached:
            self._note(Kind.UNLIKE, f"sync_sessions says {stamp}, its rows reach {self._reached}")
        # Else the latest row is elsewhere: the store's clock had been put back beyond the end of a month.
        elif (
            self._last is not None
            and _stamp(self._last) == stamp
            and (names := ", ".join(_differences(latest, self._last)))
        ):
            self._note(Kind.UNLIKE, f"sync_sessions has another {names} than {stamp}")

    def _explain_gaps(self) -> None:
        """Tell the versions that are dead letters from those that are missing."""
        letters = sorted(self._letters)
        for stamp in letters:
            self._note(Kind.BURIED, str(self._letters[stamp]))
        for incarnation, first, last in self._gaps:
            for start, end in _without(
                first, last, [stamp.version for stamp in letters if stamp.incarnation == incarnation]
            ):
                text = f"version {start}" if start == end else f"versions {start} to {end}"
                verb = "is" if start == end else "are"
                self._note(Kind.MISSING, f"{text} of incarnation {incarnation} {verb} missing", end - start + 1)


class _Link(NamedTuple):
    """A row and its digest; None where it has none."""

    row: Row
    digest: bytes | None

    def follows(self, chain_hash: bytes) -> bool:
        """Whether its hash is that of a row behind one with this hash."""
        if self.digest is None:
            return False
        return chain.following(chain_hash, self.digest, self.row.recorded_us) == self.row.chain_hash


def _stamp(row: Row) -> Stamp:
    return Stamp(row.incarnation, row.version)


def _without(first: int, last: int, taken: list[int]) -> Iterator[tuple[int, int]]:
    """A range of versions without some of them, which are in order.

    >>> list(_without(3, 9, [1, 3, 5, 6, 12]))
    [(4, 4), (7, 9)]
    """
    for version in taken:
        if first <= version <= last:
            if version > first:
                yield first, version - 1
            first = version + 1
    if first <= last:
        yield first, last


class _Told(msgspec.Struct):
    """What the latest row repeats of a state."""

    sync_mode: str
    status: str
    created_at: session.Moment


def _differences(latest: Latest, row: Row) -> Iterator[str]:
    """Which columns of the latest row are not what the last event says."""
    if latest.snapshot != row.snapshot and not _same(latest.snapshot, row.snapshot):
        yield "state_snapshot"
    if latest.updated_us != row.occurred_us:
        yield "updated_at"
    if latest.deleted_us != (row.occurred_us if row.kind in ENDS else None):
        yield "deleted_at"
    try:
        told = msgspec.json.decode(row.snapshot, type=_Told)
    except session.MALFORMED:
        yield "state_snapshot"
        return
    for name in ("sync_mode", "status"):
        if getattr(latest, name) != getattr(told, name):
            yield name
    if latest.created_us != chain.microseconds(told.created_at):
        yield "created_at"


def _same(one: bytes, other: bytes) -> bool:
    try:
        return chain.canonical(one) == chain.canonical(other)
    except session.MALFORMED:
        return False
