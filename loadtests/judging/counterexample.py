"""A violation for people: a sentence to check by hand, and a picture of just the operations that it is about.

The picture is one SVG without anything outside it: the two operations, the writes that link their versions, the
nearest fault as a band behind them, and the sentence below. Incarnations are long numbers; above the bars stand the
last digits of each. It is as narrow as a phone, and its ink is that of the text around it: by itself, dark on white or
light on black, as the reader's screen is.
"""

from __future__ import annotations

import math
import textwrap
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.history import NEVER, Kind, Outcome
from loadtests.judging.verdict import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loadtests.history import History
    from loadtests.judging.verdict import Facts, Fault, Violation

LANES = 8
_WIDTH, _MARGIN = 460, 12
# Of a lane: its words, and the bar below them.
_TOP, _LANE, _BAR, _BAR_BELOW = 66, 44, 15, 19
_TICKS = 3
# Half of what the longest time below is wide.
_TICK_ROOM = 44
# Of the sentence: characters of a line, of which each is about 7 wide, and the height of a line.
_COLUMNS, _LINE = 60, 18
# How much of a long incarnation is shown.
_DIGITS = 6
_OPENING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    ' class="violation" font-family="sans-serif" font-size="13" role="img">'
)
# For the file by itself; within a page its text has the page's colour, and this is left out (see `inlined`).
_STYLE = (
    "<style>svg.violation { color: #1a1a1a; background: #ffffff }"
    " @media (prefers-color-scheme: dark) { svg.violation { color: #e8e8e8; background: #161616 } }</style>"
)
_COLOURS = {"ok": "#56b4e9", "unknown": "#e69f00", "pending": "#e69f00", "refused": "#cc79a7"}
_ACCUSED, _INK = "#d55e00", "currentColor"
_WRITES = (Kind.CREATE, Kind.UPDATE, Kind.MUTATE, Kind.DELETE, Kind.DELETE_IF)
_NOT_TIMED = {"recorded", "recorded_removed"}


class Lane(NamedTuple):
    """A line of the picture."""

    operation: Operation
    is_accused: bool


def sentence(violation: Violation) -> str:
    """What is wrong, with the rule before it."""
    return f"{violation.rule} (session {violation.session}): {violation.sentence}"


def lanes(violation: Violation, history: History, facts: Facts) -> list[Lane]:
    """The two operations, and the writes of their session between their versions; at most eight, by start."""
    accused = [one for one in (violation.first, violation.second) if one is not None]
    tokens = {one.token for one in accused if one.token}
    origin = _origin(history, facts)
    linking = [Operation.of(record, origin) for record in _linking(violation, history) if record["token"] not in tokens]
    by_token = {one.token: one for one in linking}
    found = [Lane(one, is_accused=True) for one in accused]
    found += [Lane(one, is_accused=False) for one in list(by_token.values())[: LANES - len(found)]]
    return sorted(found, key=lambda lane: (lane.operation.kind in _NOT_TIMED, lane.operation.start_ns))


