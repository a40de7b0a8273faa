"""All pictures of a report, by the section of the page that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.evidence import Evidence
    from reports.figures.style import Picture

# The sections of the page that have pictures, in its order.
SECTIONS = ("latency", "load", "rivals", "scaling", "audit", "faults", "violation")


def pictures(evidence: Evidence) -> dict[str, list[Picture]]:
    """What can be drawn of a run, by section; of what was not measured there is none."""
    raise NotImplementedError(evidence)
