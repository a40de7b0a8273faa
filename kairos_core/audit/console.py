"""`kairos audit`: verify, status, detach, dead. What it prints is for people, but for `status --json`."""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from kairos_core.errors import ConfigurationError, KairosError, StoreUnavailable
from kairos_core.session import check_session_id
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from kairos_core.audit.dead_letters import DeadLetter
    from kairos_core.audit.status import AuditStatus, LaneStatus
    from kairos_core.audit.verify import Report

HOLDS, BROKEN, UNKNOWN = 0, 1, 2
_WATCH_S = 2.0
_PROGRESS_S = 0.2
_READS = "Reads KAIROS_REDIS_URL, KAIROS_POSTGRES_URL, KAIROS_NAMESPACE and KAIROS_LANES."


def register(commands: Any) -> None:
    """Add `audit` to the command's parsers."""
    audit = commands.add_parser("audit", help="verify the audit trail, say how it is doing, settle dead letters")
    parts = audit.add_subparsers(required=True, metavar="COMMAND")
    _add_verify(parts)
    status = _add(
        parts,
        "status",
        _status,
        "say how many writes wait for the audit, how fast they come and go, and how many are dead",
        f"By lane, and in all; looks twice, a second apart. {_READS}",
    )
    status.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="as one JSON object a look")
    detached = _add(
        parts,
        "detach",
        _detach,
        "take months out of the events that lie behind, as tables of their own, to be archived and dropped",
        "Every session's chain goes on behind what was taken out. Needs the account that owns the schema.",
    )
    detached.add_argument(
        "--before", required=True, type=_date, metavar="DATE", help="those that end by this day (2026-01-31, in UTC)"
    )
    dead = parts.add_parser("dead", help="list, show, replay or discard what could not be recorded")
    _add_dead(dead.add_subparsers(required=True, metavar="COMMAND"))


def _add(parts: Any, name: str, command: Callable[[argparse.Namespace], int], summary: str, more: str = "") -> Any:
    parser = parts.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}")
    parser.set_defaults(command=functools.partial(_guarded, command))
    return parser


def _add_verify(parts: Any) -> None:
    verify = _add(
        parts,
        "verify",
        _verify,
        "show that every write is recorded once, in order and unaltered, and that the store agrees",
        f"Ends with 0 where all holds, 1 where it does not, 2 where that could not be told. {_READS}",
    )
    verify.add_argument("--no-store", action="store_true", help="PostgreSQL alone")
    verify.add_argument("--session", metavar="ID", help="one session alone")


def _add_dead(parts: Any) -> None:
    listed = _add(parts, "list", _list, "list the dead letters that wait")
    listed.add_argument("--lane", type=int, metavar="N", help="of one lane alone")
    listed.add_argument("--all", action="store_true", help="with those that are settled")
    shown = _add(parts, "show", _show, "show one dead letter with all that is known of it, its state included")
    replayed = _add(
        parts,
        "replay",
        _replay,
        "record dead letters as what they are after all",
        "What is refused again goes on to wait.",
    )
    replayed.add_argument("--all", action="store_true", help="all that wait, the oldest of each lane first")
    discarded = _add(parts, "discard", _discard, "give a dead letter up; it stays as a row", "It is never recorded.")
    for parser, number in ((shown, None), (replayed, "?"), (discarded, None)):
        parser.add_argument("lane", type=int, metavar="LANE", nargs=number)
        parser.add_argument("entry", metavar="ENTRY", nargs=number)


