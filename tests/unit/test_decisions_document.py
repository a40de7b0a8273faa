from __future__ import annotations

import re

import pytest

from tests.sample_figures import DOCUMENT, FIGURE, ROOT, figure, made

TEXT = DOCUMENT.read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
PARTS = ("*Question:*", "*Chosen:*", "*Measured:*", "*What would change it:*")


def test_the_figures_are_those_of_the_report_in_the_repository() -> None:
    """No number of the stored report is copied by hand, so that none is of a report that is gone."""
    assert made(TEXT) == TEXT, "put them in anew: .venv/bin/python -m tests.sample_figures"
    assert len(FIGURE.findall(TEXT)) > 10
    # Such a line would be HTML, and what else is in it no Markdown.
    assert [line for line in TEXT.splitlines() if line.lstrip().startswith("<!--")] == []


@pytest.mark.parametrize(
    "what", ["target update_session p50 over Dapr", "p50 get_session/nobody", "lost kairos 3", "x y"]
)
def test_a_figure_that_the_report_has_not_is_an_error(what: str) -> None:
    """A name that leads nowhere is told, instead of leaving an old number in its place."""
    with pytest.raises(LookupError):
        figure(what)


def test_every_decision_is_told_in_full() -> None:
    """Each says what was asked, what was chosen, what that was held against, and what would change it, once."""
    assert len(SECTIONS) > 12
    assert [title for title, body in SECTIONS if [body.count(part) for part in PARTS] != [1, 1, 1, 1]] == []


def test_what_a_decision_is_measured_by_is_there() -> None:
    """Each command is one of the repository, each mutant and study that is named is known, each commit is one."""
    from loadtests.mutants import MUTANTS  # noqa: PLC0415 - only this test needs them
    from loadtests.studies.registry import STUDIES  # noqa: PLC0415 - likewise

    studies = set(re.findall(r"make studies STUDY=(\w+)", TEXT))
    assert studies
    assert studies <= STUDIES.keys()
    mutants = set(re.findall(r"mutants? `(\w+)`", TEXT)) | set(re.findall(r"(?:,| and) `(\w+_\w+)` \(mutants?\)", TEXT))
    assert mutants
    assert mutants <= MUTANTS.keys()
    targets = set((ROOT / "Makefile").read_text(encoding="utf-8").split("\n"))
    for target in re.findall(r"`make (\w+)", TEXT):
        assert any(line.startswith(f"{target}:") for line in targets), target
