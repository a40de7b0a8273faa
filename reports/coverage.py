"""How much of the core the tests reach: `make coverage` writes `reports/coverage.json`, and a run takes it along.

What it says holds for the core that was tested and for no other, so a digest of that stands beside it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.measure import machine_facts
from reports.evidence import COVERAGE
from reports.findings import Coverage

if TYPE_CHECKING:
    from collections.abc import Sequence

CORE = ROOT / "kairos_core"
STORED = ROOT / "reports" / COVERAGE
_AUDIT = ("kairos_core/audit/*",)


class Stored(Coverage, frozen=True, kw_only=True):
    """What `make coverage` found.

    Attributes:
        digest: of the core that was tested, see `digest_of`.
    """

    digest: str


def digest_of(core: Path = CORE) -> str:
    """SHA-256 of all that a core consists of, names and bytes; what Python compiled of it does not count."""
    found = hashlib.sha256()
    for path in sorted(core.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            data = path.read_bytes()
            found.update(f"{path.relative_to(core).as_posix()}\0{len(data)}\0".encode())
            found.update(data)
    return found.hexdigest()


def write_coverage(folder: Path, *, stored: Path = STORED, core: Path = CORE) -> None:
    """Put what was measured last into a run's folder; nothing where nothing was measured.

    Args:
        folder: of the run.
        stored: what `make coverage` wrote.
        core: as it is now; whether it is the one that was tested is said in the copy.
    """
    if not stored.exists():
        return
    try:
        found = msgspec.json.decode(stored.read_bytes(), type=Stored)
    except msgspec.MsgspecError:
        # The report says that it cannot be read.
        (folder / COVERAGE).write_bytes(stored.read_bytes())
        return
    facts = {name: getattr(found, name) for name in Coverage.__struct_fields__}
    taken = Coverage(**{**facts, "is_of_this": found.digest == digest_of(core)})
    (folder / COVERAGE).write_bytes(msgspec.json.format(msgspec.json.encode(taken), indent=2) + b"\n")


def measured(managers: Sequence[str], digest: str, data: Path | None = None) -> Stored:
    """What coverage's own data says.

    Args:
        managers: patterns of the state managers and of what they call, as coverage takes them.
        digest: of the core, taken before the tests began.
        data: coverage's file; None: the one of its configuration.

    Raises:
        ConfigurationError: there is no such data, or the core is not what it was when the tests began.
    """
    if digest != digest_of():
        raise ConfigurationError("--digest", "the core was changed while it was tested: measure again")
    every, hot, audit = _told(data, (None, managers, _AUDIT))
    totals = every["totals"]
    return Stored(
        commit=machine_facts()["commit"],
        is_of_this=True,
        all_percent=totals["percent_covered"],
        managers_percent=hot["totals"]["percent_covered"],
        audit_percent=audit["totals"]["percent_covered"],
        lines=totals["num_statements"],
        missing=totals["missing_lines"],
        files={
            Path(name).as_posix(): facts["summary"]["percent_covered"] for name, facts in sorted(every["files"].items())
        },
        file=COVERAGE,
        digest=digest,
    )


def _told(data: Path | None, patterns: Sequence[Sequence[str] | None]) -> list[dict[str, Any]]:
    """Coverage's own JSON reports, of what the patterns hold."""
    # Of what a developer needs: a report can be made without it.
    from coverage import Coverage as Measuring  # noqa: PLC0415
    from coverage.exceptions import NoDataError  # noqa: PLC0415

    settings = str(ROOT / "pyproject.toml")
    measuring = Measuring(str(data), config_file=settings) if data else Measuring(config_file=settings)
    measuring.load()
    found = []
    with tempfile.TemporaryDirectory() as place:
        told = Path(place) / "told.json"
        for include in patterns:
            try:
                measuring.json_report(include=list(include) if include else None, outfile=str(told))
            except NoDataError as error:
                raise ConfigurationError("make coverage", f"nothing was measured: {error}") from error
            found.append(json.loads(told.read_text(encoding="utf-8")))
    return found


def main() -> None:
    """Run by `make coverage`: print a digest before the tests, write the file behind them."""
    parser = OneLineParser(prog="python -m reports.coverage", description=__doc__)
    parser.add_argument("--managers", help="patterns of the state managers, with commas between them")
    parser.add_argument("--digest", help="of the core, as it was before the tests")
    options = parser.parse_args()
    if options.managers is None or options.digest is None:
        print(digest_of())
        return
    try:
        found = measured(options.managers.split(","), options.digest)
    except ConfigurationError as error:
        raise SystemExit(f"kairos: {error}") from error
    STORED.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


if __name__ == "__main__":
    main()
