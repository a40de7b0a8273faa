"""`kairos health`: how the store is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.described import Told, command
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from kairos_core.health import Health, ServerHealth

# Where something is wrong.
UNHEALTHY = 1
# Of the names of the facts.
_WIDTH = 13
TOLD = Told(
    summary="say how the store is, and what is wrong with it",
    more="It looks, too, at what a service would refuse to work with; problems come last.",
    reads=(
        "KAIROS_REDIS_URL",
        "KAIROS_NAMESPACE",
        "KAIROS_LANES",
        "KAIROS_OUTBOX_LIMIT",
        "KAIROS_DURABILITY",
        "KAIROS_TIMEOUT_S",
    ),
    statuses={
        0: "nothing is wrong",
        1: "something is, also where no server answers",
        2: "the call or a setting is wrong",
    },
    examples=(
        ("kairos health", "for a person"),
        ("kairos health --json", "for a program; `problems` is a list of texts"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "health", TOLD, family="Look")(health)


def health(*, as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False) -> int:
    """Look, and say."""
    from kairos_core.blocking import BlockingTransport  # noqa: PLC0415 - redis takes its time to import
    from kairos_core.operations import Operations  # noqa: PLC0415
    from kairos_core.transport import run  # noqa: PLC0415

    # Not a manager, which would refuse what is to be looked at.
    operations = Operations(Settings.from_env(), BlockingTransport)
    try:
        found = run(operations.health())
    finally:
        operations.link.close()
    if as_json:
        print(msgspec.json.encode({"is_healthy": found.is_healthy, **msgspec.structs.asdict(found)}).decode())
    else:
        lines = report(found)
        terminal.show(lines, lambda: terminal.facts(lines, _WIDTH))
    return 0 if found.is_healthy else UNHEALTHY


def report(found: Health) -> list[str]:
    """One line per fact, and the problems last."""
    lines = []
    for server in found.servers:
        lag = "" if server.replica_lag_bytes is None else f", {server.replica_lag_bytes:,} bytes behind"
        limit = f" of {server.memory_limit_bytes:,}" if server.memory_limit_bytes else ", no limit"
        lines += [
            f"server       {server.address}: {server.software}, {server.role}, up for {server.uptime_s:,} s",
            f"round trip   {server.round_trip_ms:.2f} ms",
            f"clock        {_ahead(server)}",
            f"replicas     {server.replicas}{lag}",
            f"persistence  {server.persistence}",
            f"memory       {server.memory_used_bytes:,} bytes{limit}; {server.eviction}",
            f"connections  {server.clients:,} of {server.clients_limit:,}",
        ]
    if found.is_reachable:
        oldest = "" if found.oldest_unaudited_s is None else f", the oldest {found.oldest_unaudited_s:.1f} s old"
        lines += [
            f"layout       {found.layout or 'none yet'}",
            f"outbox       {found.outbox_depth:,} writes wait for the audit{oldest}",
        ]
    return lines + ([f"PROBLEM      {problem}" for problem in found.problems] or ["healthy"])


def _ahead(server: ServerHealth) -> str:
    """How far a server's clock is from this process's, which cannot be told closer than to half of the round trip."""
    where = "ahead of" if server.clock_ahead_ms >= 0 else "behind"
    return f"{abs(server.clock_ahead_ms):.1f} ms {where} this machine's"
