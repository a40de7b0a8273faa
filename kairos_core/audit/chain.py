"""The hash chain of a session's events: what makes an altered row, or one that is missing, show.

A row's digest is SHA-256 over what the store recorded of the write. Its hash is SHA-256 over the hash of the row before
it in the session's chain, its digest, and the time at which it was recorded. So whoever alters a row, takes one out or
puts one in has to make the hashes of all rows behind it anew, and that of the last one is known elsewhere, too.

The state goes into the digest in a canonical form, since PostgreSQL keeps the value of a JSON text and not its letters:
no spaces, keys sorted, whole numbers with all their digits, other numbers in the shortest form of the double.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import msgspec

# A number beyond it is none of ours, and its digits might fill the memory.
_LARGEST_EXPONENT = 400
# Before the first row.
NO_HASH = b""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _number(text: str) -> int | float:
    """A number that is not written as an integer: 1e2 and 100.0 are the 100 that PostgreSQL may write for both."""
    try:
        number = Decimal(text)
    except ArithmeticError as error:
        raise ValueError("a number is beyond all bounds") from error
    if number.adjusted() > _LARGEST_EXPONENT:
        raise ValueError("a number is larger than any double")
    return int(number) if number == number.to_integral_value() else float(text)


_decoder = msgspec.json.Decoder(float_hook=_number)
_encoder = msgspec.json.Encoder(order="sorted")


def canonical(snapshot: bytes | str) -> bytes:
    """A state's JSON in the form that all its spellings share.

    Raises:
        ValueError: it is no JSON.
    """
    return _encoder.encode(_decoder.decode(snapshot))


def digest(write: tuple[str, str, int, int, str], occurred_us: int, snapshot: bytes | str, event_type: str) -> bytes:
    """The 32 bytes that stand for a write.

    Args:
        write: operation id (32 hexadecimal digits in lower case), session id, incarnation, version and kind.
        occurred_us: microseconds since 1970.
        snapshot: the state's JSON.
        event_type: what the writer named it; the only part that may hold a line's end, hence the last.
    """
    head = "%s\n%s\n%d\n%d\n%s\n" % write  # noqa: UP031 - the values come as one
    return sha256(b"%s%d\n%s\n%s" % (head.encode(), occurred_us, canonical(snapshot), event_type.encode())).digest()


def following(chain_hash: bytes, row_digest: bytes, recorded_us: int) -> bytes:
    """The hash of the row that follows one with this hash."""
    return sha256(chain_hash + row_digest + recorded_us.to_bytes(8, "big", signed=True)).digest()


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
