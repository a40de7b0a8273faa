"""The studies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.studies.instead import INSTEAD
from loadtests.studies.watchers import WATCHERS

if TYPE_CHECKING:
    from loadtests.studies.study import Study

STUDIES: dict[str, Study] = {
    "instead": INSTEAD,
    "watchers": WATCHERS,
}
