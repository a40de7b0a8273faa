"""Histories that are told by hand, record by record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loadtests.history import NEVER, RECORD, Kind, Outcome, token
from loadtests.judging.checker import Facts, Verdict, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from loadtests.history import History

_MS = 1_000_000


def record_of(kind: Kind, start: int, end: int, **fields: Any) -> dict[str, Any]:
    """A record of session 1, if no other is given, by the names of its fields."""
    return {"kind": kind, "start_ns": start, "end_ns": end, "session": 1, **fields}


def history_of(records: Iterable[Mapping[str, Any]]) -> History:
    """A history of records that are given by the names of their fields."""
    found = list(records)
    history = np.zeros(len(found), RECORD)
    for place, record in enumerate(found):
        for name, value in record.items():
            history[place][name] = value
    return history


class Story:
    """A history that is told by hand: times in milliseconds, each attempt by a process of its own if none is given."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def add(self, kind: Kind, start_ms: float, end_ms: float | None, **fields: Any) -> int:
        """Add a record, and return its token. What has no end is unknown; `at` and `of` are stamps."""
        process = fields.setdefault("process", len(self.records) + 1)
        own = fields.setdefault("token", token(process, len(self.records) + 1))
        for short, long in (("at", ""), ("of", "expected_")):
            if short in fields:
                fields[f"{long}incarnation"], fields[f"{long}version"] = fields.pop(short)
        fields.setdefault("outcome", Outcome.UNKNOWN if end_ms is None else Outcome.OK)
        end = NEVER if end_ms is None else round(end_ms * _MS)
        self.records.append(record_of(kind, round(start_ms * _MS), end, **fields))
        return int(own)

    def create(self, start_ms: float, end_ms: float | None, n: int = 1, **fields: Any) -> int:
        """A creation of an incarnation."""
        at = {} if end_ms is None else {"at": (n, 1)}
        return self.add(Kind.CREATE, start_ms, end_ms, **at, **fields)

    def update(self, start_ms: float, end_ms: float | None, of: tuple[int, int], **fields: Any) -> int:
        """An update of a version, to the next."""
        at = {} if end_ms is None or "at" in fields else {"at": (of[0], of[1] + 1)}
        return self.add(Kind.UPDATE, start_ms, end_ms, of=of, **at, **fields)

    def get(self, start_ms: float, end_ms: float, at: tuple[int, int] = (0, 0), writer: int = 0, **fields: Any) -> int:
        """A read; without a stamp, of an absent session."""
        return self.add(Kind.GET, start_ms, end_ms, at=at, writer=writer, **fields)

    def delete(self, start_ms: float, end_ms: float | None, **fields: Any) -> int:
        """A deletion of whatever is there."""
        return self.add(Kind.DELETE, start_ms, end_ms, **fields)

    def told(self, at_ms: float, at: tuple[int, int], writer: int, watcher: int = 50, **fields: Any) -> int:
        """What a watcher is told."""
        kind = fields.pop("kind", Kind.TOLD)
        return self.add(kind, at_ms, at_ms, at=at, writer=writer, process=watcher, **fields)

    def row(self, place: int, at: tuple[int, int], writer: int, kind: Kind = Kind.RECORDED, **fields: Any) -> int:
        """A row of the audit."""
        return self.add(kind, place / _MS, place / _MS, at=at, writer=writer, process=0, **fields)

    def check(self, **facts: Any) -> Verdict:
        """Judge it."""
        return check(history_of(self.records), Facts(**facts))
