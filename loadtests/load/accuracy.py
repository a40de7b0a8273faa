"""Whether load tests tell the truth: `python -m loadtests.load.accuracy`.

Runs one of a subject whose delays and stalls are known, and compares each quantile that is reported with the truth.
Exit status 0: all are within 2 % or 0.1 ms; 1: one is not; 2: the run shows nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.ending import unwind_on_termination
from loadtests.load.comparing import Compared, compare, is_definite, quantile_ms, tolerance_ms
from loadtests.load.delays import Delays
from loadtests.load.histograms import Histograms
from loadtests.load.run import Asked, run
from loadtests.load.truth import Truth, truth
from loadtests.scenarios import scenario_named
from loadtests.servers.delaying import delaying_server, lateness_ns
from loadtests.subjects.delayed import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loadtests.load.facts import Load
    from loadtests.load.truth import Numbers

_SCENARIO = "known_delays"
# There are as many as it takes.
_ALL_JUDGED = "turn latency"
# Every so often nothing is answered for so long: one of a hundred turns and more meets that.
_STALL_EVERY_NS = 8_000_000_000
_STALL_NS = 150_000_000
_STALLS = 200
# Where others want the processors, too, those who measure go first, if that is allowed: this is to show what they say,
# and not how long they wait for a processor. What one process starts inherits it.
_PRIORITY = 1


class Row(NamedTuple):
    """A quantile of what was measured.

    Attributes:
        what: `turn latency`.
        compared: what it is, and what was reported.
        drawn_ms: what it would have been if the server had always been on time.
        is_judged: whether it can be told as well as is asked for.
    """

    what: str
    compared: Compared
    drawn_ms: float
    is_judged: bool


class Found(NamedTuple):
    """What a run showed: its quantiles, and why it shows nothing."""

    rows: list[Row]
    reasons: list[str]

    @property
    def status(self) -> int:
        """0: what was reported is true; 1: it is not; 2: the run shows nothing."""
        if self.reasons:
            return 2
        return int(not all(row.compared.is_within for row in self.rows if row.is_judged))


def examine(load: Load, delays: Delays, late_ns: Mapping[tuple[int, int], int]) -> Found:
    """Compare what was reported with the truth, of which the server's own lateness is a part.

    Args:
        load: as it was reported.
        delays: what was answered by.
        late_ns: how late each answer was (see `truth`).
    """
    reported = Histograms()
    for second in load.seconds:
        reported.add(second)
    places = range(len(load.parts))
    begins_ns = {part.place: part.begin_ns for part in load.parts}
    if set(begins_ns) != set(places) or not places:
        return Found([], ["the processes are not those that there were to be"])
    drawn, true = (
        [
            truth(load.scenario, load.seed, at, len(places), delays=delays, begin_ns=begins_ns[at], late_ns=late)
            for at in places
        ]
        for late in (None, late_ns)
    )
    rows = []
    of_drawn, of_true = _by_name(drawn), _by_name(true)
    for (operation, part), values_us in of_true.items():
        histogram = reported.of(operation, part, ["ok"])
        for one in compare(values_us, histogram):
            is_judged = is_definite(values_us, one.share)
            drawn_ms = quantile_ms(of_drawn[operation, part], one.share)
            rows.append(Row(f"{operation} {part}", one, drawn_ms, is_judged))
    return Found(rows, _reasons(load, true, rows))


def _by_name(truths: Sequence[Truth]) -> dict[tuple[str, str], Numbers]:
    """What is compared, of all processes: latencies of steps, and how long the attempts of a turn took."""
    found = {}
    for operation in ("turn", "create", "start", "end"):
        found[operation, "latency"] = np.concatenate([one.latency_us[one.operations == operation] for one in truths])
    for attempt in ("turn.get", "turn.update"):
        found[attempt, "service"] = np.concatenate([one.attempts_us.get(attempt, np.empty(0)) for one in truths])
    return found


def _reasons(load: Load, truths: Sequence[Truth], rows: Sequence[Row]) -> list[str]:
    """Why the run shows nothing, each in a sentence."""
    found = [*load.notes, *(f"process {part.place}: {note}" for part in load.parts for note in part.notes)]
    for part in load.parts:
        planned, busiest = len(truths[part.place].due_ns), truths[part.place].busiest
        if not planned == part.planned == part.begun:
            found.append(f"process {part.place} did {part.begun} of {part.planned} steps, where {planned} are planned")
        if busiest >= part.hands:
            found.append(f"process {part.place} needed {busiest} hands at once, and had {part.hands}")
    if not all(row.is_judged for row in rows if row.what == _ALL_JUDGED):
        found.append(f"too few turns to tell all quantiles of {_ALL_JUDGED}")
    for row in rows:
        late_ms = row.compared.truth_ms - row.drawn_ms
        if row.is_judged and abs(late_ms) > tolerance_ms(row.drawn_ms):
            which = f"p{100 * row.compared.share:g} of {row.what}"
            found.append(f"the server was late: {which} is {late_ms:.3f} ms more than was drawn")
    return found


def table(rows: Sequence[Row]) -> list[str]:
    """The quantiles, a line each."""
    lines = [f"{'':22}{'quantile':>9}{'truth':>12}{'reported':>12}{'differs':>9}"]
    for row in rows:
        one = row.compared
        differs = f"{100 * (one.reported_ms / one.truth_ms - 1):+.2f} %" if one.truth_ms else "?"
        verdict = "" if one.is_within else "too much"
        lines.append(
            f"{row.what:22}{f'p{100 * one.share:g}':>9}{one.truth_ms:>9.3f} ms{one.reported_ms:>9.3f} ms{differs:>9}"
            f"  {verdict if row.is_judged else 'too few to be judged'}".rstrip()
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one and print what it showed; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.load.accuracy", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what plan and delays are drawn from (%(default)s)")
    parser.add_argument("--time", type=float, default=1.0, help="so many times its time (%(default)s)")
    parser.add_argument("--instances", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the run goes; none: a new one of the system's")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kairos-accuracy-"))
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    stalls = [(at * _STALL_EVERY_NS, at * _STALL_EVERY_NS + _STALL_NS) for at in range(1, _STALLS)]
    delays = Delays(seed=options.seed, begin_ns=time.monotonic_ns(), stalls=stalls)
    try:
        with delaying_server(delays) as (server, url):
            load = _run(options, folder, url)
            found = examine(load, delays, lateness_ns(server, folder / "answers.npy"))
    except Exception:  # noqa: BLE001 - whatever it is, it is no untruth, and 1 would say so
        traceback.print_exc()
        return 2
    print("\n".join([*table(found.rows), *found.reasons]))
    print(f"{('TRUE', 'NOT TRUE', 'SHOWS NOTHING')[found.status]}, stored in {folder}")
    return found.status


def _run(options: argparse.Namespace, folder: Path, url: str) -> Load:
    """Run the load test on the server at this address."""
    os.environ[VARIABLE] = url
    asked = Asked(
        name=_SCENARIO,
        scenario=scenario_named(_SCENARIO).scaled(options.time),
        time=options.time,
        size=1.0,
        subject="delayed",
        instances=options.instances,
        workers=0,
        seed=options.seed,
        folder=folder,
        is_quiet=True,
    )
    return run(asked).load


if __name__ == "__main__":
    unwind_on_termination()
    sys.exit(main())
