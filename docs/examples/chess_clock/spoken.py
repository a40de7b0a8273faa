"""What comes from elsewhere: JSON objects with a `type`, checked before anything is done with them.

Browsers say what they wish over their WebSockets; instances say to each other who is here, and pass on what is said.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Key = Annotated[str, Meta(min_length=16, max_length=64)]


class Sit(msgspec.Struct, frozen=True, tag="sit", tag_field="type"):
    """I want to play, or played before the connection was lost."""

    seat: Literal["white", "black"]
    key: Key


class EndTurn(msgspec.Struct, frozen=True, tag="end_turn", tag_field="type"):
    """I end the turn of this number. Sent again until its end is seen."""

    turn: Annotated[int, Meta(ge=1, le=1_000_000)]


class Start(msgspec.Struct, frozen=True, tag="start", tag_field="type"):
    """White's clock is to run."""


class Pause(msgspec.Struct, frozen=True, tag="pause", tag_field="type"):
    """Both clocks are to stand."""


class Resume(msgspec.Struct, frozen=True, tag="resume", tag_field="type"):
    """The clock that stood last is to run on."""


class OfferDraw(msgspec.Struct, frozen=True, tag="offer_draw", tag_field="type"):
    """I offer a draw."""


class AgreeToDraw(msgspec.Struct, frozen=True, tag="agree_to_draw", tag_field="type"):
    """I take the draw that was offered."""


class Resign(msgspec.Struct, frozen=True, tag="resign", tag_field="type"):
    """I give up."""


class Say(msgspec.Struct, frozen=True, tag="say", tag_field="type"):
    """A line for all who look at this game."""

    text: Annotated[str, Meta(min_length=1, max_length=200)]


Move = EndTurn | Start | Pause | Resume | OfferDraw | AgreeToDraw | Resign
Said = Sit | Say | Move
# The type is said twice: mypy takes a union for no type.
_decoder: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


class NewGame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a new game; its bounds are a matter of the rules."""

    time_ms: int
    increment_ms: int = 0


class Here(msgspec.Struct, frozen=True, tag="people", tag_field="type"):
    """Who looks at a game at an instance: a seat or `spectator` for each browser."""

    instance: str
    seats: list[str]


class Line(msgspec.Struct, frozen=True, tag="said", tag_field="type"):
    """What somebody said, and on which seat, or as `spectator`."""

    by: str
    text: str


Heard = Here | Line


def heard(message: Any) -> Heard:
    """Take what was broadcast to a game, by whatever program.

    Raises:
        msgspec.ValidationError: it is none of these.
    """
    found: Heard = msgspec.convert(message, Heard)
    return found


def understand(text: str) -> Said:
    """Read what a browser said.

    Raises:
        msgspec.MsgspecError: it is none of these; says which field is wrong.
    """
    return _decoder.decode(text)