def picture(violation: Violation, history: History, facts: Facts) -> str:
    """An SVG of a violation, by itself."""
    found = lanes(violation, history, facts)
    scale = _Scale(found, _origin(history, facts))
    fault = _nearest(facts.faults, scale)
    height = _TOP + _LANE * len(found) + 40
    lines = textwrap.wrap(violation.sentence, _COLUMNS)
    whole = height + _LINE * len(lines) + 12
    parts = [
        _OPENING.format(width=_WIDTH, height=whole),
        f"<title>{escape(sentence(violation))}</title>",
        _STYLE,
        _text(_MARGIN, 20, f"{violation.rule}: session {violation.session}", weight="bold"),
        *_band(fault, scale, height),
        *_axis(scale, height),
    ]
    for place, lane in enumerate(found):
        parts += _lane(lane, scale, _TOP + _LANE * place)
    parts += [_text(_MARGIN, height + _LINE * (place + 1), line) for place, line in enumerate(lines)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def inlined(svg: str) -> str:
    """The same for a page: in the colour and the font of its text, on its ground."""
    return svg.replace(_STYLE, "").replace(' font-family="sans-serif"', "")


def _origin(history: History, facts: Facts) -> int:
    if facts.began_ns:
        return facts.began_ns
    timed = history[history["kind"] < Kind.RECORDED]["start_ns"]
    return int(timed.min()) if len(timed) else 0


def _linking(violation: Violation, history: History) -> History:
    """The writes whose versions lie between those of the two, the nearest first; and the writers that they name."""
    own: History = history[history["session"] == violation.session]
    own = own[np.isin(own["kind"], _WRITES) & (own["outcome"] != Outcome.REFUSED)]
    accused = [one for one in (violation.first, violation.second) if one is not None]
    stamps = sorted(one.stamp for one in accused if any(one.stamp))
    named = np.isin(own["token"], [one.writer for one in accused if one.writer])
    if not stamps:
        return own[np.argsort(~named, kind="stable")]
    stamp = list(zip(own["incarnation"].tolist(), own["version"].tolist(), strict=True))
    # A deletion of a version is the one behind it; what has no stamp is as near as its time.
    between = np.array([stamps[0] <= one <= stamps[-1] for one in stamp], bool)
    moments = [one.start_ns for one in accused if one.kind not in _NOT_TIMED]
    middle = sum(moments) // len(moments) if moments else 0
    distance = np.abs(own["start_ns"] - middle)
    near: History = own[np.lexsort((distance, ~between, ~named))]
    return near


class _Scale:
    """From times to places in the picture."""

    def __init__(self, found: Iterable[Lane], origin_ns: int) -> None:
        timed = [lane.operation for lane in found if lane.operation.kind not in _NOT_TIMED]
        moments = [one.start_ns for one in timed] + [one.end_ns for one in timed if one.end_ns != NEVER]
        self.origin_ns = origin_ns
        first, last = min(moments, default=0), max(moments, default=1)
        room = max((last - first) // 12, 1_000)
        self.first_ns, self.last_ns = first - room, last + room

    def at(self, moment_ns: int) -> float:
        """The place of a time, within the picture."""
        share = (moment_ns - self.first_ns) / (self.last_ns - self.first_ns)
        return round(_MARGIN + min(max(share, 0.0), 1.0) * (_WIDTH - 2 * _MARGIN), 2)


def _nearest(faults: Iterable[Fault], scale: _Scale) -> Fault | None:
    """The fault that overlaps the picture, or is the nearest to it."""

    def distance(fault: Fault) -> int:
        return max(fault.begin_ns - scale.last_ns, scale.first_ns - fault.healed_ns, 0)

    return min(faults, key=distance, default=None)


def _band(fault: Fault | None, scale: _Scale, height: int) -> list[str]:
    if fault is None:
        return []
    begin_s, healed_s = ((moment - scale.origin_ns) / 1e9 for moment in (fault.begin_ns, fault.healed_ns))
    words = f"fault: {fault.name}, {begin_s:.6f} s to {healed_s:.6f} s"
    left, right = scale.at(fault.begin_ns), scale.at(fault.healed_ns)
    parts = [_text(_MARGIN, 40, words)]
    if fault.begin_ns <= scale.last_ns and fault.healed_ns >= scale.first_ns:
        width = max(right - left, 2)
        parts.insert(
            0,
            f'<rect x="{left}" y="48" width="{width:.2f}" height="{height - 78}" fill="{_INK}" fill-opacity="0.15"'
            ' class="fault"/>',
        )
    return parts


def _axis(scale: _Scale, height: int) -> list[str]:
    """Times from the round's start, in round steps."""
    span_ms = (scale.last_ns - scale.first_ns) / 1e6
    step_ms = 10 ** math.floor(math.log10(span_ms / _TICKS))
    step_ms *= next(factor for factor in (1, 2, 5, 10) if step_ms * factor * _TICKS >= span_ms)
    first_ms = (scale.first_ns - scale.origin_ns) / 1e6
    parts = []
    for number in range(math.ceil(first_ms / step_ms), math.floor((first_ms + span_ms) / step_ms) + 1):
        at_ms = number * step_ms
        x = scale.at(round(at_ms * 1e6) + scale.origin_ns)
        decimals = max(0, -math.floor(math.log10(step_ms)))
        parts.append(
            f'<line x1="{x}" y1="50" x2="{x}" y2="{height - 30}" stroke="{_INK}" stroke-opacity="0.4"'
            ' stroke-width="0.5"/>'
        )
        middle = min(max(x, _TICK_ROOM), _WIDTH - _TICK_ROOM)
        parts.append(_text(middle, height - 14, f"{at_ms:.{decimals}f} ms", anchor="middle"))
    return parts


def _lane(lane: Lane, scale: _Scale, y: int) -> list[str]:
    one = lane.operation
    weight = "bold" if lane.is_accused else "normal"
    words = _label(one)
    if one.kind in _NOT_TIMED:
        row = _text(_MARGIN, y + _BAR_BELOW + _BAR - 3, f"row {one.start_ns} of the trail")
        return [_text(_MARGIN, y + 13, words, weight=weight), row]
    left = scale.at(one.start_ns)
    is_open = one.end_ns == NEVER
    right = scale.at(scale.last_ns if is_open else one.end_ns)
    colour, width = (_ACCUSED, 3) if lane.is_accused else (_INK, 0.5)
    dashes = ' stroke-dasharray="5 3"' if is_open else ""
    return [
        _text(_MARGIN, y + 13, words, weight=weight),
        (
            f'<rect x="{left}" y="{y + _BAR_BELOW}" width="{max(right - left, 3):.2f}" height="{_BAR}" rx="2"'
            f' fill="{_COLOURS[one.outcome]}" stroke="{colour}" stroke-width="{width}"{dashes}>'
            f"<title>{escape(one.words)}</title></rect>"
        ),
    ]


def _label(one: Operation) -> str:
    actor = f"p{one.process}" if one.process else "store" if one.kind == "expire" else "audit"
    outcome = "" if one.outcome == "ok" else f", {one.outcome}"
    return f"{actor} {one.kind.replace('_', ' ')}{_versions(one)}{outcome}"


def _versions(one: Operation) -> str:
    """What it was derived from, and what it made or saw."""
    if not any(one.stamp):
        return f" of {_short(one.expected)}" if any(one.expected) else " absent" if one.kind == "get" else ""
    if one.expected[0] == one.stamp[0] and one.kind not in {"get", "create"}:
        before = f"v{one.expected[1]} to "
        return f" {_short(one.stamp, before)}"
    return f" {_short(one.stamp)}"


def _short(stamp: tuple[int, int], before: str = "") -> str:
    digits = str(stamp[0])
    life = digits if len(digits) <= _DIGITS + 1 else f"\u2026{digits[-_DIGITS:]}"
    return f"({life}, {before}v{stamp[1]})"


def _text(x: float, y: float, words: str, *, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{_INK}" font-weight="{weight}" text-anchor="{anchor}">{escape(words)}</text>'
