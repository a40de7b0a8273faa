"""`kairos audit`: verify, status, detach; `dead` has the rest."""

from __future__ import annotations

import functools
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kairos_core.cli import dead, terminal
from kairos_core.cli.complaints import Misused, complain
from kairos_core.cli.described import WHY_MISUSED, Told, command
from kairos_core.cli.trouble import BROKEN, HOLDS, UNKNOWN, guarded
from kairos_core.session import check_session_id
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from kairos_core.audit.status import AuditStatus, LaneStatus
    from kairos_core.audit.verify import Report

_WATCH_S = 2.0
_SERVERS = ("KAIROS_REDIS_URL", "KAIROS_POSTGRES_URL", "KAIROS_NAMESPACE", "KAIROS_LANES")

VERIFY = Told(
    summary="show that every write is recorded once, in order and unaltered, and that the store agrees",
    more="Reads all of it, beside services and workers; what only waits to be recorded is no fault.",
    reads=_SERVERS,
    statuses={
        0: "all holds",
        1: "something does not: the kinds are counted, and the first one is told",
        2: "it could not be told; or the call or a setting is wrong",
    },
    examples=(
        ("kairos audit verify", "the trail, and the store against it"),
        ("kairos audit verify --no-store --session game-17", "the trail of one session"),
    ),
)
STATUS = Told(
    summary="say how many writes wait for the audit, how fast they come and go, and how many are dead",
    more="By lane, and in all; looks twice, a second apart.",
    reads=_SERVERS,
    statuses={0: "it is said", 2: "PostgreSQL or the store could not be asked; or the call or a setting is wrong"},
    examples=(
        ("kairos audit status", "one look"),
        ("kairos audit status --watch --json", "look on, one object a line"),
    ),
)
DETACH = Told(
    summary="take months out of the events that lie behind, as tables of their own, to be archived and dropped",
    more="Every session's chain goes on behind what was taken out. Needs the account that owns the schema.",
    reads=("KAIROS_POSTGRES_URL", "KAIROS_NAMESPACE"),
    statuses={0: "they are out, or nothing ends by then", 2: WHY_MISUSED},
    examples=(("kairos audit detach --before 2026-01-01", "all that ended last year"),),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit = typer.Typer(
        name="audit", no_args_is_help=False, help="verify the audit, say how it is doing, settle dead letters"
    )
    command(audit, "verify", VERIFY)(verify)
    command(audit, "status", STATUS)(status)
    command(audit, "detach", DETACH)(detach)
    dead.register(audit)
    app.add_typer(audit, rich_help_panel="Look")


@guarded
def verify(
    *,
    no_store: Annotated[bool, typer.Option("--no-store", help="PostgreSQL alone.")] = False,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="One session alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
) -> int:
    """Verify, and say what was found."""
    from kairos_core.audit.verify import verify as verify_all  # noqa: PLC0415 - psycopg takes its time to import
    from kairos_core.audit.verify import verify_trail  # noqa: PLC0415

    session_id = None if session is None else check_session_id(session)
    settings, started = Settings.from_env(), time.monotonic()
    with terminal.Progress("events") as progress:
        if no_store:
            report = verify_trail(settings, session_id, functools.partial(progress, "events"))
        else:
            report = verify_all(settings, session_id, progress)
    if session_id is not None and not (report.sessions or report.compared or report.violations):
        complain(f"session {session_id} is neither recorded nor in the store")
        return UNKNOWN
    took_s = time.monotonic() - started
    if as_json:
        print(msgspec.json.encode(_object(report, took_s)).decode())
    else:
        lines = _told(report, took_s)
        terminal.show(lines, lambda: terminal.facts(lines, 0))
    return _status_of(report)


def _status_of(report: Report) -> int:
    if report.violations:
        return BROKEN
    return UNKNOWN if report.not_compared else HOLDS


def _object(report: Report, took_s: float) -> dict[str, object]:
    """A verification's report, for a program."""
    return {
        "verdict": ("holds", "violated", "undecided")[_status_of(report)],
        "sessions": report.sessions,
        "events": report.events,
        "took_s": round(took_s, 3),
        "compared": report.compared,
        "not_compared": report.not_compared or None,
        "anchored": report.anchored,
        "dead_letters": report.letters,
        "violations": {kind.value: number for kind, number in report.found.items() if number and kind.is_violation},
        "notes": {kind.value: number for kind, number in report.found.items() if number and not kind.is_violation},
        "first": str(report.first) if report.first else None,
        "fingerprint": report.fingerprint,
    }


def _told(report: Report, took_s: float) -> list[str]:
    """A verification's report, line by line."""
    rate = report.events / took_s if took_s else 0
    lines = [
        f"{report.sessions:,} sessions, {report.events:,} events verified in {took_s:.1f} s ({rate:,.0f} a second)"
    ]
    if report.not_compared:
        lines.append(f"not all compared with the store: {report.not_compared}")
    elif report.compared is not None:
        lines.append(f"{report.compared:,} sessions compared with the store")
    if report.anchored:
        lines.append(
            f"{report.anchored:,} sessions begin behind an anchor: what lies before was detached, and is not shown"
        )
    if report.letters:
        lines.append(f"{report.letters:,} dead letters wait")
    lines += [
        f"note: {number:,} {kind.value}" for kind, number in report.found.items() if number and not kind.is_violation
    ]
    lines += [f"{number:,} {kind.value}" for kind, number in report.found.items() if number and kind.is_violation]
    if report.first:
        lines.append(f"the first: {report.first}")
    lines.append(f"fingerprint {report.fingerprint}")
    if report.violations:
        lines.append("VIOLATED")
    elif report.not_compared:
        lines.append("UNDECIDED")
    else:
        lines.append("all holds")
    return lines


@guarded
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look.")] = False,
) -> int:
    """Look, and say."""
    from kairos_core.audit.status import examine  # noqa: PLC0415
    from kairos_core.blocking import BlockingTransport  # noqa: PLC0415
    from kairos_core.operations import Operations  # noqa: PLC0415

    settings = Settings.from_env()
    operations = Operations(settings, BlockingTransport)
    try:
        while True:
            found = examine(operations, settings)
            if as_json:
                print(msgspec.json.encode(found).decode(), flush=True)
            else:
                _say(found)
            if not watch:
                return UNKNOWN if found.problem else HOLDS
            time.sleep(_WATCH_S)
    finally:
        operations.link.close()


