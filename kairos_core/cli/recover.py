"""`kairos recover`: sessions that the store has lost, from the audit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kairos_core.cli import terminal
from kairos_core.cli.complaints import complain
from kairos_core.cli.described import Told, command
from kairos_core.errors import AuditBacklogFull, ConfigurationError, InvalidState, StoreUnavailable, one_line
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from kairos_core.recovery import Case, Recovery, Report

# Exit status where a session could not be restored, or not to what it was.
INCOMPLETE = 1
# Of the names of the cases.
_WIDTH = 17
TOLD = Told(
    summary="restore sessions that the store has lost from the audit",
    more="Restores what the audit has and the store has not, each session as version 1 of a new incarnation; one that"
    " is there is never touched. It may be interrupted, run again, and run beside services and workers.",
    reads=(
        "KAIROS_REDIS_URL",
        "KAIROS_POSTGRES_URL",
        "KAIROS_NAMESPACE",
        "KAIROS_LANES",
        "KAIROS_SESSION_TTL_S",
        "KAIROS_OUTBOX_LIMIT",
    ),
    statuses={
        0: "all is well",
        1: "a session could not be restored, or the store has lost later writes of one",
        2: "the call or a setting is wrong, or a server could not be asked",
    },
    examples=(
        ("kairos recover --dry-run", "what would be done"),
        ("kairos recover", "all sessions"),
        ("kairos recover game-17 --json", "one of them, for a program"),
    ),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "recover", TOLD, family="Operate")(recover)


def recover(
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", show_default=False, help="Only this one; else all.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would be done.")] = False,
    even_expired: Annotated[
        bool, typer.Option("--even-expired", help="Restore sessions, too, that would have expired by now.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
) -> int:
    """Restore what is lost.

    Raises:
        ConfigurationError: it was called or set up wrongly, or a server cannot be reached.
    """
    import psycopg  # noqa: PLC0415 - takes its time to import

    from kairos_core.recovery import Recovery  # noqa: PLC0415 - likewise redis

    settings = Settings.from_env()
    with contextlib.ExitStack() as stack:
        try:
            recovery = stack.enter_context(Recovery.connect(settings, dry_run=dry_run, even_expired=even_expired))
            if session is not None:
                return _recover_one(recovery, session, is_dry=dry_run, as_json=as_json)
            return _recover_all(recovery, is_dry=dry_run, as_json=as_json)
        except psycopg.Error as error:
            raise ConfigurationError("KAIROS_POSTGRES_URL", one_line(error)) from error
        except StoreUnavailable as error:
            if error.code is not None:
                complain(f"the store refused: {error.cause}")
                return INCOMPLETE
            raise ConfigurationError("KAIROS_REDIS_URL", one_line(error.cause)) from error
        except InvalidState as error:
            raise ConfigurationError("SESSION", one_line(error)) from None


def _recover_one(recovery: Recovery, session_id: str, *, is_dry: bool, as_json: bool) -> int:
    try:
        report = recovery.recover_one(session_id)
    except AuditBacklogFull as error:
        complain(str(error))
        return INCOMPLETE
    if as_json:
        _say_json(report, is_dry=is_dry)
        return 0 if report.is_complete else INCOMPLETE
    ((case, (_, reason)),) = report.first.items()
    print(f"session {session_id}: {case.value}: {_explained(case, reason, is_dry=is_dry)}")
    return 0 if report.is_complete else INCOMPLETE


def _recover_all(recovery: Recovery, *, is_dry: bool, as_json: bool) -> int:
    report = recovery.report
    status = INCOMPLETE
    with terminal.Progress("sessions") as bar:

        def show(found: Report) -> None:
            bar("sessions", found.total, f"{found.restored:,} restored, ")

        try:
            show(report)
            recovery.recover_all(show)
            status = 0 if report.is_complete else INCOMPLETE
        except AuditBacklogFull as error:
            bar.end()
            complain(f"stopped, and can be run again: {error}")
        except KeyboardInterrupt:
            bar.end()
            complain("interrupted, and can be run again")
            raise
        finally:
            # What was done is done, whatever came then.
            bar.end()
            if as_json:
                _say_json(report, is_dry=is_dry)
            else:
                lines = summary(report, is_dry=is_dry)
                terminal.show(lines, lambda: terminal.facts(lines, _WIDTH))
    return status


def _say_json(report: Report, *, is_dry: bool) -> None:
    """What became of the sessions, for a program."""
    from kairos_core.recovery import Case  # noqa: PLC0415 - redis takes its time to import

    found = {
        "is_complete": report.is_complete,
        "is_dry": is_dry,
        "counts": {case.value: report.counts[case] for case in Case},
        "first": {case.value: {"session": name, "reason": reason} for case, (name, reason) in report.first.items()},
    }
    print(msgspec.json.encode(found).decode(), flush=True)


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
