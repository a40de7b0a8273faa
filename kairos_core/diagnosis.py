"""Why a value was refused: which field, or which place in it, and what is wanted there.

Looked for only once a value was refused, so that checking one that is good costs nothing. A message must not carry a
state's content, and keys of metadata are content: a place is told by numbers.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum
from functools import cache
from itertools import chain
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

from kairos_core.session import ID_NEEDS, REFUSED, SyncParticipant, SyncState, match_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_IDS = frozenset(["session_id", "active_participant_id", "participant_id", "group_id"])
_SURVIVING = "only finite numbers, texts, True, False, None, lists and dicts with str keys do"
# Steps of a place that are told; a value may be nested 64 deep.
_STEPS = 6
_TYPES = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.BoolType: bool,
    inspect.DateTimeType: datetime,
    inspect.NoneType: NoneType,
}


def of_state(state: SyncState) -> str:
    """What is wrong with a state that was refused; empty where that cannot be told."""
    return _first(_faults_of_state(state))


def of_json(name: str, value: object) -> str:
    """Where a value does not survive JSON; empty where that cannot be told."""
    return _first(_faults(name, value, _no_json))


def of_nul(name: str, value: object) -> str:
    """Where a value contains the character U+0000; empty where it does not."""
    return _first(_faults(name, value, _nul))


def _first(faults: Iterator[str]) -> str:
    try:
        return next(faults, "")
    except REFUSED:
        # A class of the caller's that cannot be looked at, either.
        return ""


def _faults_of_state(state: SyncState) -> Iterator[str]:
    yield from _faults_of_fields("", SyncState, state)
    participants: tuple[object, ...] = state.participants
    for number, participant in enumerate(participants):
        where = f"participants[{number}]"
        if type(participant) is SyncParticipant:
            yield from _faults_of_fields(f"{where}.", SyncParticipant, participant)
        else:
            yield f"{where}: a SyncParticipant is needed, not {_kind(participant)}"
    metadata: object = state.metadata
    if isinstance(metadata, dict):
        yield from _faults("metadata", metadata, _no_json)
    else:
        yield f"metadata: a dict is needed, not {_kind(metadata)}"


def _faults_of_fields(where: str, struct: type[msgspec.Struct], holder: object) -> Iterator[str]:
    for name, types in _fields(struct).items():
        value = getattr(holder, name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            wanted = " or ".join("None" if kind is NoneType else f"{_article(kind)} {kind.__name__}" for kind in types)
            yield f"{where}{name}: {wanted} is needed, not {_kind(value)}"
        elif name in _IDS and isinstance(value, str) and match_id(value) is None:
            yield f"{where}{name}: {ID_NEEDS}"
        elif type(value) not in types and (fault := _no_json(value)):
            yield f"{where}{name}: {fault}"


@cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, tuple[type, ...]]:
    """The types of each field that takes one value."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - what msgspec says of a Struct
    found = {field.name: _python_types(field.type) for field in described.fields}
    return {name: types for name, types in found.items() if types}


def _python_types(described: inspect.Type) -> tuple[type, ...]:
    if isinstance(described, inspect.UnionType):
        return tuple(chain.from_iterable(map(_python_types, described.types)))
    if isinstance(described, inspect.EnumType):
        return (described.cls,)
    return (_TYPES[type(described)],) if type(described) in _TYPES else ()


def _faults(name: str, value: object, is_wrong: Callable[[object], str]) -> Iterator[str]:
    """What is wrong in a value, with its place; depth costs no stack, and what stands in many places is seen once."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], object]] = [((), value)]
    while waiting:
        place, item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            for number, (key, inner) in enumerate(item.items(), 1):
                if fault := is_wrong(key) if isinstance(key, str) else f"a key must be a str, and is {_kind(key)}":
                    yield _told(name, (*place, f"key no. {number}"), fault)
                waiting.append(((*place, f"value no. {number}"), inner))
        elif isinstance(item, list):
            waiting += [((*place, f"item no. {number}"), inner) for number, inner in enumerate(item, 1)]
        elif fault := is_wrong(item):
            yield _told(name, place, fault)


def _told(name: str, place: tuple[str, ...], fault: str) -> str:
    steps = place if len(place) <= _STEPS else (*place[: _STEPS - 1], "…", place[-1])
    return f"{', '.join((name, *steps))}: {fault}"


def _no_json(value: object) -> str:
    """Why a value without parts does not survive JSON; empty where it does."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"a number that is not finite does not survive JSON: {_SURVIVING}"
    if not isinstance(value, str | int | float | NoneType | Enum | datetime):
        return f"{_kind(value)} does not survive JSON: {_SURVIVING}"
    try:
        survives: Any = msgspec.json.decode(msgspec.json.encode(value)) == value
    except UnicodeEncodeError:
        return "a text with half of a surrogate pair is no Unicode, and does not survive JSON"
    except REFUSED:
        survives = isinstance(value, int)
        if survives:
            return "an int of so many digits does not survive JSON"
    return "" if survives else f"{_kind(value)} does not survive JSON: {_SURVIVING}"


def _nul(value: object) -> str:
    return "a text contains the character U+0000" if isinstance(value, str) and "\0" in value else ""


def _kind(value: object) -> str:
    name = type(value).__name__[:60]
    return "None" if value is None else f"{_article(type(value))} {name}"


def _article(kind: type) -> str:
    return "an" if kind.__name__[:1] in "aeiouAEIO" else "a"