_TITLES = ("lane", "waiting", "oldest s", "in/s", "out/s", "dead letters")


def _say(found: AuditStatus) -> None:
    """The lanes on which anything is, and the sum."""
    busy = [lane for lane in found.lanes if lane.depth or lane.in_per_s or lane.out_per_s or lane.dead]
    rows = [_row(lane) for lane in (*busy, found.total)]
    # The title of the last has its place from the first dead letter on.
    lines = ["lane   waiting  oldest s   in/s  out/s  dead letters"]
    lines += [f"{row[0]:4}{row[1]:>10}{row[2]:>10}{row[3]:>7}{row[4]:>7}{row[5]:>14}" for row in rows]
    problem = [f"PROBLEM {found.problem}"] if found.problem else []
    terminal.show([*lines, *problem], lambda: terminal.table(_TITLES, rows, numbers=range(1, len(_TITLES))))
    if problem and terminal.is_rich(sys.stdout):
        terminal.show([], lambda: terminal.facts(problem, len("PROBLEM")))


def _row(lane: LaneStatus) -> tuple[str, ...]:
    return (
        "all" if lane.lane is None else f"L{lane.lane:02d}",
        f"{lane.depth:,}",
        "-" if lane.oldest_s is None else f"{lane.oldest_s:.1f}",
        f"{lane.in_per_s:,.0f}",
        f"{lane.out_per_s:,.0f}",
        "?" if lane.dead is None else f"{lane.dead:,}",
    )


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise Misused("a day is needed, such as 2026-01-31") from None


@guarded
def detach(
    *,
    before: Annotated[
        datetime,
        typer.Option("--before", metavar="DATE", parser=_day, help="Those that end by this day (2026-01-31, in UTC)."),
    ],
) -> int:
    """Detach months."""
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415

    with AuditWriter.connect(Settings.from_env()) as writer, terminal.spinner("detaching"):
        names = writer.detach_partitions(before)
    print("\n".join(f"{name} is detached" for name in names) or "nothing ends by then")
    return HOLDS
