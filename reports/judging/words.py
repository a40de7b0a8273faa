"""Numbers and targets in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.tables import NOTHING

if TYPE_CHECKING:
    from reports.findings import Target

_WHOLE = 1_000
# What is counted has no decimals.
_COUNTED = "calls"


def figure(value: float | None, unit: str) -> str:
    """A value in three digits, with its unit: `12.1 ms`, `0.240 ms`, `4,096 rows/s`; a dash where there is none."""
    if value is None:
        return NOTHING
    number = f"{value:,.0f}" if unit == _COUNTED else _digits(value)
    return f"{number} {unit}".strip()


def limit(value: float, unit: str) -> str:
    """A limit as it was set: `10 ms`."""
    return f"{value:,g} {unit}".strip()


def measured(target: Target) -> str:
    """What a target came out at, with its interval: `update_session p95 is 12.1 ms (11.0 to 13.2)`."""
    if target.value is None:
        return f"{target.what} was not measured"
    interval = f" ({between(target)})" if between(target) else ""
    return f"{target.what} is {figure(target.value, target.unit)}{interval}"


def between(target: Target) -> str:
    """Its interval: `11.0 to 13.2`; empty: it has none."""
    if target.lower is None or target.upper is None:
        return ""
    return f"{_digits(target.lower)} to {_digits(target.upper)}"


def wanted(target: Target) -> str:
    """`where it must be below 10 ms`."""
    side = "below" if target.is_below else "above"
    return f"where it must be {side} {limit(target.limit, target.unit)}"


def _digits(value: float) -> str:
    if value == 0 or abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")
