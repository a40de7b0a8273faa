"""The hash chain: what it is made of, and that no spelling of a state changes it."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.audit import chain

WRITE = ("0" * 32, "a", 1_700_000_000_000_000, 3, "update")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"b":1,"a":2}', '{ "a" : 2,\n"b":1 }'),
        ("1e2", "100"),
        ("100.0", "100"),
        ("1e20", "100000000000000000000"),
        ("1.5e300", "15" + "0" * 299),
        ("0.00000010", "1e-7"),
        ("-0.0", "0"),
        ('"\\u00e9"', '"é"'),
        ("18446744073709551616", "18446744073709551616.0"),
    ],
)
def test_spellings_of_one_value(one: str, other: str) -> None:
    """G13: two texts of the same JSON value have one canonical form, as PostgreSQL may keep either."""
    assert chain.canonical(one) == chain.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":2}'),
        ('{"a":1}', '{"b":1}'),
        ("9007199254740993", "9007199254740992"),
        ("0.1", "0.2"),
        ('"1"', "1"),
        ("[1,2]", "[2,1]"),
        ("null", "false"),
    ],
)
def test_values_that_differ(one: str, other: str) -> None:
    """G13: two values have two canonical forms, also where they are close."""
    assert chain.canonical(one) != chain.canonical(other)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(values)
def test_the_canonical_form_is_its_own(value: object) -> None:
    """The canonical form of a canonical form is itself."""
    text = chain.canonical(msgspec.json.encode(value))
    assert text == chain.canonical(text)


@pytest.mark.parametrize("text", ["1e999999999", "-1e401", "{", "", "NaN"])
def test_what_has_no_canonical_form(text: str) -> None:
    """What is no JSON, or a number that no double and no writer of ours has, is refused at once."""
    with pytest.raises(ValueError, match=r"."):
        chain.canonical(text)


@pytest.mark.parametrize("place", range(5))
def test_the_digest_is_of_every_part(place: int) -> None:
    """G13: whichever part of a write is altered, the digest is another."""
    parts: list[Any] = list(WRITE)
    parts[place] = parts[place] + 1 if isinstance(parts[place], int) else parts[place] + "x"
    original = chain.digest(WRITE, 5, b"{}", "updated")
    assert original != chain.digest(tuple(parts), 5, b"{}", "updated")
    assert original != chain.digest(WRITE, 6, b"{}", "updated")
    assert original != chain.digest(WRITE, 5, b'{"a":1}', "updated")
    assert original != chain.digest(WRITE, 5, b"{}", "updated\n")


def test_the_digest_is_what_it_says() -> None:
    """The digest can be made again by anybody: SHA-256 over lines of text."""
    text = "\n".join([*map(str, WRITE), "5", '{"a":2,"b":1}', "updated"])
    assert sha256(text.encode()).digest() == chain.digest(WRITE, 5, b'{"b":1,"a":2}', "updated")


def test_a_link() -> None:
    """A hash is of the hash before, the digest and the time of recording, each of a length of its own."""
    digest = b"d" * 32
    first = chain.following(chain.NO_HASH, digest, 7)
    assert sha256(digest + (7).to_bytes(8, "big")).digest() == first
    assert len({first, chain.following(first, digest, 7), chain.following(first, digest, 8)}) == 3


@given(st.integers(-(2**47), 2**50))
def test_microseconds(number: int) -> None:
    """A time is its microseconds exactly, before 1970 too."""
    moment = datetime.fromtimestamp(number // 10**6, UTC).replace(microsecond=number % 10**6)
    assert number == chain.microseconds(moment)
