"""What the documents' programs and commands are run by, where they are not run as they stand."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import msgspec

from tests.docs.markdown import ROOT, Block, blocks

_HERE = Path(__file__).parent


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Python program that a test runs.

    Attributes:
        file: where it stands.
        word: what no other program of the file has.
        test: the test that runs it, `tests/…/test_x.py::test_y`.
    """

    file: str
    word: str
    test: str


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that is not run as it stands, or does not end with 0.

    Attributes:
        command: as it stands in the documents, in one line, without a comment behind it; `*` at its end stands for the
            rest.
        why: why it is not run as it stands.
        by: what runs it: a test, or what is in a line of `.ci/run` (`.ci/run: make test`).
        instead: what is run in its place, with the same program.
        status: what it ends with.
        file: where it stands; None: anywhere.
    """

    command: str
    why: str = ""
    by: str | None = None
    instead: str | None = None
    status: int = 0
    file: str | None = None

    def is_of(self, file: str, command: str) -> bool:
        """Whether it tells of a command in a file."""
        if self.file not in {None, file}:
            return False
        if self.command.endswith("*"):
            return command.startswith(self.command[:-1])
        return command == self.command


class _Programs(msgspec.Struct, forbid_unknown_fields=True):
    program: list[Program]


class _Commands(msgspec.Struct, forbid_unknown_fields=True):
    command: list[Command]


@cache
def programs() -> list[Program]:
    """What is in `programs.toml`."""
    return msgspec.toml.decode((_HERE / "programs.toml").read_bytes(), type=_Programs).program


@cache
def commands() -> list[Command]:
    """What is in `commands.toml`."""
    return msgspec.toml.decode((_HERE / "commands.toml").read_bytes(), type=_Commands).command


def run_by_a_test(block: Block) -> list[Program]:
    """The entries that name a block."""
    return [one for one in programs() if one.file == block.file and one.word in block.text]


def as_they_stand() -> list[Block]:
    """The Python programs that no test names, so that they are run as they stand."""
    return [block for block in blocks("python") if not run_by_a_test(block)]


def missing_test(test: str, word: str = "", root: Path = ROOT) -> str | None:
    """What is wrong with the name of a test; None where it is there, and its file has the word."""
    file, _, name = test.partition("::")
    if not (root / file).is_file():
        return f"{test}: there is no {file}"
    text = (root / file).read_text(encoding="utf-8")
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    if not name.startswith("test_") or name not in names:
        return f"{test}: there is no test of this name in {file}"
    return None if word in text else f"{test}: its file does not ask for {word!r}"


def missing_by(by: str, root: Path = ROOT) -> str | None:
    """What is wrong with what a command is said to be run by; None where it is there."""
    if not by.startswith(".ci/run:"):
        return missing_test(by, root=root)
    wanted = by.removeprefix(".ci/run:").strip()
    lines = [line.strip() for line in (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    is_run = any(wanted in line for line in lines if not line.startswith("#"))
    return None if is_run else f"{by}: there is no such line in .ci/run"
