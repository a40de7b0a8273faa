"""A part of a run that measures nothing: `python -m tests.a_part FOLDER NAME HOW`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, name: str, how: str) -> int:
    """Leave two files, or one, or none.

    Args:
        folder: of the run.
        name: of the part.
        how: `well`: both files; `badly`: both, and status 1; `vainly`: none, and status 2; `slowly`: the first, and
            then nothing for a long time.
    """
    with (folder / "order").open("a", encoding="utf-8") as order:
        order.write(f"{name}\n")
    sys.stdout.write(f"begun as {os.getpid()}\n")
    if how == "vainly":
        sys.stderr.write("kairos: it cannot be done\n")
        return 2
    (folder / name).mkdir(parents=True)
    (folder / name / "first").touch()
    if how == "slowly":
        sys.stdout.write("half done\n")
        time.sleep(60)
    (folder / name / "second").touch()
    return int(how == "badly")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:4]))
