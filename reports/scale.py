"""`make scale`: is Kairos as fast with many sessions as with few, and what does a session take?

The exit status is the verdict. 0: it is. 1: it is not. 2: it could not be told, or could not be run.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kairos_core.one_line import OneLineParser
from loadtests import ROOT, scale
from loadtests.ending import status_of, unwind_on_termination
from reports import tables
from reports.statistics import (
    EXIT_STATUS,
    FEWEST_RUNS,
    STATISTICS,
    Estimate,
    Verdict,
    compare,
    estimate,
    estimate_ratio,
    fires,
    judge_target,
    overall,
)

if TYPE_CHECKING:
    from loadtests.scale import Measured

SESSIONS = 1_000_000
RUNS = 10
ROUNDS = 500


class Compared(NamedTuple):
    """One operation with many sessions beside it with few.

    Attributes:
        operation: what was timed.
        statistic: what is compared.
        few: milliseconds with few sessions.
        many: milliseconds with many.
        ratio: many over few.
        own: few over as few on another server: how fair the comparison is.
        limit: what the ratio must be below.
        sessions: what the limit is of.
        verdict: whether it is; INVALID where the comparison is not fair.
    """

    operation: str
    statistic: str
    few: Estimate
    many: Estimate
    ratio: Estimate
    own: Estimate
    limit: float
    sessions: int
    verdict: Verdict


def judged(measured: Measured) -> list[Compared]:
    """Every target of scale in the order of the file, judged."""
    targets = tomllib.loads((ROOT / "reports" / "targets.toml").read_text(encoding="utf-8"))
    found = []
    for target in targets["scale"]:
        operation, statistic, limit = target["operation"], target["statistic"], target["below"]
        few, many, again = (_per_run(measured, operation, subject, statistic) for subject in scale.SUBJECTS)
        ratio = estimate_ratio([ours / theirs for ours, theirs in zip(many, few, strict=True)])
        own = estimate_ratio([ours / theirs for ours, theirs in zip(few, again, strict=True)])
        verdict = Verdict.INVALID if fires(compare(few, again)) else judge_target(ratio, limit)
        sessions = target["sessions"]
        found.append(
            Compared(operation, statistic, estimate(few), estimate(many), ratio, own, limit, sessions, verdict)
        )
    return found


def _per_run(measured: Measured, operation: str, subject: str, statistic: str) -> list[float]:
    return [STATISTICS[statistic](np.asarray(run[operation][subject]) / 1e6) for run in measured.runs]


def table(measured: Measured, compared: list[Compared]) -> tables.Table:
    """Each operation with both latencies and their ratio."""
    few, many = f"{scale.FEW} sessions", f"{measured.sessions:,} sessions"
    return tables.Table(
        ("verdict", "operation", "statistic", few, many, "ratio", "target", "95 % bounds", "100 over 100"),
        [
            (
                tables.signed(one.verdict.value),
                one.operation,
                one.statistic,
                f"{one.few.value:.3f} ms",
                f"{one.many.value:.3f} ms",
                f"{one.ratio.value:.3f} ×",
                f"< {one.limit:g} ×",
                f"{one.ratio.lower:.3f} to {one.ratio.upper:.3f}",
                f"{one.own.value:.3f} ×",
            )
            for one in compared
        ],
    )


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.scale", description=__doc__)
    parser.add_argument("--sessions", type=_whole(1), default=SESSIONS, help="how many are many")
    parser.add_argument("--runs", type=_whole(FEWEST_RUNS), default=RUNS, help="fresh processes")
    parser.add_argument("--rounds", type=_whole(1), default=ROUNDS, help="of two calls to each server, in each of them")
    options = parser.parse_args()
    unwind_on_termination()
    return status_of(lambda: _scale(options), interrupted=lambda: "interrupted; servers are removed")


def _scale(options: argparse.Namespace) -> int:
    measured = scale.measure(options.sessions, options.runs, options.rounds, lambda text: print(text, flush=True))
    return _tell(measured, options.rounds)


def _tell(measured: Measured, rounds: int) -> int:
    compared = judged(measured)
    print(f"\n{table(measured, compared).text()}\n")
    print(
        f"{measured.bytes_each:,.0f} bytes of memory a session, its indexes included, of which {measured.state_bytes} "
        f"are the state ({measured.server}); {len(measured.runs)} processes of {2 * rounds:,} calls of each"
    )
    for one in compared:
        if one.sessions != measured.sessions:
            print(f"{one.operation}: the target is of {one.sessions:,} sessions, which these are not")
    verdict = overall([one.verdict for one in compared])
    print(f"\n{tables.signed(verdict.value)}")
    return EXIT_STATUS[verdict]


class _whole:  # noqa: N801 - called like a function
    """Reads a whole number that is not below the least."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, text: str) -> int:
        digits = text.replace("_", "").replace(",", "")
        if not digits.isdecimal() or int(digits) < self._least:
            raise argparse.ArgumentTypeError(f"a whole number, at least {self._least}, is needed")
        return int(digits)


if __name__ == "__main__":
    sys.exit(main())
