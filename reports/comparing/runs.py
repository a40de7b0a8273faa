"""The two runs that are compared, or the two halves of one; and what makes two of them unlike."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kairos_core.errors import ConfigurationError
from reports.evidence import Evidence
from reports.results import OPERATIONS, read_manifest
from reports.statistics import RUNS_TO_COMPARE, Comparison, compare_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

# What of the machine must be the same, if ratios are to be: another redis-py is another yardstick.
_MACHINE = ("cpu", "cores", "system", "python")
_OURS = "kairos"
# A number of runs of which Student's t can say something.
_FEWEST = 3


class Side:
    """A run, or every other process of it.

    Attributes:
        folder: of the run.
        name: what it is called.
        evidence: what it left.
        every: which of its processes: all, or every other one.
    """

    def __init__(self, folder: Path, name: str = "", every: slice = slice(None)) -> None:
        self.folder = folder
        self.name = name or folder.name
        self.evidence = Evidence(folder)
        self.every = every

    @property
    def is_half(self) -> bool:
        """Whether it is every other process of a run."""
        return self.every != slice(None)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Of its run; empty: there is none that can be read."""
        return self.evidence.latency.manifest if self.evidence.latency else {}

    def per_process(self, operation: str, subject: str, statistic: str = "p50") -> list[float]:
        """A statistic of each of its processes, in milliseconds; empty: it has none."""
        run = self.evidence.latency
        if run is None or not run.samples.get(operation, {}).get(subject):
            return []
        return run.per_run(operation, subject, statistic)[self.every]

    def median_ms(self, operation: str, statistic: str) -> float | None:
        """Of Kairos itself, the median over its processes."""
        values = self.per_process(operation, _OURS, statistic)
        return float(np.median(values)) if values else None

    def ratio(self, operation: str, against: str) -> Comparison | None:
        """Kairos' p50 over another's of the same rounds; None: too few processes have both."""
        ours, theirs = self.per_process(operation, _OURS), self.per_process(operation, against)
        if len(ours) != len(theirs) or len(ours) < _FEWEST:
            return None
        logs = [math.log(our) - math.log(their) for our, their in zip(ours, theirs, strict=True)]
        return compare_logs(logs) if len(logs) >= RUNS_TO_COMPARE else _of_few(logs)

    @property
    def operations(self) -> list[str]:
        """What was timed beside bare redis-py."""
        return [name for name in OPERATIONS if self.ratio(name, "bare") is not None]


def _of_few(logs: Sequence[float]) -> Comparison:
    """Of fewer processes than a bootstrap takes, such as half a quick run's: Student's t of the logarithms.

    Where processes are skewed it holds the true ratio less often than it says, so only halves are compared by it.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - scipy takes its time to import

    array = np.asarray(logs, dtype=np.float64)
    middle, count = float(array.mean()), len(array)
    half = float(stdtrit(count - 1, 0.975)) * float(array.std(ddof=1)) / math.sqrt(count)
    return Comparison(math.exp(middle), math.exp(middle - half), math.exp(middle + half), count)


def earlier(folder: Path) -> Path | None:
    """The newest run beside a run that is older and of the same profile; None: there is none."""
    try:
        ours = read_manifest(folder)
    except ConfigurationError:
        return None
    found = []
    for other in folder.resolve().parent.glob("*/manifest.json"):
        try:
            theirs = read_manifest(other.parent)
        except ConfigurationError:
            continue
        if theirs["profile"] == ours["profile"] and _began(theirs) < _began(ours):
            found.append((_began(theirs), other.parent))
    return max(found)[1] if found else None


def _began(manifest: dict[str, Any]) -> str:
    return str(manifest.get("started_at", ""))


def sides(folder: str | Path, before: str | Path = "") -> tuple[Side, Side]:
    """What is compared: the earlier run, and this one.

    Args:
        folder: of the run after the change.
        before: of the run before it; empty: the newest earlier one beside it of the same profile, and where there is
            none its odd processes and its even ones, between which nothing was changed.

    Raises:
        ConfigurationError: a folder holds no finished run, or both are one.
    """
    after = Path(folder).resolve()
    read_manifest(after)
    found = Path(before).resolve() if str(before) else earlier(after)
    if found is None:
        return (
            Side(after, f"{after.name}, odd processes", slice(0, None, 2)),
            Side(after, f"{after.name}, even processes", slice(1, None, 2)),
        )
    if found == after:
        raise ConfigurationError("BEFORE", f"{after.name}: that is the run itself, and no other")
    read_manifest(found)
    return Side(found), Side(after)


class Difference(NamedTuple):
    """Something that is not the same of both: what, and how it is."""

    what: str
    before: str
    after: str


def differences(before: Side, after: Side) -> list[Difference]:
    """What makes the two unlike, so that a change between them need not be the code's."""
    pairs = [("profile", *(str(side.manifest.get("profile")) for side in (before, after)))]
    pairs += [
        (f"{what} of each operation", *(str(side.manifest.get(what)) for side in (before, after)))
        for what in ("runs", "rounds")
    ]
    machines = [side.manifest.get("machine", {}) for side in (before, after)]
    pairs += [(name, *(str(machine.get(name)) for machine in machines)) for name in _MACHINE]
    packages = [machine.get("packages", {}) for machine in machines]
    # Kairos is what may be other.
    names = sorted({name for one in packages for name in one} - {_OURS})
    pairs += [(name, *(str(one.get(name, "none")) for one in packages)) for name in names]
    servers = [
        {"servers given": side.manifest.get("servers_given"), **side.manifest.get("servers", {})}
        for side in (before, after)
    ]
    pairs += [(name, *(str(one.get(name, "none")) for one in servers)) for name in sorted({*servers[0], *servers[1]})]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
