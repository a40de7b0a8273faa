"""Does the wheel work where it is installed? `make pythons`.

For each version of Python that the package is for and that is found on this machine: a fresh virtual environment, the
wheel with what requirements.lock has of its four dependencies, a first use of it (`smoke.py`); then the extras `cli`,
`local` and `metrics`, and a first use of the command. All versions side by side, on embedded servers of their own.

A version is looked for as `python3.N` on PATH, in pyenv's folder (PYENV_ROOT, ~/.pyenv, or where this one is), and
among the interpreters that PYTHONS names. Ends with 0 where it works on all that were found, and says which were not;
with --all it ends with 1 where one was not found, and so it does where the wheel does not work. With 2 where it cannot
tell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kairos_core import Settings
from kairos_core.errors import ConfigurationError
from kairos_core.local import local_servers
from kairos_core.settings import LocalSettings
from tests.installed.interpreters import WANTED, Interpreter, find
from tests.installed.trial import Trial

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Try the wheel; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.installed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="a version that is not found is a failure")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="the folder with the wheel (dist)")
    options = parser.parse_args(arguments)
    # A termination unwinds as Ctrl-C does: what was started ends, and the folders go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wheels = sorted(options.dist.glob("kairos-*.whl"))
    if len(wheels) != 1:
        return _cannot(f"{options.dist} has {len(wheels)} wheels of kairos, and one is needed: make wheel")
    try:
        found = find(os.environ)
        print(f"{wheels[0].name} on {', '.join(one.number for one in found.values()) or 'no Python'} ...", flush=True)
        problems = _try(wheels[0], list(found.values()))
    except ConfigurationError as error:
        return _cannot(str(error))
    for version in WANTED:
        _say(version, found.get(version), problems.get(version, ""))
    missing = [version for version in WANTED if version not in found]
    return int(any(problems.values()) or not found or (options.all and bool(missing)))


def _try(wheel: Path, found: list[Interpreter]) -> dict[str, str]:
    """By version: what did not work; empty where all of it did."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kairos-pythons-")))
        servers = stack.enter_context(local_servers(LocalSettings.from_env()))
        trials = [
            Trial(wheel, python, folder / python.version, _settings(python, servers.redis_url, servers.postgres_url))
            for python in found
        ]
        with ThreadPoolExecutor(max_workers=max(len(trials), 1)) as threads:
            answers = list(threads.map(Trial.run, trials))
    return {python.version: answer for python, answer in zip(found, answers, strict=True)}


def _settings(python: Interpreter, redis_url: str, postgres_url: str) -> Settings:
    return Settings(
        redis_url=redis_url, postgres_url=postgres_url, namespace=f"installed_{python.version.replace('.', '_')}"
    )


def _say(version: str, python: Interpreter | None, problem: str) -> None:
    if python is None:
        print(f"Python {version}  not found: neither on PATH, nor in pyenv's folder, nor in PYTHONS")
    elif problem:
        print(f"Python {version}  FAILED on {python.number} ({python.path}):\n{problem}")
    else:
        print(f"Python {version}  works on {python.number}: the library alone, [cli], [local,metrics]")


def _cannot(cause: str) -> int:
    print(f"kairos: {cause}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
