"""The message of a write: what the scripts publish to watchers and append to the outbox."""

from __future__ import annotations

import msgspec

from kairos_core import session

_NAMES = {
    "session_id": "i",
    "kind": "k",
    "event_type": "e",
    "operation_id": "o",
    "incarnation": "n",
    "version": "v",
    "created_us": "c",
    "updated_us": "u",
    "body": "s",
}


# The kinds of write after which there is no session.
ENDS = frozenset(["delete", "expire"])


class Message(msgspec.Struct, frozen=True, rename=_NAMES):
    """One write, as the script that made it describes it.

    Attributes:
        session_id: the session.
        kind: create, update, delete or expire.
        event_type: what the writer named it.
        operation_id: the write's id, 32 hexadecimal digits.
        incarnation: which life of the session id.
        version: the version that the write made.
        created_us: when this incarnation was created, microseconds since 1970 by the store's clock.
        updated_us: when the write happened, likewise.
        body: the state's JSON without the four server-assigned fields; to watchers of a delete or an expiry, null.
    """

    session_id: str
    kind: str
    event_type: str
    operation_id: str
    incarnation: session.Count
    version: session.Count
    created_us: session.Count
    updated_us: session.Count
    body: msgspec.Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def decode(data: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: it is not one.
    """
    try:
        return _decoder.decode(data)
    except session.MALFORMED as error:
        raise ValueError(session.explain(error)) from error


def encode(message: Message) -> bytes:
    """A message as JSON, as a script writes it."""
    return _encoder.encode(message)
