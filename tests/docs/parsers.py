"""Whether a command that is not run could be: its program's own parser reads it, and nothing of it is done."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import patch

from typer.core import TyperCommand

from kairos_core.cli import main as kairos
from kairos_core.cli import program
from tests.docs.markdown import ROOT
from tests.docs.shell import calls

if TYPE_CHECKING:
    from collections.abc import Iterator
_MENTIONED = re.compile(r"(\.venv/bin/)?((kairos|make) [a-z]+\b|python -m \w)")


_NOT_THERE = ("no such command", "unknown option")
# To make it takes longer than to ask it.
_root = cache(program.root)


class _ReadError(Exception):
    """A command was read whole; it would be done now."""


def refused(command: str) -> str | None:
    """What the command's program has against it, in a line; None where it would do it, or has no parser to ask."""
    return next((said for call in calls(command) if (said := _refused(call))), None)


def refused_mention(text: str) -> str | None:
    """What is wrong with a command of this repository that is named in a text, such as `kairos audit verify`.

    Of `kairos`, commands and options are looked at, and no values; of modules, whether they are there.
    """
    if "…" in text or not _MENTIONED.match(text):
        return None
    (call, *_) = calls(text.replace("[", "").replace("]", "").replace("|", " "))
    program = call[0].removeprefix(".venv/bin/")
    if program == "kairos":
        said = _refused([*call, "--help"])
        # What is missing besides, such as the value of an option, is no mistake in a text.
        return said if said and any(word in said for word in _NOT_THERE) else None
    return _missing_module(call[2]) if program == "python" else _refused(call)


def _refused(call: list[str]) -> str | None:
    program, *rest = call
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        return _refused_by_make(rest)
    if program in {"python", "python3"} and rest[:1] == ["-m"]:
        return _refused_by_module(rest[1], rest[2:])
    if program == "kairos":
        return _parsed(lambda: kairos(rest))
    if program == "locust":
        return _refused_by_locust(rest)
    return None


def _refused_by_make(arguments: list[str]) -> str | None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z_]+):", text, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE))
    for word in arguments:
        name, has_value, _ = word.partition("=")
        if has_value and name not in variables:
            return f"make has no variable {name}"
        if not has_value and word not in targets:
            return f"make has no target {word}"
    return None


def _missing_module(name: str) -> str | None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    return f"there is no module {name}" if found is None else None


def _refused_by_module(name: str, arguments: list[str]) -> str | None:
    missing = _missing_module(name)
    if missing or not name.startswith(("kairos_core", "loadtests", "reports")):
        return missing
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    with patch.object(sys, "argv", [f"python -m {name}", *arguments]):
        return _parsed(module.main)


def _parsed(main: Any) -> str | None:
    said = io.StringIO()
    with _stopped_behind_the_parser(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            status = main()
        except _ReadError:
            return None
        except SystemExit as ended:
            status = ended.code
    # `--help` and what needs no parser end well.
    return None if status in {0, None} else said.getvalue().strip() or f"ended with {status}"


@contextlib.contextmanager
def _stopped_behind_the_parser() -> Iterator[None]:
    """Let argparse and typer read, and end there."""
    parse = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *arguments: Any, **named: Any) -> NoReturn:
        parse(self, *arguments, **named)
        raise _ReadError

    def invoke(self: TyperCommand, context: object) -> NoReturn:  # noqa: ARG001 - as typer calls it
        raise _ReadError

    with (
        patch.object(argparse.ArgumentParser, "parse_args", parse_args),
        patch.object(TyperCommand, "invoke", invoke),
        patch.object(program, "root", _root),
    ):
        yield


def _refused_by_locust(arguments: list[str]) -> str | None:
    """To import it would put gevent in this process, so its options are looked for where it and we define them."""
    found = importlib.util.find_spec("locust")
    assert found is not None
    assert found.origin is not None
    files = [Path(found.origin).with_name("argument_parser.py"), *(ROOT / "loadtests").glob("load*.py")]
    texts = [path.read_text(encoding="utf-8") for path in [*files, *(ROOT / "loadtests" / "load").glob("*.py")]]
    for word in arguments:
        option = word.partition("=")[0]
        if option.startswith("-") and not any(f'"{option}"' in text for text in texts):
            return f"locust has no option {option}"
    return None
