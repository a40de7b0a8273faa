"""Numbers as people read them: three digits that count, thousands apart, and a word for what is not there."""

from __future__ import annotations

import math

from reports.statistics import BAND, Verdict
from reports.tables import NOTHING, SIGNS

# What is shown and was not judged has a sign, a word and a class, too.
NOT_JUDGED, UNJUDGED_SIGN = "not judged here", "·"
_DIGITS = 3
_MINUTE_S, _HOUR_S = 60, 3_600


def figure(value: float | None) -> str:
    """A measured number with three digits that count: 0.182, 12.3, 1,230; a whole number below 1,000 as it is."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0 or (isinstance(value, int) and abs(value) < 10**_DIGITS):
        return f"{value:g}"
    # Rounded first: 9.999 is 10.0 and not 10.00.
    rounded = float(f"{value:.{_DIGITS - 1}e}")
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def limit(value: float) -> str:
    """A limit, as exactly as it was set: 1.667, 12,000."""
    return f"{value:,.10g}"


def count(value: int | None) -> str:
    """A number of things, in full."""
    return NOTHING if value is None else f"{value:,}"


def interval(lower: float | None, upper: float | None) -> str:
    """From where to where: `0.182 to 0.223`."""
    return NOTHING if lower is None or upper is None else f"{figure(lower)} to {figure(upper)}"


def percent(share: float) -> str:
    """A share between 0 and 1 in percent."""
    return f"{figure(share * 100)} %"


def lasted(seconds: float) -> str:
    """A duration: `0.21 s`, `42.1 s`, `3 min 5 s`, `1 h 2 min`."""
    if seconds < _MINUTE_S:
        return f"{figure(seconds)} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"


def when(moment: str) -> str:
    """A moment in UTC, to the minute: `2026-11-30 00:15 UTC`."""
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else NOTHING


def word(verdict: Verdict | None) -> str:
    """A verdict's word; of none, that it was not judged."""
    return NOT_JUDGED if verdict is None else verdict.value


def sign(verdict: Verdict | None) -> str:
    """Its sign."""
    return UNJUDGED_SIGN if verdict is None else SIGNS[verdict.value]


def kind(verdict: Verdict | None) -> str:
    """Its CSS class."""
    return "unjudged" if verdict is None else verdict.value.lower()


_NEXT = {
    Verdict.FAIL: "What now: each reason names its row below, and the row its file; a violation names two operations.",
    Verdict.INCONCLUSIVE: "What now: measure again when the machine does nothing else; PROFILE=full measures more.",
    Verdict.INVALID: (
        "What now: mend what the reasons name, and measure anew with nothing else on the machine. What is judged below"
        " says nothing."
    ),
}


def what_now(verdict: Verdict) -> str:
    """What can be done about a verdict; nothing about a PASS."""
    return _NEXT.get(verdict, "")


def against_one(lower: float | None, upper: float | None) -> str:
    """What an interval of a ratio of times says, ours over theirs; what touches the band is no difference."""
    if lower is None or upper is None:
        return NOTHING
    if upper < 1 / BAND:
        return "faster"
    return "slower" if lower > BAND else "not told apart"
