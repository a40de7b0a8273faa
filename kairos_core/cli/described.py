"""What a command tells of itself, in its help and in docs/commands.md: what it reads, how it ends, how it is called."""

from __future__ import annotations

import functools
import inspect
import textwrap
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kairos_core import logs
from kairos_core.cli.complaints import warn_of_unknown_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import typer

F = TypeVar("F", bound="Callable[..., int]")


# Of a block in the help, which is two columns in.
_WIDTH = 76
# A status that most commands may end with.
WHY_MISUSED = "the call or a setting is wrong, or a server cannot be asked"


class Told(NamedTuple):
    """What a command tells of itself.

    Attributes:
        summary: what it does, in one line.
        more: what else is to be known, in a few sentences.
        reads: the settings that it reads.
        statuses: how it may end, but for Ctrl-C (130) and a closed pipe (141).
        examples: calls, each with what it is for.
    """

    summary: str
    more: str
    reads: tuple[str, ...]
    statuses: Mapping[int, str]
    examples: tuple[tuple[str, str], ...]


# By the words of a command, such as "audit verify".
COMMANDS: dict[str, Told] = {}


def command(  # noqa: PLR0913 - each is said by name
    app: typer.Typer, name: str, told: Told, *, family: str = "", passes: bool = False, logs_itself: bool = False
) -> Callable[[F], F]:
    """Make a function, which returns the exit status, a command.

    Args:
        app: where the command belongs.
        name: its last word.
        told: what it tells of itself.
        family: the heading under which `kairos --help` has it.
        passes: words that the command does not know go to another program.
        logs_itself: it sets its log up.
    """
    parent = app.info.name if isinstance(app.info.name, str) else ""
    COMMANDS[f"{parent} {name}".strip()] = told

    def register(function: F) -> F:
        @functools.wraps(function)
        def run(*arguments: object, **options: object) -> int:
            warn_of_unknown_variables()
            if not logs_itself:
                logs.configure()
            return function(*arguments, **options)

        # Evaluated where the function stands, not here.
        run.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        app.command(
            name,
            short_help=told.summary,
            rich_help_panel=family or None,
            context_settings={"allow_extra_args": passes, "ignore_unknown_options": passes},
        )(run)
        return function

    return register


def help_of(words: str, *, is_rich: bool) -> str:
    """The help of a command, as typer takes it.

    Args:
        words: its words, such as "audit verify".
        is_rich: with rich's markup; else as plain text.
    """
    told = COMMANDS[words]
    parts = [f"{told.summary[0].upper()}{told.summary[1:]}. {told.more}".strip()]
    if told.reads:
        parts.append(f"Reads {listed(told.reads)}.")
    statuses = [
        line
        for status, text in told.statuses.items()
        for line in textwrap.wrap(f"{status:<4}{text}", _WIDTH, subsequent_indent="    ", replace_whitespace=False)
    ]
    parts.append(_block("Exit status:", statuses, is_rich))
    lines = [line for call, reason in told.examples for line in (f"# {reason}", call)]
    parts.append(_block("Examples:", lines, is_rich))
    return "\n\n".join(_escaped(part) if is_rich and not part.startswith("[bold]") else part for part in parts)


def listed(names: tuple[str, ...]) -> str:
    """Names as a sentence has them.

    >>> listed(("A", "B", "C"))
    'A, B and C'
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _block(title: str, lines: list[str], is_rich: bool) -> str:
    """Lines that are not filled up to paragraphs."""
    if is_rich:
        return "\n".join([f"[bold]{title}[/bold]", *(f"  {_escaped(line)}" for line in lines)])
    # What click's help leaves as it is.
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


def _escaped(text: str) -> str:
    """A text without markup of its own."""
    return text.replace("[", r"\[")
