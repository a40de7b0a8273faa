"""The command `kairos recover`."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from kairos_core.errors import AuditBacklogFull, ConfigurationError, InvalidState, StoreUnavailable
from kairos_core.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from kairos_core.recovery import Case, Recovery, Report

# Exit status where a session could not be restored, or not to what it was.
INCOMPLETE = 1
_PROGRESS_EVERY_S = 0.5


def add_recover(commands: Any) -> None:
    """Add the command to a parser's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "recover",
        help="restore sessions that the store has lost from the audit",
        description="Restores what the audit has and the store has not, each session as version 1 of a new incarnation;"
        " one that is there is never touched. It may be interrupted, run again, and run beside services and workers."
        " Ends with 0 where all is well, 1 where a session could not be restored, 2 where a server could not be asked."
        " Reads KAIROS_REDIS_URL, KAIROS_POSTGRES_URL, KAIROS_NAMESPACE, KAIROS_LANES, KAIROS_SESSION_TTL_S and"
        " KAIROS_OUTBOX_LIMIT.",
    )
    parser.add_argument("session", nargs="?", metavar="SESSION", help="only this one; else all")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be done")
    parser.add_argument(
        "--even-expired", action="store_true", help="restore sessions, too, that would have expired by now"
    )
    parser.set_defaults(command=recover)


def recover(options: argparse.Namespace) -> int:
    """Run the command; return its exit status.

    Raises:
        ConfigurationError: it was called or set up wrongly, or a server cannot be reached.
    """
    import psycopg  # noqa: PLC0415 - takes its time to import

    from kairos_core.ground import one_line  # noqa: PLC0415 - likewise redis
    from kairos_core.recovery import Recovery  # noqa: PLC0415

    settings = Settings.from_env()
    with contextlib.ExitStack() as stack:
        try:
            recovery = stack.enter_context(
                Recovery.connect(settings, dry_run=options.dry_run, even_expired=options.even_expired)
            )
            if options.session is not None:
                return _recover_one(recovery, options.session, is_dry=options.dry_run)
            return _recover_all(recovery, is_dry=options.dry_run)
        except psycopg.Error as error:
            raise ConfigurationError("KAIROS_POSTGRES_URL", one_line(error)) from error
        except StoreUnavailable as error:
            if error.code is not None:
                print(f"kairos: the store refused: {error.cause}", file=sys.stderr)
                return INCOMPLETE
            raise ConfigurationError("KAIROS_REDIS_URL", one_line(error.cause)) from error
        except InvalidState as error:
            raise ConfigurationError("SESSION", one_line(error)) from None


def _recover_one(recovery: Recovery, session_id: str, *, is_dry: bool) -> int:
    try:
        report = recovery.recover_one(session_id)
    except AuditBacklogFull as error:
        print(f"kairos: {error}", file=sys.stderr)
        return INCOMPLETE
    ((case, (_, reason)),) = report.first.items()
    print(f"session {session_id}: {case.value}: {_explained(case, reason, is_dry=is_dry)}")
    return 0 if report.is_complete else INCOMPLETE


def _recover_all(recovery: Recovery, *, is_dry: bool) -> int:
    report = recovery.report
    show, clear = _progress() if sys.stderr.isatty() else (lambda _: None, lambda: None)
    status = INCOMPLETE
    try:
        recovery.recover_all(show)
        status = 0 if report.is_complete else INCOMPLETE
    except AuditBacklogFull as error:
        clear()
        print(f"kairos: stopped, and can be run again: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        clear()
        print("kairos: interrupted, and can be run again", file=sys.stderr)
        raise
    finally:
        # What was done is done, whatever came then.
        clear()
        print("\n".join(summary(report, is_dry=is_dry)), flush=True)
    return status


def summary(report: Report, *, is_dry: bool) -> list[str]:
    """One line for each case that is counted, with the first session where it is one to look at."""
    from kairos_core.recovery import Case  # noqa: PLC0415

    always = (Case.RESTORED, Case.LIVE, Case.OVER, Case.SKIPPED, Case.INVALID)
    lines = []
    for case in Case:
        count = report.counts[case]
        if not count and case not in always:
            continue
        what = "would be restored" if is_dry and case is Case.RESTORED else case.value
        line = f"{what:<17} {count:>10,}"
        if count and case not in (Case.RESTORED, Case.LIVE, Case.ENDED):
            session_id, reason = report.first[case]
            line += f"  first {session_id}: {_explained(case, reason, is_dry=is_dry)}"
        lines.append(line)
    return lines


def _explained(case: Case, reason: str, *, is_dry: bool) -> str:
    """A case in words."""
    words = {
        "restored": "it is lost, and would be restored" if is_dry else "it was lost, and is there again",
        "live": "it is there",
        "older": "it is there, and left alone, but the store has lost later writes",
        "over": "it is lost, and would have expired by now: --even-expired restores it",
        "ended": "it was deleted, or has expired",
        "unknown": "nothing is recorded of it",
        "skipped": "it is not there, and was left alone",
        "invalid": "it was left alone",
    }[case.value]
    return f"{words}: {reason}" if reason else words


def _progress() -> tuple[Callable[[Report], None], Callable[[], None]]:
    """What writes a line on the terminal again and again, and what takes it away."""
    started = time.monotonic()
    shown = 0.0

    def show(report: Report) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < _PROGRESS_EVERY_S:
            return
        shown = now
        rate = report.total / max(now - started, 1e-3)
        text = f"\r{report.total:,} sessions, {report.restored:,} restored, {rate:,.0f}/s\033[K"
        print(text, end="", file=sys.stderr, flush=True)

    def clear() -> None:
        print("\r\033[K", end="", file=sys.stderr, flush=True)

    return show, clear
