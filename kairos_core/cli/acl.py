"""`kairos acl`: accounts for the store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from kairos_core.acl import account
from kairos_core.cli.described import Told, command
from kairos_core.errors import ConfigurationError, InvalidState
from kairos_core.settings import Settings

# A test holds these against those that there are.
Role = Literal["core", "worker", "recover"]


class Part(StrEnum):
    """What an account may need besides."""

    CLUSTER = "cluster"
    FSYNC = "fsync"
    REPLICATED = "replicated"
    SENTINEL = "sentinel"


TOLD = Told(
    summary="print an account with what Kairos needs on the store, and no more",
    more="Prints a line for the server's file of accounts; without its first word, the line is for ACL SETUSER. Put a"
    " password of your own in the place of PASSWORD.",
    reads=("KAIROS_NAMESPACE",),
    statuses={0: "it is printed", 2: "the call or a setting is wrong"},
    examples=(
        ("kairos acl core", "for services that read and write sessions"),
        ("kairos acl worker --with sentinel >> users.acl", "for `kairos worker`, behind Sentinel"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "acl", TOLD, family="Operate")(acl)


def acl(
    role: Annotated[
        Role,
        typer.Argument(
            metavar="ROLE",
            show_default=False,
            help="core: who reads and writes sessions; worker, recover: what these commands do.",
        ),
    ],
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Another namespace than KAIROS_NAMESPACE.")
    ] = None,
    parts: Annotated[
        list[Part] | None,
        typer.Option(
            "--with",
            metavar="PART",
            help="What it needs besides: cluster, sentinel, or fsync, replicated (levels of durability);"
            " may be repeated.",
        ),
    ] = None,
    queue_prefix: Annotated[
        str, typer.Option("--queue-prefix", metavar="TEXT", help="What RQ's keys begin with: its RQ_KEY_PREFIX.")
    ] = "rq",
) -> int:
    """Print the account."""
    name = Settings.from_env().namespace
    if namespace is not None:
        try:
            # Checked as that of any process.
            name = Settings(namespace=namespace).namespace
        except ConfigurationError as error:
            raise ConfigurationError("--namespace", error.cause) from None
    try:
        words = account(role, name, parts or (), queue_prefix=queue_prefix)
    except InvalidState as error:
        raise ConfigurationError("--queue-prefix", str(error)) from None
    print(" ".join(words))
    return 0
