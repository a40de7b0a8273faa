"""How a process of Kairos writes its log: for people, or one JSON object a line for what collects logs.

A call of the log that tells a fact gives its name and its fields beside the text:

    _log.warning("lane %d is away", lane, extra={"event": "lane_away", "lane": lane})

In JSON they are `event` and fields of the object; for people the text says it all.
"""

from __future__ import annotations

import json
import logging
import math
import re
from datetime import UTC, datetime
from typing import Any

# What `configure` takes.
STYLES = ("text", "json")

_TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"
# What the library itself puts on a record; all else came as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What a line begins with; a field of the same name does not take its place.
_FIRST = ("time", "level", "logger", "event", "message")
# The event of a call that names none: those of other packages, such as rq.
NO_EVENT = "log"

# All that stands between a scheme and the last @ of the word may be the password, or part of it.
# (A scheme begins where its word does: to try each letter of a long word for one would take quadratic time.)
_LOGIN = re.compile(r"(?P<scheme>(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://)(?P<user>[^\s:@/]*)(?::|%3[aA])[^\s]*@")
_OPTION = re.compile(r"(?i)(?P<name>password=)(?:'[^']*'|\"[^\"]*\"|[^\s&'\",;]+)")


def redacted(text: str) -> str:
    """The text without the passwords of the addresses in it: the last line of defence, where others' text is logged.

    >>> redacted("cannot reach rediss://me:secret@host:6379/0?sentinel_password=secret")
    'cannot reach rediss://me:…@host:6379/0?sentinel_password=…'
    """
    return _OPTION.sub(r"\g<name>…", _LOGIN.sub(r"\g<scheme>\g<user>:…@", text))


class TextFormatter(logging.Formatter):
    """Lines for people, without passwords."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and where it was raised."""
        return redacted(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line, without passwords.

    `time` (UTC, ISO 8601), `level`, `logger`, `event` (the fact's name; `log` where the call gives none) and `message`;
    then the fields of the fact; then `exception`, with all of its lines, where there was one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        given = {name: value for name, value in vars(record).items() if name not in _OWN}
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": given.pop("event", NO_EVENT),
            "message": record.getMessage(),
        }
        found |= {name: value for name, value in given.items() if name not in _FIRST}
        if record.exc_info and record.exc_info[0] is not None:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: _plain(value) for name, value in found.items()}, ensure_ascii=False)


def _plain(value: object) -> object:
    """A value as JSON has it, without passwords."""
    # A number that is not finite is none in JSON, and who reads the line would refuse all of it.
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return redacted(str(value))


class _Handler(logging.StreamHandler[Any]):
    """The one that `configure` set up, to be known again."""


def configure(style: str = "text") -> None:
    """Send the log to standard error, from WARNING on.

    Where the process has set up its log otherwise, that stands. A service that wants its own log in this form gives its
    handler a `JsonFormatter`.

    Args:
        style: one of STYLES.
    """
    if style not in STYLES:
        raise ValueError(f"style: one of {', '.join(STYLES)} is needed")
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    handler = _Handler()
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
