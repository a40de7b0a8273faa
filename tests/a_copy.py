"""A part of a run that is copied from another: `python -m tests.a_copy FROM TO NAME`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main(source: Path, target: Path, name: str) -> None:
    """Copy what belongs to the part."""
    shutil.copytree(source / name, target / name)
    if name == "latency":
        for file in ("manifest.json", "checks.json"):
            shutil.copyfile(source / file, target / file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
