"""A file that is there as a whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, data: bytes, *, beside: str = "half") -> Path:
    """Write a file so that nobody ever finds half of it, be the disk full, the process killed or two at it at once.

    Args:
        path: where it is to be; what is there stays as it is until all of the new one is written.
        data: what is to be in it.
        beside: ending of the file that is written first, in the same folder; another for each of those who may write
            at once.

    Raises:
        OSError: it could not be written; nothing is left of it.
    """
    half = path.with_name(f"{path.name}.{beside}")
    try:
        half.write_bytes(data)
        return half.replace(path)
    finally:
        half.unlink(missing_ok=True)
