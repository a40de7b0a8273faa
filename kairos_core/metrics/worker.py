"""The metrics of `kairos worker`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kairos_core.settings import Settings


@contextmanager
def serving(settings: Settings, port: int) -> Iterator[None]:
    """Answer Prometheus on a port until the block ends.

    Args:
        settings: those of the worker.
        port: TCP port; 0: a free one.
    """
    del settings, port
    yield
