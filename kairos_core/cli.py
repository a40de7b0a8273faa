"""The `kairos` command."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core.acl import PARTS, ROLES, account
from kairos_core.audit import console
from kairos_core.errors import ConfigurationError, InvalidState
from kairos_core.lifeline import end_with_parent
from kairos_core.one_line import MISUSED, OneLineParser
from kairos_core.recover_command import add_recover
from kairos_core.settings import LocalSettings, Settings, unknown_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kairos_core.health import Health

# Of `kairos migrate --status`, where something is to be applied.
PENDING = 1
# Of `kairos health`, where something is wrong.
UNHEALTHY = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    _warn_of_unknown_variables()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except ConfigurationError as error:
        print(f"kairos: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        # What cannot be said, such as on a device that is full, is no verdict. Nor can it be said at the end.
        sys.stdout = None
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        print(f"kairos: {error}", file=sys.stderr)
        return MISUSED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="kairos", description="Session state for real-time services.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = _command(
        commands,
        "up",
        "run embedded Valkey and PostgreSQL, and print what to export",
        "Runs until Ctrl-C, then removes the servers and their data. Reads KAIROS_LOCAL_FOLDER and"
        " KAIROS_LOCAL_REDIS_PORT. Paste the two lines that it prints into the terminals that are to use them.",
    )
    up.set_defaults(command=_up)

    migrate = _command(
        commands,
        "migrate",
        "bring the audit schema up to date",
        "Reads KAIROS_POSTGRES_URL and KAIROS_NAMESPACE. `kairos worker` does it, too, when it starts.",
    )
    instead = migrate.add_mutually_exclusive_group()
    instead.add_argument(
        "--status", action="store_true", help="only say what was applied, and when; ends with 1 where something is not"
    )
    instead.add_argument(
        "--grant-worker", metavar="ROLE", help="then give this role of the server what `kairos worker` needs, no more"
    )
    migrate.set_defaults(command=_migrate)

    pool = _command(
        commands,
        "worker",
        "run the audit: worker processes, their scheduler, the sweeps",
        "Moves what was written to PostgreSQL and ends the sessions whose time has come, until Ctrl-C or SIGTERM."
        " Reads KAIROS_REDIS_URL, KAIROS_POSTGRES_URL, KAIROS_QUEUE_URL, KAIROS_NAMESPACE, KAIROS_LANES and"
        " KAIROS_ALERT.",
    )
    pool.add_argument("--end-with-stdin", action="store_true", help="end, too, when standard input closes")
    pool.add_argument("--workers", type=_positive, default=10, metavar="N", help="worker processes (default 10)")
    pool.set_defaults(command=_pool)

    health = _command(
        commands,
        "health",
        "say how the store is, and what is wrong with it",
        "Ends with 0 where nothing is wrong; 1 where something is, also where no server answers; 2 where a setting is"
        " none. Reads KAIROS_REDIS_URL, KAIROS_NAMESPACE, KAIROS_LANES, KAIROS_OUTBOX_LIMIT, KAIROS_DURABILITY and"
        " KAIROS_TIMEOUT_S.",
    )
    health.add_argument("--json", action="store_true", help="as one JSON object")
    health.set_defaults(command=_health)

    add_recover(commands)

    _add_acl(commands)
    console.register(commands)
    return parser


def _add_acl(commands: Any) -> None:
    accounts = _command(
        commands,
        "acl",
        "print an account with what Kairos needs on the store, and no more",
        "Prints a line for the server's file of accounts; without its first word, the line is for ACL SETUSER. Put a"
        " password of your own in the place of PASSWORD. The namespace is that of KAIROS_NAMESPACE.",
    )
    accounts.add_argument(
        "role",
        metavar="ROLE",
        choices=ROLES,
        help="core: who reads and writes sessions; worker, recover: what these commands do",
    )
    accounts.add_argument("--namespace", metavar="NAME", help="another namespace")
    accounts.add_argument(
        "--with",
        dest="parts",
        action="append",
        default=[],
        metavar="PART",
        choices=PARTS,
        help="what it needs besides: cluster, sentinel, or fsync, replicated (levels of durability); may be repeated",
    )
    accounts.add_argument(
        "--queue-prefix", default="rq", metavar="TEXT", help="what RQ's keys begin with (its RQ_KEY_PREFIX; rq)"
    )
    accounts.set_defaults(command=_acl)


def _command(commands: Any, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:6]) > 0):
        raise argparse.ArgumentTypeError("a whole number, at least 1, is needed")
    return int(text)


def _warn_of_unknown_variables() -> None:
    for name, nearest in unknown_variables():
        hint = f": {nearest} is meant?" if nearest else ""
        print(f"kairos: warning: {name} is set, and is no setting{hint}", file=sys.stderr)


def _up(_: argparse.Namespace) -> int:
    from kairos_core.local import local_servers  # noqa: PLC0415 - only this command starts servers

    stop = _stop_on_signals()
    with local_servers(LocalSettings.from_env()) as servers:
        print(f"export KAIROS_REDIS_URL='{servers.redis_url}'")
        print(f"export KAIROS_POSTGRES_URL='{servers.postgres_url}'", flush=True)
        print("# running; Ctrl-C stops them and removes their data", file=sys.stderr)
        stop.wait()
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415 - psycopg takes its time to import

    settings = Settings.from_env()
    with AuditWriter.connect(settings) as writer:
        if options.status:
            found = writer.migrations()
            for migration, at in found:
                print(f"{migration.name:<40} {'to be applied' if at is None else f'applied {at:%Y-%m-%d %H:%M:%S%z}'}")
            return PENDING if any(at is None for _, at in found) else 0
        if options.grant_worker is not None:
            # Before anything is made for one that is not there.
            writer.check_role(options.grant_worker)
        applied = writer.migrate()
        print(f"schema {settings.namespace}: {', '.join(applied) if applied else 'up to date'}")
        if options.grant_worker is not None:
            writer.grant_worker(options.grant_worker)
            print(f"schema {settings.namespace}: {options.grant_worker} may record, and read")
    return 0


def _pool(options: argparse.Namespace) -> int:
    from kairos_core.audit import alerts, jobs  # noqa: PLC0415
    from kairos_core.audit.pool import run_pool  # noqa: PLC0415 - rq takes its time to import
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415
    from kairos_core.expiry import Expiry  # noqa: PLC0415

    settings = Settings.from_env()
    stop = _stop_on_signals()
    if options.end_with_stdin:
        end_with_parent()
    # Refuse unsafe ground here, once, instead of in every member.
    alerts.prepare(settings.alert)
    expiry = Expiry.connect(settings)
    try:
        expiry.check()
    finally:
        expiry.close()
    jobs.check_queue(settings)
    with AuditWriter.connect(settings) as writer:
        writer.migrate()
    print(f"kairos worker: draining {settings.namespace} with {options.workers} worker(s)", flush=True)
    run_pool(settings, options.workers, stop)
    return 0


def _health(options: argparse.Namespace) -> int:
    from kairos_core.blocking import BlockingTransport  # noqa: PLC0415 - redis takes its time to import
    from kairos_core.operations import Operations  # noqa: PLC0415
    from kairos_core.transport import run  # noqa: PLC0415

    # Not a manager, which would refuse what is to be looked at.
    operations = Operations(Settings.from_env(), BlockingTransport)
    found = run(operations.health())
    operations.link.close()
    if options.json:
        print(msgspec.json.encode({"is_healthy": found.is_healthy, **msgspec.structs.asdict(found)}).decode())
    else:
        print("\n".join(_report(found)))
    return 0 if found.is_healthy else UNHEALTHY


def _report(found: Health) -> list[str]:
    """One line per fact, and the problems last."""
    lines = []
    for server in found.servers:
        lag = "" if server.replica_lag_bytes is None else f", {server.replica_lag_bytes:,} bytes behind"
        limit = f" of {server.memory_limit_bytes:,}" if server.memory_limit_bytes else ", no limit"
        lines += [
            f"server       {server.address}: {server.software}, {server.role}, up for {server.uptime_s:,} s",
            f"round trip   {server.round_trip_ms:.2f} ms",
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


def _acl(options: argparse.Namespace) -> int:
    namespace = Settings.from_env().namespace
    if options.namespace is not None:
        try:
            # Checked as that of any process.
            namespace = Settings(namespace=options.namespace).namespace
        except ConfigurationError as error:
            raise ConfigurationError("--namespace", error.cause) from None
    try:
        words = account(options.role, namespace, options.parts, queue_prefix=options.queue_prefix)
    except InvalidState as error:
        raise ConfigurationError("--queue-prefix", str(error)) from None
    print(" ".join(words))
    return 0


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main())
