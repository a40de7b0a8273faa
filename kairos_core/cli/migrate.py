"""`kairos migrate`: the schema of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.errors import ConfigurationError
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.audit.migrations import Applied

# Of --status, where something is to be applied.
PENDING = 1
TOLD = Told(
    summary="bring the audit schema up to date",
    more="It may be run again and again, and beside workers. `kairos worker` does it, too, when it starts.",
    reads=("KAIROS_POSTGRES_URL", "KAIROS_NAMESPACE"),
    statuses={0: "the schema is up to date", 1: "with --status: something is to be applied", 2: WHY_MISUSED},
    examples=(
        ("kairos migrate", "make the schema, or bring it up to date"),
        ("kairos migrate --status", "what was applied, and when"),
        ("kairos migrate --grant-worker kairos_worker", "and let this role of the server record, and no more"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "migrate", TOLD, family="Begin")(migrate)


def migrate(
    *,
    status: Annotated[bool, typer.Option("--status", help="Only say what was applied, and when.")] = False,
    grant_worker: Annotated[
        str | None,
        typer.Option(
            "--grant-worker",
            metavar="ROLE",
            help="Then give this role of the server what `kairos worker` needs, no more.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --status: print it as one JSON object a migration.")
    ] = False,
) -> int:
    """Apply what is to be applied."""
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415 - psycopg takes its time to import

    if status and grant_worker is not None:
        raise ConfigurationError("--grant-worker", "is not for --status: leave one of them out")
    if as_json and not status:
        raise ConfigurationError("--json", "is for --status: give both, or none")
    settings = Settings.from_env()
    with AuditWriter.connect(settings) as writer:
        if status:
            return _say_status(writer.migrations(), as_json=as_json)
        if grant_worker is not None:
            # Before anything is made for one that is not there.
            writer.check_role(grant_worker)
        applied = writer.migrate()
        print(f"schema {settings.namespace}: {', '.join(applied) if applied else 'up to date'}")
        if grant_worker is not None:
            writer.grant_worker(grant_worker)
            print(f"schema {settings.namespace}: {grant_worker} may record, and read")
    return 0


def _say_status(found: Sequence[Applied], *, as_json: bool) -> int:
    if as_json:
        for migration, at in found:
            print(msgspec.json.encode({"name": migration.name, "applied_at": at}).decode())
        return PENDING if any(at is None for _, at in found) else 0
    rows = [
        (migration.name, "to be applied" if at is None else f"applied {at:%Y-%m-%d %H:%M:%S%z}")
        for migration, at in found
    ]
    terminal.show([f"{name:<40} {when}" for name, when in rows], lambda: terminal.table(("migration", "applied"), rows))
    return PENDING if any(at is None for _, at in found) else 0
