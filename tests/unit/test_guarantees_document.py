from __future__ import annotations

import re

import pytest

from loadtests import checks
from loadtests.guarantees import GUARANTEES as DIRECTED
from loadtests.mutants import MUTANTS
from loadtests.mutants.catch import CATCHERS
from reports.guarantees import GUARANTEES
from reports.judging.histories import BREAKS
from tests.guarantee_lists import DOCUMENT, FAULT_LIST, HARNESS, ROOT, directed, files_of, made, names

TEXT = DOCUMENT.read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
MEND = "put the lists in anew: .venv/bin/python -m tests.guarantee_lists"
_TESTS = re.compile(r"^\*Tests:\*.*$", re.MULTILINE)
# What a reader is told of each guarantee, besides the lists.
PARTS = ("*For a service:*", "*How:*", "*Not promised:*", "*Tests:*")


def test_the_lists_are_those_of_the_code() -> None:
    """Checks, mutants, faults and rules that the document names are those that there are."""
    assert _TESTS.sub("", made(TEXT)) == _TESTS.sub("", TEXT), MEND
    assert [FAULT_LIST, *GUARANTEES, HARNESS] == names(TEXT)


@pytest.mark.parametrize("number", GUARANTEES)
def test_each_guarantee_is_told_in_full(number: str) -> None:
    """Its sentence as reports have it, what it is worth, where it comes about, what it is not, and what looks at it."""
    section = SECTIONS[number]
    assert f"\n**{GUARANTEES[number]}**\n" in section
    assert [part for part in PARTS if part not in section] == []
    # A file that is new need not be there at once; one that is named has a test of this guarantee.
    named = set(re.findall(r"\]\(\.\./(tests/[^)]+)\)", section))
    assert named, MEND
    assert named <= set(files_of()[number]), MEND
    noticed = any(number == of for of, _ in directed().values()) or any(number in of for of in BREAKS.values())
    broken = [one.name for one in MUTANTS.values() if one.guarantee == number]
    assert noticed or any(one.guarantee == number for one in MUTANTS.values())
    assert [name for name in broken if f"\n| `{name}` | " not in section] == []


def test_nothing_that_looks_at_a_guarantee_is_left_out() -> None:
    """Every directed check, every check between instances and every mutant stands under a guarantee, or the harness."""
    assert {*DIRECTED, *(one.__name__ for one in checks.CHECKS)} == directed().keys()
    assert {one.guarantee for one in MUTANTS.values()} <= {*GUARANTEES, HARNESS}
    told = {name: section for name, section in SECTIONS.items() if name in GUARANTEES}
    for name, (number, _) in directed().items():
        assert [number] == [one for one, section in told.items() if f"\n| `{name}` | " in section]
    assert {one.catcher for one in MUTANTS.values()} <= set(CATCHERS)


def test_every_file_that_is_named_is_there() -> None:
    """What the document says of the core stands in a file that is there."""
    files = set(re.findall(r"\]\(\.\./([^)#]+)\)", TEXT))
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []
