from __future__ import annotations

import pytest

from tests.docs.picture import COLOURS, LARGEST_BYTES, PICTURES, digest_of_picture, digest_of_report


@pytest.mark.parametrize("colours", COLOURS)
def test_the_picture_is_of_the_report_in_the_repository(colours: str) -> None:
    """What README shows is the report that it links to; `python -m tests.docs.picture` makes it anew."""
    assert digest_of_report() == digest_of_picture(colours)
    assert (PICTURES / f"report-{colours}.png").stat().st_size < LARGEST_BYTES
