"""The lists in docs/guarantees.md, made from the code: `python -m tests.guarantee_lists` puts them in anew."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from loadtests import checks
from loadtests.faults.schedule import FAULTS
from loadtests.guarantees import GUARANTEES as DIRECTED
from loadtests.mutants import MUTANTS
from reports.guarantees import GUARANTEES
from reports.judging.histories import BREAKS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "guarantees.md"
FAULT_LIST = "faults"
HARNESS = "harness"
# What stands between the two is made.
_MADE = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# How a test's docstring names what it holds: `G5: …`, `G5, G10: …`, `G5 and G10: …`.
_NAMES = re.compile(r'^ +"""(G\d+(?:(?:, | and )G\d+)*)\b', re.MULTILINE)
# How a check between instances names itself and its guarantee.
_CHECK = re.compile(r'name="(\w+)",\s+guarantee="(G\d+)"')


def made(text: str) -> str:
    """A document with all its lists as the code has them."""
    return _MADE.sub(lambda found: f"{found[1]}{_list(found[2])}{found[4]}", text)


def names(text: str) -> list[str]:
    """What a document has lists of."""
    return [found[2] for found in _MADE.finditer(text)]


@cache
def directed() -> dict[str, tuple[str, str]]:
    """Of each check its guarantee and what it asks or sees to: the directed ones, and those between instances."""
    found = {name: (check.guarantee, check.question) for name, check in DIRECTED.items()}
    numbers = dict(_CHECK.findall(inspect.getsource(checks)))
    return found | {one.__name__: (numbers[one.__name__], _first_line(one)) for one in checks.CHECKS}


@cache
def files_of() -> dict[str, list[str]]:
    """Of each guarantee the files with a test whose docstring begins with its number."""
    found: dict[str, list[str]] = {number: [] for number in GUARANTEES}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        numbers = {number for words in _NAMES.findall(path.read_text("utf-8")) for number in re.findall(r"G\d+", words)}
        for number in numbers & found.keys():
            found[number].append(str(path.relative_to(ROOT)))
    return found


def _list(name: str) -> str:
    if name == FAULT_LIST:
        return _table(("fault", "what happens"), [(f"`{name}`", _first_line(fault)) for name, fault in FAULTS.items()])
    mutants = [(f"`{one.name}`", one.bug, f"`{one.catcher}`") for one in MUTANTS.values() if one.guarantee == name]
    parts = [_table(("mutant", "its bug", "noticed by"), mutants)]
    if name == HARNESS:
        return "\n".join(parts)
    questions = [(f"`{check}`", question) for check, (number, question) in directed().items() if number == name]
    rules = [f"`{rule}`" for rule, of in BREAKS.items() if name in of]
    files = [f"[`{path}`](../{path})" for path in files_of()[name]]
    histories = f"*Histories:* judged by the rules {', '.join(rules)}.\n" if rules else ""
    tests = f"*Tests:* {', '.join(files)}.\n"
    return "\n".join(
        part for part in [_table(("check", "what it looks at"), questions), *parts, histories, tests] if part
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _first_line(one: object) -> str:
    return (inspect.getdoc(one) or "").partition("\n")[0]


if __name__ == "__main__":
    DOCUMENT.write_text(made(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
