"""docs/commands.md is held to what the command has: no command, option, setting or status is missing or too many."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kairos_core.cli.described import COMMANDS, listed
from kairos_core.cli.program import root, tree
from tests.docs.markdown import ROOT

_HEADING = re.compile(r"^### kairos (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| (.+?) \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)


def sections() -> dict[str, str]:
    """The text of each command, by its words; '' has what stands before all of them."""
    first, *rest = _HEADING.split((ROOT / "docs" / "commands.md").read_text(encoding="utf-8"))
    return {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}


def parameters(command: Any) -> set[tuple[str, str, str]]:
    """What a command takes, as a table has it: its name, default and help."""
    found = set()
    for one in command.params:
        options = [name for name in one.opts if name.startswith("-")]
        value = f" {one.metavar}" if one.metavar else ""
        name = f"`{options[-1]}{value}`" if options else f"`{one.metavar}`"
        default = "needed" if one.required else "–" if one.default in (None, False) else f"`{one.default}`"
        found.add((name, default, one.help))
    return found


def told(text: str) -> tuple[set[tuple[str, str, str]], dict[int, str]]:
    """The parameters and the statuses that a section tells of."""
    rows = _ROW.findall(text)
    options = {row for row in rows if row[0].startswith("`")}
    return options, {int(status): meaning for status, meaning, _ in rows if status.isdecimal()}


def test_every_command_is_described() -> None:
    """Each command has its section, in the order of the help, and there is none of a command that is not."""
    found = [words for words, _ in tree(root()) if words in COMMANDS]
    assert ["", *found] == list(sections())
    assert set(COMMANDS) == set(found)
    assert (parameters(root()), {}) == told(sections()[""])


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_described_as_it_is(words: str) -> None:
    """A section has the options and arguments with their defaults, the settings, the exit statuses, and an example."""
    text = sections()[words]
    command = dict(tree(root()))[words]
    assert (parameters(command), dict(COMMANDS[words].statuses)) == told(text)
    reads = re.search(r"^Reads (.+?)\.$", text, re.MULTILINE | re.DOTALL)
    assert reads is not None
    assert listed(tuple(f"`{name}`" for name in COMMANDS[words].reads)) == reads[1].replace("\n", " ")
    assert f"```console\n$ kairos {words}" in text
