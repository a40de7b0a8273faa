"""How paths are shown to whoever typed a command."""

from __future__ import annotations

from pathlib import Path


def short(path: Path) -> Path:
    """A path as it can be typed from here."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path