def _guarded(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a command; what keeps it from its work is one line, and status 2."""
    import psycopg  # noqa: PLC0415 - takes its time to import

    from kairos_core.ground import one_line  # noqa: PLC0415

    try:
        return command(options)
    except psycopg.Error as error:
        print(f"kairos: KAIROS_POSTGRES_URL: {one_line(error)}", file=sys.stderr)
    except ConfigurationError:
        raise
    except StoreUnavailable as error:
        print(f"kairos: KAIROS_REDIS_URL: {one_line(error.cause)}", file=sys.stderr)
    except KairosError as error:
        print(f"kairos: {one_line(error)}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever reads has read enough; nothing more can be said there, not even at the end.
        sys.stdout = None
        return 128 + signal.SIGPIPE
    return UNKNOWN


def _verify(options: argparse.Namespace) -> int:
    from kairos_core.audit.verify import verify, verify_trail  # noqa: PLC0415

    session_id = None if options.session is None else check_session_id(options.session)
    settings, progress, started = Settings.from_env(), _Progress(), time.monotonic()
    try:
        if options.no_store:
            report = verify_trail(settings, session_id, functools.partial(progress, "events"))
        else:
            report = verify(settings, session_id, progress)
    finally:
        progress.end()
    if session_id is not None and not (report.sessions or report.compared or report.violations):
        print(f"kairos: session {session_id} is neither recorded nor in the store", file=sys.stderr)
        return UNKNOWN
    print("\n".join(_told(report, time.monotonic() - started)))
    if report.violations:
        return BROKEN
    return UNKNOWN if report.not_compared else HOLDS


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


class _Progress:
    """A line on a terminal that says how far it is and how fast; elsewhere nothing."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._what = ""
        self._started = self._said = time.monotonic()

    def __call__(self, what: str, number: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._started = what, now
        if self._shows and now - self._said >= _PROGRESS_S:
            self._said = now
            rate = number / max(now - self._started, 0.001)
            print(f"\r{number:,} {what}, {rate:,.0f} a second\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        if self._shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _status(options: argparse.Namespace) -> int:
    from kairos_core.audit.status import examine  # noqa: PLC0415
    from kairos_core.blocking import BlockingTransport  # noqa: PLC0415
    from kairos_core.operations import Operations  # noqa: PLC0415

    settings = Settings.from_env()
    operations = Operations(settings, BlockingTransport)
    try:
        while True:
            found = examine(operations, settings)
            print(msgspec.json.encode(found).decode() if options.json else "\n".join(_table(found)), flush=True)
            if not options.watch:
                return UNKNOWN if found.problem else HOLDS
            time.sleep(_WATCH_S)
    finally:
        operations.link.close()


def _table(found: AuditStatus) -> list[str]:
    """The lanes on which anything is, and the sum."""
    busy = [lane for lane in found.lanes if lane.depth or lane.in_per_s or lane.out_per_s or lane.dead]
    lines = ["lane   waiting  oldest s   in/s  out/s  dead letters", *map(_line, [*busy, found.total])]
    return lines + ([f"PROBLEM {found.problem}"] if found.problem else [])


def _line(lane: LaneStatus) -> str:
    name = "all" if lane.lane is None else f"L{lane.lane:02d}"
    oldest = "-" if lane.oldest_s is None else f"{lane.oldest_s:.1f}"
    dead = "?" if lane.dead is None else f"{lane.dead:,}"
    return f"{name:4}{lane.depth:10,}{oldest:>10}{lane.in_per_s:7,.0f}{lane.out_per_s:7,.0f}{dead:>14}"


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError("a day is needed, such as 2026-01-31") from error


def _detach(options: argparse.Namespace) -> int:
    from kairos_core.audit.writer import AuditWriter  # noqa: PLC0415

    with AuditWriter.connect(Settings.from_env()) as writer:
        names = writer.detach_partitions(options.before)
    print("\n".join(f"{name} is detached" for name in names) or "nothing ends by then")
    return HOLDS


def _list(options: argparse.Namespace) -> int:
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    with DeadLetters.connect(Settings.from_env()) as letters:
        for letter in letters.letters(options.lane, settled=options.all):
            settlement = f" {letter.settlement}" if letter.settlement else ""
            about = f"{letter.buried_at:%Y-%m-%d %H:%M:%S} {letter.sqlstate or '-'}{settlement}"
            print(f"{letter.lane} {letter.entry_id} {about} {_plain(letter.reason)}")
    return HOLDS


def _show(options: argparse.Namespace) -> int:
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    with DeadLetters.connect(Settings.from_env()) as letters:
        return _refusing(lambda: print("\n".join(_facts(letters.find(options.lane, options.entry)))))


def _facts(letter: DeadLetter) -> list[str]:
    settlement = f"{letter.settlement} at {letter.settled_at}" if letter.settlement else "waits"
    return [
        f"lane      {letter.lane}",
        f"entry     {_plain(letter.entry_id)}",
        f"buried    {letter.buried_at}",
        f"sqlstate  {letter.sqlstate or '-'}",
        f"reason    {_plain(letter.reason)}",
        f"state     {settlement}",
        f"payload   {_plain(letter.payload.decode(errors='backslashreplace'))}",
    ]


def _plain(text: str) -> str:
    """A text as a terminal may see it: what a foreign hand wrote must not command it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _replay(options: argparse.Namespace) -> int:
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    if options.all == (options.entry is not None):
        print("kairos: LANE and ENTRY are needed, or --all", file=sys.stderr)
        return UNKNOWN
    with DeadLetters.connect(Settings.from_env()) as letters:
        if not options.all:
            return _refusing(lambda: _replay_one(letters, options.lane, options.entry))
        statuses = [
            _refusing(functools.partial(_replay_one, letters, letter.lane, letter.entry_id))
            for letter in letters.letters()
        ]
    return max(statuses, default=HOLDS)


def _replay_one(letters: Any, lane: int, entry_id: str) -> int:
    refusal = letters.replay(lane, entry_id)
    if refusal is None:
        print(f"{lane} {entry_id} is recorded")
        return HOLDS
    print(f"kairos: {lane} {entry_id} was refused again: {_plain(refusal)}", file=sys.stderr)
    return BROKEN


def _discard(options: argparse.Namespace) -> int:
    from kairos_core.audit.dead_letters import DeadLetters  # noqa: PLC0415

    with DeadLetters.connect(Settings.from_env()) as letters:
        status = _refusing(lambda: letters.discard(options.lane, options.entry))
    if status == HOLDS:
        print(f"{options.lane} {options.entry} is discarded")
    return status


def _refusing(work: Callable[[], int | None]) -> int:
    """Do it; where there is no such letter, or it is settled, say so."""
    from kairos_core.audit.dead_letters import NotWaiting  # noqa: PLC0415

    try:
        return work() or HOLDS
    except NotWaiting as error:
        print(f"kairos: {error}", file=sys.stderr)
        return BROKEN
