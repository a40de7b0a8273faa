"""`kairos up`: embedded servers."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path  # noqa: TC003 - typer looks at the types of what a command takes
from typing import Annotated

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.cli.stopping import stop_on_signals
from kairos_core.settings import LocalSettings

TOLD = Told(
    summary="run embedded Valkey and PostgreSQL, and print what to export",
    more="Runs until Ctrl-C or SIGTERM; then the servers and their data are gone, but for what --data keeps."
    " Paste the two lines that it prints into the terminals that are to use them.",
    reads=("KAIROS_LOCAL_FOLDER", "KAIROS_LOCAL_REDIS_PORT"),
    statuses={0: "it was told to end", 2: f"{WHY_MISUSED}; also where DIR is in use, or of another version"},
    examples=(
        ("kairos up", "servers for a first look"),
        ("kairos up --data ~/kairos-data", "the same data again the next time"),
        ("kairos up --json > servers.json", "for a program"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "up", TOLD, family="Begin")(up)


def up(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep the data in this folder, and go on with what is there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the settings as one JSON object.")] = False,
) -> int:
    """Run the servers until a signal."""
    from kairos_core.local import local_servers  # noqa: PLC0415 - only this command starts servers

    stop = stop_on_signals()
    with contextlib.ExitStack() as stack:
        with terminal.spinner("starting Valkey and PostgreSQL"):
            servers = stack.enter_context(local_servers(LocalSettings.from_env(), data))
        settings = {"KAIROS_REDIS_URL": servers.redis_url, "KAIROS_POSTGRES_URL": servers.postgres_url}
        if as_json:
            print(msgspec.json.encode(settings).decode(), flush=True)
        else:
            print("\n".join(f"export {name}='{value}'" for name, value in settings.items()), flush=True)
        then = "removes their data" if data is None else f"keeps their data in {data}"
        print(f"# running; Ctrl-C stops them and {then}", file=sys.stderr)
        stop.wait()
    return 0
