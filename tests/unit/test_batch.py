"""What is recorded of a batch: decided from what is recorded, without I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from kairos_core.audit import chain
from kairos_core.audit.batch import Head, Ready, Version, lines, older, plan, prepare
from kairos_core.audit.outbox import Entry, Unreadable
from kairos_core.messages import Message

NOW = datetime(2026, 11, 24, 12, 0, 0, 7, tzinfo=UTC)
NOW_US = chain.microseconds(NOW)


def entry(version: int, operation: int = 0, **fields: object) -> Entry:
    """The entry of a version of session `a`; its operation is the version's number unless it is given."""
    message = Message(
        session_id="a",
        kind="update",
        event_type="updated",
        operation_id=f"{operation or version:032x}",
        incarnation=1,
        version=version,
        created_us=1,
        updated_us=NOW_US + version,
        body=msgspec.Raw(b'{"metadata":{}}'),
    )
    return Entry(b"1-%d" % version, msgspec.structs.replace(message, **fields))


def ready(*entries: Entry) -> list[Ready]:
    """These entries, made ready."""
    batch = prepare(entries)
    assert [] == batch.unreadable
    return batch.ready


def recorded(*found: Ready) -> tuple[dict[str, tuple[Version, datetime]], dict[Version, UUID]]:
    """What PostgreSQL says of entries that are recorded."""
    operations = {
        one.entry.message.operation_id: (one.version, datetime.fromisoformat(one.occurred_at)) for one in found
    }
    return operations, {one.version: UUID(one.entry.message.operation_id) for one in found}


def test_all_is_new() -> None:
    """G7: what is not recorded is to be, in the order of versions."""
    found = ready(entry(1), entry(2), entry(3))
    assert found == plan(found, {}, {}).record
    assert found == plan(found[::-1], {}, {}).record


def test_what_is_recorded_is_left() -> None:
    """G7: a batch that is written again has nothing to record, and nothing to refuse."""
    found = ready(entry(1), entry(2))
    assert ([found[1]], []) == plan(found, *recorded(found[0]))
    assert ([], []) == plan(found, *recorded(*found))
    assert (found, []) == plan([*found, found[0]], {}, {})


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (entry(1, operation=9), f"version 1 of session a is recorded for operation {1:032x}"),
        (entry(2, operation=1), f"operation {1:032x} is recorded as version 1 of session a"),
        (entry(1, updated_us=NOW_US), f"operation {1:032x} is recorded as version 1 of session a"),
    ],
)
def test_contradictions(second: Entry, reason: str) -> None:
    """G7: a version with two operations and an operation with two versions are refused, with the reason."""
    first, other = ready(entry(1)), ready(second)
    assert ([], [(second, reason)]) == plan(other, *recorded(*first))
    if second.message.updated_us != NOW_US:
        assert (first, [(second, reason)]) == plan(first + other, {}, {})


def test_lines_follow_the_chain() -> None:
    """G13: each row stands at the end of its session's chain, each session in its own."""
    found = ready(entry(4), entry(1, operation=7, session_id="b"), entry(5))
    text = list(lines(found, {"a": Head(1, 3, 3, b"h" * 32)}, NOW))
    columns = [line.rstrip(b"\n").split(b"\t") for line in text]
    assert [b"4", b"1", b"5"] == [row[8] for row in columns]
    first = chain.following(b"h" * 32, found[0].digest, NOW_US)
    expected = [
        first,
        chain.following(chain.NO_HASH, found[1].digest, NOW_US),
        chain.following(first, found[2].digest, NOW_US),
    ]
    assert [rb"\\x" + one.hex().encode() for one in expected] == [row[10] for row in columns]
    assert {NOW.isoformat().encode()} == {row[9] for row in columns}


def test_text_is_escaped() -> None:
    """What COPY would take for a column's or a row's end, or for an escape, reaches the table as it is."""
    (one,) = ready(entry(1, event_type="a\tb\\c\nd\re", body=msgspec.Raw(b'{"metadata":\n{"x":"\\\\"}}')))
    assert one.line.count(b"\t") == 7
    assert b"\n" not in one.line
    assert b"a\\tb\\\\c\\nd\\re" in one.line
    assert b'"\\\\\\\\"' in one.line


@pytest.mark.parametrize(
    "fields",
    [
        {"operation_id": "x" * 32},
        {"operation_id": f"{1:032x},{2:032x}"},
        {"operation_id": "A" * 32},
        {"session_id": "a\0b"},
        {"session_id": "a" * 129},
        {"session_id": ""},
        {"updated_us": 2**62},
        {"created_us": 2**62},
        {"body": msgspec.Raw(b'{"a":')},
        {"body": msgspec.Raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")},
        {"body": msgspec.Raw(b'{"a":1e999999999}')},
    ],
)
def test_what_cannot_be_a_row(fields: dict[str, object]) -> None:
    """G7: an entry that is no row is put aside by itself, as it is, and the others are made ready."""
    bad = entry(1)
    bad = bad._replace(message=msgspec.structs.replace(bad.message, **fields))
    batch = prepare([bad, Unreadable(b"1-9", b"x", "because"), entry(2)])
    assert [2] == [one.entry.message.version for one in batch.ready]
    assert [bad.entry_id, b"1-9"] == [one.entry_id for one in batch.unreadable]


def test_older() -> None:
    """Only versions that are not newer than the session's latest are looked for among what is recorded."""
    found = ready(entry(3), entry(4), entry(1, incarnation=2), entry(9, session_id="b"))
    assert [("a", 1, 3)] == older(found, {"a": Head(1, 3, 3, b"")})
    assert [] == older(found, {})


def test_halves() -> None:
    """A batch that is refused is halved until one entry is left, and none is lost or counted twice."""
    batch = prepare([entry(1), entry(2), entry(3), Unreadable(b"1-9", b"x", "because")])
    one, two = batch.halves()
    assert batch.ready == one.ready + two.ready
    assert [] == one.unreadable + two.unreadable
