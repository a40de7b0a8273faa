"""Runs a command: whatever keeps it from its work is one line on standard error, and an exit status."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any

import typer

from kairos_core.cli import terminal
from kairos_core.cli.commands import app, first_steps, in_order
from kairos_core.cli.complaints import Misused, complain
from kairos_core.cli.described import COMMANDS, help_of
from kairos_core.errors import KairosError
from kairos_core.one_line import MISUSED

# What a shell's completion asks with.
_COMPLETING = "_KAIROS_COMPLETE"
_is_an_option = re.compile(r"--?[A-Za-z][A-Za-z-]*\Z").match


def run(words: list[str]) -> int:
    """Run the command that these words are; return its exit status."""
    terminal.say_all(sys.stdout)
    try:
        status = _run(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KairosError as error:
        complain(str(error))
        return MISUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        # What cannot be said, such as on a device that is full, is no verdict. Nor can it be said at the end.
        sys.stdout = None
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        complain(str(error))
        return MISUSED
    return status


def root() -> Any:
    """The command, with its help for where standard output goes."""
    is_rich = terminal.is_rich(sys.stdout)
    app.rich_markup_mode = "rich" if is_rich else None
    found: Any = typer.main.get_command(app)
    found.commands = in_order(found.commands)
    found.epilog = first_steps(is_rich=is_rich)
    for path, one in tree(found):
        if path in COMMANDS:
            one.help = help_of(path, is_rich=is_rich)
        for parameter in one.params if is_rich else ():
            if getattr(parameter, "is_bool_flag", False):
                # A flag takes nothing; typer would say that it is a <bool>.
                parameter.metavar = ""
    return found


def tree(group: Any, path: str = "") -> list[tuple[str, Any]]:
    """All commands below a group, each with its words."""
    found = []
    for name, one in group.commands.items():
        words = f"{path} {name}".strip()
        found.append((words, one))
        if hasattr(one, "commands"):
            found += tree(one, words)
    return found


def _run(words: list[str]) -> int:
    command = root()
    if os.environ.get(_COMPLETING):
        from typer import completion  # noqa: PLC0415 - of this alone

        # typer does it by itself only where the options for it are its own.
        completion.completion_init()  # type: ignore[attr-defined]
        command.main(words, prog_name="kairos")
    try:
        # Not by its `main`, which would end the process where a pipe is closed, and have statuses of its own.
        with command.make_context("kairos", words) as context:
            status = command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        program = context.command_path if context is not None else _named_in(words, command)
        print(f"{program}: {_one_line(error)} (see {program} --help)", file=sys.stderr)
        return MISUSED
    return status if isinstance(status, int) else 0


def _named_in(words: list[str], command: Any) -> str:
    """The command that a call names, as far as it names one."""
    path = ["kairos"]
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        path.append(word)
        command = command.commands[word]
    return " ".join(path)


def _one_line(error: typer.TyperException) -> str:
    """What is wrong with a call. What was given is not quoted: it may be an address with its password."""
    parameter = getattr(error, "param", None)
    if isinstance(error, Misused):
        return f"{_name(parameter)}: {error.message}"
    # The other kinds of mistakes have no public names.
    kind = type(error).__name__
    if kind == "MissingParameter":
        return f"{_name(parameter)} is needed{_choices(parameter)}"
    if isinstance(error, typer.BadParameter):
        return f"{_name(parameter)}: {_wanted(parameter)}"
    return _wrong_option(error, kind) or _wrong_word(error)


def _wrong_option(error: typer.TyperException, kind: str) -> str:
    option = getattr(error, "option_name", "")
    if not _is_an_option(option):
        option = ""
    if kind == "NoSuchOption":
        return f"unknown option {option}" if option else "there is an option that it does not have"
    if kind == "BadOptionUsage":
        takes = "takes no value" if "does not take" in error.message else "needs a value"
        return f"{option or 'an option'} {takes}"
    return ""


def _wrong_word(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    commands = ", ".join(getattr(getattr(context, "command", None), "commands", {}))
    if not commands:
        return "there is a word too many"
    missing = "a command is needed" if error.message.startswith("Missing") else "there is no such command"
    return f"{missing} (choose from {commands})"


def _name(parameter: Any) -> str:
    if parameter is None:
        return "an option"
    options = [name for name in parameter.opts if name.startswith("-")]
    return str(options[-1] if options else parameter.metavar or parameter.name.upper())


def _choices(parameter: Any) -> str:
    choices = getattr(getattr(parameter, "type_descriptor", None), "choices", None)
    return f" (choose from {', '.join(map(str, choices))})" if choices else ""


def _wanted(parameter: Any) -> str:
    choices = _choices(parameter)
    if choices:
        return f"there is no such choice{choices}"
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    bounds = (f"at least {least}" if least is not None else "", f"at most {most}" if most is not None else "")
    return ", ".join(filter(None, ("a whole number", *bounds))) + (", is needed" if any(bounds) else " is needed")
