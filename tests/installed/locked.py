"""What of requirements.lock a part of the package needs.

`python -m tests.installed.locked` writes what the container file installs: `make lock` runs it.
"""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
# By file: what is installed from it.
WRITTEN = {"deploy/requirements.lock": "kairos[cli,metrics]", "deploy/build.lock": "hatchling"}


def locked_for(wanted: str) -> str:
    """The part of the lock that a requirement needs, such as kairos[cli], hashes included, as a file of requirements.

    What a package asks for is read from what is installed here. All of it counts, whatever the machine or the version
    of Python that it is asked for on: the lock's own conditions decide about that.
    """
    found: set[str] = set()
    asked_for = Requirement(wanted)
    waiting = [(canonicalize_name(asked_for.name), extra) for extra in ("", *asked_for.extras)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        found.add(name)
        for asked in _asked(name, extra):
            needed = canonicalize_name(asked.name)
            new = {(needed, one) for one in ("", *asked.extras)} - seen
            seen |= new
            waiting += new
    return "".join(entry for name, entry in _entries() if name in found)


@functools.cache
def _asked(name: str, extra: str) -> list[Requirement]:
    if name == "kairos":
        # Of this tree, and not of the one that is installed, which may be older.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
        return [Requirement(line) for line in lines]
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        # Not for this machine, so there is nothing to be read; if it is needed elsewhere, `pip check` tells there.
        return []
    requirements = [Requirement(line) for line in lines]
    return [one for one in requirements if _extra_of(one) == extra]


def _extra_of(requirement: Requirement) -> str:
    named = re.search(r"""extra == ['"]([^'"]+)['"]""", str(requirement.marker or ""))
    return named[1] if named else ""


def _entries() -> list[tuple[str, str]]:
    """The packages of the lock, in order: name, and the lines that lock it, its hashes among them."""
    text = LOCK.read_text(encoding="utf-8")
    starts = [found.start() for found in re.finditer(r"^[A-Za-z0-9]", text, re.MULTILINE)]
    entries = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return [(canonicalize_name(entry.partition("==")[0]), entry) for entry in entries]


if __name__ == "__main__":
    for name, wanted in WRITTEN.items():
        (ROOT / name).write_text(locked_for(wanted), encoding="utf-8")
