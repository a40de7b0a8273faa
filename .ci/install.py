"""Install the locked packages into the environment of this Python: `python .ci/install.py`, as `make setup` does.

pip takes one core, and half of its time to compile files that nobody imports. So two of them share the lock, and what
is worth it is compiled afterwards, on all cores, beside the installation of this package.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
# The lock is complete: nothing is left for pip to find out.
LOCKED = [*PIP, "--no-compile", "--require-hashes", "--only-binary", ":all:"]
# Most of what takes long to compile is hardly ever imported; whoever does import it compiles that file then.
SELDOM = r"/(tests|testing|debugpy|fontTools|jedi|lexers|mypy|mypyc|pip|playwright|scipy|setuptools)/"


def requirements(lock: str) -> list[str]:
    """The requirements of a lock, each with its hashes."""
    return re.findall(r"^[^\s#].*(?:\n[ \t].*)*\n?", lock, re.MULTILINE)


def install(processes: int = 2) -> int:
    """Install what is locked, and then this package; the first status that is not 0, or 0."""
    found = requirements((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    pips = []
    for number in range(processes):
        # From a file within the environment, where no second set-up has one.
        part = Path(sys.prefix, f"requirements-{number}.txt")
        part.write_text("".join(found[number::processes]), encoding="utf-8")
        pips.append([*LOCKED, "--requirement", str(part)])
    packages = sysconfig.get_path("purelib")
    compiling = [sys.executable, "-m", "compileall", "-qq", "-j", "0", "-x", SELDOM, packages]
    status = side_by_side(*pips)
    if status:
        return status
    # Its status is not asked: a file that cannot be compiled, as one for another Python, is not imported either.
    with subprocess.Popen(compiling):
        return side_by_side([*PIP, "--no-build-isolation", "--editable", str(ROOT)])


def side_by_side(*commands: list[str]) -> int:
    """Run commands at the same time; the first status that is not 0, or 0."""
    running = [subprocess.Popen(command) for command in commands]
    return next(filter(None, [process.wait() for process in running]), 0)


if __name__ == "__main__":
    sys.exit(install())
