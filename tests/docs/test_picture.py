from __future__ import annotations

import json
import re

import pytest

from tests.docs.markdown import ROOT
from tests.docs.picture import COLOURS, LARGEST_BYTES, PICTURES, REPORT, digest_of_picture, digest_of_report

README = (ROOT / "README.md").read_text(encoding="utf-8")
WORDS = ("none", "one", "two", "three", "four", "five", "six")


@pytest.mark.parametrize("colours", COLOURS)
def test_the_picture_is_of_the_report_in_the_repository(colours: str) -> None:
    """What README shows is the report that it links to; `python -m tests.docs.picture` makes it anew."""
    assert digest_of_report() == digest_of_picture(colours)
    assert (PICTURES / f"report-{colours}.png").stat().st_size < LARGEST_BYTES


def test_what_is_said_of_the_report_is_so() -> None:
    """The sentence below the picture has the verdict and the numbers of the report in the repository."""
    report = json.loads(REPORT.with_suffix(".json").read_text(encoding="utf-8"))
    said = re.search(r"It says (\w+)(?:, since (\w+) of its (\d+) targets)?", README)
    assert said is not None
    assert report["verdict"] == said[1]
    if said[2]:
        undecided = [one for one in report["targets"] if one["verdict"] != "PASS"]
        assert (len(undecided), len(report["targets"])) == (WORDS.index(said[2]), int(said[3]))


def test_readme_is_short() -> None:
    """A stranger decides in a minute: README has no more than 250 lines."""
    assert README.count("\n") <= 250
