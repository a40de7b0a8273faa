"""The figures of the stored report in docs/decisions.md: `python -m tests.sample_figures` puts them in.

Each stands between `<!-- sample: WHAT -->` and `<!-- / -->`, where WHAT is one of these:

- `target NAME`: what was measured for a target, with its bounds;
- `p50 OPERATION/SUBJECT`: the median of its latency; `range OPERATION/SUBJECT`: between which those of the runs lie;
- `writes SUBJECT N`, `lost SUBJECT N`: of N writers of one session the useful writes a second, or the acknowledged
  writes that were lost: the median of the repetitions.
"""

from __future__ import annotations

import json
import re
import statistics
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "reports" / "sample"
DOCUMENT = ROOT / "docs" / "decisions.md"
FIGURE = re.compile(r"(<!-- sample: ([^>]+?) -->)(.*?)(<!-- / -->)", re.DOTALL)
_SERIES = {"writes": "useful_per_s", "lost": "lost"}


def made(text: str) -> str:
    """A document with its figures as the report has them."""
    return FIGURE.sub(lambda found: f"{found[1]}{figure(found[2])}{found[4]}", text)


def figure(what: str) -> str:
    """One figure, with its unit.

    Raises:
        LookupError: the report has none of this name.
    """
    kind, _, name = what.partition(" ")
    if kind == "target":
        return _target(name)
    if kind == "p50":
        return f"{_told(_latency(name)['p50'])} ms"
    if kind == "range":
        return f"{_told(_latency(name)['p50_smallest'])} and {_told(_latency(name)['p50_largest'])} ms"
    if kind in _SERIES:
        subject, _, writers = name.partition(" ")
        return _series(subject, int(writers), _SERIES[kind])
    raise LookupError(f"no figure {what}")


def _target(name: str) -> str:
    for one in _read("report.json")["targets"]:
        if one["what"] == name:
            unit = one["unit"]
            value, lower, upper = (_told(one[of]) for of in ("value", "lower", "upper"))
            return f"{value} {unit} ({lower} to {upper})"
    raise LookupError(f"no target {name}")


def _latency(name: str) -> dict[str, Any]:
    for one in _read("report.json")["latencies"]:
        if f"{one['operation']}/{one['subject']}" == name:
            found: dict[str, Any] = one
            return found
    raise LookupError(f"no latency of {name}")


def _series(subject: str, writers: int, value: str) -> str:
    points = _read("studies/contention.json")["points"]
    found = [one["values"][value] for one in points if (one["subject"], one["x"]) == (subject, writers)]
    if not found:
        raise LookupError(f"no {writers} writers of {subject}")
    return f"{statistics.median(found):,.0f}"


def _told(value: float) -> str:
    """To three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


@cache
def _read(name: str) -> Any:
    return json.loads((SAMPLE / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    DOCUMENT.write_text(made(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
