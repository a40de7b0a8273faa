"""Folders for a while: removed when they are done with, or by the next process that makes one.

A process that was killed removes nothing. So whoever makes a folder locks it, the system takes the lock away with the
process, however that ends, and what nobody locks any more is removed before the next is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "kairos-while-"
# Whoever has just made one may not have locked it yet.
_YOUNG_S = 60.0


@contextmanager
def temporary_folder(purpose: str, within: str | Path | None = None) -> Iterator[Path]:
    """A new folder, which is removed at the end; those that killed processes left beside it are removed first.

    Args:
        purpose: in its name, for who finds it.
        within: where it is made; None: where temporary files go.

    Raises:
        OSError: it cannot be made there.
    """
    parent = Path(within or tempfile.gettempdir())
    _remove_what_was_left(parent)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{purpose}-", dir=parent) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            # A file system that has no locks has none to ask for later, either: then nothing is removed too soon.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(handle)


def _remove_what_was_left(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        # Somebody else's, or one that is being removed by its owner.
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _YOUNG_S:
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    # No link: what it leads to would be removed.
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)
