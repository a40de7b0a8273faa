"""`python -m reports.sample RUN`: a real report, small enough to be committed, and of which no machine can be told.

What is kept is named below; the page is written anew, with links to that and to nothing else. Paths, host names and
addresses are taken out of all of it, and a sample in which one is left, or that is too large, is refused.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.errors import ConfigurationError
from kairos_core.one_line import OneLineParser
from loadtests import ROOT
from loadtests.ending import status_of
from reports.evidence import Evidence
from reports.findings import NAME, PAGE, SUMMARY, read_report
from reports.page import render
from reports.pictures import pictures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from reports.figures.style import Picture

SAMPLE = ROOT / "reports" / "sample"
MOST_BYTES = 3_000_000
# What the page is made of, and what its numbers lead to.
_KEPT = (
    NAME,
    SUMMARY,
    "manifest.json",
    "checks.json",
    "parts.json",
    "coverage.json",
    "validation/validation.json",
    "validation/subjects/check_then_set/rounds/001/verdict.json",
    "validation/subjects/check_then_set/rounds/001/violation.svg",
    "load/*/load_verdict.json",
    "load/*/verdict.json",
    "studies/*.json",
)
# What is kept beside it as far as there is room, the first first.
_WHERE_IT_FITS = ("notebooks/*.html", "notebooks/*.ipynb", "latency/run-*.json", "load/*/load.json")
_NEEDED = (NAME, "manifest.json")
# A path of at least two names that begins at the root. What stands before it is no part of an address, of a tag that is
# closed, or of data in base 64.
_PATH = re.compile(r"(?<![\w./<~+…-])/(?:[\w.@+-]+/)+[\w.@+-]*")
_FILE = re.compile(r"file:///")
# Where a server is, and whom it knows one as.
_SERVER = re.compile(r"\b(rediss?|postgres(?:ql)?)://[^\s\"'/…]+")
_USER = re.compile(r"\b(\w+://)[^\s\"'@/…]+@")
# pytest-benchmark calls the project what the folder is called that it was cloned from.
_PROJECT = re.compile(r'("project": ")[^"]*"')
# Paths that are the same on every machine.
_EVERYWHERE = ("/dev/", "/proc/", "/sys/", "/usr/bin/", "/usr/lib/")


def make_sample(run: Path, to: Path = SAMPLE) -> Path:
    """Make a sample of a run, in place of the one that is there.

    Args:
        run: its folder, with its report.
        to: the folder of the sample.

    Raises:
        ConfigurationError: the run is not a full one, has no report, is too large, or tells of a machine.
    """
    run = run.resolve()
    lacking = [name for name in _NEEDED if not (run / name).is_file()]
    if lacking:
        raise ConfigurationError("RUN", f"{run}: has no {', '.join(lacking)}: make report writes it")
    if (profile := read_report(run).profile) != "full":
        raise ConfigurationError("RUN", f"{run}: a sample is made of a run of the profile full, and this is {profile}")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".sample-") as made:
        folder = Path(made) / "sample"
        _fill(folder, run)
        problems = problems_of(folder)
        if problems:
            raise ConfigurationError("RUN", f"{run}: no sample can be made of it: {'; '.join(problems)}")
        shutil.rmtree(to, ignore_errors=True)
        folder.replace(to)
    return to


def problems_of(folder: Path) -> list[str]:
    """Why a sample cannot be committed, in sentences: what of it is too large, and what tells of a machine."""
    files = _files(folder)
    size = sum(path.stat().st_size for path in files)
    problems = []
    if size > MOST_BYTES:
        largest = sorted(files, key=lambda path: -path.stat().st_size)[:5]
        told = ", ".join(f"{path.relative_to(folder)} {path.stat().st_size:,}" for path in largest)
        problems.append(f"it has {size:,} bytes, of {MOST_BYTES:,} that it may have; the largest: {told}")
    for path in files:
        found = telling(path.read_text(encoding="utf-8"))
        if found:
            problems.append(f"{path.relative_to(folder)} tells of a machine: {', '.join(found[:3])}")
    return problems


def telling(text: str) -> list[str]:
    """What in a text tells of a machine: paths from the root, its name, whom a server was reached as."""
    paths = [path for path in _PATH.findall(text) if not path.startswith(_EVERYWHERE)]
    names = [name for name in _names() if _as_a_word(name).search(text)]
    return sorted(
        {*paths, *names, *(found.group(0) for way in (_FILE, _SERVER, _USER) for found in way.finditer(text))}
    )


def cleaned(text: str, run: Path) -> str:
    """The text without what tells of a machine: paths of the run and of the project become relative, others end names.

    Args:
        text: of a file.
        run: the folder that it is from.
    """
    text = _FILE.sub("/", text)
    text = _PROJECT.sub(r'\1kairos"', text)
    text = _SERVER.sub(r"\1://…", text)
    text = _USER.sub(r"\1…@", text)
    for folder, stands_for in ((run, "RUN"), (ROOT, "."), (Path.home(), "~")):
        text = re.sub(rf"(?<![\w./-]){re.escape(str(folder))}(?=/|\b)", stands_for, text)
    text = _PATH.sub(lambda found: _shortened(found.group(0)), text)
    for name in _names():
        text = _as_a_word(name).sub("host", text)
    return text


def _shortened(path: str) -> str:
    """The last name of a path, where it is not one that every machine has."""
    return path if path.startswith(_EVERYWHERE) else f"…/{path.rstrip('/').rpartition('/')[2]}"


def _names() -> set[str]:
    """What this machine is called."""
    return {name for name in (socket.gethostname(), socket.getfqdn()) if name and not name.startswith("localhost")}


def _as_a_word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])")


def _fill(folder: Path, run: Path) -> None:
    for path in _matching(run, _KEPT):
        _keep(path, run, folder)
    # Made of what is kept: the page says what `report.json` says.
    report = read_report(folder)
    drawn = {
        section: [_cleaned_picture(picture, run) for picture in found]
        for section, found in pictures(Evidence(run)).items()
    }
    room = MOST_BYTES - _size(folder) - len(render(report, drawn).encode())
    for path in _matching(run, _WHERE_IT_FITS):
        before = _size(folder)
        kept = _keep(path, run, folder)
        if (needs := _size(folder) - before) > room:
            print(f"left out: {path.relative_to(run)}, {needs:,} bytes, {max(room, 0):,} are left")
            kept.unlink()
            # An empty folder would be there, and nothing in it.
            if not any(kept.parent.iterdir()):
                kept.parent.rmdir()
        else:
            room -= needs
    page = render(report, drawn, is_there=lambda name: (folder / name).exists())
    (folder / PAGE).write_text(cleaned(page, run), encoding="utf-8")


def _cleaned_picture(picture: Picture, run: Path) -> Picture:
    return type(picture)(*(cleaned(text, run) for text in picture))


def _matching(run: Path, patterns: Sequence[str]) -> Iterable[Path]:
    return (path for pattern in patterns for path in sorted(run.glob(pattern)))


def _keep(path: Path, run: Path, folder: Path) -> Path:
    target = folder / path.relative_to(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(cleaned(path.read_text(encoding="utf-8"), run), encoding="utf-8")
    return target


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def main() -> int:
    """Run from the command line."""
    parser = OneLineParser(prog="python -m reports.sample", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a full run")
    parser.add_argument("--to", type=Path, default=SAMPLE, help="the folder of the sample")
    options = parser.parse_args()
    return status_of(partial(_make, options), interrupted=lambda: "interrupted; no sample was made")


def _make(options: argparse.Namespace) -> int:
    made = make_sample(options.run, options.to)
    print(f"{made}: {len(_files(made))} files, {_size(made):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
