"""All commands, in the order in which a newcomer meets them, and what stands above them."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any, Literal

import typer

from kairos_core.cli import acl, audit, harness, health, migrate, recover, up, watch, worker

Shell = Literal["bash", "zsh", "fish"]

_HELP = "Session state for real-time services."
# The first steps, each with what it is for; `kairos` alone shows them, too.
FIRST_STEPS = (
    ("kairos up", "start servers; export what it prints"),
    ("kairos migrate", "make the tables of the audit (the worker would, too)"),
    ("kairos worker", "record what is written, end sessions in time"),
    ("kairos health", "is all well?"),
    ("kairos watch ID", "see a session change while your service writes it"),
    ("kairos audit verify", "was every write recorded, once and in order?"),
)
# As the help lists the commands: typer alone would put families of commands last.
_IN_ORDER = (
    "up",
    "migrate",
    "worker",
    "health",
    "watch",
    "audit",
    "recover",
    "acl",
    "report",
    "validate",
    "load",
)
_SETTINGS = "Every setting is a variable of the environment; docs/commands.md has all commands."

app = typer.Typer(
    name=None,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=_HELP,
)


def _show_version(asked: bool) -> None:
    if asked:
        try:
            version = importlib.metadata.version("kairos")
        except importlib.metadata.PackageNotFoundError:
            version = "of a checkout that is not installed"
        print(f"kairos {version}")
        raise typer.Exit


def _show_completion(shell: str | None) -> None:
    if shell:
        from typer import completion  # noqa: PLC0415 - of this alone

        text = completion.get_completion_script(  # type: ignore[attr-defined]
            prog_name="kairos", complete_var="_KAIROS_COMPLETE", shell=shell
        )
        print(text)
        raise typer.Exit


def _install_completion(shell: str | None) -> None:
    if shell:
        from typer import completion  # noqa: PLC0415

        _, path = completion.install(  # type: ignore[attr-defined]
            shell=shell, prog_name="kairos", complete_var="_KAIROS_COMPLETE"
        )
        print(f"completion for {shell} is in {path}: it is there in the next shell that you start")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which version this is.")
    ] = False,
    install: Annotated[
        Shell | None,
        typer.Option(
            "--install-completion",
            metavar="SHELL",
            callback=_install_completion,
            is_eager=True,
            help="Complete words in new shells: bash, zsh or fish.",
        ),
    ] = None,
    show: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion",
            metavar="SHELL",
            callback=_show_completion,
            is_eager=True,
            help="Print what does that, to put it where you want it.",
        ),
    ] = None,
) -> int:
    del version, install, show
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    return 0


def in_order(found: dict[str, Any]) -> dict[str, Any]:
    """The commands in the order in which the help has them."""
    return {name: found[name] for name in _IN_ORDER}


def first_steps(*, is_rich: bool) -> str:
    """The first steps, as the end of the help."""
    width = max(len(call) for call, _ in FIRST_STEPS)
    lines = [f"  {number}. {call:<{width}}  {reason}" for number, (call, reason) in enumerate(FIRST_STEPS, 1)]
    title = "In this order:"
    head = [f"[bold]{title}[/bold]"] if is_rich else ["\b", title]
    return "\n".join([*head, *lines]) + f"\n\n{_SETTINGS}"


for _part in (up, migrate, worker, health, watch, audit, recover, acl, harness):
    _part.register(app)
